"""Simulated worlds as pytest tests: one test is many worlds, and one that fails explains itself.

The plugin comes with the package: pytest finds it by itself, and loads the compiled module only when a test uses it.

- :func:`worlds` runs a test once for each of many seeds. The first world that fails is shrunk while it stays the same
  failure; the report names seed and step, shows the last events and what must break, and ends with one line that
  replays it. The trace and a picture are saved.
- ``--coterie-seed N`` runs the world of one seed, ``--coterie-seeds N`` runs so many, ``--coterie-shrink SECONDS`` says
  how long to shrink, and ``--coterie-artefacts FOLDER`` where to save.
- The fixture ``coterie_world`` makes worlds for a test that wants them by hand, and ``coterie_seed`` is the seed of
  ``--coterie-seed``.

Examples
--------
>>> import coterie.testing
>>> @coterie.testing.worlds(seeds=20, members=3)
... def test_leaders_are_found(world):
...     world.run(60)
...     assert world.run_until(lambda world: world.leader, seconds=10)
>>> test_leaders_are_found()
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from coterie import _options
from coterie._shrink import TimeIsUp, kind_of, seconds_above, smallest, source
from coterie.exceptions import ConfigError
from coterie.raft import Node
from coterie.sim import Fault, Faults, Process, Swarm, World

__all__ = ["replay", "worlds"]

# How long a failure is shrunk if nobody says.
SHRINK = 30.0
# How many of the last events a report shows.
EVENTS = 16


def worlds(
    factory: Callable[[int], Node | Process] | type[Process] = Node,
    *,
    seeds: int | Iterable[int] = 200,
    members: int = 3,
    seconds: float = 60.0,
    faults: Faults | Swarm | Iterable[Fault] | None = None,
    shrink: float = SHRINK,
    **settings: Any,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test in many simulated worlds, and make the first one that fails small.

    The test takes a parameter ``world``, a :class:`coterie.sim.World` at its beginning: it lets time pass, asks for
    things, asserts. If it lets no time pass, the world runs for ``seconds``. In the end :meth:`World.check` is called.
    Other parameters are fixtures and parameters, as ever.

    Parameters
    ----------
    factory : callable, default coterie.raft.Node
        Makes the member of an id, as for :class:`coterie.sim.World`; a class whose objects take no id will do, too.
    seeds : int or iterable of int, default 200
        How many worlds, of the seeds 0, 1, …; or of which seeds.
    members : int, default 3
        How many members a world has.
    seconds : float, default 60.0
        How long a test is going to let time pass: a swarm of faults spreads over five sixths of it.
    faults : Faults, Swarm or iterable of Fault, optional
        What breaks. By default each seed draws a swarm of its own.
    shrink : float, default 30.0
        For how many seconds a failure is made smaller. 0: not at all.
    **settings
        Further settings of :class:`coterie.sim.World`: ``clients``, ``fidelity``, ``latency``, …

    Returns
    -------
    callable
        A decorator.

    Raises
    ------
    ConfigError
        The test takes no ``world``, or there is no seed.

    Notes
    -----
    The test may be run again many times while a failure shrinks, so what it changes outside of the world should not
    matter. Its fixtures are set up once for all worlds. A test that lets time pass piece by piece should ask
    :attr:`coterie.sim.World.end` when to stop: then its failures shrink to shorter runs, too.

    Examples
    --------
    >>> import coterie.testing
    >>> from coterie import sim
    >>> class Counter(sim.Process):
    ...     def start(self, now, random, records, out):
    ...         self.value = records[-1] if records else 0
    ...
    ...     def request(self, now, id, request, out):
    ...         self.value += 1
    ...         out.answer(id, self.value)
    >>> @coterie.testing.worlds(Counter, seeds=50, members=1)
    ... def test_no_number_is_given_twice(world):
    ...     numbers = []
    ...     for _ in range(20):
    ...         asked = world.request(1, "next")
    ...         world.run(1)
    ...         if answer := world.answer(asked):
    ...             numbers.append(answer.value)
    ...     assert len(numbers) == len(set(numbers))
    >>> try:
    ...     test_no_number_is_given_twice()
    ... except AssertionError as failure:
    ...     print(failure.__notes__[0].splitlines()[0])
    seed ..., world ... of 50, step ...
    """
    chosen = range(seeds) if isinstance(seeds, int) else tuple(seeds)
    if not chosen:
        raise ConfigError(f"seeds is {seeds!r}; a test needs at least one world")
    plan = Swarm() if faults is None else faults
    if isinstance(plan, Swarm) and plan.horizon is None:
        plan = replace(plan, horizon=plan._horizon(seconds))
    made = {"members": members, "faults": plan, **settings}

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(test)
        if "world" not in signature.parameters:
            raise ConfigError(
                f"{test.__qualname__} needs a parameter `world`: in it the world is handed over"
            )

        @functools.wraps(test)
        def run(*arguments: Any, **keywords: Any) -> None:
            body = functools.partial(test, *arguments, **keywords)
            _Test(_of_id(factory), made, float(seconds), shrink, body).run(chosen)

        others = [it for name, it in signature.parameters.items() if name != "world"]
        # Pytest takes what a signature names for fixtures.
        run.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        return run

    return decorate


def replay(
    test: str | Callable[..., None],
    *,
    seed: int,
    faults: Faults | Iterable[Fault] | None = None,
    seconds: float = inf,
) -> None:
    """Run one world of a test again: what the report of a failure tells to type.

    Parameters
    ----------
    test : str or callable
        Pytest's name of it ("tests/test_bank.py::test_transfer"), which is run by pytest, with its fixtures; or the
        decorated function itself.
    seed : int
        The world's.
    faults : Faults or iterable of Fault, optional
        What breaks, in place of what the seed would draw.
    seconds : float, default inf
        Where time ends.

    Raises
    ------
    BaseException
        What the test raises in this world.

    Examples
    --------
    >>> import coterie.testing
    >>> @coterie.testing.worlds(seeds=1, members=3)
    ... def test_there_is_a_leader(world):
    ...     assert world.run_until(lambda world: world.leader, seconds=5)
    >>> coterie.testing.replay(test_there_is_a_leader, seed=7, faults=[])
    """
    plan = None if faults is None else Faults(faults)
    wanted = _options.Replay(seed, plan, seconds)
    before = _options.current
    _options.current = replace(before, replay=wanted)
    try:
        if callable(test):
            test()
            return
        import pytest  # noqa: PLC0415 - the rest works without it

        pytest.main([test, "-q", "-p", "no:cacheprovider"])
    finally:
        _options.current = before
    if wanted.failure is not None:
        raise wanted.failure


def _of_id(factory: Callable[..., Any]) -> Callable[[int], Any]:
    """A factory that takes an id, of one that may take none."""
    try:
        inspect.signature(factory).bind(1)
    except TypeError:

        @functools.wraps(factory, updated=())
        def make(_id: int) -> Any:
            return factory()

        return make
    except ValueError:  # a compiled class does not say what it takes
        pass
    return factory


@dataclass
class _Test:
    """One decorated test, as it is called."""

    factory: Callable[[int], Node | Process]
    settings: dict[str, Any]
    seconds: float
    shrink: float
    body: Callable[..., None]

    def run(self, seeds: range | tuple[int, ...]) -> None:
        options = _options.current
        if options.replay is not None:
            self.replay(options.replay)
            return
        if options.seed is not None:
            seeds = (options.seed,)
        elif options.seeds is not None:
            seeds = range(options.seeds) if isinstance(seeds, range) else seeds[: options.seeds]
        for number, seed in enumerate(seeds, 1):
            world, raised = self.attempt(seed)
            if raised is not None:
                whole = f"world {number} of {len(seeds)}"
                self.explain(seed, world, raised, whole)

    def replay(self, wanted: _options.Replay) -> None:
        _, wanted.failure = self.attempt(wanted.seed, wanted.faults, wanted.seconds, record=True)
        if wanted.failure is not None:
            raise wanted.failure

    def attempt(
        self, seed: int, faults: Faults | None = None, until: float = inf, *, record: bool = False
    ) -> tuple[World, BaseException | None]:
        settings = dict(self.settings)
        if faults is not None:
            settings["faults"] = faults
        world = World(self.factory, seed=seed, record=record, **settings)
        world._end, world._until = self.seconds, until
        try:
            self.body(world=world)
            if world.now == 0:
                world.run(self.seconds)
            world.check()
        except TimeIsUp:
            return world, None
        except Exception as error:  # noqa: BLE001 - whatever a test raises is its failure
            return world, error
        except BaseException as error:
            outcomes = sys.modules.get("_pytest.outcomes")
            if outcomes is not None and isinstance(error, outcomes.fail.Exception):
                return world, error
            raise
        return world, None

    def explain(self, seed: int, world: World, raised: BaseException, whole: str) -> None:
        """Raise the smallest failure of the kind, with its story."""
        patience = self.shrink if _options.current.shrink is None else _options.current.shrink
        plan, length, kind = world._planned, world.now, kind_of(raised)
        found = None
        if patience > 0:

            def attempt(faults: Faults, seconds: float) -> tuple[World, BaseException | None]:
                return self.attempt(seed, faults, seconds)

            found = smallest(attempt, plan, length, kind, patience)
            if found is None:
                raised.add_note(
                    f"seed {seed}: this failure does not come again in the same world, so something is drawn from"
                    " outside of it (a clock, the random module, the order of a set); see coterie.sim.replay"
                )
                raise raised
        least = found.faults if found else plan
        until = found.seconds if found else length
        small, again = self.attempt(seed, least, until, record=True)
        failure = raised if again is None or kind_of(again) != kind else again
        name = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
        story = _Story(seed, small, failure, name)
        told = [f"seed {seed}, {whole}, step {small.steps}"]
        if found:
            told.append(
                f"shrunk from {len(plan)} faults and {length:.3f} s to {len(least)} and {until:.6g} s"
                f" in {found.trials} runs{'' if found.exhausted else ', until the time was up'}"
            )
        told += story.events()
        shown = f"{name!r}" if name else getattr(self.body, "func", self.body).__qualname__
        line = f"coterie.testing.replay({shown}, seed={seed}, faults={source(least)}, seconds={seconds_above(until)!r})"
        told += ["replay, after `import coterie.testing; from coterie import sim`:", f"  {line}"]
        if name:
            told.append(f"the whole world: pytest {name!r} --coterie-seed {seed}")
        told += story.save(
            "\n".join(told), f"import coterie.testing\nfrom coterie import raft, sim\n\n{line}\n"
        )
        failure.add_note("\n".join(told))
        raise failure


@dataclass
class _Story:
    """What a failed world has to say."""

    seed: int
    world: World
    failure: BaseException
    name: str

    def events(self) -> list[str]:
        rows = [f"  {row}" for row in self.world.trace[-EVENTS:]]
        return [f"the last {len(rows)} events:", *rows]

    def save(self, story: str, script: str) -> list[str]:
        """Keep the trace and a picture, where pytest says."""
        root = _options.current.artefacts
        if root is None or not self.name:
            return []
        folder = root / re.sub(r"[^\w.-]+", "-", self.name.replace("::", "-")).strip("-")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _ignore(root)
            (folder / "story.txt").write_text(f"{story}\n", encoding="utf-8")
            (folder / "replay.py").write_text(script, encoding="utf-8")
            (folder / "trace.jsonl").write_text(self.world.trace.to_json(), encoding="utf-8")
            self.world.plot().save(folder / "picture.svg")
        except Exception as error:  # noqa: BLE001 - whatever it is, the failure itself must be told
            return [f"not all could be saved: {type(error).__name__}: {error}"]
        _options.current.saved.append(folder)
        return [f"saved: {_options.shown(folder)}"]


def _ignore(root: Path) -> None:
    """Failures are nobody's source code."""
    marker = root / ".gitignore"
    if not marker.exists():
        marker.write_text("*\n", encoding="utf-8")


def _story_of(world: World, name: str) -> str | None:
    """What is to be said of a world that a test made by hand; None when nothing failed in it."""
    if world._failure() is None:
        return None
    patience = SHRINK if _options.current.shrink is None else _options.current.shrink
    if patience == 0:
        line = world._line(world.faults, world.now)
        story, told = _Story(world.seed, world, world._failure() or ConfigError(), name), []
    else:
        shrunk = world.shrink(timeout=patience)
        line, told = shrunk.line, [repr(shrunk)]
        story = _Story(world.seed, shrunk.world, shrunk.failure, name)
    told += [str(story.failure), *story.events()]
    told += ["replay, after `from coterie import raft, sim`:", f"  {line}"]
    told += story.save("\n".join(told), f"from coterie import raft, sim\n\n{line}\n")
    return "\n".join(told)
