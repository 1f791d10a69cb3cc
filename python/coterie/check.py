"""Judge what a system did: record who asked what and what was answered, and ask whether some order explains it.

::

     c1   ├─ write 1 ─┤
     c2                 ├─ write 2 ─┤             every answer must fit one order of the operations
     c3                               ├─ read → 1 ─┤    in which none comes before one that had ended
                                        ✗ stale                             before it began

A history of a *linearizable* object has such an order: each operation seems to happen at one moment between its beginning
and its end. :func:`linearizable` looks for it; the :class:`Verdict` has three values, and a violation comes with the few
operations that stand in the way, in words and as a picture. :class:`Recorder` writes down what your own system does.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import TracebackType
from typing import (
    Any,
    ClassVar,
    Final,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    SupportsIndex,
    TypeAlias,
    cast,
    final,
    overload,
    runtime_checkable,
)

from coterie import _coterie, _histories, _timeline
from coterie.exceptions import ConfigError, InvariantViolated, StoppedError

__all__ = [
    "REFUSED",
    "UNHEARD",
    "CasRegister",
    "Counter",
    "History",
    "KeyValue",
    "Lock",
    "Model",
    "Operation",
    "Queue",
    "Recorder",
    "Recording",
    "Register",
    "Set",
    "SharedList",
    "Verdict",
    "linearizable",
]

Outcome: TypeAlias = Literal["ok", "fail", "unknown"]
Role: TypeAlias = Literal["answered", "perhaps", "last"]


class _Word:
    """A value that is only itself."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"check.{self._name}"

    def __reduce__(self) -> str:
        return self._name


REFUSED: Final = _Word("REFUSED")
"""What :meth:`Model.step` returns when an operation cannot be answered so in that state."""
UNHEARD: Final = _Word("UNHEARD")
"""The result that :meth:`Model.step` gets for an operation whose outcome nobody knows: any result will do."""


@dataclass(frozen=True)
class Operation:
    """What somebody asked, what was answered, and when.

    Parameters
    ----------
    process : hashable
        Who: a client, a thread.
    operation : str
        The name of what was asked, as the model knows it: ``"read"``, ``"put"``, ``"acquire"``.
    value : object, optional
        What was asked with; ``(expected, new)`` for a compare-and-swap.
    result : object, optional
        What was answered.
    start, end : int or float or comparable
        When it was asked and answered, on one clock for all processes. An unknown outcome has no end.
    outcome : {"ok", "fail", "unknown"}
        ``"ok"``: it was answered. ``"fail"``: it has not happened and never will. ``"unknown"``: it may have happened, or
        may yet happen: a time-out, a lost connection.
    key : hashable, optional
        Which object. Operations on different ones do not touch each other.

    Examples
    --------
    >>> from coterie import check
    >>> check.Operation("c1", "write", 1, start=0.0, end=0.5)
    Operation(process='c1', operation='write', value=1, result=None, start=0.0, end=0.5, outcome='ok', key=None)
    """

    process: Any
    operation: str
    value: Any = None
    result: Any = None
    start: Any = 0
    end: Any = None
    outcome: Outcome = "ok"
    key: Any = None


def _fields(row: Any) -> Sequence[Any] | None:
    if type(row) is Operation:
        return (
            row.process,
            row.operation,
            row.value,
            row.result,
            row.start,
            row.end,
            row.outcome,
            row.key,
        )
    return None


class History(Sequence[Operation]):
    """Operations that were recorded, ready to be judged.

    Parameters
    ----------
    operations : iterable, or mapping of lists, or data frame
        :class:`Operation` objects, tuples or mappings with their fields; or columns with these names, such as a
        ``pandas.DataFrame`` has. Only ``process``, ``operation`` and ``start`` must be there.

    Raises
    ------
    ConfigError
        A record is malformed; the message says which and why.

    Notes
    -----
    Values are equal when Python says so; a list is as good as a tuple, a set as a frozenset. Times are compared as they
    are, so use one clock and one unit: integers of nanoseconds are compared exactly. An operation that starts at the very
    time at which another ends overlaps with it.

    Examples
    --------
    >>> from coterie import check
    >>> history = check.History(
    ...     [
    ...         check.Operation("c1", "write", 1, start=0, end=2),
    ...         {"process": "c2", "operation": "read", "result": 1, "start": 1, "end": 3},
    ...         ("c3", "write", 2, None, 4, None, "unknown"),
    ...     ]
    ... )
    >>> history
    History(3 operations)
    >>> print(check.linearizable(history))
    Linearizable: an order explains all 3 operations (register).
    >>> check.History.from_json(history.to_json()) == history
    True
    """

    def __init__(self, operations: Iterable[Any] | Mapping[str, Sequence[Any]] | Any) -> None:
        self._columns: _histories.Columns
        self._table: _coterie.CheckHistory
        if isinstance(operations, History):
            self._columns, self._table = operations._columns, operations._table
            return
        is_table = isinstance(operations, Mapping) or hasattr(operations, "columns")
        if isinstance(operations, str) or not (is_table or isinstance(operations, Iterable)):
            raise ConfigError(
                f"expected operations or columns, not {type(operations).__name__}; a text or a file is read with "
                "History.from_json or History.from_jepsen"
            )
        if is_table:
            self._columns = _histories.columns_of_table(operations)
        else:
            self._columns = _histories.columns_of_rows(operations, _fields)
        columns = self._columns
        times = _histories.ranked([*columns["start"], *columns["end"]])
        starts, ends = list(times[: len(columns["start"])]), list(times[len(columns["start"]) :])
        self._table = _coterie.CheckHistory(
            columns["process"],
            columns["operation"],
            columns["value"],
            columns["result"],
            starts,
            ends,
            columns["outcome"],
            columns["key"],
        )

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> Self:
        """Read one JSON object a line, with the fields of :class:`Operation`, from a text or a file.

        Parameters
        ----------
        source : str or path
            The text, or the file that holds it.

        Returns
        -------
        History

        Raises
        ------
        ConfigError
            A line is malformed.
        """
        return cls(_histories.from_json(_histories.text_of(source)))

    @classmethod
    def from_jepsen(cls, source: str | os.PathLike[str]) -> Self:
        """Read a log of Jepsen: lines of ``jepsen.util`` or maps of EDN, from a text or a file.

        Times are the numbers of the lines. A swap (``:cas``) that fails was answered with False; other failures have not
        happened; after ``:info`` the outcome is unknown.

        Parameters
        ----------
        source : str or path
            The text, or the file that holds it.

        Returns
        -------
        History

        Raises
        ------
        ConfigError
            A line is malformed.

        Examples
        --------
        >>> from coterie import check
        >>> log = '''
        ... INFO  jepsen.util - 0  :invoke  :cas  [1 2]
        ... INFO  jepsen.util - 0  :fail    :cas  [1 2]
        ... '''
        >>> list(check.History.from_jepsen(log))
        [Operation(process=0, operation='cas', value=(1, 2), result=False, start=2, end=3, outcome='ok', key=None)]
        """
        return cls(_histories.from_jepsen(_histories.text_of(source)))

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """One JSON object a line.

        Parameters
        ----------
        path : path, optional
            Where to write it, too.

        Returns
        -------
        str
            The text. Tuples become lists, which are as good; sets and bytes have words of their own.

        Raises
        ------
        ConfigError
            A value has no words in JSON.
        """
        text = _histories.to_json(self._columns)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def columns(self) -> dict[str, list[Any]]:
        """The fields of :class:`Operation`, each as a list: ``pandas.DataFrame(history.columns())``."""
        return {name: list(values) for name, values in self._columns.items()}

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Operation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Operation]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Operation | list[Operation]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return Operation(*(column[index] for column in self._columns.values()))

    def __iter__(self) -> Iterator[Operation]:
        return (Operation(*row) for row in zip(*self._columns.values(), strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return len(self) == len(other) and all(
            _plain(one) == _plain(two) for one, two in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"History({len(self)} operations)"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._columns,)


def _plain(operation: Operation) -> tuple[Any, ...]:
    def thawed(value: Any) -> Any:
        return tuple(thawed(item) for item in value) if isinstance(value, list | tuple) else value

    return tuple(thawed(value) for value in vars(operation).values())


class _Native:
    """A model that is compiled."""

    _kind: ClassVar[str]

    @property
    def _settings(self) -> tuple[Any, ...]:
        return ()


@dataclass(frozen=True)
class Register(_Native):
    """A register: ``read`` sees what the last ``write`` wrote.

    They are also called ``get``, and ``put`` or ``set``.

    Parameters
    ----------
    initial : object, optional
        What it holds in the beginning.

    Examples
    --------
    >>> from coterie import check
    >>> stale = [
    ...     check.Operation("c1", "write", 1, start=0, end=1),
    ...     check.Operation("c2", "read", result=0, start=2, end=3),
    ... ]
    >>> check.linearizable(stale, check.Register(initial=0)).outcome
    'violation'
    """

    initial: Any = None
    _kind = "register"

    @property
    def _settings(self) -> tuple[Any, ...]:
        return (self.initial,)


@dataclass(frozen=True)
class CasRegister(_Native):
    """A register with ``cas``, compare and swap, whose value is ``(expected, new)`` and whose result is True or False.

    Parameters
    ----------
    initial : object, optional
        What it holds in the beginning.

    Examples
    --------
    >>> from coterie import check
    >>> twice = [
    ...     check.Operation("c1", "cas", (None, "c1"), True, start=0, end=3),
    ...     check.Operation("c2", "cas", (None, "c2"), True, start=1, end=2),
    ... ]
    >>> check.linearizable(twice, "cas-register").outcome
    'violation'
    """

    initial: Any = None
    _kind = "cas-register"

    @property
    def _settings(self) -> tuple[Any, ...]:
        return (self.initial,)


@dataclass(frozen=True)
class KeyValue(_Native):
    """Values under keys: ``get``, ``put``, ``delete``, ``cas`` and ``append``; ``key`` says where.

    A ``get`` of what is not there gives `initial`'s value, None by default, and so does one after a ``delete``, which gives
    None. An ``append`` adds to a str, bytes or a list; its result may be the new length. Results of ``put`` and ``delete``
    are not looked at.

    Parameters
    ----------
    initial : object, optional
        What each key holds in the beginning.

    Examples
    --------
    >>> from coterie import check
    >>> history = [
    ...     check.Operation("c1", "put", "x", start=0, end=1, key="a"),
    ...     check.Operation("c1", "append", "y", start=2, end=3, key="a"),
    ...     check.Operation("c2", "get", result="xy", start=4, end=5, key="a"),
    ...     check.Operation("c2", "get", result=None, start=6, end=7, key="b"),
    ... ]
    >>> check.linearizable(history, "key-value").is_linearizable
    True
    """

    initial: Any = None
    _kind = "key-value"

    @property
    def _settings(self) -> tuple[Any, ...]:
        return (self.initial,)


@dataclass(frozen=True)
class Queue(_Native):
    """First in, first out: ``enqueue``, and ``dequeue``, whose result is None when there was nothing.

    Examples
    --------
    >>> from coterie import check
    >>> overtaken = [
    ...     check.Operation("c1", "enqueue", "a", start=0, end=1),
    ...     check.Operation("c1", "enqueue", "b", start=2, end=3),
    ...     check.Operation("c2", "dequeue", result="b", start=4, end=5),
    ... ]
    >>> check.linearizable(overtaken, "queue").outcome
    'violation'
    """

    _kind = "queue"


@dataclass(frozen=True)
class Lock(_Native):
    """A lock with fencing tokens: ``acquire``, whose result is the token, and ``release``.

    One process holds it at a time, and each grant's token is greater than all before. An ``acquire`` without tokens has the
    result True or None; one that was refused False, as has a ``release`` by who did not hold it.

    Parameters
    ----------
    expires : bool, default False
        A holder may lose it without having released it, as with leases: then only the tokens are judged.

    Examples
    --------
    >>> from coterie import check
    >>> both = [
    ...     check.Operation("c1", "acquire", result=7, start=0, end=1),
    ...     check.Operation("c2", "acquire", result=8, start=2, end=3),
    ... ]
    >>> check.linearizable(both, "lock").outcome
    'violation'
    >>> check.linearizable(both, check.Lock(expires=True)).outcome
    'linearizable'
    """

    expires: bool = False
    _kind = "lock"

    @property
    def _settings(self) -> tuple[Any, ...]:
        return (bool(self.expires),)


@dataclass(frozen=True)
class Counter(_Native):
    """A counter: ``add`` (``increment``, ``decrement``; by 1 without a value) and ``read``.

    The result of an ``add`` may be the new value; None says nothing.

    Parameters
    ----------
    initial : int, default 0
        Where it begins.

    Examples
    --------
    >>> from coterie import check
    >>> lost = [
    ...     check.Operation("c1", "add", 1, start=0, end=2),
    ...     check.Operation("c2", "add", 1, start=1, end=3),
    ...     check.Operation("c3", "read", result=1, start=4, end=5),
    ... ]
    >>> check.linearizable(lost, "counter").outcome
    'violation'
    """

    initial: int = 0
    _kind = "counter"

    @property
    def _settings(self) -> tuple[Any, ...]:
        return (self.initial,)


@dataclass(frozen=True)
class Set(_Native):
    """A set: ``add``, ``remove``, ``contains``, and ``read``, which sees all elements.

    Results of ``add`` and ``remove`` may say whether something changed; None says nothing.

    Examples
    --------
    >>> from coterie import check
    >>> history = [
    ...     check.Operation("c1", "add", "x", start=0, end=1),
    ...     check.Operation("c2", "read", result=set(), start=2, end=3),
    ... ]
    >>> check.linearizable(history, "set").outcome
    'violation'
    """

    _kind = "set"


@dataclass(frozen=True)
class SharedList(_Native):
    """A list: ``append`` an item, and ``read``, which sees all of it.

    The result of an ``append`` may be the new length; None says nothing.

    Examples
    --------
    >>> from coterie import check
    >>> history = [
    ...     check.Operation("c1", "append", "x", start=0, end=2),
    ...     check.Operation("c2", "append", "y", start=1, end=3),
    ...     check.Operation("c3", "read", result=["y", "x"], start=4, end=5),
    ... ]
    >>> check.linearizable(history, "list").outcome
    'linearizable'
    """

    _kind = "list"


@runtime_checkable
class Model(Protocol):
    """An object of your own: what it begins as, and what each operation does to it.

    Any object with these two methods is a model; states must be hashable, and equal when they behave alike. A model may
    also have `reads`, the names of operations that never change a state, and ``partition(operation)``, which says which
    object an operation touches, where objects do not touch each other: both make judging faster.

    Examples
    --------
    >>> from coterie import check
    >>> class Stack:
    ...     def initial(self):
    ...         return ()
    ...
    ...     def step(self, state, operation, value, result):
    ...         if operation == "push":
    ...             return (*state, value)
    ...         if state and result in (state[-1], check.UNHEARD):
    ...             return state[:-1]
    ...         return check.REFUSED
    >>> history = [
    ...     check.Operation("c1", "push", 1, start=0, end=1),
    ...     check.Operation("c1", "push", 2, start=2, end=3),
    ...     check.Operation("c2", "pop", result=1, start=4, end=5),
    ... ]
    >>> check.linearizable(history, Stack()).outcome
    'violation'
    """

    def initial(self) -> Hashable:
        """The state before anything has happened."""
        ...

    def step(self, state: Any, operation: str, value: Any, result: Any) -> Any:
        """The state after an operation that was answered so.

        Parameters
        ----------
        state : hashable
            The state before.
        operation : str
            What was asked.
        value : object
            What it was asked with; lists come as tuples, sets as frozensets.
        result : object
            What was answered; :data:`UNHEARD` when nobody heard it, and any answer will do.

        Returns
        -------
        hashable
            The state after it; :data:`REFUSED` when it cannot be answered so in that state.
        """
        ...


_NATIVE: Final[dict[str, _Native]] = {
    model._kind: model
    for model in (
        Register(),
        CasRegister(),
        KeyValue(),
        Queue(),
        Lock(),
        Counter(),
        Set(),
        SharedList(),
    )
}


class _Chosen(NamedTuple):
    """A model as the core takes it."""

    kind: str
    settings: tuple[Any, ...]
    name: str


def _choose(model: Any) -> _Chosen:
    if isinstance(model, str):
        known = _NATIVE.get(model)
        if known is None:
            raise ConfigError(f"there is no model {model!r}; there are {', '.join(_NATIVE)}")
        return _Chosen(known._kind, known._settings, model)
    if isinstance(model, _Native):
        if isinstance(model, Counter) and not isinstance(model.initial, int):
            raise ConfigError(f"initial: a counter begins with an int, not {model.initial!r}")
        return _Chosen(model._kind, model._settings, model._kind)
    if isinstance(model, type) or not isinstance(model, Model):
        hint = "; make an object of it" if isinstance(model, type) else ""
        raise ConfigError(f"a model has the methods initial() and step(), {model!r} has not{hint}")
    reads = tuple(getattr(model, "reads", ()))
    if not all(isinstance(name, str) for name in reads):
        raise ConfigError("reads: the names of operations that change no state, such as {'read'}")
    return _Chosen("python", (model, list(reads), REFUSED, UNHEARD), type(model).__name__)


@final
class Verdict:
    """Whether some order explains a history: yes, no, or nobody knows.

    It has three values and therefore no truth of its own: ask for what you mean. :func:`linearizable` makes it.

    Attributes
    ----------
    outcome : {"linearizable", "violation", "unknown"}
        What was found.
    reason : str
        Why nobody knows; empty otherwise.

    Examples
    --------
    >>> from coterie import check
    >>> verdict = check.linearizable(
    ...     [
    ...         check.Operation("c1", "write", 1, start=0, end=1),
    ...         check.Operation("c2", "write", 2, start=2, end=3),
    ...         check.Operation("c3", "read", result=1, start=4, end=5),
    ...     ]
    ... )
    >>> print(verdict)
    Not linearizable (register): 3 of 3 operations fit no order.
      1. c1: write 1, from 0 to 1
      2. c2: write 2, from 2 to 3
      3. c3: read → 1, from 4 to 5
    1 had ended before 2 began, and 2 before 3. What 1 and 2 were told can be explained; the answer to 3 cannot.
    >>> verdict.is_linearizable
    False
    >>> bool(verdict)
    Traceback (most recent call last):
        ...
    TypeError: a verdict has three values; ask for .is_linearizable, .is_violation or .is_unknown
    """

    __slots__ = ("_chosen", "_found", "_history", "_limits", "_part", "outcome", "reason")

    outcome: Literal["linearizable", "violation", "unknown"]
    reason: str

    def __init__(
        self,
        history: History,
        chosen: _Chosen,
        limits: tuple[float, int],
        heard: tuple[Any, str | None, Any],
    ) -> None:
        self._history, self._chosen, self._limits = history, chosen, limits
        self.outcome, reason, self._part = heard
        self.reason = reason or ""
        self._found: tuple[list[int], list[Role], bool] | None = None

    def __bool__(self) -> bool:
        raise TypeError("a verdict has three values; ask for .is_linearizable, .is_violation or .is_unknown")

    @property
    def is_linearizable(self) -> bool:
        """Some order explains everything."""
        return self.outcome == "linearizable"

    @property
    def is_violation(self) -> bool:
        """No order does."""
        return self.outcome == "violation"

    @property
    def is_unknown(self) -> bool:
        """The time or the memory allowed was not enough; `reason` says more."""
        return self.outcome == "unknown"

    @property
    def conflict(self) -> tuple[Operation, ...]:
        """The few operations that no order explains, by their starts; empty without a violation.

        It is looked for when it is first asked for, within the time and memory of the judgement. None of the answers in it
        can be spared; where that could not be tried to the end, what was found is a conflict, too, and its words say so.
        Operations whose answer makes no difference are in it only if they are needed to explain the others.
        """
        return tuple(self._history[record] for record in self._conflict()[0])

    @property
    def roles(self) -> tuple[Role, ...]:
        """What each operation of the conflict does in it.

        ``"answered"``: its answer stands in the way. ``"perhaps"``: it may have taken effect at any time after it began, or
        never. ``"last"``: its answer is the one that cannot be explained.
        """
        return tuple(self._conflict()[1])

    def _conflict(self) -> tuple[list[int], list[Role], bool]:
        if self._part is None:
            return [], [], True
        if self._found is None:
            kind, settings, _ = self._chosen
            found = self._history._table._conflict(self._part, kind, settings, *self._limits)
            records, roles, smallest = found
            self._found = list(records), cast("list[Role]", list(roles)), smallest
        return self._found

    def raise_for_violation(self) -> Self:
        """Raise :class:`coterie.InvariantViolated` on a violation; its `trace` is the conflict.

        Returns
        -------
        Verdict
            Itself, when it is none. It may still be unknown.

        Raises
        ------
        InvariantViolated
            No order explains the history.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        if self.is_violation:
            raise InvariantViolated(str(self), invariant="linearizability", trace=self.conflict)
        return self

    def __str__(self) -> str:
        name, count = self._chosen.name, len(self._history)
        if self.is_linearizable:
            return f"Linearizable: an order explains all {count} operations ({name})."
        if self.is_unknown:
            return f"Unknown whether {count} operations are linearizable ({name}): {self.reason}."
        return _words(self, name, count)

    def __repr__(self) -> str:
        if self.is_violation:
            return f"Verdict(violation, {len(self._part)} operations on one object)"
        return f"Verdict({self.outcome}{f': {self.reason}' if self.reason else ''})"

    def timeline(self) -> str:
        """The conflict as lines of text, one a process."""
        return _timeline.text(self._bars()) if self.is_violation else ""

    def to_svg(self, path: str | os.PathLike[str] | None = None) -> str:
        """The conflict as a picture that stands alone, for light and dark pages; columns are the order of events.

        Parameters
        ----------
        path : path, optional
            Where to write it, too.

        Returns
        -------
        str
            SVG; without a violation there is nothing in it but the verdict as its title.
        """
        title = str(self).splitlines()[0]
        starts = [operation.start for operation in self.conflict]
        svg = _timeline.svg(self._bars(), title=title, origin=starts[0] if starts else None)
        if path is not None:
            Path(path).write_text(svg, encoding="utf-8")
        return svg

    def _bars(self) -> list[_timeline.Bar]:
        operations = self.conflict
        times = _histories.ranked([time for it in operations for time in (it.start, it.end)])
        pairs = list(zip(times[::2], times[1::2], strict=True))
        return _timeline.bars(operations, self.roles, pairs)

    def _repr_html_(self) -> str:
        words = escape(str(self))
        return f"<div><pre>{words}</pre>{self.to_svg() if self.is_violation else ''}</div>"


def _words(verdict: Verdict, name: str, count: int) -> str:
    operations, roles = verdict.conflict, verdict.roles
    key = operations[0].key
    where = "" if key is None else f", key {key!r}"
    lines = [f"Not linearizable ({name}{where}): {len(operations)} of {count} operations fit no order."]
    for number, (operation, role) in enumerate(zip(operations, roles, strict=True), start=1):
        until = f"to {operation.end}" if operation.end is not None else "on"
        note = ""
        if role == "perhaps":
            whatever = "it may have" if operation.outcome == "unknown" else "even if it had"
            note = f" ({whatever} taken effect at any time after that, or never)"
        lines.append(
            f"  {number}. {operation.process}: {_timeline.describe(operation)}, from {operation.start} {until}{note}"
        )
    told = [place for place, role in enumerate(roles, start=1) if role == "answered"]
    last = roles.index("last") + 1
    order = _order(operations, roles)
    if told:
        rest = f"What {_and(told)} {'was' if len(told) == 1 else 'were'} told can be explained; the answer to {last} cannot."
    else:
        rest = f"The answer to {last} cannot be explained."
    if not verdict._conflict()[2]:
        rest += " (There may be a smaller conflict: not everything was tried.)"
    lines.append(f"{order}{rest}")
    return "\n".join(lines)


def _order(operations: Sequence[Operation], roles: Sequence[Role]) -> str:
    """Who had ended before whom began, without what follows from the rest."""
    times = _histories.ranked([time for it in operations for time in (it.start, it.end)])
    starts, ends = times[::2], times[1::2]
    places = range(len(operations))

    def precedes(one: int, two: int) -> bool:
        return roles[one] != "perhaps" and ends[one] is not None and ends[one] < starts[two]

    pairs = [
        (one + 1, two + 1)
        for one in places
        for two in places
        if precedes(one, two) and not any(precedes(one, other) and precedes(other, two) for other in places)
    ]
    if not pairs:
        return ""
    told = [
        f"{one} had ended before {two} began" if not place else f"{one} before {two}"
        for place, (one, two) in enumerate(pairs)
    ]
    return f"{', and '.join([', '.join(told[:-1]), told[-1]] if len(told) > 1 else told)}. "


def _and(numbers: Sequence[int]) -> str:
    words = [str(number) for number in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def linearizable(
    history: History | Iterable[Any] | Mapping[str, Sequence[Any]] | Any,
    model: str
    | Model
    | Register
    | CasRegister
    | KeyValue
    | Queue
    | Lock
    | Counter
    | Set
    | SharedList = "register",
    *,
    timeout: float = 60.0,
    memory_limit: int = 1 << 30,
) -> Verdict:
    """Judge whether some order of the operations explains all answers.

    The order must keep that of operations that did not overlap. Operations that failed are left out; those of unknown
    outcome may have taken effect at any time after they began, or never. Each key is judged by itself.

    Parameters
    ----------
    history : History, or what one is made from
        What was recorded.
    model : str or model, default "register"
        What the object does: ``"register"``, ``"cas-register"``, ``"key-value"``, ``"queue"``, ``"lock"``, ``"counter"``,
        ``"set"``, ``"list"``, an object such as ``check.Register(initial=0)``, or a :class:`Model` of your own.
    timeout : float, default 60
        Seconds, after which the verdict is ``"unknown"``.
    memory_limit : int, default 2^30
        Bytes that the search may hold, about; beyond it the verdict is ``"unknown"``.

    Returns
    -------
    Verdict
        Linearizable, a violation, or unknown.

    Raises
    ------
    ConfigError
        A record is malformed or the model does not know its operation; nothing was judged.

    Notes
    -----
    To judge is NP-complete. Where every value is written once (registers, keys without ``cas`` and ``append``, queues, sets
    and lists that only grow, counters that go up by 1 or tell where they are), it takes ``n log n``. Otherwise it is a
    search, whose cost grows with the number of operations that overlap; see the reductions in
    ``src/check/linearizability/search.rs``. The interpreter is released meanwhile, and Ctrl-C is answered.

    References
    ----------
    M. Herlihy, J. Wing, "Linearizability: A Correctness Condition for Concurrent Objects", 1990. P. Gibbons, E. Korach,
    "Testing Shared Memories", 1997. A. Horn, D. Kroening, "Faster linearizability checking via P-compositionality", 2015.
    G. Lowe, "Testing for linearizability", 2017.

    Examples
    --------
    >>> from coterie import check
    >>> history = [
    ...     check.Operation("c1", "put", 1, start=0.0, end=0.3, key="x"),
    ...     check.Operation("c2", "put", 2, start=0.1, outcome="unknown", key="x"),
    ...     check.Operation("c1", "get", result=2, start=0.4, end=0.5, key="x"),
    ...     check.Operation("c1", "get", result=1, start=0.6, end=0.7, key="x"),
    ... ]
    >>> verdict = check.linearizable(history, "key-value")
    >>> verdict.outcome
    'violation'
    >>> print(verdict.timeline())
    c1  ├─ 'x': put 1 ──────┤  ├─ 'x': get → 2 ──┤  ├─ ✗ 'x': get → 1 ──┤
    c2               ├┄ ? 'x': put 2 → ? ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄
    """
    chosen = _choose(model)
    if not isinstance(history, History):
        history = History(history)
    if not timeout > 0:
        raise ConfigError(f"timeout: seconds, more than 0, not {timeout!r}")
    if not 0 < memory_limit < 1 << 63:
        raise ConfigError(f"memory_limit: bytes, more than 0, not {memory_limit!r}")
    keys = None
    if chosen.kind == "python" and (partition := getattr(model, "partition", None)) is not None:
        keys = [partition(operation) for operation in history]
    heard = history._table._judge(chosen.kind, chosen.settings, keys, timeout, memory_limit)
    return Verdict(history, chosen, (timeout, memory_limit), heard)


@final
class Recording:
    """One operation while it is under way: say how it ended. :meth:`Recorder.operation` makes it.

    Examples
    --------
    >>> from coterie import check
    >>> recorder = check.Recorder()
    >>> with recorder.operation("c1", "read") as recording:
    ...     recording.ok(1)
    >>> recorder.history()[0].result
    1
    """

    def __init__(self, recorder: Recorder, row: list[Any], failures: tuple[type[BaseException], ...]) -> None:
        self._recorder, self._row, self._failures = recorder, row, failures
        self._state: Literal["new", "open", "ended"] = "new"

    def ok(self, result: Any = None) -> None:
        """It was answered, just now.

        Parameters
        ----------
        result : object, optional
            What was answered.
        """
        self._end("ok", result)

    def fail(self) -> None:
        """It has not happened and never will: it was refused."""
        self._end("fail")

    def unknown(self) -> None:
        """Nobody knows whether it has happened: a time-out, a lost connection."""
        self._end("unknown")

    def _end(self, outcome: Outcome, result: Any = None) -> None:
        if self._state != "open":
            raise StoppedError(
                f"this operation {'has ended already' if self._state == 'ended' else 'has not begun'}"
            )
        self._state = "ended"
        self._recorder._end(self._row, outcome, result)

    def begin(self) -> Self:
        """Begin now: for an operation that ends elsewhere, by `ok`, `fail` or `unknown`."""
        return self.__enter__()

    def __enter__(self) -> Self:
        if self._state != "new":
            raise StoppedError("this operation has begun already; ask the recorder for another")
        self._state = "open"
        self._recorder._begin(self._row)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._state == "ended":
            return  # what was said holds
        if kind is None:
            self._end("ok")
        else:
            self._end("fail" if issubclass(kind, self._failures) else "unknown")


class Recorder:
    """Writes down what clients of your own system ask and are answered; any number of threads may share one.

    Parameters
    ----------
    clock : callable, optional
        Tells the time. It must be one clock for all processes that record, and never go back; `time.monotonic_ns` by
        default.
    failures : tuple of exception types, optional
        Exceptions that say that nothing has happened and nothing will. After any other, the outcome is unknown.

    Examples
    --------
    >>> from coterie import check
    >>> store = {}
    >>> recorder = check.Recorder(failures=(PermissionError,))
    >>> with recorder.operation("c1", "put", key="x", value=1):
    ...     store["x"] = 1
    >>> with recorder.operation("c2", "get", key="x") as recording:
    ...     recording.ok(store["x"])
    >>> check.linearizable(recorder.history(), "key-value").outcome
    'linearizable'
    """

    def __init__(
        self,
        *,
        clock: Callable[[], Any] = time.monotonic_ns,
        failures: tuple[type[BaseException], ...] = (),
    ) -> None:
        self._clock, self._failures = clock, failures
        self._lock = threading.Lock()
        self._rows: list[list[Any]] = []

    def operation(self, process: Any, operation: str, *, value: Any = None, key: Any = None) -> Recording:
        """Record one operation: a context manager that begins when it is entered.

        Left by an exception, the operation's outcome is unknown, or a failure if the exception is one of `failures`; the
        exception goes on. Left otherwise without a word, it was answered with None.

        Parameters
        ----------
        process : hashable
            Who asks.
        operation : str
            What, as the model knows it.
        value : object, optional
            With what.
        key : hashable, optional
            Which object.

        Returns
        -------
        Recording
            Takes how it ended.
        """
        return Recording(self, [process, operation, value, None, None, None, "unknown", key], self._failures)

    def history(self) -> History:
        """What was recorded so far; the outcome of what is still under way is unknown."""
        with self._lock:
            rows = [tuple(row) for row in self._rows]
        return History(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Recorder({len(self)} operations)"

    def _begin(self, row: list[Any]) -> None:
        # It is in the list before anything is asked: whatever comes of that, it may have happened.
        row[4] = self._clock()
        with self._lock:
            self._rows.append(row)

    def _end(self, row: list[Any], outcome: Outcome, result: Any) -> None:
        now = self._clock()
        with self._lock:
            row[3], row[6] = result, outcome
            row[5] = None if outcome == "unknown" else now
