"""A user's file: Raft by hand, worlds, and a process, with their types."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import coterie
import coterie.testing
from coterie import protocol, raft, sim, textbook
from coterie.raft import answers, messages, requests

node = raft.Node(1, election_timeout=0.5, lease=raft.Lease(0.05))
assert_type(node, raft.Node)
assert_type(node.start(0.0, seed=1), list[protocol.Effect])
assert_type(node.receive(0.0, 2, messages.Vote(1, granted=True)), list[protocol.Effect])
assert_type(node.expire(0.0, "Election"), list[protocol.Effect])
assert_type(node.request(0.0, 1, requests.Campaign()), list[protocol.Effect])
assert_type(node.link(0.0, 2, "Down"), list[protocol.Effect])
assert_type(node.status, raft.Status)
assert_type(node.status.leader, int | None)
assert_type(node.log, tuple[raft.Run, ...])
assert_type(raft.Membership.of([1, 2]).begin(raft.AddVoter(3)), raft.Membership)

for effect in node.flush(0.0):
    match effect:
        case protocol.Send(to=to) | protocol.Promise(to=to):
            assert_type(to, int)
        case protocol.Set(timer, at):
            assert_type(at, float)
        case _:
            pass


class Echo(sim.Process):
    """A process with types."""

    def receive(self, now: float, sender: int, message: Any, out: sim.Outbox) -> None:
        """Send it back."""
        out.send(sender, message)

    def start(self, now: float, random: sim.Random, records: list[Any], out: sim.Outbox) -> None:
        """Wait a little."""
        assert_type(random.below(3), int)
        assert_type(random.choice(["a", "b"]), str)
        out.set("later", now + random.unit())


world = sim.World(lambda id: Echo() if id == 3 else raft.Node(id), members=3, seed=7, record=True)
world.run(seconds=1, faults=sim.Faults.swarm(share=0.5))
world.run(seconds=1, faults=[sim.Crash(node=1, length=0.5), sim.Drop(rate=0.1)])
assert_type(world.run_until(lambda world: world.leader, seconds=1), bool)
assert_type(world.leader, int | None)
assert_type(world.digest, str)
assert_type(world.answer(world.request(1, requests.Propose((b"x",)))), protocol.Answer | None)
assert_type(world.faults, sim.Faults)
for row in world.trace.filter(node=1, verb="send"):
    assert_type(row, sim.Row)
assert_type(sim.Faults.swarm().draw(7, members=5), sim.Faults)
assert_type(sim.Clients(operations={"put"}), sim.Clients)
assert_type(answers.Committed(raft.Position(1, 2)).last.index, int)

diagram = world.plot(0.5, nodes=[3, 1], events=20)
assert_type(diagram, sim.Diagram)
assert_type(diagram.svg, str)
assert_type(diagram.text(width=80, ascii=True), str)
assert_type(diagram.save("picture.svg"), Path)
assert_type((diagram.drawn, diagram.left_out), tuple[int, int])
assert_type(world.trace.plot(step=3, scale="time"), sim.Diagram)
assert_type(world.trace.before, sim.Trace)
for row in world.trace:
    assert_type((row.sent, row.role, row.term), tuple[float | None, str | None, int | None])

world.invariant("somebody is up", lambda world: any(world.nodes.values()), every=0.5)
shrunk = world.shrink(timeout=1.0)
assert_type(shrunk, sim.Shrunk)
assert_type(shrunk.faults, sim.Faults)
assert_type(shrunk.line, str)


@coterie.testing.worlds(Echo, seeds=range(5), members=2, faults=[sim.Drop(rate=0.1)], skew=0.0)
def test_echo(world: sim.World, tmp_path: Path) -> None:
    """A test with a world and a fixture."""
    world.run(1)
    (tmp_path / "trace").write_text(world.trace.to_json())


coterie.testing.replay(test_echo, seed=3, faults=[], seconds=0.5)
coterie.testing.replay("tests/test_echo.py::test_echo", seed=3)

try:
    world.check()
except coterie.InvariantViolated as failure:
    assert_type(failure.seed, int)
    assert_type(failure.invariant, str)

assert_type(textbook.Raft(["a", "b"]).current_term, int)

raft.Node(1, election_timeuot=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
world.plot(scale="log")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
sim.World(lambda id: "no", members=3)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
