"""The pytest plugin, in projects of its own: as somebody uses it who has installed the package."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree as ET

import pytest

import coterie
import coterie.testing
from coterie import sim

pytestmark = pytest.mark.usefixtures("nothing_is_saved")

BANK = """
    import coterie.testing
    from coterie import sim


    class Counter(sim.Process):
        def start(self, now, random, records, out):
            self.value = records[-1] if records else 0

        def request(self, now, id, request, out):
            self.value += 1
            out.answer(id, self.value)


    @coterie.testing.worlds(Counter, seeds=50, members=1)
    def test_no_number_is_given_twice(world):
        numbers = []
        for _ in range(20):
            asked = world.request(1, "next")
            world.run(1)
            if answer := world.answer(asked):
                numbers.append(answer.value)
        assert len(numbers) == len(set(numbers))
"""


class Project:
    """An empty project with some test files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        # No option of the session that runs this may reach the other.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "pytest", "-q", "--color=no", *arguments)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_plugin_is_there_without_a_word_and_loads_nothing(project: Project) -> None:
    project.write(
        "test_plain.py",
        """
        import sys

        def test_nothing_of_ours_is_compiled_in():
            assert "coterie._pytest" in sys.modules
            assert "coterie._coterie" not in sys.modules
        """,
    )
    done = project.pytest()
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_failure_explains_itself(project: Project) -> None:
    project.write("tests/test_bank.py", BANK)
    done = project.pytest()
    assert done.returncode == 1, done.stdout
    told = done.stdout
    assert "assert len(numbers) == len(set(numbers))" in told, "the test's own line is shown"
    assert "seed 6, world 7 of 50, step " in told
    assert "shrunk from 26 faults and 20.000 s to 1 and " in told
    assert "n1 crash" in told, "the last events are shown"
    assert "sim.Crash(" in told
    assert "--coterie-seed 6" in told
    saved = project.folder / ".coterie" / "tests-test_bank.py-test_no_number_is_given_twice"
    rows = [json.loads(line) for line in (saved / "trace.jsonl").read_text().splitlines()]
    assert any(row["verb"] == "crash" for row in rows)
    assert ET.fromstring((saved / "picture.svg").read_text()).tag.endswith("svg")
    assert "replay" in (saved / "story.txt").read_text()
    assert (project.folder / ".coterie" / ".gitignore").read_text() == "*\n"


def test_the_replay_script_fails_in_the_same_way(project: Project) -> None:
    project.write("tests/test_bank.py", BANK)
    project.pytest()
    saved = project.folder / ".coterie" / "tests-test_bank.py-test_no_number_is_given_twice"
    done = project.python(str(saved / "replay.py"))
    assert done.returncode == 1
    assert "assert 2 == 1" in done.stdout
    assert "AssertionError" in done.stderr


def test_the_seed_alone_fails_too(project: Project) -> None:
    project.write("test_bank.py", BANK)
    assert project.pytest("--coterie-seed", "5").returncode == 0
    done = project.pytest("--coterie-seed", "6", "--coterie-shrink", "0")
    assert done.returncode == 1
    assert "seed 6, world 1 of 1" in done.stdout
    assert "shrunk" not in done.stdout


def test_fewer_seeds_may_see_nothing_and_others_too(project: Project) -> None:
    project.write("test_bank.py", BANK)
    assert project.pytest("--coterie-seeds", "6").returncode == 0
    assert project.pytest("--coterie-seeds", "7").returncode == 1
    refused = project.pytest("--coterie-seeds", "0")
    assert refused.returncode == 4
    assert "at least one world" in refused.stderr + refused.stdout


def test_fixtures_parameters_and_classes_go_with_worlds(project: Project) -> None:
    project.write(
        "test_together.py",
        """
        import pytest
        import coterie.testing

        class TestLeaders:
            @pytest.mark.parametrize("members", [1, 3])
            @coterie.testing.worlds(seeds=3, members=3, faults=[])
            def test_there_is_one(self, members, world, tmp_path):
                assert tmp_path.is_dir() and members in (1, 3)
                assert world.run_until(lambda world: world.leader, seconds=5)

        @coterie.testing.worlds(seeds=3)
        def test_that_skips(world):
            pytest.skip("not today")

        @coterie.testing.worlds(seeds=3, seconds=2.0)
        def test_that_lets_no_time_pass(world):
            world.invariant("there is time", lambda world: world.now < 1.5)
        """,
    )
    done = project.pytest("--coterie-shrink", "5")
    assert "2 passed" in done.stdout, done.stdout
    assert "1 skipped" in done.stdout
    assert "1 failed" in done.stdout
    assert "there is time" in done.stdout


def test_worlds_made_by_hand_tell_their_story_too(project: Project) -> None:
    project.write(
        "test_hand.py",
        """
        def test_hand(coterie_world, coterie_seed):
            world = coterie_world(members=3)
            assert world.seed == coterie_seed
            world.invariant("no leader", lambda world: world.leader is None)
            world.run(10)
        """,
    )
    done = project.pytest("--coterie-seed", "3")
    assert "simulated world" in done.stdout
    assert "no leader: does not hold" in done.stdout
    assert "world = sim.World(raft.Node, members=3, seed=3, faults=[])" in done.stdout
    assert (project.folder / ".coterie" / "test_hand.py-test_hand" / "picture.svg").exists()


def test_the_register_of_the_guide_is_found_too_hasty_and_its_careful_form_holds(project: Project) -> None:
    example = Path(__file__).parents[2] / "examples" / "replicated_register"
    for path in example.glob("*.py"):
        project.write(path.name, path.read_text(encoding="utf-8"))
    hasty = project.pytest("--coterie-seeds", "3")
    assert hasty.returncode == 1, hasty.stdout
    assert "Not linearizable (register)" in hasty.stdout
    assert "seed 0, world 1 of 3" in hasty.stdout
    shrunk = re.search(r"shrunk from (\d+) faults and 600.000 s to (\d+) and (\S+) s", hasty.stdout)
    assert shrunk is not None
    assert int(shrunk[2]) <= 10 < int(shrunk[1])
    assert float(shrunk[3]) < 60
    test = (example / "test_register.py").read_text(encoding="utf-8")
    project.write("test_register.py", test.replace("from hasty import", "from careful import"))
    careful = project.pytest("--coterie-seeds", "20")
    assert careful.returncode == 0, careful.stdout


def test_what_is_drawn_from_outside_is_called_that() -> None:
    calls = []

    @coterie.testing.worlds(seeds=1, members=1, faults=[])
    def test(world: sim.World) -> None:
        calls.append(world)
        world.run(1)
        assert len(calls) > 1

    with pytest.raises(AssertionError) as raised:
        test()
    assert "does not come again" in "".join(raised.value.__notes__)


def test_another_failure_is_not_what_is_shrunk_to() -> None:
    class Touchy(sim.Process):
        """Raises one thing early and another thing later."""

        def start(self, now: float, random: sim.Random, records: list[int], out: sim.Outbox) -> None:
            out.set("tick", now + 1.0)
            self.ticks = 0

        def link(self, now: float, peer: int, link: str, out: sim.Outbox) -> None:
            if link != "Up" and self.ticks < 5:
                raise LookupError("early")
            if link != "Up":
                raise RuntimeError("late")

        def expire(self, now: float, timer: str, out: sim.Outbox) -> None:
            self.ticks += 1
            out.set("tick", now + 1.0)

    plan = sim.Faults(sim.FalseEvidence(about=1, start=start, length=0.1) for start in (6.0, 7.0, 8.0))

    @coterie.testing.worlds(lambda id: Touchy(), seeds=1, members=2, faults=plan)
    def test(world: sim.World) -> None:
        world.run(60)

    with pytest.raises(coterie.InvariantViolated, match="late") as raised:
        test()
    assert "to 1 and " in "".join(raised.value.__notes__)


def test_replay_of_a_function_raises_what_it_raised() -> None:
    @coterie.testing.worlds(seeds=1, members=3, faults=[])
    def test(world: sim.World) -> None:
        world.invariant("nobody crashes", lambda world: all(world.nodes.values()))
        world.run(10)

    test()
    with pytest.raises(coterie.InvariantViolated, match="nobody crashes"):
        coterie.testing.replay(test, seed=1, faults=[sim.Crash(node=2, start=1.0)])
    coterie.testing.replay(test, seed=1, faults=[sim.Crash(node=2, start=1.0)], seconds=0.9)


def test_wrong_settings_are_refused_before_any_world_is_made() -> None:
    with pytest.raises(coterie.ConfigError, match="at least one world"):
        coterie.testing.worlds(seeds=0)
    with pytest.raises(coterie.ConfigError, match="parameter `world`"):
        coterie.testing.worlds(seeds=1)(lambda: None)


def test_a_test_that_runs_its_world_in_pieces_shrinks_to_a_shorter_time() -> None:
    @coterie.testing.worlds(
        seeds=1, members=3, seconds=30.0, faults=[sim.Crash(node=2, start=12.0, length=1.0)]
    )
    def test(world: sim.World) -> None:
        crashed = False
        while world.now < world.end:
            world.run(0.5)
            crashed = crashed or world.nodes[2] is None
        assert not crashed

    with pytest.raises(AssertionError) as raised:
        test()
    told = "".join(raised.value.__notes__)
    assert "shrunk from 1 faults and 30.000 s to 1 and " in told
    shorter = re.search(r"to 1 and (\S+) s in", told)
    assert shorter is not None
    assert float(shorter[1]) < 2.0


def test_a_test_that_never_looks_at_the_end_shrinks_all_the_same() -> None:
    plan = [sim.Crash(node=node, start=float(node), length=0.5) for node in (1, 2, 3)]

    @coterie.testing.worlds(seeds=1, members=3, seconds=10.0, faults=plan)
    def test(world: sim.World) -> None:
        while world.now < 10:
            world.run(0.25)
        assert world.statistics["faults"] == {}

    with pytest.raises(AssertionError) as raised:
        test()
    assert "shrunk from 3 faults and 10.000 s to 1 and 10 s" in "".join(raised.value.__notes__)
