"""A user's file: balancers, with the types of their backends."""

from __future__ import annotations

import time
from typing import assert_type

import numpy as np

from coterie import ConsistentHash
from coterie.balance import (
    BackendStats,
    Balancer,
    Hashed,
    Healthy,
    Lease,
    LeastConnections,
    PeakEwma,
    PowerOfTwoChoices,
    Random,
    RoundRobin,
    Trusted,
    WeightedRandom,
    WeightedRoundRobin,
)

balancer = RoundRobin(["a", "b"])
assert_type(balancer, RoundRobin[str])
assert_type(balancer.pick(), str)
assert_type(balancer.pick(exclude=["a"]), str)
balancer.done("a", 0.1, ok=False)
assert_type(balancer.lease(timeout=None), Lease[str])
assert_type(balancer.stats().backends, dict[str, BackendStats])
assert_type(balancer.backends, list[str])

weighted: list[Balancer[str]] = [
    WeightedRoundRobin({"a": 2, "b": 1.5}),
    WeightedRandom(["a"], weights=[np.float32(2)], seed=1),
    LeastConnections(["a"], weights={"a": 2}),
    PowerOfTwoChoices(["a"], seed=1),
    PeakEwma(["a"], decay=5.0, clock=time.monotonic),
    Random(["a"], seed=1),
]
numbers = Healthy(
    Trusted(RoundRobin([1, 2]), require={"tls": True}, labels=lambda _: {"tls": True}), slow_start=5
)
assert_type(numbers.pick(), int)
assert_type(Hashed(ConsistentHash(["a"])).pick(np.int64(3)), str)


async def serve() -> str:
    async with balancer.lease() as backend:
        assert_type(backend, str)
        return backend


def refuse() -> None:
    # Strict checkers complain when a line here turns out to be fine after all.
    balancer.done(3, 0.1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RoundRobin(["a"], weights=[1])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    balancer.pick(1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
