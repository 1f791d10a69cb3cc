"""The judge of histories, from Python: what it takes, what it finds, and what it tells."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import pickle
import re
import signal
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import coterie
from coterie import check
from coterie.check import History, Operation, linearizable

HISTORIES = Path(__file__).parents[1] / "data" / "histories"
BESIDE = Path(__file__).parents[3] / "shared" / "acceptance" / "histories"
PUBLIC = Path(os.environ.get("COTERIE_HISTORIES", BESIDE))

STALE = [
    Operation("c1", "write", 1, start=0, end=1),
    Operation("c2", "write", 2, start=2, end=3),
    Operation("c3", "read", result=1, start=4, end=5),
]


# ── Models ──────────────────────────────────────────────────────────────────────────────────────────────────────


def sequential(*rows: tuple[str, Any, Any]) -> list[Operation]:
    """Operations one after the other, by two clients in turn."""
    return [
        Operation(f"c{number % 2}", name, value, result, start=2 * number, end=2 * number + 1)
        for number, (name, value, result) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("model", "right", "wrong"),
    [
        ("register", [("write", 1, None), ("read", None, 1)], [("write", 1, None), ("read", None, 2)]),
        (
            "cas-register",
            [("cas", (None, 1), True), ("cas", [None, 2], False), ("read", None, 1)],
            [("cas", (None, 1), True), ("cas", (None, 2), True)],
        ),
        (
            "key-value",
            [
                ("put", "a", None),
                ("append", "b", 2),
                ("get", None, "ab"),
                ("delete", None, True),
                ("get", None, None),
            ],
            [("put", "a", None), ("append", "b", None), ("get", None, "ba")],
        ),
        (
            "key-value",
            [("append", [1], None), ("append", [2, 3], None), ("get", None, [1, 2, 3])],
            [("append", [1], None), ("append", [2], None), ("get", None, [2])],
        ),
        (
            "key-value",
            [("append", b"x", None), ("append", b"y", 2), ("get", None, b"xy")],
            [("append", b"x", None), ("append", b"y", 3)],
        ),
        (
            "queue",
            [("dequeue", None, None), ("enqueue", 1, None), ("enqueue", 2, None), ("dequeue", None, 1)],
            [("enqueue", 1, None), ("dequeue", None, 1), ("dequeue", None, 1)],
        ),
        (
            "counter",
            [("add", 5, 5), ("decrement", None, 4), ("increment", 2, None), ("read", None, 6)],
            [("add", 5, None), ("read", None, 4)],
        ),
        (
            "set",
            [
                ("add", "x", True),
                ("add", "x", False),
                ("contains", "x", True),
                ("remove", "x", True),
                ("read", None, set()),
            ],
            [("add", "x", None), ("remove", "x", None), ("contains", "x", True)],
        ),
        (
            "list",
            [("read", None, []), ("append", "x", 1), ("append", "y", None), ("read", None, ["x", "y"])],
            [("append", "x", None), ("append", "y", None), ("read", None, ["y", "x"])],
        ),
    ],
)
def test_a_model_lets_pass_what_is_right_and_sees_what_is_wrong(
    model: str, right: list[Any], wrong: list[Any]
) -> None:
    assert linearizable(sequential(*right), model).outcome == "linearizable"
    verdict = linearizable(sequential(*wrong), model)
    assert verdict.outcome == "violation"
    assert verdict.roles[-1] == "last"


def test_a_lock_is_held_by_one_and_its_tokens_grow() -> None:
    def history(*rows: tuple[str, str, Any]) -> list[Operation]:
        return [
            Operation(process, name, None, result, start=2 * number, end=2 * number + 1)
            for number, (process, name, result) in enumerate(rows)
        ]

    right = history(
        ("a", "acquire", 3), ("b", "acquire", False), ("a", "release", None), ("b", "acquire", 10)
    )
    assert linearizable(right, "lock").is_linearizable
    for wrong in (
        history(("a", "acquire", 3), ("b", "acquire", 4)),
        history(("a", "acquire", 3), ("a", "release", None), ("b", "acquire", 3)),
        history(("a", "acquire", 3), ("b", "release", None)),
        history(("a", "acquire", False)),
        history(("a", "acquire", True), ("b", "acquire", True)),
    ):
        assert linearizable(wrong, "lock").is_violation
    # Between tokens 1 and 2 nobody else can have held it, whatever became of the request; between 1 and 3 somebody can.
    for token, outcome in ((2, "violation"), (3, "linearizable")):
        rows = history(
            ("a", "acquire", 1), ("a", "release", None), ("c", "release", None), ("b", "acquire", token)
        )
        rows.append(Operation("c", "acquire", start=0, outcome="unknown"))
        assert linearizable(rows, "lock").outcome == outcome
    lost = history(("a", "acquire", 3), ("b", "acquire", 4), ("c", "acquire", 4))
    assert linearizable(lost, check.Lock(expires=True)).is_violation
    assert linearizable(lost[:2], check.Lock(expires=True)).is_linearizable


@pytest.mark.parametrize("initial", [0, "", (), [1], None, "not in the history"])
def test_a_register_begins_as_it_is_told(initial: Any) -> None:
    reads = [Operation("c", "read", result=initial, start=0, end=1)]
    assert linearizable(reads, check.Register(initial)).is_linearizable
    assert linearizable(reads, check.Register("something else")).is_violation
    text = [
        Operation("c", "append", "b", start=0, end=1, key=1),
        Operation("c", "get", result="ab", start=2, end=3, key=1),
    ]
    assert linearizable(text, check.KeyValue("a")).is_linearizable
    assert linearizable(text, check.KeyValue("")).is_violation


class PlainRegister:
    """A register as a user would write it."""

    reads = ("read",)

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def initial(self) -> Any:
        return None

    def step(self, state: Any, operation: str, value: Any, result: Any) -> Any:
        self.asked.append((state, operation, value, result))
        match operation:
            case "read":
                return state if result in {state, check.UNHEARD} else check.REFUSED
            case "write":
                return value
            case "cas" if state == value[0]:
                return value[1] if result in {True, check.UNHEARD} else check.REFUSED
            case _:
                return state if result in {False, check.UNHEARD} else check.REFUSED


values = st.integers(0, 2)
drawn = st.lists(
    st.tuples(
        st.one_of(
            st.tuples(st.just("read"), st.none(), values),
            st.tuples(st.just("write"), values, st.none()),
            st.tuples(st.just("cas"), st.tuples(values, values), st.booleans()),
        ),
        st.integers(0, 12),
        st.integers(0, 6),
        st.sampled_from(["ok", "ok", "ok", "fail", "unknown"]),
        st.sampled_from(["x", "y"]),
    ),
    max_size=10,
)


def operations(rows: list[Any]) -> list[Operation]:
    return [
        Operation(f"c{number}", name, value, result, start, start + length, outcome, key)
        for number, ((name, value, result), start, length, outcome, key) in enumerate(rows)
    ]


@given(drawn)
def test_a_model_in_python_finds_what_the_compiled_one_finds(rows: list[Any]) -> None:
    history = History(operations(rows))
    native, plain = linearizable(history, "cas-register"), linearizable(history, PlainRegister())
    assert native.outcome == plain.outcome == ("linearizable" if explained(list(history)) else "violation")


def explained(history: list[Operation]) -> bool:
    """A naive twin: every order, key by key."""

    def search(state: Any, left: list[Operation]) -> bool:
        if all(it.outcome == "unknown" for it in left):
            return True
        for place, it in enumerate(left):
            if any(other.outcome == "ok" and other.end < it.start for other in left):
                continue
            rest = left[:place] + left[place + 1 :]
            result = it.result if it.outcome == "ok" else check.UNHEARD
            after = PlainRegister().step(state, it.operation, it.value, result)
            if after is not check.REFUSED and search(after, rest):
                return True
        return False

    keys = {it.key for it in history}
    return all(search(None, [it for it in history if it.key == key and it.outcome != "fail"]) for key in keys)


def test_a_model_in_python_is_asked_each_thing_once() -> None:
    rows = [
        Operation(f"c{number}", "write", number % 3, start=number, end=number + 40) for number in range(60)
    ]
    rows.append(Operation("r", "read", result=7, start=200, end=201))
    model = PlainRegister()
    assert linearizable(rows, model).is_violation
    assert len(model.asked) == len(set(model.asked))


def test_a_model_in_python_may_say_what_does_not_touch() -> None:
    class Shelf:
        def initial(self) -> tuple[()]:
            return ()

        def partition(self, operation: Operation) -> Any:
            return operation.value[0]

        def step(self, state: Any, operation: str, value: Any, result: Any) -> Any:
            assert operation == "stack"
            stacked = (*state, value)
            return stacked if result in {len(stacked), check.UNHEARD} else check.REFUSED

    rows = [
        Operation(
            number,
            "stack",
            ("a" if number % 2 else "b", number),
            1 + number // 2,
            start=number,
            end=number + 0.5,
        )
        for number in range(20)
    ]
    assert linearizable(rows, Shelf()).is_linearizable
    verdict = linearizable([*rows, Operation(99, "stack", ("b", 99), 1, start=50, end=51)], Shelf())
    assert verdict.is_violation
    assert {operation.value[0] for operation in verdict.conflict} == {"b"}


def test_what_a_model_in_python_raises_arrives() -> None:
    class Broken:
        def initial(self) -> int:
            return 0

        def step(self, state: Any, operation: str, value: Any, result: Any) -> Any:
            raise LookupError("the model is broken")

    class Forgetful(Broken):
        def step(self, state: Any, operation: str, value: Any, result: Any) -> Any:
            return None

    class Unhashable(Broken):
        def step(self, state: Any, operation: str, value: Any, result: Any) -> Any:
            return [value]

    with pytest.raises(LookupError, match="the model is broken"):
        linearizable(STALE, Broken())
    with pytest.raises(coterie.ConfigError, match=r"step\(\) returned None for write"):
        linearizable(STALE, Forgetful())
    with pytest.raises(TypeError, match="unhashable"):
        linearizable(STALE, Unhashable())


# ── Histories ───────────────────────────────────────────────────────────────────────────────────────────────────


@given(drawn)
def test_a_history_is_the_same_in_all_its_forms(rows: list[Any]) -> None:
    history = History(operations(rows))
    mappings = [vars(operation) for operation in history]
    tuples = [tuple(mapping.values()) for mapping in mappings]
    for same in (
        History(mappings),
        History(tuples),
        History(history.columns()),
        History.from_json(history.to_json()),
        pickle.loads(pickle.dumps(history)),
    ):
        assert same == history
    assert len(history) == len(rows)


class Frame:
    """As much of a pandas.DataFrame as is looked at: columns of NumPy arrays, where a missing number is NaN."""

    def __init__(self, columns: dict[str, np.ndarray[Any, Any]]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        return self._columns[name]


def test_a_data_frame_is_taken_by_its_columns() -> None:
    frame = Frame(
        {
            "process": np.array([1, 2, 3]),
            "operation": np.array(["write", "write", "read"]),
            "value": np.array([1.0, 2.0, math.nan]),
            "result": np.array([math.nan, math.nan, 1.0]),
            "start": np.array([0, 2, 4]) + 10**18,
            "end": np.array([1, 3, 5]) + 10**18,
        }
    )
    history = History(frame)
    assert [operation.value for operation in history] == [1.0, 2.0, None]
    assert linearizable(history).is_violation


def test_values_of_all_kinds_survive_json(tmp_path: Path) -> None:
    rows = [
        Operation("c", "write", value, start=number, end=number + 0.5)
        for number, value in enumerate(
            [None, True, 1.5, "ä\n", b"\x00\xff", [1, [2]], (3,), {"a": 1}, {4, 5}]
        )
    ]
    history = History(rows)
    text = history.to_json(tmp_path / "history.jsonl")
    for source in (text, tmp_path / "history.jsonl", str(tmp_path / "history.jsonl")):
        assert History.from_json(source) == history
    assert all("end" in json.loads(line) for line in text.splitlines())
    with pytest.raises(coterie.ConfigError, match="record 0 has no words in JSON"):
        History([Operation("c", "write", object(), start=0, end=1)]).to_json()


def test_times_may_be_whatever_can_be_compared() -> None:
    midnight = datetime(2026, 1, 1, tzinfo=UTC)

    def at(rows: list[Operation], clock: Callable[[int], Any]) -> list[Operation]:
        return [
            Operation(it.process, it.operation, it.value, it.result, clock(it.start), clock(it.end))
            for it in rows
        ]

    for clock in (
        float,
        lambda time: midnight + timedelta(seconds=time),
        lambda time: 2**62 + time,  # floats would take them for one
        lambda time: time * 1e-9,
    ):
        assert linearizable(at(STALE, clock)).is_violation
    # Who starts when another ends overlaps with it.
    assert linearizable(at(STALE, lambda time: (time + 1) // 2)).is_linearizable


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([Operation("c", "read", start=5, end=4)], "record 0: it ends at 4, before it starts at 5"),
        ([*STALE, Operation("c", "read", start=5)], "record 3: the end is missing"),
        ([Operation("c", "read", start=1j, end=2j)], "the times cannot be compared with each other"),
        ([Operation("c", "read", start=math.nan, end=1)], "record 0: the start is not a number"),
        ([Operation("c", "read", start=2**70, end=2**71)], "record 0: the start is no time"),
        ([Operation("c", "read", start=2**60, end=1e19)], "record 0: its time is an integer too large"),
        ([Operation("c", 7, start=0, end=1)], "record 0: the operation is a name"),  # type: ignore[arg-type]
        ([Operation("c", "read", start=0, end=1, outcome="info")], "record 0: the outcome is"),  # type: ignore[arg-type]
        ([Operation("c", "read", start=0, end=1, key=bytearray())], "record 0: key: unhashable"),
        ([{"process": 1, "operation": "read"}], "record 0: the field 'start' is missing"),
        (
            [{"process": 1, "operation": "read", "start": 0, "begin": 0}],
            "record 0: there is no field 'begin'",
        ),
        ([("c", "read", None, None)], "record 0: a tuple has 5 to 8 fields"),
        ([3], "record 0: expected an Operation"),
        ({"process": [1], "operation": ["read"]}, "the column 'start' is missing"),
        ({"process": [1], "operation": ["read"], "start": [0, 1]}, "the column 'start' has 2 rows"),
        ("history.jsonl", "History.from_json"),
        (7, "expected operations or columns"),
    ],
)
def test_a_malformed_history_is_refused_with_its_record(rows: Any, complaint: str) -> None:
    with pytest.raises(coterie.ConfigError, match=complaint):
        History(rows)


@pytest.mark.parametrize(
    ("model", "row", "complaint"),
    [
        (
            "register",
            ("enqueue", 1, None),
            "record 1: a register has no operation 'enqueue'; it has read, write",
        ),
        ("register", ("cas", (1, 2), True), "record 1: a register has no operation 'cas'"),
        ("cas-register", ("cas", 3, True), "record 1: the value of a cas is a pair"),
        ("cas-register", ("cas", (1, 2), None), "record 1: the result of a cas is True or False, not None"),
        ("key-value", ("append", 3, None), "record 1: what is appended is a str, bytes or a list"),
        ("queue", ("enqueue", None, None), "record 1: None cannot be enqueued"),
        ("lock", ("acquire", None, "x"), "record 1: a fencing token is a whole number"),
        ("lock", ("acquire", None, -3), "record 1: a fencing token is greater than 0"),
        ("counter", ("add", 1.5, None), "record 1: what is added is a whole number"),
        ("counter", ("read", None, None), "record 1: what a read saw is a whole number"),
        ("set", ("contains", 1, None), "record 1: the result of contains"),
        ("set", ("read", None, 3), "record 1: a read of a set sees a set"),
        ("list", ("read", None, "xy"), "record 1: a read of a list sees a list"),
    ],
)
def test_what_a_model_does_not_know_is_refused(model: str, row: tuple[str, Any, Any], complaint: str) -> None:
    first = {"queue": "dequeue", "lock": "release", "set": "add", "list": "append"}.get(model, "read")
    known = Operation("c", first, 0, start=0, end=1, outcome="fail")
    with pytest.raises(coterie.ConfigError, match=complaint):
        linearizable([known, Operation("c", *row, start=2, end=3)], model)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"model": "stack"}, "there is no model 'stack'; there are register"),
        ({"model": PlainRegister}, "make an object of it"),
        ({"model": object()}, "a model has the methods"),
        ({"model": check.Counter(initial="0")}, "initial: a counter begins with an int"),  # type: ignore[arg-type]
        ({"timeout": 0}, "timeout: seconds"),
        ({"timeout": math.nan}, "timeout: seconds"),
        ({"memory_limit": 0}, "memory_limit: bytes"),
    ],
)
def test_settings_that_cannot_work_are_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(coterie.ConfigError, match=complaint):
        linearizable(STALE, **arguments)


@pytest.mark.parametrize(
    ("log", "complaint"),
    [
        ("INFO  jepsen.util - 0 :ok :read 1\n", "line 1: process 0 is answered and has asked nothing"),
        ("0 :invoke :read nil\n0 :invoke :read nil\n", "line 2: process 0 has not finished"),
        ("0 :invoke :cas [1 2\n", "line 1: '\\[' is not closed"),
        ("{:process 0, :type :invoke}\n", "line 1 is no event of Jepsen"),
        ("nothing of the kind\n", "line 1 is no event of Jepsen"),
    ],
)
def test_a_log_that_is_none_of_jepsen_is_refused(log: str, complaint: str) -> None:
    with pytest.raises(coterie.ConfigError, match=complaint):
        History.from_jepsen(log)


def test_a_log_of_maps_is_read_as_well() -> None:
    log = """\
{:process 9, :type :invoke, :f :append, :key "0", :value "x 9 0 y"}
{:process 1, :type :invoke, :f :get, :key "0", :value nil}
{:process 9, :type :ok, :f :append, :key "0", :value "x 9 0 y"}
{:process :nemesis, :type :info, :f :start, :value "cut"}
{:process 1, :type :ok, :f :get, :key "0", :value "x 9 0 y"}
"""
    history = History.from_jepsen(log)
    assert [operation.key for operation in history] == ["0", "0"]
    assert history[1].result == "x 9 0 y"
    assert linearizable(history, "key-value").is_linearizable


# ── Verdicts ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_verdict_refuses_to_be_true_or_false() -> None:
    for history in (STALE, STALE[:1]):
        with pytest.raises(TypeError, match="is_linearizable"):
            bool(linearizable(history))


def test_a_violation_is_raised_with_its_conflict() -> None:
    verdict = linearizable([*STALE, *(Operation("x", "write", 9, start=n, end=n + 1) for n in range(6, 99))])
    with pytest.raises(coterie.InvariantViolated, match="3 of 96 operations fit no order") as caught:
        verdict.raise_for_violation()
    assert caught.value.invariant == "linearizability"
    assert caught.value.trace == verdict.conflict == tuple(STALE)
    assert pickle.loads(pickle.dumps(caught.value)).trace == tuple(STALE)
    sound = linearizable(STALE[:2])
    assert sound.raise_for_violation() is sound
    assert sound.conflict == sound.roles == ()


def test_the_conflict_is_told_in_words() -> None:
    rows = [
        Operation("c1", "put", 1, start=0.0, end=0.3, key="x"),
        Operation("c2", "put", 2, start=0.1, outcome="unknown", key="x"),
        Operation("c1", "get", result=2, start=0.4, end=0.5, key="x"),
        Operation("c1", "get", result=1, start=0.6, end=0.7, key="x"),
        Operation("c1", "get", result=1, start=0.6, end=0.7, key="y"),
    ][:4]
    verdict = linearizable(rows, "key-value")
    assert str(verdict) == (
        "Not linearizable (key-value, key 'x'): 4 of 4 operations fit no order.\n"
        "  1. c1: put 1, from 0.0 to 0.3\n"
        "  2. c2: put 2 → ?, from 0.1 on (it may have taken effect at any time after that, or never)\n"
        "  3. c1: get → 2, from 0.4 to 0.5\n"
        "  4. c1: get → 1, from 0.6 to 0.7\n"
        "1 had ended before 3 began, and 3 before 4. "
        "What 1 and 3 were told can be explained; the answer to 4 cannot."
    )
    assert verdict.roles == ("answered", "perhaps", "answered", "last")
    assert repr(verdict) == "Verdict(violation, 4 operations on one object)"
    assert repr(linearizable(STALE[:1])) == "Verdict(linearizable)"


@given(drawn)
def test_a_conflict_is_a_violation_by_itself_and_all_but_its_last_answer_is_not(rows: list[Any]) -> None:
    verdict = linearizable(operations(rows), "cas-register")
    if not verdict.is_violation:
        return
    told = list(zip(verdict.conflict, verdict.roles, strict=True))
    assert [role for _, role in told].count("last") == 1
    forgotten = [
        Operation(it.process, it.operation, it.value, None, it.start, None, "unknown", it.key)
        for it, _ in told
    ]
    alone = [it if role != "perhaps" else other for (it, role), other in zip(told, forgotten, strict=True)]
    assert not explained(alone)
    assert linearizable(alone, "cas-register").is_violation
    rest = [it if role == "answered" else other for (it, role), other in zip(told, forgotten, strict=True)]
    assert explained(rest)


def test_the_picture_is_valid_and_says_everything_twice(tmp_path: Path) -> None:
    rows = [
        *STALE,
        Operation("<c&1>", "write", "</svg>" * 20, start=2.5, outcome="unknown"),
        Operation("c4", "read", result="</svg>" * 20, start=3.5, end=3.7),
        Operation("c4", "read", result=1, start=3.8, end=3.9),
    ]
    verdict = linearizable(rows)
    svg = verdict.to_svg(tmp_path / "conflict.svg")
    assert (tmp_path / "conflict.svg").read_text(encoding="utf-8") == svg
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    bars = root.findall(f".//{space}g")
    assert len(bars) == len(verdict.conflict)
    for bar, operation in zip(bars, verdict.conflict, strict=True):
        assert str(operation.process) in (bar.findtext(f"{space}title") or "")
        assert operation.operation in (bar.findtext(f"{space}text") or "")
    assert "prefers-color-scheme" in svg
    assert not re.search(r"href|url\(|<script|@import", svg)
    assert svg in verdict._repr_html_()
    assert "<svg" not in linearizable(STALE[:1])._repr_html_()


@given(drawn)
def test_bars_of_one_lane_never_touch(rows: list[Any]) -> None:
    same = [Operation("c", *list(vars(it).values())[1:]) for it in operations(rows)]
    verdict = linearizable(same, "cas-register")
    if not verdict.is_violation:
        assert verdict.timeline() == ""
        return
    bars = verdict._bars()
    for one, two in itertools.combinations(bars, 2):
        if one.lane == two.lane:
            assert one.last is not None
            assert one.last < two.first
    assert len(verdict.timeline().splitlines()) == len({bar.lane for bar in bars})


# ── Limits ──────────────────────────────────────────────────────────────────────────────────────────────────────


def hard() -> History:
    """Forty appends at once, over which something may be written at any time, and a read that none explains."""
    rows = [
        Operation(n, "append", chr(97 + n % 26) + str(n), start=n, end=1000 + n, key="k") for n in range(40)
    ]
    rows.append(Operation(98, "put", "z", start=0, outcome="unknown", key="k"))
    return History([*rows, Operation(99, "get", result="nothing of the kind", start=2000, end=2001, key="k")])


def test_a_judgement_ends_in_time() -> None:
    begun = time.monotonic()
    verdict = linearizable(hard(), "key-value", timeout=0.2, memory_limit=1 << 40)
    assert verdict.is_unknown
    assert verdict.reason == "the time allowed was over"
    assert time.monotonic() - begun < 10
    assert (
        str(verdict)
        == "Unknown whether 42 operations are linearizable (key-value): the time allowed was over."
    )


def test_a_judgement_ends_within_its_memory() -> None:
    verdict = linearizable(hard(), "key-value", memory_limit=4 << 20)
    assert verdict.is_unknown
    assert "memory" in verdict.reason


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX has them")
def test_ctrl_c_ends_a_judgement() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            linearizable(hard(), "key-value", timeout=100, memory_limit=1 << 34)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_others_run_while_the_judge_works() -> None:
    done = threading.Event()

    def judge() -> None:
        linearizable(hard(), "key-value", timeout=1.0, memory_limit=1 << 34)
        done.set()

    thread = threading.Thread(target=judge)
    thread.start()
    turns = 0
    while not done.is_set():
        turns += 1
    thread.join()
    assert turns > 1000


def test_more_operations_at_once_than_can_be_kept_apart_are_unknown() -> None:
    rows = [Operation(n, "write", n % 7, start=n, end=9000 + n) for n in range(2000)]
    verdict = linearizable(rows)
    assert verdict.is_unknown
    assert "2000 operations" in verdict.reason


# ── Recording ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_recorder_writes_down_what_became_of_each() -> None:
    clock = itertools.count()
    recorder = check.Recorder(clock=lambda: next(clock), failures=(PermissionError,))
    with recorder.operation("a", "put", key="k", value=1):
        pass
    with recorder.operation("a", "get", key="k") as recording:
        recording.ok(1)
    with pytest.raises(PermissionError), recorder.operation("a", "put", key="k", value=2):
        raise PermissionError
    with pytest.raises(TimeoutError), recorder.operation("a", "put", key="k", value=3):
        raise TimeoutError
    late = recorder.operation("b", "get", key="k")
    late.__enter__()
    late.ok(3)
    late.__exit__(OSError, OSError("after the answer"), None)
    with recorder.operation("c", "get", key="k") as recording:
        recording.fail()
    with recorder.operation("c", "get", key="k") as recording:
        recording.unknown()
        with pytest.raises(coterie.StoppedError, match="ended already"):
            recording.ok(1)
    with recorder.operation("d", "put", key="k", value=4) as recording:
        under_way = recorder.history()
        with pytest.raises(coterie.StoppedError, match="begun already"), recording:
            pass
    with pytest.raises(coterie.StoppedError, match="not begun"):
        recorder.operation("d", "get").ok()
    assert under_way[-1].outcome == "unknown"
    history = recorder.history()
    assert [it.outcome for it in history] == ["ok", "ok", "fail", "unknown", "ok", "fail", "unknown", "ok"]
    assert [(it.start, it.end) for it in history][:3] == [(0, 1), (2, 3), (4, 5)]
    assert history[3].end is None
    assert linearizable(history, "key-value").is_linearizable
    assert repr(recorder) == "Recorder(8 operations)"


def test_threads_share_a_recorder() -> None:
    recorder = check.Recorder()
    register: list[Any] = [None]
    lock = threading.Lock()

    def client(name: int) -> None:
        for number in range(50):
            with recorder.operation(name, "write", value=(name, number)), lock:
                register[0] = (name, number)
            with recorder.operation(name, "read") as recording:
                recording.ok(register[0])

    threads = [threading.Thread(target=client, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(recorder) == 400
    assert linearizable(recorder.history()).is_linearizable


# ── Histories of others, and our own ────────────────────────────────────────────────────────────────────────────


def test_public_histories_are_judged_as_others_have_judged_them() -> None:
    if not PUBLIC.is_dir():
        pytest.skip("looked at no public history: the acceptance data are not there (COTERIE_HISTORIES)")
    judged = 0
    with (PUBLIC / "VERDICTS.csv").open(encoding="utf-8") as table:
        for row in csv.DictReader(table):
            verdict = linearizable(History.from_jepsen(PUBLIC / row["file"]), "cas-register")
            assert verdict.is_linearizable == (row["linearizable"] == "true"), row["file"]
            if verdict.is_violation:
                assert linearizable(verdict.conflict, "cas-register").is_violation
            judged += 1
    assert judged > 40


def recorded() -> Iterable[Path]:
    return sorted(HISTORIES.glob("*.jsonl"))


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.stem)
def test_our_own_histories_are_judged_as_their_names_say(path: Path) -> None:
    # MODEL-WHAT-VERDICT.jsonl
    *words, expected = path.stem.split("_")
    verdict = linearizable(History.from_json(path), words[0])
    assert verdict.outcome == expected
    if verdict.is_violation:
        assert len(verdict.conflict) <= 12


def test_the_guard_sees_our_own_histories() -> None:
    assert len(list(recorded())) >= 8
