"""The pytest plugin: options, fixtures, and what a failing world has to say.

Nothing compiled is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from coterie import _options

if TYPE_CHECKING:
    from coterie.sim import World

_WORLDS = pytest.StashKey[list["World"]]()
_BEFORE = pytest.StashKey[_options.Options]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("coterie", "simulated worlds of coterie.testing")
    group.addoption("--coterie-seed", type=int, metavar="N", help="run the world of this seed alone")
    group.addoption("--coterie-seeds", type=int, metavar="N", help="run so many worlds in each test")
    group.addoption(
        "--coterie-shrink", type=float, metavar="SECONDS", help="how long a failure is shrunk; 0: not at all"
    )
    group.addoption(
        "--coterie-artefacts",
        default=".coterie",
        metavar="FOLDER",
        help="where failures leave their traces and pictures; relative to the root (default: .coterie)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Hand the options on."""
    config.stash[_BEFORE] = _options.current
    given = config.getoption
    seeds = given("--coterie-seeds")
    if seeds is not None and seeds < 1:
        raise pytest.UsageError(f"--coterie-seeds {seeds}: a test needs at least one world")
    shrink = given("--coterie-shrink")
    if shrink is not None and not shrink >= 0:
        raise pytest.UsageError(f"--coterie-shrink {shrink}: seconds, 0 or more")
    _options.current = replace(
        _options.current,
        seed=given("--coterie-seed"),
        seeds=seeds,
        shrink=shrink,
        artefacts=config.rootpath / Path(given("--coterie-artefacts")),
        saved=[],
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the options as they were: one session may run inside another."""
    _options.current = config.stash.get(_BEFORE, _options.current)


@pytest.fixture
def coterie_seed() -> int:
    """The seed of ``--coterie-seed``; 0 if none is given."""
    return _options.current.seed or 0


@pytest.fixture
def coterie_world(request: pytest.FixtureRequest, coterie_seed: int) -> Iterator[Callable[..., World]]:
    """Makes worlds as :class:`coterie.sim.World` does; the seed is ``coterie_seed`` if none is given.

    When the test fails and one of its worlds has failed, the report says how, with the smallest run that still does.
    """
    from coterie.sim import World  # noqa: PLC0415 - the extension is loaded only when a test wants it

    made = request.node.stash.setdefault(_WORLDS, [])

    def make(factory: Callable[[int], Any] | None = None, *, members: int = 3, **settings: Any) -> World:
        from coterie.raft import Node  # noqa: PLC0415 - the same

        world = World(factory or Node, members=members, **{"seed": coterie_seed, **settings})
        made.append(world)
        return world

    yield make
    made.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the worlds of a failed test say what happened."""
    report = yield
    if call.when == "call" and call.excinfo is not None and (made := item.stash.get(_WORLDS, [])):
        from coterie.testing import _story_of  # noqa: PLC0415 - the extension is loaded by the fixture

        for story in filter(None, (_story_of(world, item.nodeid) for world in list(made))):
            report.sections.append(("simulated world", story))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name what was saved."""
    if _options.current.saved:
        terminalreporter.section("worlds that failed")
        for folder in _options.current.saved:
            terminalreporter.write_line(_options.shown(folder))
