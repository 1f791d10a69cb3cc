"""`ConsistentHash` and its kin: rules, keys, nodes, refusals, threads and processes."""

from __future__ import annotations

import copy
import doctest
import gc
import hashlib
import json
import multiprocessing
import os
import pickle
import sys
import threading
import weakref
from bisect import bisect_left
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import coterie
from coterie import ConfigError, ConsistentHash, CoterieError, EmptyRingError, RequestError, _coterie
from coterie.ring import Anchor, BoundedLoad, Jump, Ketama, Maglev, Rendezvous, Ring

DATA = Path(__file__).parent.parent / "data"
COLOURS = ["red", "green", "blue"]


def number(text: bytes) -> int:
    return int.from_bytes(hashlib.md5(text, usedforsecurity=False).digest(), "big")


class Naive:
    """The rules of `ConsistentHash` in the plainest Python."""

    def __init__(self, nodes: dict[str, float], replicas: int) -> None:
        self.points = sorted(
            (number(f"{node}{i}".encode()), node)
            for node, weight in nodes.items()
            for i in range(max(1, round(replicas * weight)))
        )

    def get(self, key: str | bytes | int) -> str:
        data = key if isinstance(key, bytes) else str(key).encode()
        at = bisect_left(self.points, (number(data),))
        return self.points[at % len(self.points)][1]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
keys = st.one_of(texts, st.binary(max_size=70), st.integers(), st.integers(-(2**70), 2**70))
weights = st.dictionaries(texts, st.floats(0.01, 4), min_size=1, max_size=8)


@given(weights, st.integers(1, 40), st.lists(keys, max_size=60))
def test_places_keys_by_the_published_rules(nodes: dict[str, float], replicas: int, asked: list[Any]) -> None:
    ring, naive = ConsistentHash(nodes, replicas=replicas), Naive(nodes, replicas)
    expected = [naive.get(key) for key in asked]
    assert [ring.get(key) for key in asked] == expected
    assert ring.get_many(asked) == expected


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=25))
def test_changes_lead_where_building_leads(changes: list[tuple[bool, int]]) -> None:
    ring: ConsistentHash[str] = ConsistentHash([], replicas=12)
    for add, which in changes:
        node = "1" * (which + 1)
        if add != (node in ring):
            (ring.add_node if add else ring.remove_node)(node)
    if len(ring):
        asked = [str(i) for i in range(100)]
        naive = Naive(dict.fromkeys(ring, 1), 12)
        assert ring.get_many(asked) == [naive.get(key) for key in asked]


def test_a_shared_point_belongs_to_the_smaller_name() -> None:
    ring = ConsistentHash(["10.0.0.11", "10.0.0.1"], replicas=12)
    assert ring.get("10.0.0.111") == "10.0.0.1"
    ring.remove_node("10.0.0.1")
    assert ring.get("10.0.0.111") == "10.0.0.11"


def test_xxh3_hashes_the_same_texts() -> None:
    xxhash = pytest.importorskip("xxhash")
    points = sorted(
        (xxhash.xxh3_64_intdigest(f"{node}{i}".encode()), node) for node in COLOURS for i in range(128)
    )
    ring = ConsistentHash(COLOURS, hash="xxh3")
    for key in map(str, range(1000)):
        at = bisect_left(points, (xxhash.xxh3_64_intdigest(key.encode()),))
        assert ring.get(key) == points[at % len(points)][1]


def test_ketama_agrees_with_libmemcached() -> None:
    vectors = json.loads((DATA / "ketama_libmemcached.json").read_text())
    seen = 0
    for name, vector in vectors.items():
        if "/" not in name:
            continue
        servers = [server.split(":") for server in vector["servers"]]
        given_weights = [int(server[2]) for server in servers] if len(servers[0]) == 3 else None
        nodes = [":".join(server[:2]) for server in servers]
        ring = Ketama(nodes, weights=given_weights, variant=name.split("/")[1])
        owners = ring.get_many_indices([f"key{i}" for i in range(2000)])
        assert hashlib.sha256(",".join(map(str, owners)).encode()).hexdigest() == vector["sha256_of_csv"], (
            name
        )
        seen += 1
    assert seen == 18


def test_jump_agrees_with_the_published_values() -> None:
    vectors = json.loads((DATA / "jump.json").read_text())
    for key, buckets, bucket in vectors["published"]:
        ring = Jump(range(buckets))
        assert ring.get(key) == ring.get(key + 2**64) == bucket
        assert ring.get_many(np.array([key], np.uint64)) == [bucket]
    assert Jump(range(1000)).get(-1) == Jump(range(1000)).get(2**64 - 1)


# Keys


@pytest.mark.parametrize("make", [ConsistentHash, Ketama, Rendezvous, Maglev, Anchor, BoundedLoad])
@pytest.mark.parametrize("value", [0, 7, -1, 2**63 - 1, -(2**63), 2**63, 2**64, -(10**30), 10**200])
def test_an_integer_is_its_decimal_text(make: Any, value: int) -> None:
    ring = make(range(50))
    text = str(value)
    assert ring.get(value) == ring.get(text) == ring.get(text.encode())
    assert ring.get_many([value, text, text.encode(), value]) == [ring.get(value)] * 4
    assert ring.get_n(value, 3) == ring.get_n(text, 3)


def test_keys_of_many_types_agree() -> None:
    ring = ConsistentHash(range(50))
    assert ring.get(True) == ring.get(1)
    assert ring.get(np.int8(-5)) == ring.get(np.int64(-5)) == ring.get(-5)
    assert ring.get(np.uint64(2**64 - 1)) == ring.get(2**64 - 1)
    assert (
        ring.get(np.str_("é")) == ring.get("é") == ring.get("é".encode()) == ring.get(np.bytes_("é".encode()))
    )
    assert ring.get("") == ring.get(b"")
    assert ring.get("a\0b") == ring.get(b"a\0b")


@pytest.mark.parametrize(
    "dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i8", ">u2", "<i4", "?", "O"]
)
def test_arrays_of_integers_are_lists_of_integers(dtype: str) -> None:
    array = np.array([0, 1, 5, 100, 127], dtype)
    ring = ConsistentHash(range(50))
    assert ring.get_many(array) == ring.get_many(array.tolist())
    assert ring.get_many(array[::-2]) == ring.get_many(array.tolist()[::-2])


def test_unsigned_integers_keep_their_top_bit() -> None:
    ring = ConsistentHash(range(50))
    assert ring.get_many(np.array([2**64 - 1, 3], np.uint64)) == [ring.get(str(2**64 - 1)), ring.get(3)]


@pytest.mark.parametrize(
    "strings", [["a", "", "straße", "日本語", "🙂", "long" * 30], ["plain"], [], ["a\0b", "c"]]
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_of_strings_are_lists_of_strings(strings: list[str], order: str) -> None:
    ring = ConsistentHash(range(50))
    unicode = np.array(strings, dtype=f"{order}U140")
    encoded = np.array([text.encode() for text in strings], dtype="S140")
    expected = ring.get_many(strings)
    assert (
        ring.get_many(unicode)
        == ring.get_many(encoded)
        == ring.get_many(np.array(strings, object))
        == expected
    )
    assert ring.get_many(unicode[::-1]) == expected[::-1]


def test_any_iterable_of_keys_will_do() -> None:
    ring = ConsistentHash(COLOURS)
    expected = [ring.get(key) for key in range(9)]
    for iterable in (
        range(9),
        iter(range(9)),
        (i for i in range(9)),
        tuple(range(9)),
        dict.fromkeys(range(9)),
    ):
        assert ring.get_many(iterable) == expected
    assert ring.get_many(memoryview(b"\x01\x02")) == expected[1:3]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (1.5, "float"),
        (None, "NoneType"),
        ([], "list"),
        (bytearray(b"a"), "bytearray"),
        (np.float64(1), "float64"),
    ],
)
def test_other_keys_are_refused(key: Any, kind: str) -> None:
    for make in (ConsistentHash, Jump, BoundedLoad):
        ring = make(COLOURS)
        for ask in (
            ring.get,
            lambda key, ring=ring: ring.get_n(key, 1),
            lambda key, ring=ring: ring.get_many(["a", key]),
        ):
            with pytest.raises(TypeError, match=f"a key is str, bytes or int, not {kind}"):
                ask(key)


def test_one_key_is_not_several() -> None:
    ring = ConsistentHash(COLOURS)
    for key in ("key", b"key"):
        with pytest.raises(TypeError, match="for one key call get"):
            ring.get_many(key)
    with pytest.raises(TypeError, match="not iterable"):
        ring.get_many(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="2 dimensions"):
        ring.get_many(np.zeros((2, 2), int))
    with pytest.raises(TypeError, match="not float"):
        ring.get_many(np.zeros(2))


def test_a_surrogate_has_no_utf8() -> None:
    ring = ConsistentHash(COLOURS)
    for ask in (ring.get, lambda key: ring.get_many([key]), lambda key: ring.get_many(np.array([key]))):
        with pytest.raises(UnicodeEncodeError):
            ask("\udc80")


def test_without_numpy_indices_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ModuleNotFoundError, match="pip install numpy, or call get_many"):
        ConsistentHash(COLOURS).get_many_indices(["a"])


# Nodes


def test_nodes_are_a_set_whatever_was_given() -> None:
    for nodes in (COLOURS, tuple(COLOURS), set(COLOURS), dict.fromkeys(COLOURS, 2), iter(COLOURS)):
        ring = ConsistentHash(nodes)
        assert ring.nodes == set(COLOURS)
        assert type(ring.nodes) is set
    ring.nodes.clear()
    assert len(ring) == 3


def test_nodes_may_be_any_objects_with_a_text() -> None:
    node = Fraction(1, 3)
    ring = ConsistentHash([node, 7, ("a", 1)])
    assert ring.get("key") in ring
    assert any(ring.get(key) is node for key in range(100))
    assert Fraction(2, 6) in ring
    assert [] not in ring


def test_a_name_decides_the_place() -> None:
    servers = [{"host": "a"}, {"host": "b"}]
    with pytest.raises(TypeError, match="unhashable"):
        ConsistentHash(servers)  # type: ignore[type-var]
    ring = ConsistentHash([("a", 1), ("b", 2)], name=lambda server: server[0])
    assert [node[0] for node in ring.get_many(range(50))] == ConsistentHash(["a", "b"]).get_many(range(50))


class Nameless:
    pass


def test_texts_that_differ_from_process_to_process_are_refused() -> None:
    with pytest.raises(ConfigError, match="object's default text"):
        ConsistentHash([Nameless()])
    with pytest.raises(ConfigError, match="object's default text"):
        ConsistentHash([Nameless()], name=repr)
    with pytest.raises(ConfigError, match="is int, not str"):
        ConsistentHash([1], name=lambda node: node)  # type: ignore[arg-type,return-value]
    with pytest.raises(ConfigError, match="two nodes are named '1'"):
        ConsistentHash([1, "1"])


@pytest.mark.parametrize(
    "refused",
    [
        lambda: ConsistentHash(COLOURS, replicas=0),
        lambda: ConsistentHash(COLOURS, replicas=2**26 + 1),
        lambda: ConsistentHash(COLOURS, replicas=2**25),
        lambda: ConsistentHash(COLOURS, hash="sha1"),
        lambda: ConsistentHash({"a": 0}),
        lambda: ConsistentHash({"a": -1}),
        lambda: ConsistentHash({"a": float("nan")}),
        lambda: ConsistentHash({"a": float("inf")}),
        lambda: ConsistentHash({"a": 10**400}),
        lambda: ConsistentHash({"a": 1}, weights={"a": 1}),
        lambda: ConsistentHash(["a"], weights={"b": 1}),
        lambda: ConsistentHash(["a"], weights=[1, 2]),
        lambda: ConsistentHash({"a"} | {"b"}, weights=[1, 2]),
        lambda: Ketama(COLOURS, variant="nginx"),
        lambda: Maglev(COLOURS, table_size=100),
        lambda: Maglev(COLOURS, table_size=3),
        lambda: Anchor(COLOURS, capacity=2),
        lambda: Anchor(COLOURS, capacity=0),
        lambda: BoundedLoad(COLOURS, epsilon=0),
        lambda: BoundedLoad(COLOURS, epsilon=float("nan")),
    ],
)
def test_wrong_settings_are_refused(refused: Any) -> None:
    with pytest.raises(ConfigError):
        refused()


def test_refusals_name_the_choices() -> None:
    with pytest.raises(ConfigError, match="'md5', 'xxh3'"):
        ConsistentHash([], hash="sha1")
    with pytest.raises(TypeError, match="put it into a list"):
        ConsistentHash("nodes")
    with pytest.raises(TypeError, match="build one of its subclasses"):
        Ring()
    with pytest.raises(TypeError, match="a function from a node to its name"):
        ConsistentHash([], name="host")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ConsistentHash([], replicas=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="other is a ring"):
        ConsistentHash([]).moved(["a"])  # type: ignore[arg-type]


def test_a_refused_change_changes_nothing() -> None:
    ring = ConsistentHash(COLOURS)
    answers = ring.get_many(range(500))
    for change in (
        lambda: ring.add_node("red"),
        lambda: ring.add_node("black", weight=0),
        lambda: ring.add_node("black", weight=1e300),
        lambda: ring.add_node(Nameless()),  # type: ignore[arg-type]
        lambda: ring.remove_node("black"),
    ):
        with pytest.raises(CoterieError):
            change()
    assert (list(ring), ring.get_many(range(500))) == (COLOURS, answers)


def test_a_full_anchor_says_so() -> None:
    ring = Anchor(["a"], capacity=2)
    ring.add_node("b")
    with pytest.raises(ConfigError, match="its capacity is 2 nodes"):
        ring.add_node("c")


def test_weights_mean_points() -> None:
    ring = ConsistentHash(["a"], weights={"a": 2})
    ring.add_node("b", weight=0.5)
    assert ring.weights == {"a": 2, "b": 0.5}
    naive = Naive({"a": 2, "b": 0.5}, 128)
    assert ring.get_many(range(500)) == [naive.get(key) for key in range(500)]


@pytest.mark.parametrize(
    ("ring", "text"),
    [
        (ConsistentHash(COLOURS), "ConsistentHash(3 nodes, replicas=128, hash='md5')"),
        (ConsistentHash(["a"], replicas=3, hash="xxh3"), "ConsistentHash(1 node, replicas=3, hash='xxh3')"),
        (Jump([]), "Jump(0 nodes)"),
        (Maglev(COLOURS), "Maglev(3 nodes, table_size=65537)"),
        (Anchor(COLOURS), "Anchor(3 nodes, capacity=16)"),
        (Ketama(COLOURS), "Ketama(3 nodes, variant='ketama')"),
        (BoundedLoad(COLOURS), "BoundedLoad(3 nodes, epsilon=0.25, replicas=128, hash='md5')"),
    ],
)
def test_a_ring_prints_itself(ring: Ring[str], text: str) -> None:
    assert repr(ring) == text


# Loads


def test_loads_count_what_was_acquired() -> None:
    ring = BoundedLoad(COLOURS)
    placed = [ring.acquire(key) for key in range(300)]
    assert ring.loads == {node: placed.count(node) for node in COLOURS}
    assert max(ring.loads.values()) <= 125
    for twin in (pickle.loads(pickle.dumps(ring)), copy.copy(ring)):
        assert twin.loads == ring.loads
        assert [twin.acquire(key) for key in range(50)] == [
            ring.copy().acquire(0),
            *map(twin_of(ring), range(1, 50)),
        ]
    for node in placed:
        ring.release(node)
    assert set(ring.loads.values()) == {0}
    with pytest.raises(RequestError, match="holds nothing to release"):
        ring.release("red")
    with pytest.raises(KeyError, match="black"):
        ring.release("black")
    with pytest.raises(EmptyRingError):
        BoundedLoad([]).acquire("key")


def twin_of(ring: BoundedLoad[str]) -> Any:
    """Acquires on a copy that has seen key 0."""
    twin = ring.copy()
    twin.acquire(0)
    return twin.acquire


def test_acquire_is_counted_once_from_many_threads() -> None:
    ring = BoundedLoad(COLOURS)

    def work() -> None:
        for key in range(2000):
            ring.acquire(key)

    run_all([work] * 4)
    assert sum(ring.loads.values()) == 8000
    assert max(ring.loads.values()) <= 1.25 * 8000 / 3 + 1


# Threads and processes


def run_all(bodies: list[Any]) -> None:
    failures: list[BaseException] = []

    def guarded(body: Any) -> None:
        try:
            body()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("make", [ConsistentHash, Maglev, Anchor, Rendezvous])
def test_a_lookup_sees_the_old_ring_or_the_new_one(make: Any) -> None:
    asked = [f"key-{i}" for i in range(20_000)]
    ring = make(COLOURS)
    without = ring.get_many(asked)
    ring.add_node("black")
    among = ring.get_many(asked)
    assert without != among
    stop = threading.Event()
    seen: set[int] = set()

    def change() -> None:
        for _ in range(100_000):
            ring.remove_node("black")
            ring.add_node("black")
            if len(seen) == 2:
                break
        stop.set()

    def look() -> None:
        while not stop.is_set():
            answer = ring.get_many(asked)
            assert answer in (without, among)
            seen.add(len(set(answer)))
            assert ring.get("key-0") in (without[0], among[0])

    run_all([change, look, look])
    assert seen == {3, 4}, "both rings were seen, each whole"


def test_changes_from_many_threads_all_happen() -> None:
    ring: ConsistentHash[str] = ConsistentHash([])

    def add(first: int) -> Any:
        def body() -> None:
            for i in range(40):
                ring.add_node(f"node-{first + i}")

        return body

    run_all([add(first) for first in range(0, 160, 40)])
    assert ring.nodes == {f"node-{i}" for i in range(160)}
    assert ring.get_many(range(500)) == ConsistentHash(ring.nodes).get_many(range(500))


def test_keys_may_change_while_they_are_looked_up() -> None:
    ring = ConsistentHash(COLOURS)
    asked = [f"key-{i}" for i in range(50_000)]
    expected = ring.get_many(asked)
    stop = threading.Event()

    def shuffle() -> None:
        while not stop.is_set():
            asked.reverse()

    def look() -> None:
        try:
            for _ in range(20):
                assert len(ring.get_many(asked)) == len(expected)
        finally:
            stop.set()

    run_all([shuffle, look])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_looks_up_large_batches() -> None:
    ring = ConsistentHash(COLOURS)
    asked = [f"key-{i}" for i in range(50_000)]
    expected = ring.get_many(asked)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(ring.get_many(asked) == expected))
    child.start()
    assert receiver.poll(30), "the child hangs"
    assert receiver.recv() is True
    child.join()


def test_a_ring_in_a_cycle_is_collected() -> None:
    class Owner:
        def __str__(self) -> str:
            return "owner"

    owner = Owner()
    owner.ring = ConsistentHash([owner])  # type: ignore[attr-defined]
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


def test_a_subclass_keeps_its_own_attributes() -> None:
    ring = Tagged(COLOURS)
    ring.tag = "kept"
    for twin in (copy.copy(ring), pickle.loads(pickle.dumps(ring))):
        assert (type(twin), twin.tag, twin.get("key")) == (Tagged, "kept", ring.get("key"))
    assert repr(ring).startswith("Tagged(3 nodes")


class Tagged(ConsistentHash[str]):
    tag = "none"


@settings(max_examples=30)
@given(st.sets(texts, min_size=1, max_size=12), st.lists(keys, min_size=1, max_size=30))
def test_every_ring_survives_pickling(nodes: set[str], asked: list[Any]) -> None:
    for make in (ConsistentHash, Jump, Rendezvous, Maglev, Anchor, BoundedLoad):
        ring: Ring[str] = make(nodes)
        assert pickle.loads(pickle.dumps(ring)).get_many(asked) == ring.get_many(asked)


def test_what_the_compiled_class_documents_is_true() -> None:
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for name in ("get", "get_n", "get_many", "get_many_indices"):
        for test in finder.find(vars(_coterie.Ring)[name], name, globs={}):
            runner.run(test)
    results = runner.summarize()
    assert results.attempted > 15
    assert results.failed == 0


def test_what_the_module_documents_is_true() -> None:
    results = doctest.testmod(coterie.ring)
    assert results.attempted > 50
    assert results.failed == 0


def test_long_keys_and_short_ones_are_the_same_in_a_batch() -> None:
    ring = ConsistentHash(COLOURS)
    keys: list[str | bytes | int] = ["é" * n for n in (0, 1, 100, 127, 128, 129, 5_000)]
    keys += [b"x" * n for n in (0, 255, 256, 257, 70_000)]
    keys += [10**n for n in (0, 18, 19, 255, 256, 4_000)]
    keys *= 50
    assert ring.get_many(keys) == [ring.get(key) for key in keys]
    assert ring.get_many(iter(keys)) == ring.get_many(tuple(keys)) == ring.get_many(keys)


def test_a_list_may_change_while_it_is_read() -> None:
    ring = ConsistentHash(COLOURS)

    class Index:
        def __index__(self) -> int:
            keys.clear()
            return 7

    keys: list[Any] = ["a" * 300, Index(), *map(str, range(1_000))]
    assert ring.get_many(keys) == [ring.get("a" * 300), ring.get(7)]
