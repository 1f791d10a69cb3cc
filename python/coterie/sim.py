"""Deterministic worlds: networks, disks and clocks, and what breaks them, in virtual time.

::

    members ─┐                      ┌─ digest, statistics, trace
    faults  ─┼──►  World(seed=…) ───┤
    clients ─┘                      └─ InvariantViolated: the seed, the step, and what came before

A world runs members in one thread, on one queue and on no clock: the same seed tells the same story on every platform,
every Python version and every hash seed. Members are :class:`coterie.raft.Node`, or processes of your own
(:class:`Process`), or both side by side. In every world where Raft is spoken, Raft's invariants are watched.

Examples
--------
>>> from coterie import raft, sim
>>> world = sim.World(lambda id: raft.Node(id), members=5, seed=7)
>>> world.run(seconds=60, faults=sim.Faults.swarm())
>>> world.check()
>>> world.run_until(lambda world: world.leader, seconds=5)
True
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from html import escape
from itertools import zip_longest
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsIndex, TypeAlias, TypeVar, final

from coterie import _coterie
from coterie._diagram import Diagram
from coterie._shrink import Shrunk, TimeIsUp, kind_of, seconds_above, smallest, source
from coterie.exceptions import ConfigError, InvariantViolated, StoppedError, UnknownNodeError
from coterie.protocol import Answer
from coterie.raft import Membership, Node, Run

if TYPE_CHECKING:
    from coterie.protocol import Effect, LinkName
    from coterie.raft import requests

__all__ = [
    "Bridge",
    "Clients",
    "Corrupt",
    "Crash",
    "Diagram",
    "Drift",
    "Drop",
    "Duplicate",
    "FailSync",
    "FalseEvidence",
    "Fault",
    "Faults",
    "FullDisk",
    "Heal",
    "Jump",
    "Links",
    "OneWay",
    "Outbox",
    "Partition",
    "Pause",
    "Process",
    "Random",
    "Reorder",
    "Rot",
    "Row",
    "Shrunk",
    "SlowDisk",
    "SlowLink",
    "StalledDisk",
    "Swarm",
    "Trace",
    "World",
    "replay",
]

T = TypeVar("T")

VerbName: TypeAlias = Literal[
    "start",
    "receive",
    "expire",
    "request",
    "link",
    "synced",
    "send",
    "promise",
    "persist",
    "checkpoint",
    "set",
    "cancel",
    "answer",
    "notify",
    "lost",
    "crash",
    "begin",
    "end",
    "become",
]


if TYPE_CHECKING:

    @final
    class Outbox:
        """What a process wants done; see the class of this name below."""

        def send(self, to: int, message: object) -> None: ...
        def promise(self, to: int, message: object) -> None: ...
        def persist(self, record: object) -> None: ...
        def checkpoint(self, record: object) -> None: ...
        def set(self, timer: str, at: float) -> None: ...
        def cancel(self, timer: str) -> None: ...
        def answer(self, id: int, value: object = None, error: object = None) -> None: ...
        def notify(self, event: object) -> None: ...
        @property
        def effects(self) -> list[Effect]: ...

    @final
    class Random:
        """A seeded generator; see the class of this name below."""

        def __init__(self, seed: int) -> None: ...
        def word(self) -> int: ...
        def below(self, bound: int) -> int: ...
        def unit(self) -> float: ...
        def uniform(self, low: float, high: float) -> float: ...
        def choice(self, items: Sequence[T]) -> T: ...
        def split(self) -> Random: ...

else:
    Outbox = _coterie.SimOutbox
    Random = _coterie.SimRandom


class Process:
    """A protocol of your own: six verbs come in, and what it wants done goes out through ``out``.

    Subclass it and write the verbs that you need; each of the others does nothing, and a request is refused. A world
    makes a new object for each life, hands it the records that its journal kept, and calls one verb at a time.

    A process must be deterministic: no clock, no ``random`` module, no iteration over sets of strings. It is handed the
    time, in seconds on its own clock, and a :class:`Random`. What it emits is encoded at once, so nobody shares state:
    None, bool, int, float, str, bytes, list, tuple, dict, and frozen dataclasses of these; anything else is a
    ``TypeError``. An exception ends the world with :class:`coterie.InvariantViolated`, whose cause is that exception.

    Notes
    -----
    Times are floats of seconds; inside they are whole nanoseconds. Up to 2^51 of them (26 days) the float comes back as
    the same nanosecond, and arithmetic on floats is the same everywhere, so alarms are deterministic, too.

    Beside :class:`coterie.raft.Node`, messages of Raft arrive as the frozen dataclasses of
    :mod:`coterie.raft.messages`, and such dataclasses may be sent.

    Examples
    --------
    >>> from coterie import sim
    >>> class Echo(sim.Process):
    ...     def receive(self, now, sender, message, out):
    ...         if message == "ping":
    ...             out.send(sender, "pong")
    >>> out = sim.Outbox()
    >>> Echo().receive(0.0, 2, "ping", out)
    >>> out.effects
    [Send(to=2, message='pong')]
    """

    def start(self, now: float, random: Random, records: list[Any], out: Outbox) -> None:
        """Begin a life, from what the journal kept of the lives before. Called once, first.

        Parameters
        ----------
        now : float
            Seconds on this process's clock.
        random : Random
            A generator of its own.
        records : list
            What was persisted in earlier lives, in order; empty in the first.
        out : Outbox
            Takes what it wants done.
        """

    def receive(self, now: float, sender: int, message: Any, out: Outbox) -> None:
        """Take a message from a peer, or from itself for a promise that it made to itself.

        Parameters
        ----------
        now : float
            Seconds on this process's clock.
        sender : int
            Who says it.
        message : object
            What is said: a copy that nobody shares.
        out : Outbox
            Takes what it wants done.
        """

    def expire(self, now: float, timer: str, out: Outbox) -> None:
        """Take an alarm that it had set.

        Parameters
        ----------
        now : float
            Seconds on this process's clock.
        timer : str
            Its name.
        out : Outbox
            Takes what it wants done.
        """

    def request(self, now: float, id: int, request: Any, out: Outbox) -> None:  # noqa: ARG002 - for who overrides it
        """Take a request, which must be answered exactly once, now or later. By default it is refused.

        Parameters
        ----------
        now : float
            Seconds on this process's clock.
        id : int
            Which; the answer names it.
        request : object
            What is asked.
        out : Outbox
            Takes what it wants done.
        """
        out.answer(id, error="this process takes no requests")

    def link(self, now: float, peer: int, link: LinkName, out: Outbox) -> None:
        """Take a hint about the connection to a peer. Hints are often wrong: they serve liveness, never safety.

        Parameters
        ----------
        now : float
            Seconds on this process's clock.
        peer : int
            To whom.
        link : {"Up", "Down", "Refused"}
            Established; lost; nobody listens there.
        out : Outbox
            Takes what it wants done.
        """

    def flush(self, now: float, out: Outbox) -> None:
        """End a batch of inputs: what was gathered leaves now.

        Parameters
        ----------
        now : float
            Seconds on this process's clock.
        out : Outbox
            Takes what it wants done.
        """


@dataclass(frozen=True, slots=True)
class Links:
    """Directed links between processes.

    Attributes
    ----------
    sender, receiver : int or None
        From this process, to this one; None: from all, to all.

    Examples
    --------
    >>> from coterie import sim
    >>> sim.Drop(rate=0.5, on=sim.Links(receiver=3), start=1.0, length=2.0)
    Drop(start=1.0, length=2.0, key=0, rate=0.5, on=Links(sender=None, receiver=3))
    """

    sender: int | None = None
    receiver: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that breaks at a time, for a time: the base of every fault.

    Attributes
    ----------
    start : float, default 0.0
        Seconds from the beginning of the world; given to :meth:`World.run`, from now.
    length : float, default inf
        For how many seconds.
    key : int, default 0
        Names the generator from which it draws, so that taking one fault away shifts nothing of the others. 0: its
        place in the plan, counted from 1.

    Examples
    --------
    >>> from coterie import sim
    >>> isinstance(sim.Crash(node=1, start=2.0, length=0.5), sim.Fault)
    True
    """

    start: float = 0.0
    length: float = inf
    key: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition(Fault):
    """These and all others do not reach each other.

    Attributes
    ----------
    side : tuple of int
        One side.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.Partition(side=(1, 2), start=1.0, length=0.5)])
    """

    side: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OneWay(Fault):
    """What these send does not reach those.

    Attributes
    ----------
    senders : tuple of int, default ()
        Who is not heard. Empty: everybody.
    receivers : tuple of int, default ()
        Who does not hear. Empty: everybody.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults(
    ...     [sim.OneWay(senders=(1,), start=1.0, length=0.5)]
    ... )  # nobody hears 1, and it hears all
    """

    senders: tuple[int, ...] = ()
    receivers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge(Fault):
    """Left and right do not reach each other; who is in neither reaches both.

    Attributes
    ----------
    left, right : tuple of int
        The banks.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.Bridge(left=(1, 2), right=(4, 5), length=2.0)])  # 3 is the bridge
    """

    left: tuple[int, ...]
    right: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop(Fault):
    """Messages are lost.

    Attributes
    ----------
    rate : float
        The share of the messages.
    on : Links, default all
        Which links.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.Drop(rate=0.1)])
    """

    rate: float
    on: Links = Links()


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate(Fault):
    """Messages arrive twice.

    Attributes
    ----------
    rate : float
        The share of the messages.
    on : Links, default all
        Which links.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.Duplicate(rate=0.1)])
    """

    rate: float
    on: Links = Links()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorder(Fault):
    """Messages are held back, so that later ones overtake them.

    Attributes
    ----------
    rate : float
        The share of the messages.
    by : float
        For how many seconds at most.
    on : Links, default all
        Which links.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.Reorder(rate=0.1, by=0.02)])
    """

    rate: float
    by: float
    on: Links = Links()


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupt(Fault):
    """Messages arrive damaged; their checksums tell, so they are as good as lost.

    Attributes
    ----------
    rate : float
        The share of the messages.
    on : Links, default all
        Which links.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.Corrupt(rate=0.1)])
    """

    rate: float
    on: Links = Links()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowLink(Fault):
    """Messages take longer.

    Attributes
    ----------
    by : float
        By how many seconds.
    on : Links, default all
        Which links.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.SlowLink(by=0.1, on=sim.Links(sender=1))])
    """

    by: float
    on: Links = Links()


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseEvidence(Fault):
    """All others are told that the connection to a process has ended, though it has not.

    Attributes
    ----------
    about : int
        About whom.
    refused : bool, default False
        Whether they are told that nobody listens there, instead of that the connection ended.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.FalseEvidence(about=1, start=1.0, length=0.1)])
    """

    about: int
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(Fault):
    """A process crashes, at any point of what it does next, and comes back when the fault ends.

    Attributes
    ----------
    node : int
        Who.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.Crash(node=1, start=1.0, length=0.5)])
    """

    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(Fault):
    """A process stands still; what arrives waits.

    Attributes
    ----------
    node : int
        Who.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.Pause(node=1, start=1.0, length=0.5)])
    """

    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump(Fault):
    """A clock leaps ahead, once.

    Attributes
    ----------
    node : int
        Whose.
    by : float
        How many seconds.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.Jump(node=1, by=3600.0, start=1.0)])
    """

    node: int
    by: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift(Fault):
    """A clock runs too fast, or too slow.

    Attributes
    ----------
    node : int
        Whose.
    ppm : int
        By how many parts in a million.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.Drift(node=1, ppm=-500)])
    """

    node: int
    ppm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowDisk(Fault):
    """Syncs take longer.

    Attributes
    ----------
    node : int
        Whose.
    by : float
        By how many seconds.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.SlowDisk(node=1, by=0.2, length=3.0)])
    """

    node: int
    by: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailSync(Fault):
    """The next sync fails. The process is ended, and comes back when the fault ends.

    Attributes
    ----------
    node : int
        Whose.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.FailSync(node=1, start=1.0, length=0.5)])
    """

    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FullDisk(Fault):
    """There is no room: no sync begins until the fault ends.

    Attributes
    ----------
    node : int
        Whose.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.FullDisk(node=1, start=1.0, length=0.5)])
    """

    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledDisk(Fault):
    """The disk does not answer: no sync ends until the fault ends.

    Attributes
    ----------
    node : int
        Whose.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.StalledDisk(node=1, start=1.0, length=0.5)])
    """

    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rot(Fault):
    """A bit flips in what a journal had on its disk. Shows only where journals are bytes: worlds by value ignore it.

    Attributes
    ----------
    node : int
        Whose.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.Rot(node=1, start=1.0)])
    """

    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heal(Fault):
    """All that is broken at these processes and among them is mended for good. The rest stays as it is.

    Attributes
    ----------
    core : tuple of int, default ()
        Whom. Empty: everybody.
    start, length, key : float, float, int
        As in :class:`Fault`.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults([sim.Drop(rate=0.5), sim.Heal(core=(1, 2, 3), start=5.0)])
    """

    core: tuple[int, ...] = ()


class Faults(Sequence[Fault]):
    """A plan of what breaks, written by hand.

    Parameters
    ----------
    faults : iterable of Fault
        In any order. Each may be taken away without shifting the others.

    Examples
    --------
    >>> from coterie import raft, sim
    >>> plan = sim.Faults(
    ...     [sim.Crash(node=1, start=1.0, length=0.5), sim.Drop(rate=0.2, start=2.0, length=1.0)]
    ... )
    >>> world = sim.World(raft.Node, members=3, seed=1, faults=plan)
    >>> world.run(seconds=5)
    >>> world.statistics["faults"]
    {'drop': 1, 'crash': 1}
    """

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        planned = tuple(faults)
        for fault in planned:
            if not isinstance(fault, Fault):
                raise ConfigError(f"{fault!r} is no fault; see coterie.sim.Fault")
        # Keys now, so that a plan without one of its faults draws as before.
        self._faults = tuple(
            fault if fault.key else replace(fault, key=place) for place, fault in enumerate(planned, 1)
        )

    @staticmethod
    def swarm(**settings: Any) -> Swarm:
        """A plan to be drawn by the world's seed: see :class:`Swarm` for the settings."""
        return Swarm(**settings)

    def without(self, place: int) -> Faults:
        """The same plan without one of its faults.

        Parameters
        ----------
        place : int
            Which.

        Returns
        -------
        Faults
            All others draw as they did.
        """
        return Faults(fault for other, fault in enumerate(self._faults) if other != place)

    def __len__(self) -> int:
        return len(self._faults)

    def __getitem__(self, place: Any) -> Any:
        return Faults(self._faults[place]) if isinstance(place, slice) else self._faults[place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Faults) and self._faults == other._faults

    def __hash__(self) -> int:
        return hash(self._faults)

    def __repr__(self) -> str:
        return f"Faults([{', '.join(map(repr, self._faults))}])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Swarm:
    """Draws a plan in which each kind of fault is on or off: rare combinations come up that a mixture would drown.

    Attributes
    ----------
    horizon : float or None, default None
        Seconds during which faults keep coming. None: five sixths of a run, or 50 seconds.
    heals : bool, default True
        Whether a drawn quorum heals for good at the horizon; the rest stays broken.
    share : float, default 0.4
        The probability that a kind is on.
    interval : float, default 6.0
        Seconds between two faults of a kind that is on, on average.
    length : float, default 1.5
        Seconds that a fault lasts, on average.
    drift_ppm_max : int, default 10000
        Clocks drift by at most so many parts in a million. 0: not at all.
    jump_max : float, default 0.0
        Clocks leap by at most so many seconds. 0: not at all.

    References
    ----------
    A. Groce et al., "Swarm testing", ISSTA 2012.

    Examples
    --------
    >>> from coterie import sim
    >>> plan = sim.Faults.swarm(share=1.0).draw(7, members=5, seconds=60)
    >>> len(plan) > 50
    True
    >>> plan == sim.Faults.swarm(share=1.0).draw(7, members=5, seconds=60)
    True
    """

    horizon: float | None = None
    heals: bool = True
    share: float = 0.4
    interval: float = 6.0
    length: float = 1.5
    drift_ppm_max: int = 10_000
    jump_max: float = 0.0

    def draw(
        self, seed: int, *, members: int, seconds: float = 60.0, start: float = 0.0, everybody: bool = False
    ) -> Faults:
        """The plan of a seed.

        Parameters
        ----------
        seed : int
            All that is drawn follows from it.
        members : int
            How many processes there are.
        seconds : float, default 60.0
            How long the world will run, for a horizon of None.
        start : float, default 0.0
            When faults begin to come, in seconds since the beginning of the world.
        everybody : bool, default False
            Whether all heal at the horizon, and not a drawn quorum: for clusters whose voters change.

        Returns
        -------
        Faults
            As if written by hand.
        """
        self._check_draw(members, seconds)
        faults: Iterable[Fault] = _coterie.sim_swarm(
            _seed(seed),
            members=members,
            start=start,
            horizon=self._horizon(seconds),
            heals=self.heals,
            share=self.share,
            interval=self.interval,
            length=self.length,
            drift_ppm_max=self.drift_ppm_max,
            jump_max=self.jump_max,
            everybody=everybody,
        )
        return Faults(faults)

    def _check_draw(self, members: int, seconds: float) -> None:
        if isinstance(members, bool) or not isinstance(members, int) or not 1 <= members <= 1024:
            raise ConfigError(f"members is {members!r}; it must be an int from 1 to 1024")
        horizon = self._horizon(seconds)
        if not (isfinite(horizon) and horizon >= 0 and isfinite(self.interval) and self.interval > 0):
            raise ConfigError("a swarm needs a finite horizon, and an interval above 0")
        if not 0 <= self.share <= 1:
            raise ConfigError(f"share is {self.share!r}; it must be a number from 0 to 1")
        if horizon / self.interval > _FAULTS_MAX:
            raise ConfigError(
                f"a horizon of {horizon} s and an interval of {self.interval} s give too many faults"
            )

    def _horizon(self, seconds: float) -> float:
        return seconds * 5 / 6 if self.horizon is None else self.horizon


# Of a world that is looked at in passing, so many events are drawn.
_COMPACT = 60

# For each kind of fault: more than any run can use, and far less than memory.
_FAULTS_MAX = 100_000

_OPERATIONS = frozenset(
    {"put", "get", "lease_get", "stale_get", "compare_and_swap", "append", "delete", "session"}
)


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients of a small replicated key-value machine, with judges who check each answer.

    The members run a replica: Raft with client sessions, which make most commands exactly-once however often a client
    asks again. What is judged: that no acknowledged write is lost and none applied twice, that reads are linearizable by
    value, that what was refused did not happen, and all that Raft promises.

    Attributes
    ----------
    count : int, default 3
        How many. Each has one operation under way.
    rate : float, default 100.0
        Operations a second that they would do together if none took any time.
    operations : collection of str, default ("put", "get")
        What they do, all alike often: "put", "get", "lease_get", "stale_get", "compare_and_swap", "append", "delete",
        "session" (they open and close sessions, and most of their commands are stamped). An operator beside them hands
        leadership about ("transfer"), and demotes, removes and promotes members ("change"), for the first 50 seconds.
    keys : int, default 10
        How many keys.
    timeout : float, default 0.5
        The deadline of each request, in seconds: after it, whether the operation happened is unknown.

    Examples
    --------
    >>> from coterie import raft, sim
    >>> world = sim.World(raft.Node, members=3, seed=7, clients=sim.Clients(count=2, rate=50))
    >>> world.run(seconds=10)
    >>> world.check()
    >>> world.statistics["answers"] > 300
    True
    """

    count: int = 3
    rate: float = 100.0
    operations: Collection[str] = ("put", "get")
    keys: int = 10
    timeout: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.operations, str) or not all(isinstance(name, str) for name in self.operations):
            raise ConfigError("operations: a collection of names")
        if unknown := set(self.operations) - _OPERATIONS - {"transfer", "change"}:
            raise ConfigError(f"operations: there is no {min(unknown)!r}; there are {sorted(_OPERATIONS)}")
        if not _OPERATIONS & set(self.operations):
            raise ConfigError("operations: clients must do something, such as put or get")
        for name, most in (("count", 10_000), ("keys", 1 << 32)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ConfigError(f"{name} is {value!r}; it must be an int from 1 to {most}")
        for name in ("rate", "timeout"):
            number = getattr(self, name)
            if not (isinstance(number, float | int) and 0 < number <= 1e6):
                raise ConfigError(f"{name} is {number!r}; it must be a positive number up to a million")

    def _arguments(self) -> tuple[int, float, list[str], int, float, tuple[bool, bool]]:
        does = set(self.operations)
        orders = ("transfer" in does, "change" in does)
        return self.count, self.rate, sorted(does & _OPERATIONS), self.keys, self.timeout, orders


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that happened.

    Attributes
    ----------
    at : float
        The world's time, in seconds.
    step : int
        How many inputs had been handled.
    node : int or None
        To whom, or by whom; None: to the world.
    verb : str
        What: an input ("receive"), an effect ("send"), or a fault that began or ended.
    peer : int or None
        From whom, or to whom.
    fingerprint : str
        Of what it was about.
    text : str
        It in words; empty unless the world was made with ``record=True``. Of faults there are always words.
    sent : float or None
        When the message left that arrived ("receive"), or was lost where it should have arrived ("lost"; without it, the
        row is the sender's).
    role : str or None
        What a member is from now on ("become"), such as "Leader".
    term : int or None
        In which term.

    Examples
    --------
    >>> from coterie import raft, sim
    >>> world = sim.World(raft.Node, members=3, seed=7)
    >>> world.run(seconds=1)
    >>> world.trace[0].verb
    'start'
    """

    at: float
    step: int
    node: int | None
    verb: str
    peer: int | None
    fingerprint: str
    text: str
    sent: float | None = None
    role: str | None = None
    term: int | None = None

    def __str__(self) -> str:
        who = "world" if self.node is None else f"n{self.node}"
        peer = "" if self.peer is None else f" n{self.peer}"
        words = self.text or "#" + self.fingerprint if self.role is None else f"{self.role} term={self.term}"
        return f"{self.step:>7} {self.at:>14.9f} {who} {self.verb}{peer} {words}"


COLUMNS = tuple(field.name for field in fields(Row))

# What is so after such a row cannot be told from later ones.
_LASTING = frozenset({"start", "crash", "begin", "end", "become"})


class Trace(Sequence[Row]):
    """What happened, in order: the last inputs, or everything in a world that records.

    Parameters
    ----------
    columns : mapping of str to list
        The fields of :class:`Row`, each as a list.
    before : mapping of str to list, optional
        The same of rows that came before and tell what was still so.
    violation : (int, float, int, str), optional
        What was violated at the end: the step, when, at whose doing, and what.

    Examples
    --------
    >>> from coterie import raft, sim
    >>> world = sim.World(raft.Node, members=3, seed=7, record=True)
    >>> world.run(seconds=1)
    >>> print(world.trace.filter(node=1, verb="persist")[0].text)
    Identity { cluster: 0, id: n1 }
    >>> sorted(world.trace.columns())
    ['at', 'fingerprint', 'node', 'peer', 'role', 'sent', 'step', 'term', 'text', 'verb']
    """

    def __init__(
        self,
        columns: Mapping[str, list[Any]],
        *,
        before: Mapping[str, list[Any]] | None = None,
        violation: tuple[int, float, int, str] | None = None,
    ) -> None:
        self._columns = {name: list(columns[name]) for name in COLUMNS}
        self._before = {name: list(before[name]) if before else [] for name in COLUMNS}
        self._violation = violation

    def filter(
        self,
        *,
        node: int | None = None,
        verb: VerbName | None = None,
        start: float = 0.0,
        end: float = inf,
        text: str = "",
    ) -> Trace:
        """Those rows that pass all that is asked for.

        Parameters
        ----------
        node : int, optional
            What happened to it, was done by it, came from it or went to it.
        verb : str, optional
            Of this kind.
        start, end : float, optional
            Not earlier than the one, earlier than the other; in seconds.
        text : str, optional
            With this in its words.

        Returns
        -------
        Trace
            In the same order.
        """
        columns = self._columns
        kept = [
            place
            for place in range(len(self))
            if (node is None or node in {columns["node"][place], columns["peer"][place]})
            and (verb is None or columns["verb"][place] == verb)
            and start <= columns["at"][place] < end
            and text in columns["text"][place]
        ]
        violation = self._violation if self._violation is not None and self._violation[1] < end else None
        table = {name: [values[place] for place in kept] for name, values in columns.items()}
        return Trace(table, before=self._before, violation=violation)

    def plot(
        self,
        start: float | None = None,
        end: float | None = None,
        *,
        nodes: Iterable[int] | None = None,
        events: int = 200,
        width: int | None = None,
        scale: Literal["events", "time"] = "events",
        step: int | None = None,
    ) -> Diagram:
        """Draw it as a space-time diagram.

        Parameters
        ----------
        start, end : float, optional
            From when and until when, in seconds of the world's time; everything that is here, if not said.
        nodes : iterable of int, optional
            Which processes, in this order; all, if not said. Messages to and from others are not drawn.
        events : int, default 200
            How many messages, requests, answers, events and alarms are drawn at most: the most telling ones. The others
            are counted, and the diagram says how many they are.
        width : int, optional
            Of the picture, in pixels; as many as it needs, if not said.
        scale : {"events", "time"}, default "events"
            Whether time is stretched where much happens, so that both the waits and the exchanges can be seen; or an
            inch is the same time everywhere.
        step : int, optional
            Mark this step. What was violated at the end is marked without being asked for.

        Returns
        -------
        Diagram
            A notebook shows it, ``print`` writes it for a terminal, and ``save`` keeps it.

        Examples
        --------
        >>> from coterie import raft, sim
        >>> world = sim.World(raft.Node, members=3, seed=7, record=True)
        >>> world.run(seconds=1)
        >>> world.trace.filter(end=0.2).plot(events=20)
        <Diagram of 3 processes, 7.651e-06 s to 0.153314 s: 20 of 53 events>
        """
        return Diagram(
            self, start=start, end=end, nodes=nodes, events=events, width=width, scale=scale, step=step
        )

    @property
    def before(self) -> Trace:
        """Earlier rows that are not kept, and tell what was so when this begins.

        Of each process its last start or crash and the part that it plays, and the faults in force.
        """
        return Trace(self._before)

    def _repr_html_(self) -> str:
        return self.plot(events=120)._repr_html_()

    def columns(self) -> dict[str, list[Any]]:
        """The fields of :class:`Row`, each as a list: ``pandas.DataFrame(trace.columns())``."""
        return {name: list(values) for name, values in self._columns.items()}

    def to_json(self) -> str:
        """One JSON object a line."""
        lines = (dict(zip(COLUMNS, values, strict=True)) for values in self._rows())
        return "".join(f"{json.dumps(line)}\n" for line in lines)

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        return zip(*self._columns.values(), strict=True)

    def __len__(self) -> int:
        return len(self._columns["at"])

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            first, _, step = place.indices(len(self))
            table = {name: values[place] for name, values in self._columns.items()}
            # What was violated, was violated at the end.
            is_end = len(self) - 1 in range(len(self))[place]
            part = Trace(table, before=self._before, violation=self._violation if is_end else None)
            # What the rows before it told is still so.
            verbs = self._columns["verb"][:first] if step > 0 else []
            lasting = [number for number, verb in enumerate(verbs) if verb in _LASTING]
            for name, values in self._columns.items():
                part._before[name].extend(values[number] for number in lasting)
            return part
        return Row(*[values[place] for values in self._columns.values()])

    def __iter__(self) -> Iterator[Row]:
        return (Row(*values) for values in self._rows())

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def __repr__(self) -> str:
        return f"<Trace of {len(self)} rows>"


# How often a test may let time pass after its end, while a failure is shrunk: more than a loop that counts does.
_WAITS_MAX = 10_000


@dataclass(slots=True)
class _Invariant:
    """Something that must always be so, and when it is looked at next."""

    name: str
    holds: Callable[[World], object]
    every: float
    begins: float
    looks: int = 0

    @property
    def due(self) -> float:
        # Whole nanoseconds, as the world's own times are: who looks again looks at the same moments.
        return round(self.begins + (self.looks + 1) * self.every, 9)


class World(_coterie.SimWorld):
    """Simulated processes, watched.

    Parameters
    ----------
    factory : callable
        Gives the member of an id, which counts from 1: a :class:`coterie.raft.Node` or a :class:`Process`. It is
        called once for each member, and again for each later life of a process in Python.
    members : int
        How many.
    seed : int, default 0
        All that is drawn follows from it.
    faults : Faults, Swarm or iterable of Fault, optional
        What breaks, from the beginning on.
    clients : Clients, optional
        Who asks. Needs members that are all :class:`coterie.raft.Node`, with equal settings.
    record : bool, default False
        Keep everything that happens, in words, for :attr:`trace`. Slow.
    fidelity : {"values", "bytes"}, default "values"
        How messages travel and records are kept: as values, which is quick, or as the real frames and the real journal,
        where links damage bytes, a crash tears the last write, and a bit may rot (:class:`Rot`). Worlds with processes
        in Python run by values.
    membership : coterie.raft.Membership, optional
        With whom a Raft begins; all members as voters, if not said.
    trace_rows : int, default 256
        How many of the last inputs are kept otherwise.
    latency : (float, float), default (50e-6, 50e-6)
        Seconds that a message takes at least, and the mean of what comes on top.
    sync : (float, float), default (100e-6, 100e-6)
        The same of a disk's sync.
    skew : float, default 3600.0
        Each clock shows a drawn time up to so many seconds when the world begins.

    Raises
    ------
    ConfigError
        A setting cannot work, or the factory made something else.

    Notes
    -----
    Worlds of Raft nodes alone run without the interpreter: some million steps a second, and other threads run
    meanwhile. Ctrl-C is answered within some ten milliseconds, and the world can go on afterwards. Between two lives
    of a native node nothing of Python is called.

    Examples
    --------
    >>> from coterie import raft, sim
    >>> from coterie.raft import requests
    >>> world = sim.World(lambda id: raft.Node(id), members=5, seed=7)
    >>> world.run_until(lambda world: world.leader, seconds=5)
    True
    >>> asked = world.request(world.leader, requests.Propose((b"x",)))
    >>> world.run(seconds=0.1)
    >>> print(world.answer(asked).value)
    Committed 1/3
    >>> world.partition([world.leader])
    >>> world.run(seconds=2)
    >>> world.nodes[world.leader].term
    2
    """

    def __new__(
        cls,
        factory: Callable[[int], Node | Process],
        *,
        members: int,
        seed: int = 0,
        faults: Faults | Swarm | Iterable[Fault] | None = None,
        clients: Clients | None = None,
        record: bool = False,
        fidelity: Literal["values", "bytes"] = "values",
        membership: Membership | None = None,
        trace_rows: int = 256,
        latency: tuple[float, float] | None = None,
        sync: tuple[float, float] | None = None,
        skew: float | None = None,
    ) -> Self:
        if not callable(factory):
            raise ConfigError(f"factory is {factory!r}; it must be a function of an id")
        if isinstance(members, bool) or not isinstance(members, int) or not 1 <= members <= 1024:
            raise ConfigError(f"members is {members!r}; it must be an int from 1 to 1024")
        if isinstance(trace_rows, bool) or not isinstance(trace_rows, int) or not 0 <= trace_rows <= 10**7:
            raise ConfigError(f"trace_rows is {trace_rows!r}; it must be an int from 0 to 10,000,000")
        if fidelity not in ("values", "bytes"):
            raise ConfigError(f'fidelity is {fidelity!r}; it must be "values" or "bytes"')
        if clients is not None and not isinstance(clients, Clients):
            raise ConfigError(f"clients is {clients!r}; it must be a coterie.sim.Clients")
        if clients is not None and membership is not None:
            raise ConfigError("membership: where there are clients, all members begin as voters")
        given = {"latency": latency, "sync": sync, "skew": skew}
        changes = clients is not None and "change" in clients.operations
        plan = _plan(faults, _seed(seed), members, 60.0, 0.0, everybody=changes)
        world = super().__new__(
            cls,
            factory,
            members=members,
            seed=_seed(seed),
            faults=tuple(plan),
            clients=None if clients is None else clients._arguments(),
            record=bool(record),
            through_bytes=fidelity == "bytes",
            trace_rows=trace_rows,
            membership=membership,
            settings={name: value for name, value in given.items() if value is not None},
        )
        world._factory = factory
        world._planned = plan
        world._made = {
            "members": members,
            "seed": seed,
            "clients": clients,
            "fidelity": fidelity,
            "membership": membership,
            "trace_rows": trace_rows,
            "latency": latency,
            "sync": sync,
            "skew": skew,
        }
        world._calls = []
        world._invariants = []
        world._end = world._until = inf
        world._waits = 0
        world._violated = None
        world._changes = changes
        world._swarms = 0
        if isinstance(faults, Swarm) and faults.heals:
            world._expect_progress(faults._horizon(60.0))
        return world

    _factory: Callable[[int], Node | Process]
    # What was to break from the beginning.
    _planned: Faults
    _made: dict[str, Any]
    # What was done by hand and is no fault: when, and which method with what.
    _calls: list[tuple[float, str, tuple[Any, ...]]]
    _invariants: list[_Invariant]
    # Where a test is meant to let time end, and where it does end while a failure is shrunk.
    _end: float
    _until: float
    # How often somebody has waited where time stands still.
    _waits: int
    _violated: InvariantViolated | None
    _changes: bool
    _swarms: int

    def run(self, seconds: float, *, faults: Faults | Swarm | Iterable[Fault] | None = None) -> None:
        """Let time pass.

        Parameters
        ----------
        seconds : float
            How much.
        faults : Faults, Swarm or iterable of Fault, optional
            What breaks meanwhile; its starts count from now.

        Raises
        ------
        InvariantViolated
            Something happened that must never happen, or a process raised; the world stays where it was.
        """
        __tracebackhide__ = True
        seconds = _span(seconds)
        if faults is not None:
            self._swarms += 1
            # Far from the plans of neighbouring seeds.
            seed = _seed(self.seed ^ self._swarms * 0x9E37_79B9_7F4A_7C15)
            plan = _plan(faults, seed, self.members, seconds, self.now, everybody=self._changes)
            # Keys of a later plan must not be those of an earlier one.
            self._inject(
                tuple(replace(fault, key=(fault.key + (self._swarms << 48)) % (1 << 64)) for fault in plan)
            )
            if isinstance(faults, Swarm) and faults.heals:
                self._expect_progress(self.now + faults._horizon(seconds))
        self._advance(self.now + seconds)

    def run_until(self, predicate: Callable[[World], object], seconds: float, *, every: float = 0.01) -> bool:
        """Let time pass until something is so.

        Parameters
        ----------
        predicate : callable
            Is handed the world; anything true ends the wait.
        seconds : float
            How long at most.
        every : float, default 0.01
            Seconds after which it is asked again.

        Returns
        -------
        bool
            Whether it became so.

        Raises
        ------
        InvariantViolated
            As for :meth:`run`.
        """
        if not every > 0:
            raise ConfigError(f"every is {every!r}; it must be a positive number of seconds")
        __tracebackhide__ = True
        end = self.now + _span(seconds)
        while not predicate(self):
            if self.now >= min(end, self._until):
                return False
            self._advance(min(self.now + every, end))
        return True

    def _advance(self, end: float) -> None:
        __tracebackhide__ = True  # pytest shows the line of the test
        if end > self.now >= self._until:
            # Time stands still, and most tests come to their end all the same; some wait for it to pass.
            self._waits += 1
            if self._waits > _WAITS_MAX:
                raise TimeIsUp
        end = min(end, self._until)
        if self._violated is not None:
            raise self._violated
        while self._invariants:
            following = min(self._invariants, key=lambda invariant: invariant.due)
            if following.due > end:
                break
            if following.due > self.now:
                self._run(following.due)
            following.looks += 1
            self._look(following)
        if end > self.now:
            self._run(end)

    def _look(self, invariant: _Invariant) -> None:
        __tracebackhide__ = True
        cause: Exception | None = None
        try:
            if invariant.holds(self):
                return
            detail = "does not hold"
        except Exception as error:  # noqa: BLE001 - what it raises is why it does not hold
            cause, detail = error, f"{type(error).__name__}: {error}"
        trace = self.trace
        trace._violation = (self.steps, self.now, 0, f"{invariant.name}: {detail}")
        self._violated = InvariantViolated(
            f"seed {self.seed}, step {self.steps}, {self.now:.6f} s: {invariant.name}: {detail}",
            seed=self.seed,
            step=self.steps,
            invariant=invariant.name,
            trace=trace,
        )
        raise self._violated from cause

    def invariant(self, name: str, holds: Callable[[World], object], *, every: float = 0.1) -> None:
        """Declare what must always be so; from now on it is looked at while time passes.

        Parameters
        ----------
        name : str
            What it is called when it does not hold.
        holds : callable
            Is handed the world; whatever is not true, or is raised, is a violation.
        every : float, default 0.1
            Seconds between two looks.

        Raises
        ------
        ConfigError
            ``every`` is no positive number of seconds.

        Examples
        --------
        >>> from coterie import raft, sim
        >>> world = sim.World(raft.Node, members=3, seed=7)
        >>> world.invariant("there is no leader", lambda world: world.leader is None)
        >>> world.run(5)
        Traceback (most recent call last):
        coterie.exceptions.InvariantViolated: seed 7, step ..., ... s: there is no leader: does not hold
        """
        if not (isinstance(every, float | int) and every > 0 and isfinite(every)):
            raise ConfigError(f"every is {every!r}; it must be a positive number of seconds")
        self._invariants.append(_Invariant(name, holds, every, self.now))

    def check(self) -> None:
        """Raise what was violated so far; with clients, also when nothing was written for too long after a heal.

        Raises
        ------
        InvariantViolated
            With ``seed``, ``step``, ``invariant`` and ``trace``.
        """
        if self._violated is not None:
            raise self._violated
        self._check()

    def shrink(self, *, timeout: float = 30.0) -> Shrunk:
        """Make the failure of this world smaller: fewer faults and a shorter time, while it stays the same failure.

        The world is built and run again, many times, with plans that have less in them; what was done to it by hand
        (crashes, requests, invariants) is done again at the same moments. The randomness of each fault is its own, so
        that taking one away shifts nothing of the others.

        Parameters
        ----------
        timeout : float, default 30.0
            After so many seconds the smallest run so far must do.

        Returns
        -------
        Shrunk
            The smallest run, with one line of Python that shows it again.

        Raises
        ------
        ConfigError
            Nothing has failed, or it does not fail again: then something is drawn from outside of the world, and
            :func:`replay` finds out where.

        References
        ----------
        D. R. MacIver and A. F. Donaldson, "Test-case reduction via test-case generation", ECOOP 2020.

        Examples
        --------
        >>> import coterie
        >>> from coterie import raft, sim
        >>> world = sim.World(raft.Node, members=3, seed=7, faults=sim.Faults.swarm(share=1.0))
        >>> world.invariant("nobody is down", lambda world: all(world.nodes.values()))
        >>> try:
        ...     world.run(60)
        ... except coterie.InvariantViolated:
        ...     smallest = world.shrink()
        >>> [type(fault).__name__ for fault in smallest.faults]
        ['Crash']
        >>> smallest.failure.invariant
        'nobody is down'
        """
        failure = self._failure()
        if failure is None:
            raise ConfigError("nothing has failed in this world, so there is nothing to shrink")

        def attempt(faults: Faults, seconds: float) -> tuple[World, BaseException | None]:
            world = self._again(faults, record=False)
            return world, world._relive(self._calls, seconds)

        found = smallest(attempt, self.faults, self.now, kind_of(failure), timeout)
        if found is None:
            raise ConfigError(
                "the failure does not come again: something in it is drawn from outside of the world; see"
                " coterie.sim.replay"
            )
        world = self._again(found.faults, record=True)
        again = world._relive(self._calls, found.seconds)
        line = self._line(found.faults, found.seconds)
        return Shrunk(
            found.faults, found.seconds, again or failure, world, found.trials, found.exhausted, line
        )

    def _failure(self) -> InvariantViolated | None:
        try:
            self.check()
        except InvariantViolated as failure:
            return failure
        return None

    def _again(self, faults: Faults, *, record: bool) -> World:
        world = World(self._factory, **self._made, faults=faults, record=record)
        for invariant in self._invariants:
            world._invariants.append(replace(invariant, looks=0))
        return world

    def _relive(
        self, calls: Iterable[tuple[float, str, tuple[Any, ...]]], seconds: float
    ) -> InvariantViolated | None:
        """Do again what was done by hand, for so long."""
        try:
            for at, method, arguments in calls:
                if at > seconds:
                    break
                self._advance(at)
                getattr(self, method)(*arguments)
            self._advance(seconds)
            self.check()
        except InvariantViolated as failure:
            return failure
        return None

    def _line(self, faults: Faults, seconds: float) -> str:
        """One line of Python that shows this world again, after ``from coterie import raft, sim``."""
        defaults = {"fidelity": "values", "trace_rows": 256, "seed": 0}
        settings = {
            name: value
            for name, value in self._made.items()
            if value is not None and value != defaults.get(name)
        }
        given = [f"{name}={source(value)}" for name, value in settings.items()]
        build = f"sim.World({', '.join([source(self._factory), *given, f'faults={source(faults)}'])})"
        end = seconds_above(seconds)
        steps = []
        for invariant in self._invariants:
            holds = source(invariant.holds)
            shown = "holds" if holds == "factory" else holds
            steps.append(f"world.invariant({invariant.name!r}, {shown}, every={invariant.every!r})")
        for at, method, arguments in self._calls:
            if at <= seconds:
                wait = [f"world.run({at!r} - world.now)"] if at > 0 else []
                steps += [*wait, f"world.{method}({', '.join(map(source, arguments))})"]
        if not steps:
            return f"{build}.run({end!r})"
        steps.append(f"world.run({end!r} - world.now)")
        return "; ".join([f"world = {build}", *steps])

    def crash(self, node: int) -> None:
        """Crash a process now: records that were not durable may be lost, and so are the promises behind them."""
        self._does("crash", node)

    def restart(self, node: int) -> None:
        """Start a process again, from its journal."""
        self._does("restart", node)

    def pause(self, node: int) -> None:
        """Let a process stand still; what arrives waits."""
        self._does("pause", node)

    def resume(self, node: int) -> None:
        """End a pause."""
        self._does("resume", node)

    def _does(self, verb: str, node: int) -> None:
        node = self._known(node)
        self._calls.append((self.now, verb, (node,)))
        self._act(verb, node)

    def partition(self, side: Iterable[int], other: Iterable[int] | None = None) -> None:
        """Separate processes until :meth:`heal`.

        Parameters
        ----------
        side : iterable of int
            These,
        other : iterable of int, optional
            from these; from all others, if not said.
        """
        away = None if other is None else [self._known(node) for node in other]
        self._partition([self._known(node) for node in side], away)

    def heal(self) -> None:
        """End all partitions that never end by themselves."""
        self._heal()

    def request(self, node: int, request: requests.Request | object) -> int:
        """Ask a process, now.

        Parameters
        ----------
        node : int
            Whom.
        request : object
            What: of :mod:`coterie.raft.requests` for a native node, any value for a process in Python.

        Returns
        -------
        int
            Its number, for :meth:`answer`.
        """
        node = self._known(node)
        asked = self._request(node, request)
        self._calls.append((self.now, "request", (node, request)))
        return asked

    def answer(self, id: int) -> Answer | None:
        """The answer to a request, or None while there is none.

        Parameters
        ----------
        id : int
            What :meth:`request` gave.

        Returns
        -------
        coterie.protocol.Answer or None
            With a value, or with an error.
        """
        found = self._answer(id)
        return None if found is None else Answer(id, *found)

    def clock(self, node: int) -> float:
        """What the clock of a process shows, in seconds: deadlines are told in it."""
        return self._clock(self._known(node))

    def log(self, node: int) -> tuple[Run, ...]:
        """The log of a native node; empty while it is down."""
        return self._log(self._known(node)) or ()

    @property
    def nodes(self) -> dict[int, Any]:
        """Each member: the :class:`coterie.raft.Status` of a native one, or the object of one in Python; or None."""
        return {node: self._node(node) for node in range(1, self.members + 1)}

    @property
    def leader(self) -> int | None:
        """Who leads the latest term that has a leader; a process in Python leads when it notified of such a role."""
        return self._leader

    @property
    def members(self) -> int:
        """How many members there are."""
        return self._members

    @property
    def seed(self) -> int:
        """From which all that is drawn follows."""
        return self._seed

    @property
    def now(self) -> float:
        """The world's time: seconds since its beginning."""
        return self._now

    @property
    def end(self) -> float:
        """When a test of :func:`coterie.testing.worlds` should let time end, in seconds; otherwise inf.

        A test that runs its world piece by piece looks at this, so that a failure can be shrunk to a shorter time.
        """
        return min(self._end, self._until)

    @property
    def steps(self) -> int:
        """How many inputs were handled: calls of a verb, ``flush`` not counted."""
        return self._steps

    @property
    def digest(self) -> str:
        """Of all that has happened: equal for equal worlds, on every platform and Python version."""
        return self._digest

    @property
    def statistics(self) -> dict[str, Any]:
        """What was counted: steps, messages, records, lives, and in ``faults`` those that began, by name."""
        return self._statistics

    @property
    def faults(self) -> Faults:
        """What breaks, with what was added by hand."""
        return Faults(self._faults)

    @property
    def trace(self) -> Trace:
        """The last things that happened; all, in a world that records."""
        trace: Trace = self._trace
        if self._violated is not None and trace._violation is None:
            trace._violation = self._violated.trace._violation
        return trace

    def plot(
        self,
        start: float | None = None,
        end: float | None = None,
        *,
        nodes: Iterable[int] | None = None,
        events: int = 200,
        width: int | None = None,
        scale: Literal["events", "time"] = "events",
    ) -> Diagram:
        """Draw what happened as a space-time diagram: processes as lines, messages as arrows.

        A world made with ``record=True`` can be drawn as a whole and in words; of another, the last rows are there.

        Parameters
        ----------
        start, end : float, optional
            From when and until when, in seconds of the world's time; from the first row that is kept until now, if not
            said.
        nodes : iterable of int, optional
            Which processes, in this order; all, if not said. Messages to and from others are not drawn.
        events : int, default 200
            How many messages, requests, answers, events and alarms are drawn at most: the most telling ones. The others
            are counted, and the diagram says how many they are.
        width : int, optional
            Of the picture, in pixels; as many as it needs, if not said.
        scale : {"events", "time"}, default "events"
            Whether time is stretched where much happens, so that both the waits and the exchanges can be seen; or an
            inch is the same time everywhere.

        Returns
        -------
        Diagram
            A notebook shows it, ``print`` writes it for a terminal, and ``save`` keeps it.

        Examples
        --------
        >>> from coterie import raft, sim
        >>> world = sim.World(raft.Node, members=3, seed=7, record=True)
        >>> world.run_until(lambda world: world.leader, seconds=5)
        True
        >>> world.plot()
        <Diagram of 3 processes, 7.651e-06 s to 0.01 s: 37 of 37 events>
        """
        end = self.now if end is None else end
        return self.trace.plot(start, end, nodes=nodes, events=events, width=width, scale=scale)

    def _repr_html_(self) -> str:
        try:
            return f"<div><code>{escape(repr(self))}</code>{self._last_part()._repr_html_()}</div>"
        except StoppedError:  # it is being run
            return f"<code>{escape(repr(self))}</code>"

    def _last_part(self) -> Diagram:
        trace = self.trace
        # Enough rows for a compact picture: who records keeps some eight rows for each event.
        count = _COMPACT * (8 if "send" in trace._columns["verb"] else 1)
        last: Trace = trace[-count:]
        return last.plot(end=self.now, events=_COMPACT)

    def _known(self, node: SupportsIndex) -> int:
        number = node.__index__()
        if not 1 <= number <= self.members:
            raise UnknownNodeError(
                f"there is no member {number}; they count from 1 to {self.members}", node=number
            )
        return number

    def __repr__(self) -> str:
        try:
            return f"<World seed={self.seed} members={self.members} now={self.now:.6f} leader={self.leader}>"
        except StoppedError:  # it is being run
            return f"<World seed={self.seed} members={self.members}>"


def replay(build: Callable[[], World], seconds: float) -> str:
    """Run a world twice, and see that it is the same both times.

    What a process draws from outside (a clock, ``random``, the order of a set of strings) makes worlds that nobody can
    see again. A world that fails is run to its failure both times.

    Parameters
    ----------
    build : callable
        Makes the world anew, with ``record=True`` so that a difference can be told in words.
    seconds : float
        How long each of them runs.

    Returns
    -------
    str
        The digest of both.

    Raises
    ------
    InvariantViolated
        The runs differ; ``step`` and the message name where they do first. ``trace`` is the second run's.

    Examples
    --------
    >>> from coterie import raft, sim
    >>> digest = sim.replay(lambda: sim.World(raft.Node, members=3, seed=7, record=True), seconds=5)
    >>> len(digest)
    16
    """
    runs = []
    for _ in range(2):
        world = build()
        with suppress(InvariantViolated):
            world.run(seconds)
        runs.append(world)
    one, two = runs
    if one.digest == two.digest:
        return one.digest
    pairs = zip_longest(one.trace, two.trace)
    first, second = next(((row, other) for row, other in pairs if row != other), (None, None))
    there = second or first
    raise InvariantViolated(
        f"two runs of seed {two.seed} differ: first {first or 'nothing'}, then {second or 'nothing'}; something in them"
        " is drawn from outside of the world",
        seed=two.seed,
        step=there.step if there else two.steps,
        invariant="the same seed, the same world",
        trace=two.trace,
    )


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ConfigError(f"seed is {seed!r}; it must be an int")
    return seed % (1 << 64)


def _span(seconds: float) -> float:
    if not (isinstance(seconds, float | int) and seconds >= 0 and isfinite(seconds)):
        raise ConfigError(f"seconds is {seconds!r}; it must be a number, 0 or more")
    return float(seconds)


def _check_fault(fault: Fault, members: int) -> None:
    rate = getattr(fault, "rate", 0.0)
    if not (isinstance(rate, float | int) and 0 <= rate <= 1):
        raise ConfigError(f"{fault!r}: a rate is a number from 0 to 1")
    named: list[Any] = [getattr(fault, name) for name in ("node", "about") if hasattr(fault, name)]
    for name in ("side", "senders", "receivers", "left", "right", "core"):
        value = getattr(fault, name, ())
        named.extend(value if isinstance(value, tuple | list) else [value])
    on = getattr(fault, "on", None)
    named.extend(
        end for end in (getattr(on, "sender", None), getattr(on, "receiver", None)) if end is not None
    )
    for node in named:
        if isinstance(node, int) and not 1 <= node <= members:
            raise ConfigError(f"{fault!r}: there is no member {node}; they count from 1 to {members}")


def _plan(
    faults: Faults | Swarm | Iterable[Fault] | None,
    seed: int,
    members: int,
    seconds: float,
    start: float,
    *,
    everybody: bool,
) -> Faults:
    if faults is None:
        return Faults()
    if isinstance(faults, Swarm):
        return faults.draw(seed, members=members, seconds=seconds, start=start, everybody=everybody)
    if isinstance(faults, Fault):
        faults = [faults]
    plan = faults if isinstance(faults, Faults) else Faults(faults)
    for fault in plan:
        _check_fault(fault, members)
    return Faults(replace(fault, start=fault.start + start) for fault in plan)
