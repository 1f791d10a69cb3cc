"""Failing runs made smaller, and told so that they can be seen again."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from coterie import _coterie
from coterie.exceptions import InvariantViolated

if TYPE_CHECKING:
    from coterie.sim import Fault, Faults, World

Attempt: TypeAlias = Callable[["Faults", float], tuple["World", BaseException | None]]
"""Runs a plan for at most so many seconds; gives the world, and what was raised."""


class TimeIsUp(BaseException):
    """A test goes on where the time of its world has ended: this run of it says nothing."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A failing run that has become small: few faults, a short time, and still the same failure.

    Attributes
    ----------
    faults : Faults
        What breaks in it.
    seconds : float
        When it fails.
    failure : BaseException
        How: what the smallest run raised.
    world : World
        The smallest run, recorded, where it failed: look at its trace, or plot it.
    trials : int
        How many runs were tried.
    exhausted : bool
        Whether nothing smaller was found; otherwise the time was up.
    line : str
        One line of Python that shows it again.

    Examples
    --------
    >>> from coterie import sim
    >>> class Fragile(sim.Process):
    ...     def start(self, now, random, records, out):
    ...         out.set("tick", now + 1.0)
    ...
    ...     def link(self, now, peer, link, out):
    ...         assert link == "Up"
    >>> world = sim.World(lambda id: Fragile(), members=3, seed=4, faults=sim.Faults.swarm())
    >>> world.run(60)
    Traceback (most recent call last):
    coterie.exceptions.InvariantViolated: ...no process raises: ...
    >>> smallest = world.shrink()
    >>> len(smallest.faults)
    1
    """

    faults: Faults
    seconds: float
    failure: BaseException
    world: World
    trials: int
    exhausted: bool
    line: str

    def __repr__(self) -> str:
        time = "" if self.exhausted else ", until the time was up"
        count = len(self.faults)
        return f"<Shrunk: {count} fault{'' if count == 1 else 's'}, {self.seconds:.6g} s, after {self.trials} runs{time}>"

    def __str__(self) -> str:
        return f"{self.failure}\nReplay: {self.line}"


def kind_of(error: BaseException) -> tuple[str, ...]:
    """What is the same about this failure and others of its kind: names and numbers in it do not count."""
    if not isinstance(error, InvariantViolated):
        return (type(error).__qualname__, *_place(error))
    cause = error.__cause__
    if cause is None:
        # What a world says is a short sentence; a judge of histories tells a story, which is another each time.
        detail = str(error).partition(f"{error.invariant}: ")[2]
        return (error.invariant, _pattern(detail) if str(error).startswith("seed ") else "")
    return (error.invariant, type(cause).__qualname__, *_place(cause))


def _pattern(text: str) -> str:
    return re.sub(r"[\w.\\]*\d[\w.\\]*", "#", text)


def _place(error: BaseException) -> tuple[str, ...]:
    frames = traceback.extract_tb(error.__traceback__)
    return (frames[-1].filename, str(frames[-1].lineno)) if frames else ()


@dataclass(frozen=True, slots=True)
class Smallest:
    """The smallest run that was found."""

    faults: Faults
    seconds: float
    trials: int
    exhausted: bool


def smallest(
    attempt: Attempt, faults: Faults, seconds: float, kind: tuple[str, ...], timeout: float
) -> Smallest | None:
    """Make a failing run smaller; None when it does not fail again."""
    from coterie.sim import Faults  # noqa: PLC0415 - they know each other

    end = monotonic() + timeout
    begun = False

    def trial(plan: Iterable[Fault], within: float) -> float | None:
        nonlocal begun
        # The first run is the failing one again: without it there is nothing to tell.
        if begun and monotonic() > end:
            raise StopIteration
        begun = True
        world, raised = attempt(Faults(plan), within)
        return world.now if raised is not None and kind_of(raised) == kind else None

    found = _coterie.sim_shrink(tuple(faults), seconds, trial)
    if found is None:
        return None
    plan, at, trials, exhausted = found
    return Smallest(Faults(plan), at, trials, exhausted)


def source(value: object) -> str:
    """A fault, a plan or a setting as Python that makes it again, after ``from coterie import raft, sim``."""
    from coterie import sim  # noqa: PLC0415 - they know each other

    if isinstance(value, sim.Faults):
        # A key is written only where it is not the fault's place.
        plan = (_call(fault, {"key": place}) for place, fault in enumerate(value, 1))
        return f"[{', '.join(plan)}]"
    if isinstance(value, sim.Fault | sim.Links | sim.Clients):
        return _call(value, {})
    if callable(value):
        name = getattr(value, "__qualname__", type(value).__qualname__)
        if getattr(value, "__module__", None) == "coterie.raft":
            return f"raft.{name}"
        return name if name.isidentifier() else "factory"
    return repr(value)


def _call(value: Any, defaults: Mapping[str, object]) -> str:
    given = []
    for field in fields(value):
        content = getattr(value, field.name)
        if content != defaults.get(field.name, _default(field)):
            given.append(f"{field.name}={source(content)}")
    return f"sim.{type(value).__name__}({', '.join(given)})"


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def seconds_above(seconds: float) -> float:
    """A moment that can be read, not before this one: a run ends where it fails."""
    for digits in (3, 6):
        above = math.ceil(seconds * 10**digits) / 10**digits
        if above - seconds <= 0.02 * seconds:
            return above
    return seconds
