"""What must hold of all that clients were told, whatever happened."""

from __future__ import annotations

import bisect
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import records
from coterie import check
from coterie.client import Client
from records import Row

SECOND = 1_000_000_000


# What the cluster has below ``log/``: for each key its value, and the revision that set it.
Kept: TypeAlias = dict[str, tuple[str, int]]


@dataclass
class Judgement:
    """What was found: `problems` is empty when all is well."""

    problems: list[str] = field(default_factory=list)
    operations: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    sections: int = 0
    overlaps: int = 0
    events: int = 0
    gaps: list[tuple[float, int]] = field(default_factory=list)


def judge(folder: Path, kept: Kept, *, strict: bool) -> Judgement:
    """Judges what the files in a folder say.

    `kept` is what the cluster has below ``log/`` at the end. With `strict`, locks end by their time to live alone, so that
    whoever is told that he holds one does.
    """
    found = records.read(sorted(folder.iterdir()))
    judgement = Judgement()
    judgement.operations.update(f"{row.operation} {row.outcome}" for row in found.rows)
    judgement.problems += [f"{kind}: {what}" for kind, what in found.notes if kind == "problem"]
    judgement.errors.update(what[3] for kind, what in found.notes if kind == "error")
    logged = [row for row in found.rows if row.key is not None and row.key.startswith("log/")]
    registers = [row for row in found.rows if row.operation in {"put", "get", "cas", "delete"}]
    _judge_registers(_without_log(registers), judgement)
    _judge_log(logged, kept, judgement)
    _judge_locks(found.rows, judgement, strict=strict)
    _judge_fences(found.rows, judgement)
    _judge_watches(found.notes, kept, judgement)
    judgement.gaps = _gaps(found.rows)
    judgement.writes = len(_acknowledged_writes(found.rows))
    return judgement


def kept_below_log(client: Client) -> Kept:
    """What the cluster has below ``log/``."""
    return {
        entry.key.decode(): (entry.value.decode(), entry.mod_revision) for entry in client.kv.range("log/")
    }


def await_watches(folder: Path, kept: Kept) -> None:
    """Until they have heard the last of it, or should have."""
    last = max(revision for _, revision in kept.values())
    until = time.monotonic() + 10
    while time.monotonic() < until:
        notes = records.read(sorted(folder.iterdir())).notes
        heard = {what[1]: what[2] for kind, what in notes if kind == "event"}
        if all(revision >= last for revision in heard.values()):
            return
        time.sleep(0.5)


def _without_log(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.key is None or not row.key.startswith("log/")]


def _judge_registers(rows: list[Row], judgement: Judgement) -> None:
    verdict = check.linearizable(check.History(rows), "key-value", timeout=120.0)
    if not verdict.is_linearizable:
        judgement.problems.append(f"{verdict}\n{verdict.timeline()}")


def _judge_log(rows: list[Row], kept: Kept, judgement: Judgement) -> None:
    """What was acknowledged is there, what was refused is not, and nothing else is, either."""
    asked = {row.key: row for row in rows}
    for key, row in asked.items():
        if row.outcome == "ok" and key not in kept:
            judgement.problems.append(f"lost, though it was acknowledged: {row}")
        if row.outcome == "fail" and key in kept:
            judgement.problems.append(f"there, though it was refused: {row}")
        if key in kept and kept[key][0] != row.value:
            judgement.problems.append(f"changed: {row} is {kept[key]!r}")
    judgement.problems += [f"there, though nobody wrote it: {key}" for key in kept if key not in asked]


def _judge_locks(rows: list[Row], judgement: Judgement, *, strict: bool) -> None:
    for door, asked in _by_key(rows, {"acquire", "release", "holds"}).items():
        acquires = [row for row in asked if row.operation == "acquire"]
        granted = [row for row in acquires if row.outcome == "ok" and row.result]
        judgement.sections += len(granted)
        twice = [token for token, count in Counter(row.result for row in granted).items() if count > 1]
        judgement.problems += [f"token {token} of {door} was given twice" for token in twice]
        verdict = check.linearizable(check.History(acquires), check.Lock(expires=True))
        if not verdict.is_linearizable:
            judgement.problems.append(f"{door}: {verdict}\n{verdict.timeline()}")
        if not _tokens_grow(granted):
            judgement.problems.append(f"{door}: a token was given before a smaller one was asked for")
        # Who is told that he holds it, when another one had already been given it?
        latest = _latest_before(granted, lambda row: row.result)
        for row in asked:
            if row.operation == "holds" and row.result and latest(row.start) > row.value:
                judgement.overlaps += 1
                if strict:
                    judgement.problems.append(f"{row} held, after token {latest(row.start)} had been given")
            # The store itself knows better than any clock.
            given_back = row.operation == "release" and row.outcome == "ok" and row.result
            if given_back and latest(row.start) > row.value:
                judgement.problems.append(f"{row} gave back what another had: {latest(row.start)}")


def _tokens_grow(granted: list[Row]) -> bool:
    """Whether no token was given before a smaller one was asked for."""
    latest = _latest_before(granted, lambda row: row.result)
    return all(latest(row.start) < row.result for row in granted)


def _judge_fences(rows: list[Row], judgement: Judgement) -> None:
    """No older token is admitted after a newer one."""
    for door, admits in _by_key(rows, {"admit"}).items():
        admitted = [row for row in admits if row.outcome == "ok" and row.result]
        latest = _latest_before(admitted, lambda row: row.value)
        judgement.problems += [
            f"{door}: {row} was admitted after token {latest(row.start)}"
            for row in admitted
            if latest(row.start) > row.value
        ]


def _latest_before(rows: list[Row], token: Callable[[Row], int]) -> Callable[[int], int]:
    """The greatest token of what had ended by a time."""
    ended = sorted((row.end, token(row)) for row in rows if row.end is not None)
    times = [end for end, _ in ended]
    greatest = list(itertools.accumulate((each for _, each in ended), max))

    def latest(time: int) -> int:
        place = bisect.bisect_left(times, time)
        return greatest[place - 1] if place else 0

    return latest


def _judge_watches(notes: list[tuple[str, list[Any]]], kept: Kept, judgement: Judgement) -> None:
    """From its first event on, each watch hears of everything once, in the order of revisions."""
    heard: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for kind, (_, *what) in notes:
        if kind == "event":
            name, revision, key = what
            heard[name].append((revision, key))
    # Nothing below `log/` is changed or deleted, so what is there is all that ever happened.
    order = sorted((revision, key) for key, (_, revision) in kept.items())
    for name, events in heard.items():
        judgement.events += len(events)
        expected = order[bisect.bisect_left(order, events[0]) :]
        for place, (told, there) in enumerate(itertools.zip_longest(events, expected)):
            if told != there:
                judgement.problems.append(
                    f"{name} heard {told} as event {place}, and not {there}: {len(events)} of {len(expected)}"
                )
                break


def _by_key(rows: Iterable[Row], operations: set[str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.operation in operations and row.key is not None:
            found[row.key].append(row)
    return found


def _acknowledged_writes(rows: Iterable[Row]) -> list[int]:
    """When each was."""
    return sorted(
        row.end
        for row in rows
        if row.end is not None
        and row.outcome == "ok"
        and (row.operation in {"put", "delete"} or (row.operation == "cas" and row.result))
    )


def _gaps(rows: Iterable[Row]) -> list[tuple[float, int]]:
    """Times without an acknowledged write: how long, in seconds, and when they began; the longest first."""
    ends = _acknowledged_writes(rows)
    gaps = [((after - before) / SECOND, before) for before, after in itertools.pairwise(ends)]
    return sorted(gaps, reverse=True)
