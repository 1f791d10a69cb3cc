"""What a user of ``coterie.balance`` may rely on."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import json
import logging
import os
import pickle
import signal
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import coterie
from coterie import balance, ring
from coterie.balance import (
    Balancer,
    Hashed,
    Healthy,
    LeastConnections,
    PeakEwma,
    PowerOfTwoChoices,
    Random,
    RoundRobin,
    Trusted,
    WeightedRandom,
    WeightedRoundRobin,
)

VECTORS = Path(__file__).parents[1] / "data" / "lb_oracles.json"
POLICIES: list[Callable[..., Balancer[Any]]] = [
    RoundRobin,
    WeightedRoundRobin,
    Random,
    WeightedRandom,
    LeastConnections,
    PowerOfTwoChoices,
    PeakEwma,
]
WEIGHTED = [WeightedRoundRobin, WeightedRandom, LeastConnections, PowerOfTwoChoices, PeakEwma]
SEEDED = [Random, WeightedRandom, PowerOfTwoChoices, PeakEwma]
WRAPPERS: list[Callable[[Balancer[Any]], Balancer[Any]]] = [
    lambda below: below,
    Healthy,
    lambda below: Trusted(below, require={}, labels=lambda _: {}),
    lambda below: Healthy(Trusted(below, require={}, labels=lambda _: {})),
    lambda below: Trusted(Healthy(below), require={}, labels=lambda _: {}),
]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("weights", "sequence"), json.loads(VECTORS.read_text())["nginx_wrr"].items())
def test_weighted_round_robin_is_nginx_s_sequence(weights: str, sequence: str) -> None:
    backends = dict(zip("abcdefgh", map(int, weights.split(",")), strict=False))
    balancer = WeightedRoundRobin(backends)
    assert "".join(balancer.pick() for _ in sequence) == sequence


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_every_policy_works_behind_every_stack_of_layers(policy: Any, wrap: Any) -> None:
    balancer = wrap(policy(["a", "b", "c"]))
    for _ in range(30):
        balancer.done(balancer.pick(), 0.01)
    stats = balancer.stats()
    assert set(stats.backends) == {"a", "b", "c"}
    assert (stats.picks, stats.failures, stats.in_flight) == (30, 0, 0)
    assert len(balancer) == 3
    assert "a" in balancer
    assert "d" not in balancer
    balancer.add("d")
    assert list(balancer) == ["a", "b", "c", "d"]
    balancer.remove("a")
    assert "a" not in {balancer.pick() for _ in range(100)}


@pytest.mark.parametrize("policy", POLICIES)
def test_an_empty_balancer_says_what_to_do(policy: Any) -> None:
    with pytest.raises(coterie.NoBackendError, match=r"add\(\)") as caught:
        policy([]).pick()
    assert caught.value.reasons == {}


@pytest.mark.parametrize("policy", POLICIES)
@given(
    requests=st.lists(st.sampled_from(["pick", "done", "fail", "add", "remove"]), max_size=60),
    layered=st.booleans(),
)
def test_the_books_balance(policy: Any, requests: list[str], layered: bool) -> None:
    balancer: Balancer[int] = policy([0])
    if layered:
        balancer = Healthy(balancer, slow_start=1.0)
    serving, open_requests, born = [0], [], 1
    for request in requests:
        if request == "pick" and serving:
            backend = balancer.pick()
            assert backend in serving
            open_requests.append(backend)
        elif request in ("done", "fail") and open_requests:
            balancer.done(open_requests.pop(0), 0.01, ok=request == "done")
        elif request == "add":
            balancer.add(born)
            serving.append(born)
            born += 1
        elif request == "remove" and serving:
            balancer.remove(serving.pop(0))
        stats = balancer.stats()
        assert {
            backend: seen.in_flight for backend, seen in stats.backends.items() if seen.in_flight
        } == Counter(open_requests)
        assert sorted(balancer) == serving


@pytest.mark.parametrize("policy", SEEDED)
def test_a_seed_decides_every_draw(policy: Any) -> None:
    def draws(seed: int | None) -> list[int]:
        balancer = policy(range(50), seed=seed)
        return [balancer.pick() for _ in range(40)]

    assert draws(5) == draws(5)
    assert draws(5) != draws(6)
    assert draws(None) != draws(None)
    assert draws(-1) == draws(2**64 - 1)


@pytest.mark.parametrize("policy", WEIGHTED)
def test_weights_come_as_a_mapping_a_sequence_or_beside(policy: Any) -> None:
    for balancer in (
        policy({"a": 3, "b": 1.5}),
        policy(["a", "b"], weights=[3, 1.5]),
        policy(["a", "b"], weights={"a": 3, "b": 1.5}),
    ):
        assert {backend: seen.weight for backend, seen in balancer.stats().backends.items()} == {
            "a": 3,
            "b": 1.5,
        }


@pytest.mark.parametrize("policy", WEIGHTED)
@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), "1", None, 1e300, 1e-300])
def test_a_bad_weight_changes_nothing(policy: Any, weight: Any) -> None:
    balancer = policy(["a"])
    with pytest.raises(coterie.ConfigError, match="weight"):
        balancer.add("b", weight)
    with pytest.raises(coterie.ConfigError, match="weight"):
        balancer.set_weight("a", weight)
    assert list(balancer) == ["a"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RoundRobin(["a", "a"]), "here already"),
        (lambda: WeightedRandom({"a": 1}, weights=[1]), "one of the two"),
        (lambda: WeightedRandom(["a"], weights=[1, 2]), "2 weights for 1"),
        (lambda: WeightedRandom(["a"], weights={"b": 1}), "'b'"),
        (lambda: RoundRobin(["a"]).add("b", 2), "no weights"),
        (lambda: RoundRobin(["a"]).set_weight("a", 2), "no weights"),
        (lambda: RoundRobin(["a"]).add("b", labels={}), "Trusted"),
        (lambda: PeakEwma(["a"], decay=0), "decay"),
        (lambda: PeakEwma(["a"], penalty=float("nan")), "penalty"),
        (lambda: Healthy(RoundRobin(), window=0), "window"),
        (lambda: Healthy(RoundRobin(), ejected_max=1.5), "ejected_max"),
        (lambda: Healthy(RoundRobin(), consecutive_failures=-1), "consecutive_failures"),
        (lambda: Healthy(RoundRobin(), slow_start=float("inf")), "slow_start"),
        (lambda: RoundRobin(["a"]).lease(timeout=0), "timeout"),
        (lambda: RoundRobin(["a"]).lease(timeout="x"), "timeout"),
        (lambda: RoundRobin(["a"], clock=5), "clock"),
        (lambda: Random(["a"], seed="x"), "seed"),
        (lambda: PeakEwma(["a"], decay=1e-9), "microsecond"),
        (lambda: PeakEwma(["a"], decay="x"), "decay"),
        (lambda: Healthy(RoundRobin(), consecutive_failures=1.5), "consecutive_failures"),
        (lambda: Trusted(RoundRobin(), require=["tls"]), "require"),
        (lambda: WeightedRandom({"a", "b"}, weights=[1, 2]), "a set has no order"),
        (lambda: WeightedRandom(["a"], weights=5), "weights is 5"),
        (lambda: ring.ConsistentHash(["a"], weights=5), "weights is 5"),
        (lambda: RoundRobin(["a"], clock=lambda: float("inf")), "the clock says inf"),
        (lambda: RoundRobin(["a"]).done("a", -1.0), "latency"),
        (lambda: RoundRobin(["a"]).done("a", float("nan")), "latency"),
        (lambda: Healthy(RoundRobin(clock=Clock()), clock=Clock()), "clock of its own"),
    ],
)
def test_a_wrong_setting_is_a_config_error(make: Callable[[], object], words: str) -> None:
    with pytest.raises(coterie.ConfigError, match=words.replace("(", r"\(")):
        make()


def test_an_unknown_backend_is_named() -> None:
    balancer = LeastConnections(["a"])
    for call in (
        lambda: balancer.done("b", 0.1),
        lambda: balancer.remove("b"),
        lambda: balancer.set_weight("b", 2),
    ):
        with pytest.raises(coterie.UnknownNodeError, match="no backend 'b'") as caught:
            call()
        assert caught.value.node == "b"


def test_an_equal_backend_is_the_same_backend() -> None:
    balancer = LeastConnections([("10.0.0.1", 80)])
    balancer.pick()
    balancer.done(tuple(["10.0.0.1", 80]), 0.1)
    assert balancer.stats().in_flight == 0
    with pytest.raises(coterie.ConfigError, match="here already"):
        balancer.add(tuple(["10.0.0.1", 80]))


def test_an_unhashable_backend_is_refused_before_anything_changes() -> None:
    balancer: Balancer[Any] = RoundRobin(["a"])
    with pytest.raises(TypeError, match="unhashable"):
        balancer.add(["b"])
    assert list(balancer) == ["a"]


@pytest.mark.parametrize("policy", POLICIES)
def test_done_without_pick_never_makes_a_load_negative(policy: Any) -> None:
    balancer = policy(["a", "b"])
    for _ in range(5):
        balancer.done("a", 0.01)
    assert balancer.stats().in_flight == 0
    balancer.pick()
    assert balancer.pick() in ("a", "b")


def test_a_draining_backend_may_be_added_again() -> None:
    balancer = RoundRobin(["a"])
    assert balancer.pick() == "a"
    balancer.remove("a")
    with pytest.raises(coterie.NoBackendError) as caught:
        balancer.pick()
    assert caught.value.reasons == {"a": "draining: it was removed"}
    balancer.add("a")
    assert balancer.pick() == "a"
    assert balancer.stats().in_flight == 2


def test_removal_at_once_forgets_open_requests() -> None:
    balancer = LeastConnections(["a", "b"])
    lease = balancer.lease()
    balancer.remove(lease.backend, drain=False)
    assert list(balancer.stats().backends) == ["b"]
    assert not lease.close()


def test_many_backends_come_and_go() -> None:
    balancer = LeastConnections(range(100))
    for born in range(100, 400):
        balancer.remove(born - 100)
        balancer.add(born)
        picked = balancer.pick()
        balancer.done(picked, 0.01)
        assert born - 100 < picked <= born
    assert list(balancer) == list(range(300, 400)), "in the order in which they came"


# --- placed by key ----------------------------------------------------------------------------------------------

RINGS: list[Callable[..., ring.Ring[Any]]] = [
    ring.ConsistentHash,
    ring.Ketama,
    ring.Jump,
    ring.Rendezvous,
    ring.Maglev,
    ring.Anchor,
]
NODES = [f"10.0.0.{number}:80" for number in range(1, 7)]


@pytest.mark.parametrize("kind", RINGS)
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_hashed_sends_a_key_to_its_owner(kind: Any, wrap: Any) -> None:
    placed = kind(NODES)
    balancer = wrap(Hashed(placed))
    keys: list[Any] = [f"user:{number}" for number in range(200)] + [b"bytes", 7, -1, 2**70]
    assert [balancer.pick(key) for key in keys] == placed.get_many(keys)


@pytest.mark.parametrize("kind", RINGS)
def test_only_the_keys_of_an_ejected_backend_move(kind: Any) -> None:
    placed = kind(NODES)
    balancer = Healthy(Hashed(placed), consecutive_failures=1)
    keys = [f"user:{number}" for number in range(300)]
    owners = placed.get_many(keys)
    out = owners[0]
    balancer.done(out, 0.01, ok=False)
    moved = [balancer.pick(key) for key in keys]
    assert out not in moved
    assert [old for old, new in zip(owners, moved, strict=True) if old != new] == [
        old for old in owners if old == out
    ]
    expected = [next(node for node in placed.get_n(key, 6) if node != out) for key in keys]
    assert moved == expected


def test_the_ring_of_the_caller_and_that_of_the_balancer_are_two() -> None:
    placed = ring.ConsistentHash(NODES)
    balancer = Hashed(placed)
    placed.remove_node(NODES[0])
    assert set(balancer) == set(NODES)
    balancer.add("10.0.0.9:80", 2)
    assert "10.0.0.9:80" not in placed
    assert balancer.stats().backends["10.0.0.9:80"].weight == 2
    keys = [f"user:{number}" for number in range(500)]
    now = ring.ConsistentHash({**dict.fromkeys(NODES, 1), "10.0.0.9:80": 2})
    assert [balancer.pick(key) for key in keys] == now.get_many(keys)
    balancer.set_weight("10.0.0.9:80", 1)
    balancer.remove(NODES[1])
    now = ring.ConsistentHash([*NODES[:1], *NODES[2:], "10.0.0.9:80"])
    assert [balancer.pick(key) for key in keys] == now.get_many(keys)


def test_a_refused_change_of_a_ring_leaves_the_balancer_as_it_was() -> None:
    balancer = Hashed(ring.Jump(NODES))
    for change in (
        lambda: balancer.remove(NODES[0]),
        lambda: balancer.add("new", 2),
        lambda: balancer.set_weight(NODES[-1], 2),
        lambda: balancer.add(NODES[0]),
    ):
        with pytest.raises(coterie.ConfigError):
            change()
    keys = [f"user:{number}" for number in range(100)]
    assert [balancer.pick(key) for key in keys] == ring.Jump(NODES).get_many(keys)
    assert {seen.weight for seen in balancer.stats().backends.values()} == {1}


def test_a_request_without_a_key_is_refused() -> None:
    for balancer in (Hashed(ring.Maglev(NODES)), Healthy(Hashed(ring.BoundedLoad(NODES)))):
        with pytest.raises(TypeError, match="needs a key"):
            balancer.pick()
        with pytest.raises(TypeError, match="str, bytes or int"):
            balancer.pick(1.5)  # type: ignore[arg-type]
        assert balancer.stats().picks == 0


def test_bounded_load_passes_keys_on_until_done() -> None:
    balancer = Hashed(ring.BoundedLoad(NODES, epsilon=0.5))
    picked = Counter(balancer.pick("the one hot key") for _ in range(60))
    assert max(picked.values()) <= 15  # 1.5 times the average of 10
    assert set(picked) == set(NODES) or len(picked) >= 4
    for backend, count in picked.items():
        for _ in range(count):
            balancer.done(backend, 0.01)
    assert balancer.pick("the one hot key") == ring.BoundedLoad(NODES).get("the one hot key")


def test_bounded_loads_survive_a_change_of_the_backends() -> None:
    balancer = Hashed(ring.BoundedLoad(NODES, epsilon=0.5))
    for _ in range(60):
        balancer.pick("the one hot key")
    balancer.add("new")
    before = balancer.stats().backends
    picked = Counter(balancer.pick("the one hot key") for _ in range(10))
    for backend in NODES:
        assert before[backend].in_flight + picked[backend] <= -(-1.5 * 70 // 7)


# --- leases -----------------------------------------------------------------------------------------------------


def test_a_lease_counts_times_and_judges() -> None:
    clock = Clock()
    balancer = PeakEwma(["a"], clock=clock)
    with balancer.lease() as backend:
        assert backend == "a"
        assert balancer.stats().in_flight == 1
        clock.now += 0.25
    seen = balancer.stats().backends["a"]
    assert (seen.in_flight, seen.failures, seen.latency) == (0, 0, 0.25)


def test_an_exception_is_a_failure_and_passes_through() -> None:
    balancer = RoundRobin(["a"])
    with pytest.raises(ValueError, match="mine"), balancer.lease():
        raise ValueError("mine")
    assert balancer.stats().failures == 1


def test_the_end_of_a_task_is_not_the_backend_s_failure() -> None:
    async def main() -> None:
        balancer = LeastConnections(["a"])

        async def request() -> None:
            async with balancer.lease() as backend:
                assert backend == "a"
                await asyncio.sleep(60)

        task = asyncio.create_task(request())
        await asyncio.sleep(0)
        assert balancer.stats().in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stats = balancer.stats()
        assert (stats.in_flight, stats.failures) == (0, 0)

    asyncio.run(main())


def test_a_forgotten_lease_is_given_back_when_collected() -> None:
    balancer = LeastConnections(["a"])
    lease = balancer.lease()
    assert balancer.stats().in_flight == 1
    with pytest.warns(ResourceWarning, match="never closed"):
        del lease
        gc.collect()
    assert balancer.stats().in_flight == 0


def test_a_lease_that_is_kept_open_ends_by_its_time_out() -> None:
    clock = Clock()
    balancer = LeastConnections(["a"], clock=clock)
    lease = balancer.lease(timeout=30)
    clock.now = 29.0
    assert balancer.stats().in_flight == 1
    clock.now = 31.0
    assert balancer.stats().in_flight == 0
    assert not lease.close()
    assert balancer.stats().in_flight == 0


def test_a_refused_lease_was_never_begun() -> None:
    balancer: Balancer[str] = RoundRobin([])
    with pytest.raises(coterie.NoBackendError):
        balancer.lease()


# --- layers -----------------------------------------------------------------------------------------------------


def fail(balancer: Balancer[str], backend: str, times: int) -> None:
    for _ in range(times):
        balancer.done(backend, 0.001, ok=False)


def test_an_ejected_backend_comes_back_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "coterie")
    clock = Clock()
    balancer = Healthy(RoundRobin(list("abc")), consecutive_failures=3, ejection_time=10, clock=clock)
    fail(balancer, "b", 3)
    assert [(record.name, record.levelname) for record in caplog.records] == [("coterie.balance", "WARNING")]
    assert "ejected 'b'" in caplog.text
    assert "".join(balancer.pick() for _ in range(4)) == "acac"
    assert balancer.stats().backends["b"].reason == "ejected for another 10.0 s: 3 failures in a row"
    clock.now = 10.0
    assert {balancer.pick() for _ in range(3)} == set("abc")
    assert "'b' is back" in caplog.text


def test_a_prevented_ejection_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    balancer = Healthy(RoundRobin(list("abc")), consecutive_failures=1, ejected_max=0.1)
    fail(balancer, "a", 1)
    fail(balancer, "b", 1)
    assert balancer.stats().not_ejected == 1
    assert "did not eject 'b'" in caplog.text


def test_a_panic_is_shown_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    balancer = Healthy(RoundRobin(list("ab")), consecutive_failures=1, ejected_max=1.0, panic_threshold=0.6)
    fail(balancer, "a", 1)
    assert {balancer.pick(), balancer.pick()} == {"a", "b"}
    assert balancer.stats().panicking
    assert "panic: only 1 of 2" in caplog.text


def test_without_panic_the_error_says_why_each_was_passed_over() -> None:
    clock = Clock()
    balancer = Healthy(
        RoundRobin(list("ab")), consecutive_failures=1, ejected_max=1.0, panic_threshold=0, clock=clock
    )
    fail(balancer, "a", 1)
    fail(balancer, "b", 1)
    with pytest.raises(coterie.NoBackendError) as caught:
        balancer.pick()
    assert set(caught.value.reasons) == {"a", "b"}
    assert "1 failure in a row" in caught.value.reasons["a"]
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.reasons == caught.value.reasons
    assert str(again) == str(caught.value)


def test_the_layer_below_goes_on_by_itself() -> None:
    below = RoundRobin(list("ab"))
    balancer = Healthy(below, consecutive_failures=1)
    fail(balancer, "a", 1)
    assert {below.pick(), below.pick()} == {"a", "b"}
    assert balancer.stats().picks == 2
    assert balancer.below is below
    assert repr(balancer) == "Healthy(RoundRobin(2 backends))"


@pytest.mark.parametrize(
    ("require", "labels", "reason"),
    [
        ({"tls": True}, {"tls": False}, "label 'tls' is False, not True"),
        ({"tls": True}, {}, "label 'tls' is missing"),
        ({"zone": {"eu-1", "eu-2"}}, {"zone": "us"}, "not one of"),
        ({"load": lambda load: load < 3}, {"load": 7}, "which its rule refuses"),
        ({"tls": True}, None, "it has no labels"),
    ],
)
def test_a_backend_that_breaks_the_policy_is_refused_with_the_reason(
    require: dict[str, Any], labels: dict[str, Any] | None, reason: str
) -> None:
    balancer = Trusted(RoundRobin(["a"]), require=require, labels=lambda _: labels)
    with pytest.raises(coterie.NoBackendError) as caught:
        balancer.pick()
    assert reason in caught.value.reasons["a"]


def test_a_backend_added_below_is_not_trusted() -> None:
    below = RoundRobin(["a"])
    balancer = Trusted(below, require={"tls": True}, labels={"a": {"tls": True}})
    below.add("b")
    assert {balancer.pick() for _ in range(4)} == {"a"}
    balancer.add("c", labels={"tls": True})
    assert {balancer.pick() for _ in range(4)} == {"a", "c"}


def test_labels_reach_trusted_through_healthy() -> None:
    balancer = Healthy(Trusted(RoundRobin(), require={"tls": True}))
    balancer.add("a", labels={"tls": True})
    assert balancer.pick() == "a"


def test_labels_reach_every_trusted_layer() -> None:
    inner = Trusted(RoundRobin(), require={"tls": True})
    balancer = Healthy(Trusted(Healthy(inner), require={"zone": "eu"}))
    balancer.add("a", labels={"tls": True, "zone": "eu"})
    assert balancer.pick() == "a"
    balancer.label("a", {"tls": False, "zone": "eu"})
    with pytest.raises(coterie.NoBackendError, match="'tls' is False"):
        balancer.pick()
    with pytest.raises(coterie.ConfigError, match="Trusted"):
        RoundRobin(["a"]).label("a", {})


def test_a_backend_that_returns_is_judged_by_its_new_labels() -> None:
    balancer = Trusted(RoundRobin(["a"]), require={"tls": True}, labels={"a": {"tls": True}})
    assert balancer.pick() == "a"
    balancer.remove("a")
    balancer.below.add("a")
    with pytest.raises(coterie.NoBackendError, match="no labels"):
        balancer.pick()
    balancer.remove("a")
    balancer.add("a", labels={"tls": False})
    with pytest.raises(coterie.NoBackendError, match="'tls' is False"):
        balancer.pick()


def test_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    balancer = Healthy(RoundRobin(list("ab")), ejected_max=0.1, panic_threshold=0)
    for _ in range(1_000):
        balancer.done(balancer.pick(), 0.01, ok=False)
    assert len(caplog.records) <= 3
    assert balancer.stats().not_ejected == 1


def test_two_failing_backends_of_two_make_a_panic_by_default() -> None:
    balancer = Healthy(RoundRobin(list("ab")))
    for _ in range(20):
        balancer.done(balancer.pick(), 0.01, ok=False)
    assert {balancer.pick(), balancer.pick()} == {"a", "b"}
    assert balancer.stats().panicking


def test_a_warming_backend_gets_its_share_under_the_policy_s_own_seed() -> None:
    clock = Clock()
    for policy in SEEDED:
        balancer = Healthy(policy(list("abc"), seed=0), seed=0, slow_start=100, clock=clock)
        clock.now += 1.0
        balancer.add("w")
        clock.now += 50.0
        for _ in range(4_000):
            balancer.done(balancer.pick(), 0.01)
        # Half of a fourth; peak EWMA and two choices only come near it.
        assert 250 < balancer.stats().backends["w"].picks < 800, policy


def test_a_bound_method_is_the_same_clock_each_time() -> None:
    clock = Clock()
    Healthy(RoundRobin(["a"], clock=clock.__call__), clock=clock.__call__)


def test_a_clock_is_not_changed_under_a_lease() -> None:
    balancer = RoundRobin(["a"])
    with balancer.lease(), pytest.raises(coterie.ConfigError, match="lease"):
        Healthy(balancer, clock=Clock())
    assert balancer.stats().in_flight == 0


def test_a_second_attempt_goes_elsewhere() -> None:
    for policy in POLICIES:
        balancer = policy(list("abc"))
        first = balancer.pick()
        second = balancer.pick(exclude=[first])
        with balancer.lease(exclude=(first, second, "stranger")) as third:
            assert {first, second, third} == set("abc")
        with pytest.raises(coterie.NoBackendError, match="excluded by the request"):
            balancer.pick(exclude="abc"[:0] or list("abc"))
    with pytest.raises(TypeError, match="put it into a list"):
        RoundRobin(["a"]).pick(exclude="a")


def test_one_text_is_not_several_backends() -> None:
    with pytest.raises(TypeError, match="put it into a list"):
        RoundRobin("10.0.0.1:80")


def test_a_set_comes_in_the_order_of_its_texts() -> None:
    assert list(RoundRobin({"b", "c", "a"})) == ["a", "b", "c"]


def test_weights_may_be_any_numbers() -> None:
    weights = [np.int64(3), np.float32(0.5), Fraction(3, 2)]
    balancer = WeightedRoundRobin(list("abc"), weights=weights)
    assert [seen.weight for seen in balancer.stats().backends.values()] == [3.0, 0.5, 1.5]
    assert list(ring.ConsistentHash(list("abc"), weights=weights).weights.values()) == [3.0, 0.5, 1.5]
    with pytest.raises(coterie.ConfigError, match="weight of 'a'"):
        ring.ConsistentHash(["a"], weights=["2"])  # type: ignore[list-item]


def test_a_closed_lease_serves_nobody() -> None:
    balancer = RoundRobin(["a"])
    lease = balancer.lease()
    with lease:
        pass
    with pytest.raises(coterie.RequestError, match="take a new lease"):
        lease.__enter__()


def test_done_twice_does_not_end_another_request() -> None:
    balancer = LeastConnections(["a"])
    balancer.pick()
    balancer.remove("a", drain=False)
    balancer.add("a")
    balancer.done("a", 0.1)  # the request of before the removal
    balancer.pick()
    assert balancer.stats().in_flight == 1


# --- threads, processes, memory ---------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("wrap", WRAPPERS[:2])
def test_threads_share_a_balancer(policy: Any, wrap: Any) -> None:
    balancer = wrap(policy(range(8)))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for turn in range(2_000):
                if turn % 3:
                    balancer.done(balancer.pick(), 0.001)
                else:
                    with balancer.lease():
                        pass
        except BaseException as error:
            failures.append(error)

    def change() -> None:
        try:
            for born in range(100, 150):
                balancer.add(born)
                balancer.remove(born)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)] + [threading.Thread(target=change)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    stats = balancer.stats()
    assert stats.in_flight == 0
    assert set(stats.backends) == set(range(8))


@pytest.mark.parametrize("policy", [RoundRobin, LeastConnections])
def test_threads_add_and_remove_what_is_theirs(policy: Any) -> None:
    balancer = policy(["stays"])
    stop = threading.Event()

    def change(name: int) -> None:
        for turn in range(150):
            with contextlib.suppress(coterie.ConfigError):  # it still drains the request of five turns ago
                balancer.add((name, turn % 2))
            if turn % 5 == 0:
                balancer.pick()
            balancer.remove((name, turn % 2), drain=turn % 3 > 0)

    def serve(_: int) -> None:
        while not stop.is_set():
            with contextlib.suppress(coterie.UnknownNodeError):  # removed at once, meanwhile
                balancer.done(balancer.pick(), 0.001)

    with ThreadPoolExecutor(6) as threads:
        serving = [threads.submit(serve, name) for name in range(2)]
        changing = [threads.submit(change, name) for name in range(4)]
        try:
            for work in changing:
                work.result()
        finally:
            stop.set()
        for work in serving:
            work.result()
    assert {balancer.pick() for _ in range(50)} <= {"stays", *balancer.stats().backends}
    for backend in list(balancer):
        if backend != "stays":
            balancer.remove(backend, drain=False)
    assert {balancer.pick() for _ in range(10)} == {"stays"}


class Slow:
    """A backend whose hash lets other threads run."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        time.sleep(0)
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        time.sleep(0)
        return isinstance(other, Slow) and other.name == self.name


def test_equal_backends_added_at_once_are_one_backend() -> None:
    for _ in range(50):
        balancer: Balancer[Slow] = RoundRobin()
        start = threading.Barrier(2)

        def add(balancer: Balancer[Slow] = balancer, start: threading.Barrier = start) -> None:
            start.wait()
            with contextlib.suppress(coterie.ConfigError):
                balancer.add(Slow("a"))

        threads = [threading.Thread(target=add) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(balancer) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_during_a_change_goes_on() -> None:
    bounded = ring.BoundedLoad([f"node-{number}" for number in range(50)])
    balancer = RoundRobin(["stays"])
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            bounded.add_node("new")
            bounded.remove_node("new")
            balancer.add("new")
            balancer.remove("new")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(5)
                try:
                    bounded.acquire("key")
                    balancer.pick()
                    balancer.add("of the child")
                    os._exit(0)
                except BaseException:
                    os._exit(2)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_goes_on_picking() -> None:
    balancer = Healthy(LeastConnections(list("abc")))
    balancer.pick()
    child = os.fork()
    if child == 0:
        try:
            with balancer.lease():
                pass
            os._exit(0 if balancer.stats().picks == 2 else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert balancer.stats().picks == 1


class Node:
    """A backend that knows its balancer: a cycle."""

    balancer: Balancer[Node]


@pytest.mark.parametrize("policy", [RoundRobin, LeastConnections])
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_cycle_through_a_balancer_is_collected(policy: Any, wrap: Any) -> None:
    node = Node()
    node.balancer = wrap(policy([node]))
    assert node.balancer.pick() is node
    trace = weakref.ref(node)
    del node
    gc.collect()
    assert trace() is None


def test_a_removed_backend_is_let_go() -> None:
    node, stays = Node(), Node()
    balancer = RoundRobin([node, stays])
    trace = weakref.ref(node)
    balancer.remove(node)
    del node
    gc.collect()
    assert trace() is None
    assert balancer.pick() is stays


def test_a_clock_that_raises_leaves_everything_as_it_was() -> None:
    broken = False

    def clock() -> float:
        if broken:
            raise OSError("no time")
        return 0.0

    for balancer in (PeakEwma(["a"], clock=clock), Hashed(ring.ConsistentHash(["a"]), clock=clock)):
        broken = True
        with pytest.raises(OSError, match="no time"):
            balancer.add("b")
        broken = False
        assert list(balancer) == ["a"]
        assert balancer.pick("key") == "a"
        balancer.add("b")
        assert list(balancer) == ["a", "b"]


def test_a_balancer_is_neither_copied_nor_pickled_in_silence() -> None:
    for act in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError):
            act(RoundRobin(list("ab")))


def test_all_policies_are_tried() -> None:
    policies = {
        value
        for value in vars(balance).values()
        if isinstance(value, type) and issubclass(value, Balancer) and value.__module__ == "coterie.balance"
    }
    tried = {*POLICIES, Healthy, Trusted, Balancer, Hashed}
    assert {kind for kind in policies if not kind.__name__.startswith("_")} == tried
