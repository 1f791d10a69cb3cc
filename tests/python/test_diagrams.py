"""Pictures tell the truth: all that happened is drawn once or counted, and nothing that did not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from math import nan
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings, strategies as st

import coterie
from coterie import raft, sim
from coterie._diagram.axis import Axis
from coterie._diagram.story import fault, name_of
from coterie.raft import events, messages

SVG = "{http://www.w3.org/2000/svg}"


class Picture:
    """What can be seen in a diagram."""

    def __init__(self, diagram: sim.Diagram) -> None:
        self.root = ET.fromstring(diagram.svg)
        self.groups = [
            (set((group.get("class") or "").split()), group.findtext(f"{SVG}title") or "", group)
            for group in self.root.iter(f"{SVG}g")
            if group.find(f"{SVG}title") is not None
        ]

    def titles(self, *kinds: str, without: tuple[str, ...] = ()) -> list[str]:
        """The hover texts of what has all these classes and none of those."""
        return [
            title for classes, title, _ in self.groups if classes >= set(kinds) and not classes & set(without)
        ]

    def shapes(self, kind: str) -> list[ET.Element]:
        """What is drawn in this manner, the legend left aside."""
        return [
            shape
            for _, _, group in self.groups
            for shape in group.iter()
            if kind in (shape.get("class") or "").split()
        ]

    @property
    def counted(self) -> int:
        return sum(int(bar.get("data-count") or 0) for bar in self.shapes("bar"))

    @property
    def words(self) -> list[str]:
        return [text.text or "" for text in self.root.iter(f"{SVG}text")]


def swarm(seed: int, *, record: bool = True, seconds: float = 4.0, **settings: Any) -> sim.World:
    world = sim.World(
        raft.Node, members=5, seed=seed, record=record, clients=sim.Clients(), trace_rows=1500, **settings
    )
    world.run(seconds=seconds, faults=sim.Faults.swarm(share=0.8, interval=1.0, length=0.3, heals=False))
    return world


def partitioned() -> tuple[sim.World, int, int]:
    """A leader cut off with one other, and a second leader; both lead."""
    world = sim.World(raft.Node, members=5, seed=7, record=True)
    world.run_until(lambda world: world.leader, seconds=5)
    old = world.leader
    assert old is not None
    world.run(0.1)
    world.partition([old, old % 5 + 1])
    world.run_until(lambda world: world.leader != old, seconds=5)
    new = world.leader
    assert new is not None
    world.run(0.05)
    return world, old, new


# --- All that happened is drawn once, or counted ------------------------------------------------------------------


def between(row: sim.Row) -> str:
    """How an arrow's hover text begins."""
    ends = (row.node, row.peer) if row.verb == "lost" and row.sent is None else (row.peer, row.node)
    return f"n{ends[0]} → n{ends[1]}"


def is_message(row: sim.Row, start: float, end: float) -> bool:
    sent = row.at if row.sent is None else row.sent
    return row.node is not None and row.peer is not None and sent <= end and row.at >= start


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("record", [False, True])
def test_each_message_has_one_arrow(seed: int, record: bool) -> None:
    world = swarm(seed, record=record)
    trace = world.trace
    last = trace[-1].at
    for start, end in [(trace[0].at, last), (last - 0.7, last - 0.2), (last - 0.01, last)]:
        picture = Picture(trace.plot(start, end, events=100_000))
        received = [row for row in trace if row.verb == "receive" and is_message(row, start, end)]
        expected = Counter(between(row) for row in received if row.node != row.peer)
        arrows = [title for title in picture.titles("m", without=("x", "o1")) if "under way" not in title]
        assert Counter(title.split(":")[0].split("\n")[0] for title in arrows) == expected
        own = [row for row in received if row.node == row.peer]
        assert len(picture.titles("m", "o1")) == len(own)
        lost = [row for row in trace if row.verb == "lost" and is_message(row, start, end)]
        crosses = Counter(title.split(":")[0].split("\n")[0] for title in picture.titles("m", "x"))
        assert crosses == Counter(map(between, lost))
        assert picture.counted == 0
    assert len(arrows) > 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("budget", [0, 1, 40, 200])
def test_what_has_no_place_is_counted(seed: int, budget: int) -> None:
    world = swarm(seed)
    whole, part = world.plot(events=100_000), world.plot(events=budget)
    assert (whole.left_out, part.drawn) == (0, budget)
    assert part.drawn + part.left_out == whole.drawn
    picture = Picture(part)
    assert len(picture.titles("m")) + len(picture.titles("a")) == budget
    assert picture.counted == part.left_out
    (caption,) = (words for words in picture.words if words.startswith("…"))
    count, listed = re.fullmatch(r"… (\d+) more: (.*)", caption).groups()  # type: ignore[union-attr]
    assert int(count) == part.left_out
    assert sum(int(number) for number in re.findall(r"(?:^|, )(\d+) ", listed)) == part.left_out
    assert f"{part.left_out} more, not shown" in str(part)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("record", [False, True])
def test_each_crash_and_each_new_life_is_drawn_however_few_events_are(seed: int, record: bool) -> None:
    world = swarm(seed, record=record)
    picture = Picture(world.plot(events=0))
    crashes = world.trace.filter(verb="crash")
    starts = [row for row in world.trace.filter(verb="start") if int(row.fingerprint, 16) > 1]
    assert len(picture.shapes("crash")) == len(crashes)
    assert len(picture.shapes("r")) == len(starts)
    for row in crashes:
        assert any(title.startswith(f"n{row.node} crashes at ") for title in picture.titles())


def test_a_line_ends_with_a_crash_and_goes_on_with_the_next_life() -> None:
    world = sim.World(raft.Node, members=3, seed=2, record=True)
    world.run(0.2)
    world.crash(2)
    world.run(0.2)
    world.restart(2)
    world.run(0.2)
    picture = Picture(world.plot())
    lines = [path.get("d") or "" for path in picture.root.iter(f"{SVG}path") if path.get("class") == "l"]
    assert len(lines) == 4, "two of the one that crashed"
    y = [re.fullmatch(r"M[\d.]+ (\d+)H[\d.]+", line)[1] for line in lines]  # type: ignore[index]
    assert sorted(Counter(y).values()) == [1, 1, 2]
    spans = [tuple(map(float, re.findall(r"[MH]([\d.]+)", line))) for line in lines]
    first, second = (span for span, level in zip(spans, y, strict=True) if Counter(y)[level] == 2)
    assert first[1] < second[0] - 20


@pytest.mark.parametrize("record", [False, True])
def test_who_cannot_read_its_journal_stays_down(record: bool) -> None:
    faults = [sim.Rot(node=3, start=4.0), sim.Crash(node=3, start=5.0, length=0.2)]
    downs = 0
    for seed in range(10):
        world = sim.World(
            raft.Node,
            members=3,
            seed=seed,
            clients=sim.Clients(),
            faults=faults,
            fidelity="bytes",
            record=record,
        )
        world.run(5.25)
        picture = Picture(world.plot(start=5.0, events=0))
        is_down = world.nodes[3] is None
        assert (len(picture.shapes("stays")), len(picture.shapes("r"))) == (is_down, not is_down)
        assert len([path for path in picture.root.iter() if path.get("class") == "l"]) == 4 - is_down
        downs += is_down
    assert downs > 0


def test_what_is_rare_is_drawn_before_what_comes_again_and_again() -> None:
    world = sim.World(raft.Node, members=5, seed=7, record=True)
    world.run(20)
    assert len(world.trace.filter(verb="receive")) > 3000
    diagram = world.plot(events=80)
    votes = [title for title in Picture(diagram).titles("m") if re.search(r": (Request)?(Pre)?Vote ", title)]
    told = [row for row in world.trace.filter(verb="receive") if re.match(r"(Request)?(Pre)?Vote ", row.text)]
    assert len(votes) >= len([row for row in told if row.node != row.peer]) > 10
    assert diagram.left_out > 2900


def test_an_arrow_says_when_its_message_left_and_arrived() -> None:
    world = sim.World(raft.Node, members=3, seed=7, record=True, latency=(0.002, 0.0))
    world.run_until(lambda world: world.leader, seconds=5)
    titles = Picture(world.plot()).titles("m", without=("o1",))
    row = world.trace.filter(verb="receive", text="RequestVote")[0]
    (title,) = (title for title in titles if title.startswith(f"n{row.peer} → n{row.node}: {row.text}\n"))
    assert row.sent is not None
    assert re.search(
        rf"promised [\d.]+ s, sent {row.sent:.9f}".rstrip("0") + r" s, 2\.\d+ ms later received", title
    )


def test_a_message_that_comes_twice_is_the_same_again() -> None:
    world = pair(faults=[sim.Duplicate(rate=1.0)])
    world.run(0.0005)
    picture = Picture(world.plot())
    assert picture.titles("m", "d")
    assert len(picture.titles("m", "d")) == len([title for title in picture.titles("m") if "again" in title])
    received = world.trace.filter(verb="receive")
    distinct = {(row.node, row.sent, row.fingerprint) for row in received}
    assert len(picture.titles("m", "d")) == len(received) - len(distinct)


def test_who_says_a_thing_twice_is_no_broken_network() -> None:
    class Twice(sim.Process):
        def start(self, now, random, records, out):
            out.send(2, "hello")
            out.send(2, "hello")

    world = sim.World(lambda _: Twice(), members=2, record=True)
    world.run(0.01)
    picture = Picture(world.plot())
    assert len(picture.titles("m")) == 2 + 2, "one to 2 twice, and 2 to itself twice"
    assert not picture.titles("m", "d")


def test_what_is_under_way_at_the_end_has_no_head() -> None:
    world = sim.World(raft.Node, members=3, seed=7, record=True, latency=(0.01, 0.0))
    world.run_until(lambda world: len(world.trace.filter(verb="send")) > 0, seconds=1, every=0.001)
    under_way = Picture(world.plot()).titles("m", "u")
    assert len(under_way) == 2
    assert all("still under way" in title for title in under_way)
    world.run(0.02)
    row = next(row for row in world.trace.filter(verb="receive") if row.sent is not None)
    end = row.at - 0.001
    cut = Picture(world.plot(end=end)).titles("m", "u")
    later = [row for row in world.trace.filter(verb="receive", start=end) if (row.sent or end) < end]
    assert len(cut) == len(later) >= 2, "they arrive later than the picture ends"
    assert all(title.endswith("received") for title in cut)


# --- Lives, terms and faults --------------------------------------------------------------------------------------


def test_two_leaders_of_two_terms_are_both_thick_lines() -> None:
    world, old, new = partitioned()
    picture = Picture(world.plot())
    thick = picture.shapes("f")
    assert {("c1" in (line.get("class") or ""), "c2" in (line.get("class") or "")) for line in thick} == {
        (True, False),
        (False, True),
    }
    titles = [title for title in picture.titles() if ": Leader in term" in title]
    assert {title.split(",")[0] for title in titles} == {
        f"n{old}: Leader in term 1",
        f"n{new}: Leader in term 2",
    }
    assert {"leads term 1", "leads term 2"} <= set(picture.words)


def test_a_partition_is_a_band_over_the_smaller_side_until_it_heals() -> None:
    world, old, _ = partitioned()
    side = sorted([old, old % 5 + 1])
    rest = [node for node in range(1, 6) if node not in side]
    label = f"cut: n{side[0]} n{side[1]} | n{rest[0]} n{rest[1]} n{rest[2]}"
    picture = Picture(world.plot())
    assert label in picture.words
    (began,) = world.trace.filter(verb="begin")
    assert began.text == f"Partition {{ side: [n{old}, n{old % 5 + 1}] }}"
    world.heal()
    world.run(0.1)
    lasted = Picture(world.plot())
    assert any(title == f"{label}, {began.at:g} s to {world.trace.filter(verb='end')[0].at:.9f}".rstrip("0") + " s"
               for title in lasted.titles())  # fmt: skip
    assert sum(float(band.get("height") or 0) for band in lasted.shapes("o")) >= 2 * 56


def test_a_world_that_does_not_record_knows_who_led_and_what_was_broken_before_its_rows() -> None:
    faults = [
        sim.SlowDisk(node=2, by=0.001, start=0.5),
        sim.Crash(node=3, start=1.0, length=0.5),
        sim.Crash(node=1, start=2.0),
    ]
    quiet, loud = (
        sim.World(raft.Node, members=5, seed=3, record=record, faults=faults) for record in (False, True)
    )
    for world in (quiet, loud):
        world.run(20)
    trace = quiet.trace
    assert trace[0].at > 2.1
    assert {row.verb for row in trace.before} == {"start", "crash", "begin", "become"}
    one = Picture(quiet.plot())
    two = Picture(loud.plot(trace[0].at, trace[-1].at, events=100_000))
    for kind in ("p", "o", "l"):
        assert [
            sorted(shape.get("class") or "" for shape in picture.shapes(kind)) for picture in (one, two)
        ] == [sorted(shape.get("class") or "" for shape in one.shapes(kind))] * 2
    lives = [sum(path.get("class") == "l" for path in picture.root.iter()) for picture in (one, two)]
    assert lives == [4, 4]
    assert "slow disk +1 ms" in one.words


def test_pauses_are_hatched_those_by_hand_too() -> None:
    world = sim.World(raft.Node, members=3, seed=1, faults=[sim.Pause(node=1, start=0.05, length=0.05)])
    world.run(0.2)
    world.pause(3)
    world.run(0.05)
    picture = Picture(world.plot())
    assert len(picture.shapes("z")) == 2
    assert len([title for title in picture.titles() if title.startswith("paused")]) == 2


@pytest.mark.parametrize(
    ("words", "nodes", "label"),
    [
        ("Partition { side: [n1, n2] }", {1, 2}, "cut: n1 n2 | n3 n4 n5"),
        ("Partition { side: [n1, n2, n4, n5] }", {3}, "cut: n1 n2 n4 n5 | n3"),
        ("OneWay { from: [], to: [n2] }", {2}, "one way: all ↛ n2"),
        ("Bridge { left: [n1], right: [n4, n5] }", {1, 4, 5}, "cut: n1 | n4 n5"),
        ("Drop { on: Links { from: None, to: None }, rate: 0.25 }", {1, 2, 3, 4, 5}, "drops 25%"),
        ("Drop { on: Links { from: None, to: Some(n2) }, rate: 1.0 }", {2}, "drops 100% all → n2"),
        ("SlowLink { on: Links { from: Some(n1), to: Some(n2) }, by: 12.5ms }", {1, 2}, "slow link +12.5 ms n1 → n2"),
        ("Pause { node: n3 }", {3}, "paused"),
        ("Drift { node: n3, ppm: -400 }", {3}, "clock drifts -400 ppm"),
        ("FalseEvidence { about: n1, refused: true }", {1}, "said to be gone"),
        ("Heal { core: [] }", {1, 2, 3, 4, 5}, "healed: all"),
        ("Heal { core: [n1, n3] }", {1, 3}, "healed: n1 n3"),
    ],
)  # fmt: skip
def test_faults_are_told_in_words(words: str, nodes: set[int], label: str) -> None:
    band = fault(words, [1, 2, 3, 4, 5])
    assert (band.nodes, band.label) == (nodes, label)


def test_every_kind_of_fault_has_words_of_its_own() -> None:
    on = sim.Links(receiver=2)
    plan: list[sim.Fault] = [
        sim.Partition(side=(1,)), sim.OneWay(senders=(1,)), sim.Bridge(left=(1,), right=(3,)), sim.Drop(rate=0.1, on=on),
        sim.Duplicate(rate=0.1), sim.Reorder(rate=0.1, by=0.1), sim.Corrupt(rate=0.1), sim.SlowLink(by=1e-5),
        sim.FalseEvidence(about=1), sim.Pause(node=3, length=0.1), sim.Jump(node=3, by=1.0), sim.Drift(node=1, ppm=9),
        sim.SlowDisk(node=1, by=0.1), sim.FailSync(node=2), sim.FullDisk(node=3), sim.StalledDisk(node=1),
        sim.Rot(node=2), sim.Crash(node=3, start=0.5, length=0.1), sim.Heal(core=(), start=1.0),
    ]  # fmt: skip
    assert {type(one).__name__ for one in plan} == {kind.__name__ for kind in sim.Fault.__subclasses__()}
    world = sim.World(raft.Node, members=3, seed=4, faults=plan)
    world.run(1.5)
    rows = [*world.trace.before, *world.trace]
    labels = {fault(row.text, [1, 2, 3]).label for row in rows if row.verb == "begin"}
    assert len(labels) == len(plan)
    assert not [label for label in labels if re.search("[{}]|[a-z][A-Z]", label)]
    ET.fromstring(world.plot().svg)


def test_when_all_is_healed_no_band_goes_on() -> None:
    faults = [
        sim.Drop(rate=0.5),
        sim.SlowDisk(node=1, by=0.001),
        sim.Heal(core=(), start=1.0),
        sim.Drop(rate=0.3, start=2),
    ]
    world = sim.World(raft.Node, members=3, seed=4, faults=faults, record=True)
    world.run(3)
    bands = [band for band in Picture(world.plot()).titles() if re.match("drops|slow", band)]
    assert [band.split(",")[1] for band in bands] == [" 0 s to 1 s"] * 2


def test_a_process_in_python_that_tells_its_role_has_a_coloured_line() -> None:
    class Primary(sim.Process):
        def start(self, now, random, records, out):
            out.set("rise", now + 0.01)

        def expire(self, now, timer, out):
            out.notify(events.Role("Leader", 5, 1))

    world = sim.World(lambda _: Primary(), members=1)
    world.run(0.1)
    (row,) = world.trace.filter(verb="become")
    assert (row.node, row.role, row.term) == (1, "Leader", 5)
    assert "leads term 5" in Picture(world.plot()).words


# --- What was violated --------------------------------------------------------------------------------------------


class VotesTwice(sim.Process):
    def receive(self, now, sender, message, out):
        match message:
            case messages.RequestPreVote(term=term):
                out.send(sender, messages.PreVote(term, granted=True))
            case messages.RequestVote(term=term):
                out.promise(sender, messages.Vote(term, granted=True))


@pytest.mark.parametrize("record", [False, True])
def test_what_was_violated_is_marked_in_the_trace_of_the_failure(record: bool) -> None:
    world = sim.World(lambda id: VotesTwice() if id == 3 else raft.Node(id), members=3, seed=1, record=record)
    world.partition([1], [2])
    with pytest.raises(coterie.InvariantViolated) as failure:
        world.run(30)
    for diagram in (failure.value.trace.plot(), world.plot(), failure.value.trace[-5:].plot()):
        picture = Picture(diagram)
        (title,) = (title for title in picture.titles() if title.startswith(f"step {failure.value.step}, "))
        assert "election safety" in title
        assert len([shape for shape in picture.root.iter() if shape.get("class") == "j"]) == 2
        last = str(diagram).splitlines()[-1]
        assert "══ election safety: n1 and n2 both lead term 1" in last
    assert not [
        shape
        for shape in Picture(failure.value.trace.plot(end=0.001)).root.iter()
        if shape.get("class") == "j"
    ]


def test_an_invariant_of_ones_own_is_marked_when_it_was_looked_at() -> None:
    world = sim.World(raft.Node, members=3, seed=1)
    world.invariant("nobody leads", lambda world: world.leader is None, every=0.25)
    with pytest.raises(coterie.InvariantViolated) as failure:
        world.run(5)
    trace = failure.value.trace
    for diagram in (trace.plot(), world.plot(), trace[-7:].plot(), trace.filter(verb="receive").plot()):
        assert "══ nobody leads" in str(diagram).splitlines()[-1]
        assert str(diagram).splitlines()[-1].startswith(f"{0.25:12.6f}  ")
    for diagram in (trace[:-1].plot(), trace.filter(end=0.2).plot(), world.plot(end=0.2)):
        assert "══" not in str(diagram)


def test_a_step_can_be_marked_by_hand() -> None:
    world = sim.World(raft.Node, members=3, seed=1)
    world.run(1)
    row = world.trace[40]
    assert f"══ step {row.step} ══" in str(world.trace.plot(step=row.step))
    assert "══" not in str(world.trace.plot(step=10**9)), "there is none"


def test_events_just_before_a_violation_are_drawn_first() -> None:
    class Fragile(sim.Process):
        def start(self, now, random, records, out):
            out.set("tick", now + 0.001)

        def expire(self, now, timer, out):
            if now > 1:
                raise RuntimeError
            out.set("tick", now + 0.001)

    world = sim.World(lambda _: Fragile(), members=2, seed=1, record=True, skew=0.0)
    with pytest.raises(coterie.InvariantViolated) as failure:
        world.run(2)
    last = failure.value.trace[-1].at
    lines = str(failure.value.trace.plot(events=10)).splitlines()
    times = [float(line[:12]) for line in lines[1:] if "alarm" in line]
    assert len(times) == 10
    assert all(last - 0.02 < time < last + 1e-6 for time in times)


# --- Any words, any world -----------------------------------------------------------------------------------------

HOSTILE = "<script>alert('&amp;')</script> ]]> \" \x00\x1b[31m\x7f\x85\ufffe\n\tßé漢🎈"


@dataclass(frozen=True)
class Evil:
    words: str


class Hostile(sim.Process):
    def start(self, now, random, records, out):
        out.send(2, HOSTILE)
        out.promise(2, Evil(HOSTILE))
        out.set("<b>&", now + 0.0001)
        out.notify({HOSTILE: HOSTILE})

    def request(self, now, id, request, out):
        out.answer(id, error=HOSTILE)


def test_words_of_messages_are_words_whatever_they_are() -> None:
    world = sim.World(lambda _: Hostile(), members=3, record=True)
    world.request(1, HOSTILE)
    world.run(0.01)
    diagram = world.plot()
    for text in (diagram.svg, diagram._repr_html_(), world._repr_html_(), diagram._repr_svg_()):
        assert "<script" not in text
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", text)
    picture = Picture(diagram)
    assert any("<script>" in title for title in picture.titles("m"))
    for text in (str(diagram), diagram.text(ascii=True), diagram.text(width=40)):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
        assert "[31m" not in text or "\x1b" not in text
        assert len(text.splitlines()) == len(text.split("\n"))


@given(st.text(max_size=40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_message_makes_valid_xml_and_one_line(words: str, promise: bool) -> None:
    class Speaker(sim.Process):
        def start(self, now, random, records, out):
            (out.promise if promise else out.send)(2, words)

    try:
        world = sim.World(lambda _: Speaker(), members=2, record=True)
        world.run(0.001)
    except coterie.InvariantViolated:
        assert any(0xD800 <= ord(letter) < 0xE000 for letter in words), "half a letter cannot be sent"
        return
    diagram = world.plot()
    assert len(Picture(diagram).titles("m")) == 2
    lines = diagram.text(width=60, ascii=True).split("\n")
    assert len(lines) == 1 + diagram.drawn
    assert all(line.isascii() and len(line) <= 60 for line in lines)


class Silent(sim.Process):
    pass


def test_the_smallest_worlds_have_pictures() -> None:
    empty = sim.World(raft.Node, members=3)
    one = sim.World(lambda _: Silent(), members=1)
    one.run(1)
    alone = sim.World(raft.Node, members=1, seed=1, record=True)
    alone.run(1)
    unkept = sim.World(raft.Node, members=3, trace_rows=0)
    unkept.run(1)
    for world in (empty, one, alone, unkept):
        for diagram in (world.plot(), world.trace.plot(), world.trace[:1].plot(), world.plot(events=0)):
            picture = Picture(diagram)
            assert float(picture.root.get("width") or 0) >= 200
            assert isinstance(str(diagram), str)
            assert "nan" not in diagram.svg
        assert "<svg" in world._repr_html_()
    assert repr(empty.plot()) == "<Diagram of 0 processes, 0 s to 0 s: 0 of 0 events>"
    assert repr(one.plot()) == "<Diagram of 1 process, 1.0596e-05 s to 1 s: 0 of 0 events>"
    assert "leads term 1" in Picture(alone.plot()).words


def test_a_slice_of_a_trace_knows_what_was_so_before_it() -> None:
    world = sim.World(raft.Node, members=3, seed=7, record=True)
    world.run(2)
    world.crash(1)
    world.run(1)
    for trace in (world.trace[-50:], world.trace[100:][-50:], world.trace[-200:][:-10][-40:]):
        picture = Picture(trace.plot())
        assert picture.shapes("f"), "somebody leads"
        assert len([path for path in picture.root.iter() if path.get("class") == "l"]) == 2
    assert Picture(world.trace.filter(verb="receive")[-9:].plot()).titles("m")


def test_a_world_that_does_not_record_is_drawn_without_words() -> None:
    world = sim.World(raft.Node, members=3, seed=7)
    world.run(1)
    picture = Picture(world.plot())
    titles = picture.titles("m")
    assert len(titles) > 20
    assert all(re.match(r"n\d → n\d\nsent|n\d to itself", title) for title in titles)
    assert not {"Append", "Heard", "Vote"} & set(picture.words)
    assert "─▶" in str(world.plot())


# --- Pictures as things -------------------------------------------------------------------------------------------


def test_equal_worlds_have_equal_pictures_and_others_have_others() -> None:
    one, two, other = (swarm(seed, seconds=1.0) for seed in (5, 5, 6))
    # A difference is told by a hash: a diff of two pictures takes minutes and tells nobody anything.
    assert hash(one.plot().svg) == hash(two.plot().svg)
    assert str(one.plot()) == str(two.plot())
    assert hash(one._repr_html_()) == hash(two._repr_html_())
    assert hash(one.plot().svg) != hash(other.plot().svg)


PROGRAM = """
from hashlib import sha256
from coterie import raft, sim
world = sim.World(raft.Node, members=5, seed=5, record=True)
world.run(2, faults=sim.Faults.swarm(share=0.9, interval=0.5))
diagram = world.plot(events=150)
print(sha256((diagram.svg + str(diagram)).encode()).hexdigest())
"""


def test_pictures_are_equal_under_any_hash_seed() -> None:
    said = set()
    for seed in ("0", "1", "2"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM],
            capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed}, timeout=100,
        )  # fmt: skip
        said.add(done.stdout)
    assert len(said) == 1


def test_pictures_on_one_page_cannot_clash() -> None:
    svg = swarm(3).plot().svg
    assert " id=" not in svg
    assert "url(" not in svg
    (style,) = re.findall("<style>(.*?)</style>", svg)
    scope = re.match(r'<svg [^>]*class="([\w-]+)"', svg)
    assert scope is not None
    selectors = re.findall(r"(?:^|\}|\{)([^{}@]+)\{", style)
    assert len(selectors) > 30
    for selector in ",".join(selectors).split(","):
        assert f".{scope[1]}" in selector, selector


def test_a_picture_brings_no_script_no_font_and_no_link() -> None:
    svg = swarm(3).plot()._repr_svg_()
    tags = {element.tag.removeprefix(SVG) for element in ET.fromstring(svg).iter()}
    assert tags <= {"svg", "style", "g", "title", "path", "rect", "circle", "text"}
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|@import|href| on\w+=", svg)


def test_light_and_dark_differ_in_colours_alone() -> None:
    svg = swarm(3).plot().svg
    assert "prefers-color-scheme:dark" in svg
    assert "[data-jp-theme-light=false]" in svg
    body = svg.split("</style>", 1)[1]
    assert not re.search("#[0-9a-f]{3,6}|rgb", body), "what is drawn names no colour, only what it is"
    colours = set(re.findall("#[0-9a-f]{6}", svg.split("</style>", 1)[0]))
    okabe_ito = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}
    assert colours - {"#ff7a2f"} <= okabe_ito, "all but the vermilion that is brighter on black"


def test_the_legend_tells_only_what_occurs() -> None:
    quiet = sim.World(raft.Node, members=3, seed=7, record=True)
    quiet.run(0.5)
    words = set(Picture(quiet.plot()).words)
    assert {"message", "leader", "alarm", "promise: waits for the disk"} <= words
    assert not {"crash", "lost", "paused", "something is broken", "the same again"} & words
    broken = set(Picture(swarm(2).plot()).words)
    assert {"crash", "lost", "something is broken"} <= broken


def test_nodes_are_drawn_in_the_order_in_which_they_were_asked_for() -> None:
    world, old, new = partitioned()
    diagram = world.plot(nodes=[new, old])
    names = [words for words in Picture(diagram).words if re.fullmatch(r"n\d", words)]
    assert names == [f"n{new}", f"n{old}"]
    ends = {title.split(":")[0] for title in Picture(diagram).titles("m", without=("o1",))}
    assert ends == {f"n{new} → n{old}", f"n{old} → n{new}"}


@pytest.mark.parametrize("suffix", ["svg", "html", "txt", "SVG"])
def test_a_picture_is_saved_as_its_name_says(suffix: str, tmp_path: Path) -> None:
    diagram = swarm(3, seconds=1.0).plot()
    path = diagram.save(tmp_path / f"picture.{suffix}")
    text = path.read_text(encoding="utf-8")
    if suffix == "txt":
        assert text == f"{diagram}\n"
    elif suffix == "html":
        assert diagram.svg in text
        assert text.startswith("<!DOCTYPE html>")
    else:
        assert ET.fromstring(text).tag == f"{SVG}svg"
        assert "background:#fff" in text, "it brings its own paper"
    assert diagram.save(str(path)) == path


@pytest.mark.parametrize(
    "draw",
    [
        lambda world: world.plot(events=-1),
        lambda world: world.plot(events=True),
        lambda world: world.plot(events=10**9),
        lambda world: world.plot(width=10),
        lambda world: world.plot(start=2.0, end=1.0),
        lambda world: world.plot(start=nan),
        lambda world: world.plot(scale="log"),
        lambda world: world.plot().text(width=10),
        lambda world: world.plot().save("picture.png"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Any) -> None:
    world = sim.World(raft.Node, members=3)
    world.run(1)
    with pytest.raises(coterie.ConfigError):
        draw(world)


def test_a_process_that_is_not_there_is_refused() -> None:
    world = sim.World(raft.Node, members=3)
    world.run(1)
    with pytest.raises(coterie.UnknownNodeError, match="no process 4"):
        world.plot(nodes=[1, 4])


def test_a_world_that_is_being_run_shows_that_it_is_there() -> None:
    class Meddler(sim.Process):
        def start(self, now, random, records, out):
            seen.append(world._repr_html_())

    seen: list[str] = []
    world = sim.World(lambda id: Meddler(), members=1)
    world.run(0.1)
    assert seen == ["<code>&lt;World seed=0 members=1&gt;</code>"]


def test_pictures_are_made_side_by_side_in_threads() -> None:
    world = swarm(3, seconds=1.0)
    trace = world.trace
    wanted = trace.plot().svg
    drawn: list[str] = []
    threads = [threading.Thread(target=lambda: drawn.append(trace.plot().svg)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [hash(svg) for svg in drawn] == [hash(wanted)] * 4


# --- Time ---------------------------------------------------------------------------------------------------------


def ticks(world: sim.World, **settings: Any) -> list[str]:
    words = Picture(world.plot(**settings)).words
    return [label for label in words if re.fullmatch(r"[\d.]+ (s|ms|µs|ns)|\d+:\d\d:\d\d", label)]


def test_a_short_and_a_long_window_have_units_of_their_own() -> None:
    world = sim.World(raft.Node, members=3, seed=7, record=True)
    world.run_until(lambda world: world.leader, seconds=5)
    elected = world.trace.filter(verb="become", text="")[-1].at
    world.run(50.0)
    assert all(
        label.endswith((" µs", " ms")) for label in ticks(world, start=elected - 1e-4, end=elected + 2e-4)
    )
    late = world.trace[-1].at
    labels = ticks(world, start=late - 3e-4, end=late)
    assert len(labels) >= 2
    assert all(label.endswith(" µs") and len(label) < 9 for label in labels), "from a round time on"
    assert any(words.endswith(" s +") for words in Picture(world.plot(late - 3e-4, late)).words)

    hours = sim.World(lambda _: Lazy(), members=2, record=True)
    hours.run(2 * 3600)
    assert {"0:30:00", "1:00:00", "1:30:00"} <= set(ticks(hours))
    assert {"0:30:00", "1:00:00", "1:30:00"} <= set(ticks(hours, scale="time"))


class Lazy(sim.Process):
    def start(self, now, random, records, out):
        out.set("tick", now + 600)

    def expire(self, now, timer, out):
        out.send(1, "still there")
        out.send(2, "still there")
        out.set("tick", now + 600)


@given(
    st.lists(st.integers(0, 10**13), min_size=2, max_size=60, unique=True),
    st.booleans(),
    st.integers(300, 2000),
)
@settings(max_examples=200, deadline=None)
def test_time_goes_from_left_to_right_and_ticks_do_not_touch(
    times: list[int], linear: bool, width: int
) -> None:
    axis = Axis([time / 1e9 for time in times], 40, width - 20, linear=linear)
    places = [axis.place(time) for time in sorted(axis.times)]
    assert all(one <= two for one, two in pairwise(places))
    assert (places[0], places[-1]) == (pytest.approx(40), pytest.approx(width - 20))
    if not linear:
        assert all(one < two for one, two in pairwise(places)), "what is later is seen to be later"
    for time, place in zip(axis.times, places, strict=True):
        if not linear:
            assert axis.time(place) == pytest.approx(time, abs=1 + 1e-6 * max(axis.times))
    found = axis.ticks(60)
    assert found == sorted(set(found))
    assert all(axis.place(two) - axis.place(one) > 59 for one, two in pairwise(found))
    base, labels = axis.labels(found)
    assert len(labels) == len(set(labels)) or base == ""


def test_an_inch_is_the_same_time_everywhere_where_that_is_asked_for() -> None:
    world = sim.World(raft.Node, members=3, seed=7, record=True)
    world.run(2)
    stretched, even = Picture(world.plot(events=60)), Picture(world.plot(events=60, scale="time"))
    assert "time is stretched where much happens" in stretched.words
    assert "time is stretched where much happens" not in even.words


def test_a_picture_of_200_events_fits_a_screen() -> None:
    root = Picture(swarm(1).plot(events=200)).root
    assert 600 <= float(root.get("width") or 0) <= 1600
    assert float(root.get("height") or 0) <= 560
    assert float(Picture(swarm(1).plot(width=900)).root.get("width") or 0) == 900


def test_no_two_labels_are_written_over_each_other() -> None:
    picture = Picture(swarm(1).plot(events=200))
    labels = [text for text in picture.root.iter(f"{SVG}text") if text.get("class") == "w"]
    assert len(labels) > 40
    boxes = [
        (float(text.get("x") or 0), float(text.get("y") or 0), len(text.text or "") * 6.2) for text in labels
    ]
    for number, (x, y, width) in enumerate(boxes):
        for x2, y2, width2 in boxes[:number]:
            assert abs(y - y2) >= 9 or x + width <= x2 or x2 + width2 <= x


# --- For a terminal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("ascii", [False, True])
def test_no_line_is_longer_than_asked_for(width: int, ascii: bool) -> None:  # noqa: A002 - as users write it
    for world in (swarm(2), swarm(2, record=False)):
        text = world.plot(events=80).text(width=width, ascii=ascii)
        lines = text.split("\n")
        assert max(map(len, lines)) <= width
        assert all(line == line.rstrip() for line in lines)
        assert text.isascii() or not ascii


def test_a_terminal_shows_the_columns_arrows_and_turns_of_a_story() -> None:
    world, old, new = partitioned()
    text = world.plot(events=1000).text(width=110)
    head, *lines = text.splitlines()
    assert re.findall(r"n\d", head) == ["n1", "n2", "n3", "n4", "n5"]
    lane = {node: head.index(f"n{node}") for node in range(1, 6)}
    received = [row for row in world.trace.filter(verb="receive") if row.node != row.peer]
    arrows = [line for line in lines if "▶" in line or "◀" in line]
    assert len(arrows) == len(received)
    for row, line in zip(received, arrows, strict=True):
        assert line.startswith(f"{row.at:12.6f}  ")
        assert row.text.split(" ")[0][:9] in line
        points = "▶" if (row.peer or 0) < (row.node or 0) else "◀"
        assert abs(line.index(points) - lane[row.node or 0]) <= 2
    assert sum("✗" in line for line in lines) == len(world.trace.filter(verb="lost"))
    assert sum(line.endswith("Leader 1") or "Leader 1 " in line for line in lines) == 1
    assert f"── cut: n{min(old, old % 5 + 1)}" in text
    both = [line for line in lines if line.count("┃") == 2]
    assert both, "two lead at once"
    assert new != old


def test_where_there_are_too_many_columns_events_are_words() -> None:
    world = sim.World(raft.Node, members=40, seed=2, record=True)
    world.run_until(lambda world: world.leader, seconds=5)
    lines = world.plot(events=50).text(width=80).splitlines()
    assert len([line for line in lines if re.search(r"n\d+ ─▶ n\d+ \w+", line)]) > 20
    assert any(
        line.endswith(f"n{world.leader} Leader {world.nodes[world.leader or 1].term}") for line in lines
    )


# --- Rows ---------------------------------------------------------------------------------------------------------


def test_rows_tell_when_messages_left_and_who_became_what() -> None:
    world = sim.World(raft.Node, members=3, seed=7, record=True, faults=[sim.Drop(rate=0.2)])
    world.run(2)
    trace = world.trace
    received = [row for row in trace.filter(verb="receive") if row.node != row.peer]
    assert all(row.sent is not None and row.sent < row.at for row in received)
    assert all(row.sent is None for row in trace if row.verb not in {"receive", "lost"})
    lost = trace.filter(verb="lost")
    assert len(lost) == world.statistics["lost"] > 0
    assert all(row.text for row in lost), "what was lost has words"
    became = trace.filter(verb="become")
    leaders = [row for row in became if row.role == "Leader"]
    assert leaders[-1].node == world.leader
    assert str(leaders[0]).endswith(f"n{leaders[0].node} become Leader term={leaders[0].term}")
    lines = [json.loads(line) for line in trace.to_json().splitlines()]
    assert [line["sent"] for line in lines] == [row.sent for row in trace]
    assert set(lines[0]) == set(trace.columns()) >= {"sent", "role", "term"}


def test_a_quiet_world_keeps_roles_and_losses_too() -> None:
    quiet, loud = (
        sim.World(
            raft.Node, members=3, seed=7, record=record, faults=[sim.Drop(rate=0.2)], trace_rows=100_000
        )
        for record in (False, True)
    )
    for world in (quiet, loud):
        world.run(3)
    assert quiet.digest == loud.digest
    for verb in ("become", "lost", "begin"):
        one, two = (
            [(row.at, row.node, row.peer, row.role, row.term) for row in world.trace.filter(verb=verb)]  # type: ignore[arg-type]
            for world in (quiet, loud)
        )
        assert one == two
        assert one
    assert {row.text for row in quiet.trace.filter(verb="lost")} == {""}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("RequestVote term=1 last=0/0", "RequestVote"), ("Raft(Append { term: 1 })", "Append"), ("Add(value=3)", "Add"),
        ("'ping'", "ping"), ("('vote', 3)", "vote"), ("{'heard': 1}", "heard"), ("7", "7"), ("", ""),
        ("b'bytes'", "bytes"), ("nobody there: Vote term=1", "Vote"),
        ("Vote { term: 2, granted: true }", "Vote yes"), ("PreVote term=2 refused", "PreVote no"),
        ("Vote(term=2, granted=False)", "Vote no"), ("'" + "x" * 40 + "'", "x" * 13 + "…"),
    ],
)  # fmt: skip
def test_messages_have_short_names(words: str, name: str) -> None:
    assert name_of(words) == name


def pair(**settings: Any) -> sim.World:
    """Two that send a number to and fro."""

    class Player(sim.Process):
        def __init__(self, other: int) -> None:
            self.other = other

        def start(self, now, random, records, out):
            if self.other == 2:
                out.send(2, 0)

        def receive(self, now, sender, message, out):
            out.send(self.other, message + 1)

    return sim.World(lambda id: Player(3 - id), members=2, record=True, **settings)
