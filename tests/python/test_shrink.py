"""A failing world becomes small, stays the same failure, and can be seen again from one line."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import coterie
from coterie import raft, sim


class Forgetful(sim.Process):
    """Counts, and writes nothing down."""

    def start(self, now, random, records, out):
        self.value = 0

    def request(self, now, id, request, out):
        self.value += 1
        out.answer(id, self.value)


class Nervous(sim.Process):
    """Raises when it hears that a connection has ended."""

    def link(self, now, peer, link, out):
        if link != "Up":
            raise RuntimeError(f"{peer} is gone at {now}")


def failed(world: sim.World, seconds: float = 60) -> sim.World:
    with pytest.raises(coterie.InvariantViolated):
        world.run(seconds)
    return world


def test_a_shrunk_world_fails_in_the_same_way_with_less_in_it() -> None:
    world = failed(sim.World(lambda id: Nervous(), members=3, seed=4, faults=sim.Faults.swarm(share=1.0)))
    shrunk = world.shrink()
    assert shrunk.exhausted
    assert len(shrunk.faults) == 1 < len(world.faults)
    assert shrunk.seconds <= world.now
    assert isinstance(shrunk.failure, coterie.InvariantViolated)
    assert shrunk.failure.invariant == "no process raises"
    assert isinstance(shrunk.failure.__cause__, RuntimeError)
    assert shrunk.world.now == shrunk.seconds
    assert shrunk.world.trace[-1].text, "the smallest world is recorded"


def test_the_line_shows_it_again() -> None:
    def nobody_is_down(world: sim.World) -> bool:
        return all(world.nodes.values())

    world = sim.World(raft.Node, members=3, seed=7, faults=sim.Faults.swarm(share=1.0))
    world.invariant("nobody is down", nobody_is_down)
    shrunk = failed(world).shrink()
    names: dict[str, Any] = {"raft": raft, "sim": sim, "nobody_is_down": nobody_is_down}
    line = shrunk.line.replace(nobody_is_down.__qualname__, "nobody_is_down").replace(
        " holds,", " nobody_is_down,"
    )
    with pytest.raises(coterie.InvariantViolated) as again:
        exec(line, names)
    assert isinstance(shrunk.failure, coterie.InvariantViolated)
    assert (again.value.invariant, again.value.step) == (shrunk.failure.invariant, shrunk.failure.step)


def test_the_line_of_a_native_world_needs_nothing_but_the_package() -> None:
    world = sim.World(
        raft.Node,
        members=3,
        seed=1,
        clients=sim.Clients(operations=("put",)),
        faults=[
            sim.Drop(rate=0.25, on=sim.Links(receiver=2), start=1.0, length=2.0),
            sim.Partition(side=(1, 2), start=0.5, length=0.25, key=77),
            sim.Heal(start=5.0),
        ],
    )
    line = world._line(world.faults, 4.25)
    assert "Drop(start=1.0, length=2.0, rate=0.25, on=sim.Links(receiver=2))" in line
    assert "key=77" in line
    program = f"from coterie import raft, sim; world = {line.rpartition('.run')[0]}; world.run(4.25); print(world.digest)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    world.run(4.25)
    assert done.stdout.strip() == world.digest


def test_what_was_done_by_hand_is_done_again() -> None:
    def answers(world: sim.World) -> list[int]:
        return [answer.value for id in range(3) if (answer := world.answer(id)) is not None]

    world = sim.World(lambda id: Forgetful(), members=1, seed=3)
    world.invariant("no number is given twice", lambda world: len(set(answers(world))) == len(answers(world)))
    world.request(1, "next")
    world.run(1.0)
    world.crash(1)
    world.restart(1)
    world.request(1, "next")
    failed(world, 1.0)
    shrunk = world.shrink()
    assert "world.crash(1)" in shrunk.line
    assert "world.restart(1)" in shrunk.line
    assert shrunk.line.count("world.request(1, 'next')") == 2


def test_partitions_by_hand_are_part_of_the_plan() -> None:
    world = sim.World(raft.Node, members=3, seed=7)
    world.run(2)
    leader = world.leader
    assert leader is not None
    world.invariant("the first leader stays", lambda world: world.leader == leader)
    world.partition([leader])
    shrunk = failed(world).shrink()
    assert [type(fault) for fault in shrunk.faults] == [sim.Partition]


def test_a_world_in_which_nothing_failed_cannot_shrink() -> None:
    world = sim.World(raft.Node, members=3, seed=7)
    world.run(1)
    with pytest.raises(coterie.ConfigError, match="nothing has failed"):
        world.shrink()


def test_a_failure_that_comes_from_outside_is_called_that() -> None:
    lives = []

    class Outside(sim.Process):
        def start(self, now, random, records, out):
            lives.append(now)
            if len(lives) == 1:
                raise RuntimeError("only the first time")

    world = failed(sim.World(lambda id: Outside(), members=1, seed=1), 1.0)
    with pytest.raises(coterie.ConfigError, match="drawn from outside"):
        world.shrink()


def test_an_invariant_is_looked_at_while_time_passes_and_its_exception_is_the_cause() -> None:
    seen: list[float] = []

    def holds(world: sim.World) -> bool:
        seen.append(world.now)
        if world.now > 1.0:
            raise LookupError("late")
        return True

    world = sim.World(raft.Node, members=3, seed=7)
    world.run(0.05)
    world.invariant("in time", holds, every=0.25)
    with pytest.raises(coterie.InvariantViolated, match="in time: LookupError: late") as violated:
        world.run(10)
    assert seen == pytest.approx([0.3, 0.55, 0.8, 1.05])
    assert isinstance(violated.value.__cause__, LookupError)
    assert world.now == pytest.approx(1.05)
    for go_on in (world.check, lambda: world.run(1), lambda: world.run_until(lambda world: False, 1)):
        with pytest.raises(coterie.InvariantViolated, match="in time"):
            go_on()


def test_looking_at_invariants_changes_nothing() -> None:
    plain = sim.World(raft.Node, members=3, seed=7, faults=sim.Faults.swarm())
    watched = sim.World(raft.Node, members=3, seed=7, faults=sim.Faults.swarm())
    watched.invariant("it is", lambda world: True, every=0.125)
    plain.run(20)
    watched.run(20)
    assert plain.digest == watched.digest


@pytest.mark.parametrize("every", [0, -1.0, float("nan"), float("inf"), "often"])
def test_an_invariant_needs_a_time_between_looks(every: Any) -> None:
    world = sim.World(raft.Node, members=3, seed=7)
    with pytest.raises(coterie.ConfigError, match="every"):
        world.invariant("x", lambda world: True, every=every)
