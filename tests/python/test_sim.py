"""Worlds in Python: the same seed tells the same story, invariants are seen, and processes of one's own take part."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from math import inf, nan
from typing import Any, NamedTuple

import pytest

import coterie
from coterie import protocol, raft, sim
from coterie.raft import answers, errors, events, messages, records, requests


def pair(**settings: Any) -> sim.World:
    return sim.World(lambda _: Counter(), members=2, **settings)


class Counter(sim.Process):
    """Two that send each other numbers, one more each time, and write each down."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def start(self, now, random, records, out):
        self.heard = list(records)
        out.set("tick", now + 0.01)

    def receive(self, now, sender, message, out):
        self.heard.append(message)
        out.persist(message)
        out.promise(sender, message + 1)

    def expire(self, now, timer, out):
        out.send(1, 0)
        out.send(2, 0)

    def request(self, now, id, request, out):
        out.answer(id, (request, len(self.heard)))


# --- Native worlds -----------------------------------------------------------------------------------------------


def test_the_world_of_the_first_page() -> None:
    world = sim.World(lambda id: raft.Node(id), members=5, seed=7)  # noqa: PLW0108 - as users write it
    world.run(seconds=60, faults=sim.Faults.swarm())
    world.check()
    assert world.leader in range(1, 6)
    assert world.now == 60.0
    assert sum(world.statistics["faults"].values()) > 0


def test_the_same_seed_tells_the_same_story_and_another_seed_another() -> None:
    def digest(seed: int) -> str:
        world = sim.World(raft.Node, members=3, seed=seed, faults=sim.Faults.swarm(), clients=sim.Clients())
        world.run(seconds=20)
        return world.digest

    digests = [digest(seed) for seed in range(8)]
    assert digests == [digest(seed) for seed in range(8)]
    assert len(set(digests)) == 8


def test_a_run_in_pieces_is_the_same_run() -> None:
    whole, pieces = (sim.World(raft.Node, members=5, seed=3, faults=sim.Faults.swarm()) for _ in range(2))
    whole.run(seconds=12)
    for _ in range(12):
        pieces.run(seconds=1)
    assert whole.digest == pieces.digest


def test_clients_are_answered_and_judged() -> None:
    world = sim.World(
        raft.Node, members=5, seed=5, clients=sim.Clients(operations=("put", "get", "transfer", "change"))
    )
    world.run(seconds=60, faults=sim.Faults.swarm())
    world.check()
    assert world.statistics["answers"] > 1000


def test_a_cluster_is_driven_by_hand() -> None:
    world = sim.World(raft.Node, members=5, seed=7)
    assert world.run_until(lambda world: world.leader, seconds=5)
    first = world.leader
    assert first is not None
    asked = world.request(first, requests.Propose((b"one", b"two")))
    world.run(seconds=0.1)
    answer = world.answer(asked)
    assert answer is not None
    assert isinstance(answer.value, answers.Committed)

    world.partition([first])
    assert world.run_until(lambda world: world.leader not in {None, first}, seconds=5)
    lost = world.request(first, requests.Propose((b"lost",), deadline=world.clock(first) + 0.2))
    world.run(seconds=1)
    refused = world.answer(lost)
    assert refused is not None
    assert isinstance(refused.error, errors.Unknown | errors.NotLeader)

    world.heal()
    world.run(seconds=2)
    logs = {node: [(run.term, run.first, run.payload) for run in world.log(node)] for node in world.nodes}
    assert all(log == logs[1] for log in logs.values())
    world.check()


def test_a_crashed_member_is_down_and_comes_back_with_its_term() -> None:
    world = sim.World(raft.Node, members=3, seed=1)
    assert world.run_until(lambda world: world.leader, seconds=5)
    leader = world.leader
    assert leader is not None
    term = world.nodes[leader].term
    world.crash(leader)
    assert world.nodes[leader] is None
    assert world.log(leader) == ()
    world.run(seconds=3)
    assert world.leader != leader
    world.restart(leader)
    assert world.nodes[leader].term >= term


def test_a_paused_leader_is_followed_no_more() -> None:
    world = sim.World(raft.Node, members=3, seed=1)
    world.run_until(lambda world: world.leader, seconds=5)
    before = world.leader
    assert before is not None
    world.pause(before)
    assert world.run_until(lambda world: world.leader != before, seconds=5)
    world.resume(before)
    world.run(seconds=1)
    assert world.nodes[before].role == "Follower"


def test_observers_get_the_log_and_never_vote() -> None:
    world = sim.World(raft.Node, members=4, seed=2, membership=raft.Membership.of([1, 2, 3], learners=[4]))
    world.run_until(lambda world: world.leader, seconds=5)
    asked = world.request(world.leader or 1, requests.Propose((b"x",)))
    world.run(seconds=1)
    assert world.answer(asked) is not None
    assert world.nodes[4].commit == world.nodes[1].commit
    assert world.nodes[4].vote is None


def test_a_settings_error_of_a_node_reaches_the_caller() -> None:
    with pytest.raises(coterie.ConfigError, match="election_timeout"):
        sim.World(lambda id: raft.Node(id, election_timeout=0.01), members=3)


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: sim.World(7, members=3), "function"),  # type: ignore[arg-type]
        (lambda: sim.World(raft.Node, members=0), "members"),
        (lambda: sim.World(lambda id: raft.Node(9), members=3), "with id 9"),
        (lambda: sim.World(lambda id: "no", members=3), "made a str"),  # type: ignore[arg-type,return-value]
        (lambda: sim.World(raft.Node, members=3, seed="7"), "seed"),  # type: ignore[arg-type]
        (lambda: sim.World(raft.Node, members=3, fidelity="bits"), "fidelity"),  # type: ignore[arg-type]
        (lambda: sim.World(lambda _: sim.Process(), members=3, fidelity="bytes"), "fidelity"),
        (lambda: sim.World(lambda id: Counter(), members=3, clients=sim.Clients()), "raft.Node"),
        (lambda: sim.World(raft.Node, members=3, faults=["crash"]), "no fault"),  # type: ignore[list-item]
        (lambda: sim.World(raft.Node, members=3).run(seconds=-1), "seconds"),
        (lambda: sim.World(raft.Node, members=3).run(seconds=nan), "seconds"),
        (lambda: sim.World(raft.Node, members=3).run(seconds=inf), "seconds"),
        (lambda: sim.Clients(operations=("fly",)), "fly"),  # type: ignore[arg-type]
        (lambda: sim.Clients(operations=("transfer",)), "put or get"),
        (lambda: sim.Clients(count=0), "count is 0"),
    ],
)
def test_what_cannot_work_is_refused(build: Any, complaint: str) -> None:
    with pytest.raises(coterie.ConfigError, match=complaint):
        build()


def test_an_unknown_member_is_refused() -> None:
    world = sim.World(raft.Node, members=3)
    for act in (world.crash, world.restart, world.pause, world.resume, world.clock, world.log):
        with pytest.raises(coterie.UnknownNodeError, match="no member 4"):
            act(4)
    with pytest.raises(coterie.UnknownNodeError, match="no member 0"):
        world.partition([0])


def test_a_request_that_is_none_is_refused() -> None:
    world = sim.World(raft.Node, members=3)
    with pytest.raises(TypeError, match="no request to Raft"):
        world.request(1, "please")
    with pytest.raises(TypeError, match="they propose"):
        sim.World(raft.Node, members=3, clients=sim.Clients()).request(1, requests.Propose((b"x",)))


# --- Plans -------------------------------------------------------------------------------------------------------

EVERY = [
    sim.Partition(side=(1, 2), start=0.1, length=0.2),
    sim.OneWay(senders=(1,), receivers=(2, 3), start=0.2, length=0.2),
    sim.Bridge(left=(1,), right=(3,), start=0.3, length=0.2),
    sim.Drop(rate=0.5, on=sim.Links(sender=1), start=0.4, length=0.2),
    sim.Duplicate(rate=0.5, start=0.5, length=0.2),
    sim.Reorder(rate=0.5, by=0.01, start=0.6, length=0.2),
    sim.Corrupt(rate=0.5, start=0.7, length=0.2),
    sim.SlowLink(by=0.02, on=sim.Links(receiver=2), start=0.8, length=0.2),
    sim.FalseEvidence(about=1, refused=True, start=0.9, length=0.2),
    sim.Crash(node=1, start=1.0, length=0.2),
    sim.Pause(node=2, start=1.3, length=0.2),
    sim.Jump(node=3, by=1.0, start=1.4),
    sim.Drift(node=1, ppm=-400, start=1.5, length=0.2),
    sim.SlowDisk(node=1, by=0.01, start=1.6, length=0.2),
    sim.FailSync(node=2, start=1.7, length=0.2),
    sim.FullDisk(node=3, start=1.8, length=0.2),
    sim.StalledDisk(node=1, start=1.9, length=0.2),
    sim.Rot(node=2, start=1.95, length=0.01),
    sim.Heal(core=(), start=2.0),
]


def test_every_kind_of_fault_arrives_and_comes_back_as_itself() -> None:
    plan = sim.Faults(EVERY)
    world = sim.World(raft.Node, members=3, seed=4, faults=plan, clients=sim.Clients())
    assert world.faults == plan
    world.run(seconds=5)
    world.check()
    assert len(world.statistics["faults"]) == len(EVERY)
    assert {type(fault).__name__ for fault in EVERY} == {kind.__name__ for kind in sim.Fault.__subclasses__()}


def test_taking_a_fault_away_leaves_the_others_as_they_were() -> None:
    plan = sim.Faults(EVERY)
    assert len(plan.without(3)) == len(plan) - 1
    assert list(plan.without(3)) == [fault for place, fault in enumerate(plan) if place != 3]


def test_a_drawn_plan_is_one_that_could_have_been_written() -> None:
    drawn = sim.Faults.swarm().draw(7, members=5, seconds=60)
    world, twin = (sim.World(raft.Node, members=5, seed=7, faults=f) for f in (drawn, sim.Faults.swarm()))
    assert world.faults == twin.faults == drawn
    world.run(seconds=30)
    twin.run(seconds=30)
    assert world.digest == twin.digest


def test_a_plan_can_be_shown_kept_and_read_again() -> None:
    plan = sim.Faults.swarm().draw(3, members=5)
    names = vars(sim) | {"inf": inf}
    assert eval(repr(plan), names) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert hash(plan) == hash(copy.copy(plan))
    assert isinstance(plan[:3], sim.Faults)


# --- The trace ---------------------------------------------------------------------------------------------------


def test_a_recording_world_tells_everything_in_words() -> None:
    quiet, loud = (sim.World(raft.Node, members=3, seed=7, record=record) for record in (False, True))
    quiet.run(seconds=2)
    loud.run(seconds=2)
    assert quiet.digest == loud.digest
    assert len(quiet.trace) == 256 < len(loud.trace)
    assert {"send", "persist", "promise", "set", "notify"} <= set(loud.trace.columns()["verb"])
    elected = loud.trace.filter(verb="notify", text="Leader")
    assert len(elected) >= 1
    assert elected[0].node in {1, 2, 3}
    lines = [json.loads(line) for line in loud.trace.to_json().splitlines()]
    assert len(lines) == len(loud.trace)
    assert lines[0]["verb"] == "start"
    early = loud.trace.filter(node=1, end=0.5)
    assert all(1 in {row.node, row.peer} and row.at < 0.5 for row in early)
    assert len(loud.trace[:5]) == 5
    assert str(loud.trace[0]).split()[3] == "start"


# --- Processes in Python -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parcel:
    label: str
    weights: tuple[float, ...] = ()
    inner: Any = None


VALUES = [
    None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**63, 2**64, 10**40, -(10**40),
    0.0, -0.0, 1.5, inf, -inf, "", "äöü 🎈", b"", b"\x00\xff", [], [1, [2, [3]]], (), (1,), {}, {"b": 1, "a": [2]},
    {1: 2, (3, 4): None}, Parcel("p", (0.1, 0.2), Parcel("q")),
]  # fmt: skip


class Mirror(sim.Process):
    def request(self, now, id, request, out):
        out.answer(id, request)


def test_values_come_back_as_they_went() -> None:
    world = sim.World(lambda id: Mirror(), members=1)
    asked = [world.request(1, value) for value in VALUES]
    world.run(seconds=1)
    for id, value in zip(asked, VALUES, strict=True):
        answer = world.answer(id)
        assert answer is not None
        assert answer.error is None
        assert answer.value == value
        assert type(answer.value) is type(value)
        assert str(answer.value) == str(value), "order and sign are kept"


def test_nan_keeps_its_bits() -> None:
    world = sim.World(lambda id: Mirror(), members=1)
    asked = world.request(1, nan)
    world.run(seconds=1)
    answer = world.answer(asked)
    assert answer is not None
    assert answer.value != answer.value


def test_nobody_shares_what_was_sent() -> None:
    class Careless(sim.Process):
        def start(self, now, random, records, out):
            sent = [1]
            out.send(2, sent)
            sent.append(2)

        def receive(self, now, sender, message, out):
            got.append(message)

    got: list[Any] = []
    sim.World(lambda id: Careless(), members=3, seed=1).run(seconds=1)
    assert got
    assert all(message == [1] for message in got)


class Colour(IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int


@dataclass
class Thawed:
    x: int


UNENCODABLE = [
    object(),
    {1, 2},
    bytearray(b"x"),
    Colour.RED,
    Point(1),
    Thawed(1),
    OrderedDict(),
    1j,
    [1, {2}],
    range(3),
]


@pytest.mark.parametrize("value", UNENCODABLE, ids=lambda value: type(value).__name__)
def test_what_cannot_be_encoded_is_a_type_error_in_the_process(value: object) -> None:
    class Sender(sim.Process):
        def start(self, now, random, records, out):
            out.send(2, value)

    with pytest.raises(coterie.InvariantViolated, match="cannot be sent or kept") as failure:
        sim.World(lambda id: Sender(), members=2).run(seconds=1)
    assert isinstance(failure.value.__cause__, TypeError)


def test_a_value_that_holds_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(ValueError, match="nested"):
        sim.Outbox().send(1, ring)


def test_a_process_that_raises_ends_the_world_with_its_traceback() -> None:
    class Fragile(sim.Process):
        def start(self, now, random, records, out):
            out.set("later", now + 0.5)

        def expire(self, now, timer, out):
            raise LookupError("nothing there")

    world = sim.World(lambda id: Fragile(), members=3, seed=9)
    for _ in range(2):  # it stays where it was
        with pytest.raises(
            coterie.InvariantViolated, match="raised LookupError: nothing there in expire"
        ) as failure:
            world.run(seconds=5)
        assert failure.value.seed == 9
        assert failure.value.step > 0
        assert len(failure.value.trace) >= 3
        cause = failure.value.__cause__
        assert isinstance(cause, LookupError)
        assert cause.__traceback__ is not None
        assert cause.__traceback__.tb_frame.f_code.co_name == "expire"
    with pytest.raises(coterie.InvariantViolated):
        world.check()
    assert world.now < 1


def test_a_factory_that_raises_in_a_later_life_ends_the_world() -> None:
    made: list[int] = []

    def factory(id: int) -> sim.Process:
        made.append(id)
        if len(made) > 1:
            raise OSError("no second life")
        return sim.Process()

    world = sim.World(factory, members=1)
    world.run(seconds=1)
    world.crash(1)
    with pytest.raises(coterie.InvariantViolated, match="no second life"):
        world.restart(1)


def test_a_failure_can_be_pickled_with_its_fields() -> None:
    with pytest.raises(coterie.InvariantViolated) as failure:
        sim.World(lambda id: Broken(), members=1, seed=3).run(seconds=1)
    twin = pickle.loads(pickle.dumps(failure.value))
    assert (twin.seed, twin.invariant) == (3, "no process raises")
    assert list(twin.trace) == list(failure.value.trace)


class Broken(sim.Process):
    def start(self, now, random, records, out):
        raise RuntimeError


def test_a_request_is_refused_unless_a_process_takes_it() -> None:
    world = sim.World(lambda id: sim.Process(), members=1)
    asked = world.request(1, "hello")
    assert world.answer(asked) is None
    world.run(seconds=1)
    assert world.answer(asked) == protocol.Answer(asked, None, "this process takes no requests")


def test_a_second_answer_is_seen() -> None:
    class Eager(sim.Process):
        def request(self, now, id, request, out):
            out.answer(id, 1)
            out.answer(id, 2)

    world = sim.World(lambda id: Eager(), members=1)
    world.request(1, None)
    with pytest.raises(coterie.InvariantViolated, match="answered before") as failure:
        world.run(seconds=1)
    assert failure.value.invariant == "answered once"


def test_a_crash_forgets_what_was_not_durable_and_keeps_what_was() -> None:
    world = pair(seed=5, sync=(0.001, 0.0))
    world.run(seconds=1)
    heard = world.nodes[1].heard
    world.crash(1)
    world.restart(1)
    kept = world.nodes[1].heard
    assert len(heard) > 10
    assert kept == heard[: len(kept)]
    assert len(kept) >= len(heard) - 10


def test_a_promise_to_oneself_comes_back() -> None:
    class Own(sim.Process):
        def start(self, now, random, records, out):
            out.persist("x")
            out.promise(1, "stored")

        def receive(self, now, sender, message, out):
            heard.append((sender, message))

    heard: list[tuple[int, str]] = []
    sim.World(lambda id: Own(), members=1).run(seconds=1)
    assert heard == [(1, "stored")]


def test_alarms_ring_when_they_were_set_to() -> None:
    class Clock(sim.Process):
        def start(self, now, random, records, out):
            self.due = now + 0.25
            out.set("tick", self.due)
            out.set("never", now + 0.1)
            out.cancel("never")

        def expire(self, now, timer, out):
            rung.append((timer, 0 <= now - self.due < 1e-4))

    rung: list[tuple[str, bool]] = []
    sim.World(lambda id: Clock(), members=1).run(seconds=1)
    assert rung == [("tick", True)]


def test_times_survive_the_way_through_python() -> None:
    class Twice(sim.Process):
        def start(self, now, random, records, out):
            out.set("a", now + 1 / 3)

        def expire(self, now, timer, out):
            if timer == "a":
                out.set("b", now)  # already due: it rings at once, at the same nanosecond
            times.append(now)

    times: list[float] = []
    sim.World(lambda id: Twice(), members=1, seed=11).run(seconds=2)
    first, second = times
    assert second - first < 1e-3
    assert round(first * 1e9) / 1e9 == first


def test_hints_and_flushes_reach_a_process_that_asks_for_them() -> None:
    class Curious(sim.Process):
        def link(self, now, peer, link, out):
            seen.append((peer, link))

        def flush(self, now, out):
            seen.append("flush")

    seen: list[Any] = []
    world = sim.World(lambda id: Curious(), members=2, seed=1)
    world.run(seconds=0.1)
    assert (2, "Up") in seen
    assert "flush" in seen
    world.crash(2)
    world.run(seconds=0.1)
    assert {(2, "Down"), (2, "Refused")} <= set(seen)


def test_names_of_alarms_are_short_strings() -> None:
    out = sim.Outbox()
    out.set("x" * 31, 1.0)
    with pytest.raises(ValueError, match="31 bytes"):
        out.set("x" * 32, 1.0)
    with pytest.raises(TypeError, match="str"):
        out.set(7, 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no time"):
        out.set("x", nan)


def test_two_classes_of_one_name_are_told_apart_by_refusal() -> None:
    def another() -> Any:
        @dataclass(frozen=True)
        class Parcel:
            other: int

        return Parcel(1)

    out = sim.Outbox()
    out.send(1, Parcel("p"))
    with pytest.raises(TypeError, match="two classes"):
        out.send(1, another())


def test_a_process_can_be_driven_by_hand() -> None:
    out = sim.Outbox()
    counter = Counter()
    counter.start(0.0, sim.Random(1), [7], out)
    counter.receive(0.1, 2, 8, out)
    assert out.effects == [protocol.Set("tick", 0.01), protocol.Persist(8), protocol.Promise(2, 9)]
    out.notify(events.Role("Leader", 1, 1))
    out.checkpoint(records.HardState(1))
    out.answer(3, error={"why": None})
    assert out.effects[3:] == [
        protocol.Notify(events.Role("Leader", 1, 1)),
        protocol.Checkpoint(records.HardState(1)),
        protocol.Answer(3, None, {"why": None}),
    ]


def test_randomness_is_the_core_s() -> None:
    # Rosetta Code, "Pseudo-random numbers/Splitmix64", as in src/random.rs.
    random = sim.Random(1234567)
    assert [random.word() for _ in range(2)] == [6457827717110365317, 3203168211198807973]
    assert 0 <= random.below(10) < 10
    assert 0 <= random.unit() < 1
    assert 2 <= random.uniform(2, 3) < 3
    assert random.choice("abc") in "abc"
    assert random.split().word() != random.word()
    for empty in (lambda: random.below(0), lambda: random.choice([])):
        with pytest.raises(ValueError, match="nothing"):
            empty()


def test_a_process_cannot_run_the_world_that_runs_it() -> None:
    class Meddler(sim.Process):
        def start(self, now, random, records, out):
            world.run(seconds=1)

    world = sim.World(lambda id: Meddler(), members=1)
    with pytest.raises(coterie.InvariantViolated) as failure:
        world.run(seconds=1)
    assert isinstance(failure.value.__cause__, coterie.StoppedError)
    assert "World" in repr(world)


# --- Beside native members ---------------------------------------------------------------------------------------


class VotesTwice(sim.Process):
    """A voter who gives everybody a vote, in every term: a Raft member that keeps no promise."""

    def receive(self, now, sender, message, out):
        match message:
            case messages.RequestPreVote(term=term):
                out.send(sender, messages.PreVote(term, granted=True))
            case messages.RequestVote(term=term):
                out.promise(sender, messages.Vote(term, granted=True))


def test_a_member_that_votes_twice_makes_the_world_report_election_safety() -> None:
    world = sim.World(lambda id: VotesTwice() if id == 3 else raft.Node(id), members=3, seed=1)
    world.partition([1], [2])  # they cannot hear each other, and both hear 3
    with pytest.raises(coterie.InvariantViolated, match="both lead term") as failure:
        world.run(seconds=30)
    assert failure.value.invariant == "election safety"
    with pytest.raises(coterie.InvariantViolated, match="both lead term"):
        world.check()


def test_it_is_found_by_swarms_of_faults_too() -> None:
    found = 0
    for seed in range(30):
        world = sim.World(lambda id: VotesTwice() if id == 5 else raft.Node(id), members=5, seed=seed)
        try:
            world.run(seconds=30, faults=sim.Faults.swarm(share=0.8))
        except coterie.InvariantViolated:
            found += 1
    assert found >= 1


class FaithfulVoter(sim.Process):
    """A voter who keeps its promises, and stores what leaders append."""

    def start(self, now, random, records, out):
        self.term, self.vote, self.last = 0, None, raft.Position(0, 0)
        for record in records:
            if isinstance(record, raft.records.HardState):
                self.term, self.vote = record.term, record.vote
            else:
                self.store(record.entries)

    def store(self, entries):
        if entries:
            self.last = raft.Position(entries[-1].term, entries[-1].last)

    def enters(self, term, out):
        if term > self.term:
            self.term, self.vote = term, None
            out.persist(records.HardState(term))

    def receive(self, now, sender, message, out):
        match message:
            case messages.RequestPreVote(term, last):
                granted = last >= self.last
                out.send(sender, messages.PreVote(term if granted else self.term, granted))
            case messages.RequestVote(term, last):
                self.enters(term, out)
                if term == self.term and self.vote in {None, sender} and last >= self.last:
                    self.vote = sender
                    out.persist(records.HardState(term, sender))
                    out.promise(sender, messages.Vote(term, granted=True))
            case messages.Append(term, previous, joined=joined, beat=beat, entries=entries):
                self.enters(term, out)
                if beat is not None:
                    out.send(sender, messages.Heard(term, beat))
                if previous == self.last:
                    if entries:
                        out.persist(records.Append(entries))
                        self.store(entries)
                    out.promise(sender, messages.Appended(term, self.last.index, joined))
                else:
                    hint = raft.Position(0, 0)
                    out.send(sender, messages.Rejected(term, previous.index, hint, joined))


def test_a_member_in_python_takes_part_in_a_quorum() -> None:
    world = sim.World(lambda id: FaithfulVoter() if id == 3 else raft.Node(id), members=3, seed=1)
    world.crash(2)  # so that nothing is committed without the one in Python
    assert world.run_until(lambda world: world.leader, seconds=10)
    asked = world.request(1, requests.Propose((b"through Python",)))
    world.run(seconds=1)
    answer = world.answer(asked)
    assert answer is not None
    assert isinstance(answer.value, answers.Committed)
    assert world.nodes[3].last.index >= answer.value.last.index
    world.check()


def test_what_is_no_message_of_raft_is_nonsense_to_a_native_member() -> None:
    class Babbler(sim.Process):
        def start(self, now, random, records, out):
            out.set("babble", now + 0.01)

        def expire(self, now, timer, out):
            for node in (1, 2):
                out.send(node, ("vote", node))
                out.send(node, messages.Vote(2**64 - 1, granted=True))
                out.send(node, messages.Append(2**63, raft.Position(2**63, 2**64 - 1), 2**64 - 1))
            out.set("babble", now + 0.01)

        def request(self, now, id, request, out):
            heard.append(request)

    heard: list[Any] = []
    world = sim.World(lambda id: Babbler() if id == 3 else raft.Node(id), members=3, seed=1)
    world.run(seconds=5)
    world.check()
    assert world.leader in {1, 2}
    assert heard == [requests.Bootstrap(raft.Membership.of([1, 2, 3]))]


def test_a_word_of_raft_with_wrong_fields_is_a_type_error() -> None:
    out = sim.Outbox()
    with pytest.raises(TypeError, match=r"Vote\.term"):
        out.send(1, messages.Vote("two", granted=True))  # type: ignore[arg-type]
    with pytest.raises((ValueError, OverflowError), match=r"Vote\.term"):
        out.send(1, messages.Vote(-1, granted=True))


# --- Determinism beyond the process ------------------------------------------------------------------------------

PROGRAM = """
from dataclasses import dataclass
from coterie import raft, sim

@dataclass(frozen=True)
class Note:
    words: dict

class Talker(sim.Process):
    def start(self, now, random, records, out):
        self.random = random
        out.set("talk", now + random.uniform(0.01, 0.02))
    def receive(self, now, sender, message, out):
        if isinstance(message, Note):
            out.persist(message)
            out.promise(sender, {"heard": message.words, "at": now})
    def expire(self, now, timer, out):
        words = {word: self.random.unit() for word in ("alpha", "beta", "gamma")}
        out.send(1 + self.random.below(5), Note(words))
        out.set("talk", now + 0.02)

digests = []
for factory in (raft.Node, lambda id: Talker(), lambda id: Talker() if id > 3 else raft.Node(id)):
    world = sim.World(factory, members=5, seed=7)
    world.run(seconds=10, faults=sim.Faults.swarm())
    digests.append(world.digest)
world = sim.World(raft.Node, members=5, seed=7, clients=sim.Clients())
world.run(seconds=20, faults=sim.Faults.swarm())
print(*digests, world.digest)
"""


def output_of(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True, text=True, check=True, env=os.environ | environment, timeout=100,
    )  # fmt: skip
    return done.stdout


def test_digests_are_equal_under_any_hash_seed() -> None:
    zero, one = (output_of(PROGRAM, PYTHONHASHSEED=seed) for seed in ("0", "1"))
    assert zero == one
    assert len(set(zero.split())) == 4


def test_worlds_run_side_by_side_in_threads() -> None:
    def play(seed: int) -> None:
        native = sim.World(raft.Node, members=5, seed=seed, clients=sim.Clients())
        native.run(seconds=20, faults=sim.Faults.swarm())
        mixed = sim.World(lambda id: Counter(), members=2, seed=seed)
        mixed.run(seconds=0.5)
        digests[seed].append((native.digest, mixed.digest))

    digests: dict[int, list[tuple[str, str]]] = {seed: [] for seed in range(4)}
    threads = [threading.Thread(target=play, args=(seed % 4,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(set(pair)) == 1 and len(pair) == 2 for pair in digests.values())


def test_a_world_that_is_run_by_another_thread_says_so() -> None:
    world = sim.World(raft.Node, members=5, seed=1, clients=sim.Clients())
    thread = threading.Thread(target=lambda: world.run(seconds=300))
    thread.start()
    refused = 0
    while thread.is_alive():
        try:
            assert world.now in {0.0, 300.0}
        except coterie.StoppedError:
            refused += 1
    thread.join()
    assert refused > 0
    assert world.now == 300.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_goes_on_with_its_own_copy() -> None:
    world = sim.World(raft.Node, members=3, seed=1)
    world.run(seconds=1)
    child = os.fork()
    if child == 0:
        world.run(seconds=1)
        os._exit(0 if world.now == 2.0 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    world.run(seconds=1)
    assert world.now == 2.0


def interrupt_soon() -> threading.Timer:
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    return timer


def test_ctrl_c_ends_a_long_run_which_can_go_on_afterwards() -> None:
    world = sim.World(raft.Node, members=5, seed=1, clients=sim.Clients())
    timer = interrupt_soon()
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        world.run(seconds=1_000_000)
    timer.join()
    assert time.perf_counter() - began < 10
    at = world.now
    assert 0 < at < 1_000_000
    twin = sim.World(raft.Node, members=5, seed=1, clients=sim.Clients())
    twin.run(seconds=at + 1)
    world.run(seconds=at + 1 - world.now)
    assert world.digest == twin.digest


def test_ctrl_c_in_a_verb_arrives_as_itself_and_the_world_is_over() -> None:
    class Busy(sim.Process):
        def start(self, now, random, records, out):
            out.set("tick", now + 0.01)

        def expire(self, now, timer, out):
            out.set("tick", now + 0.01)
            for _ in range(10_000):
                pass

    world = sim.World(lambda id: Busy(), members=3, seed=1)
    timer = interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        world.run(seconds=1_000_000)
    timer.join()
    with pytest.raises(coterie.StoppedError, match="interrupted in expire"):
        world.run(seconds=1)


def test_a_world_and_a_process_that_know_each_other_are_collected() -> None:
    class Knows(sim.Process):
        pass

    def build() -> weakref.ref[Knows]:
        made: list[Knows] = []

        def factory(_: int) -> Knows:
            made.append(Knows())
            made[-1].world = world  # type: ignore[attr-defined]
            return made[-1]

        world: Any = None
        world = sim.World(factory, members=1)
        world.run(seconds=0.1)
        made[0].world = world  # type: ignore[attr-defined]
        return weakref.ref(made[0])

    process = build()
    gc.collect()
    assert process() is None


@pytest.mark.parametrize("clients", [None, sim.Clients()])
def test_through_bytes_frames_are_damaged_and_journals_are_real(clients: sim.Clients | None) -> None:
    faults = [
        sim.Corrupt(rate=0.1, start=0.5, length=5.0),
        sim.Crash(node=1, start=2.0, length=0.5),
        sim.Crash(node=2, start=3.0, length=0.5),
    ]
    digests = set()
    for fidelity in ("bytes", "bytes", "values"):
        world = sim.World(raft.Node, members=3, seed=11, clients=clients, faults=faults, fidelity=fidelity)
        world.run(seconds=8)
        world.check()
        assert world.leader is not None
        digests.add((fidelity, world.digest))
    assert len(digests) == 2, "the same world twice through bytes, and once by values"


def test_a_journal_that_rots_keeps_its_member_down() -> None:
    faults = [sim.Rot(node=3, start=4.0), sim.Crash(node=3, start=5.0, length=0.2)]
    downs = 0
    for seed in range(10):
        world = sim.World(
            raft.Node, members=3, seed=seed, clients=sim.Clients(), faults=faults, fidelity="bytes"
        )
        world.run(seconds=8)
        world.check()
        downs += world.nodes[3] is None
        assert world.leader is not None, "the other two go on"
    assert downs > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: sim.World(raft.Node, members=3, trace_rows=2**63),
        lambda: sim.Clients(count=10**9),
        lambda: sim.Clients(timeout=float("inf")),
        lambda: sim.Swarm().draw(1, members=0),
        lambda: sim.Swarm(horizon=float("inf")).draw(1, members=3),
        lambda: sim.Faults.swarm(interval=0).draw(1, members=3),
        lambda: sim.Faults.swarm(interval=1e-9).draw(1, members=3),
        lambda: sim.Swarm(share=float("nan")).draw(1, members=3),
        lambda: sim.World(raft.Node, members=3).run(1e9, faults=sim.Faults.swarm()),
        lambda: sim.World(raft.Node, members=3, faults=[sim.Crash(node=9)]),
        lambda: sim.World(raft.Node, members=3, faults=[sim.Partition(side=(9,))]),
        lambda: sim.World(raft.Node, members=3, faults=[sim.Drop(rate=2.0)]),
        lambda: sim.World(raft.Node, members=3, faults=[sim.Drop(rate=0.5, on=sim.Links(sender=77))]),
    ],
)
def test_what_would_exhaust_memory_or_do_nothing_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(coterie.ConfigError):
        make()


def test_one_fault_needs_no_list() -> None:
    world = sim.World(raft.Node, members=3, faults=sim.Crash(node=1, start=0.5))
    world.run(seconds=1)
    assert world.nodes[1] is None


def test_a_verb_that_returns_its_effects_is_told_where_they_go() -> None:
    class Returns(sim.Process):
        def start(self, now: float, random: sim.Random, records: list[object], out: sim.Outbox) -> list[str]:  # type: ignore[override]
            return ["an effect"]

    world = sim.World(lambda _: Returns(), members=1)
    with pytest.raises(coterie.InvariantViolated, match="goes through `out`"):
        world.run(seconds=1)


def test_a_link_that_is_slower_than_time_delivers_nothing() -> None:
    world = sim.World(raft.Node, members=3, faults=[sim.SlowLink(by=1e11)])
    world.run(seconds=5)
    assert world.leader is None


def test_a_world_that_draws_from_outside_is_told_where() -> None:
    drawn = iter(range(1000))

    class Leaky(sim.Process):
        def start(self, now: float, random: sim.Random, records: list[Any], out: sim.Outbox) -> None:
            out.send(2, next(drawn))

    with pytest.raises(coterie.InvariantViolated, match="differ") as caught:
        sim.replay(lambda: sim.World(lambda _: Leaky(), members=2, seed=5, record=True), seconds=1)
    assert caught.value.seed == 5
    assert caught.value.invariant == "the same seed, the same world"


def test_a_world_of_seeds_alone_replays_whatever_breaks() -> None:
    def build() -> sim.World:
        return sim.World(raft.Node, members=3, seed=3, record=True, faults=sim.Faults.swarm())

    assert sim.replay(build, seconds=10) == sim.replay(build, seconds=10)
