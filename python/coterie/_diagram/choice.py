"""Which events are drawn when there are more than a picture can hold: those that tell most. The others are counted.

What is rare tells more than what comes again and again (a vote more than a heartbeat), what is near a turn of the story
(a crash, a new leader, a fault) more than what is far from it, and what came just before a violation most of all.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from dataclasses import dataclass, replace
from math import log

from coterie._diagram.story import Band, Mark, Message, Moment, Part, Story, ordered, shape_of

#: Within how many events of a turn of the story something is near it.
NEAR = 20


@dataclass(slots=True)
class Choice:
    """What a picture shows of a story, between two times."""

    nodes: list[int]
    start: float
    end: float
    drawn: list[Message | Mark]
    left_out: list[Message | Mark]
    moments: list[Moment]
    lives: dict[int, list[tuple[float, float]]]
    parts: list[Part]
    bands: list[Band]
    #: What was violated, or is marked: the step, when, at whom, and what.
    mark: tuple[int, float, int, str] | None
    recorded: bool


def choose(
    story: Story,
    nodes: list[int],
    start: float,
    end: float,
    events: int,
    mark: tuple[int, float, int, str] | None,
) -> Choice:
    """Take what lies between two times, and of the events so many."""
    shown = frozenset(nodes)
    items = [item for item in ordered(story) if within(item, start, end) and concerns(item, shown)]
    lives = {
        node: [(max(since, start), min(till, end)) for since, till in spans if since <= end and till >= start]
        for node, spans in story.lives.items()
        if node in shown
    }
    moments = [moment for moment in story.moments if moment.node in shown and start <= moment.at <= end]
    parts = [
        replace(part, start=max(part.start, start), end=min(part.end, end))
        for part in story.parts
        if part.node in shown and part.start <= end and part.end >= start
    ]
    bands = [
        replace(band, start=max(band.start, start), end=min(band.end, end), nodes=band.nodes & shown)
        for band in story.bands
        if band.nodes & shown and band.start <= end and (band.end > start or band.start >= start)
    ]
    mark = mark if mark is not None and start <= mark[1] <= end else None
    chosen = telling(items, turns(story, start, end), mark, events)
    drawn = [item for place, item in enumerate(items) if place in chosen]
    left_out = [item for place, item in enumerate(items) if place not in chosen]
    return Choice(nodes, start, end, drawn, left_out, moments, lives, parts, bands, mark, story.recorded)


def within(item: Message | Mark, start: float, end: float) -> bool:
    if isinstance(item, Message):
        return item.sent <= end and item.arrived >= start
    return start <= item.at <= end


def concerns(item: Message | Mark, nodes: frozenset[int]) -> bool:
    return nodes >= {item.sender, item.receiver} if isinstance(item, Message) else item.node in nodes


def turns(story: Story, start: float, end: float) -> list[float]:
    """When the story turns: lives, leaders and candidates, faults."""
    times = [moment.at for moment in story.moments]
    times += [part.start for part in story.parts if part.role != "Follower"]
    times += [time for band in story.bands for time in (band.start, band.end)]
    return sorted(time for time in times if start <= time <= end)


def telling(
    items: list[Message | Mark],
    times: list[float],
    mark: tuple[int, float, int, str] | None,
    events: int,
) -> set[int]:
    """The places of those that tell most."""
    if len(items) <= events:
        return set(range(len(items)))
    shapes = [shape_of(item) for item in items]
    counts = Counter(shapes)
    most = log(len(items) + 1)
    moments = [item.at for item in items]
    turning = [bisect(moments, time) for time in times]
    marked = None if mark is None else bisect(moments, mark[1])

    def weight(place: int) -> float:
        value = 5.0 if isinstance(items[place], Message) else 3.0
        value += 10.0 * (1.0 - log(counts[shapes[place]]) / most)
        after = bisect(turning, place)
        near = [abs(place - turning[other]) for other in (after - 1, after) if 0 <= other < len(turning)]
        value += 10.0 * max((1.0 - distance / NEAR for distance in near if distance < NEAR), default=0.0)
        if marked is not None:
            value += 20.0 * max(0.0, 1.0 - abs(marked - place) / (2 * NEAR))
        return round(value, 6)

    # Among equals, the last ones: they are next to each other, and so tell a whole exchange.
    return set(sorted(range(len(items)), key=lambda place: (-weight(place), -place))[:events])
