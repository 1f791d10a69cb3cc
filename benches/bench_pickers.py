"""Decisions of each picker against the same policy in pure Python: `pick` and `done`, one after the other.

    python benches/bench_pickers.py [--backends 10,100,1000] [--rounds 9]

Both sides are timed in turn in this process, wall time; the median of the rounds counts, and the ratio is the median
of the ratios of neighbours. The targets: 3 times the policy in Python for smooth weighted round robin, least
connections and peak EWMA; for the others a `pick` and a `done` in at most 100 ns each (an empty call of a compiled
method costs 69 ns on the machine that the target comes from; the last line says what it costs here).
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import math
import random
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from coterie import balance

Decide = Callable[[], Any]
Pair = tuple[Decide, Callable[[Any, float], Any]]


def round_robin(backends: int, _weights: list[int]) -> Pair:
    turn = itertools.cycle(range(backends))
    return (lambda: next(turn)), (lambda _backend, _latency: None)


def random_choice(backends: int, _weights: list[int]) -> Pair:
    draw = random.Random(1).random
    return (lambda: int(draw() * backends)), (lambda _backend, _latency: None)


def weighted_random(_backends: int, weights: list[int]) -> Pair:
    sums = list(itertools.accumulate(weights))
    draw, find, total = random.Random(1).random, bisect.bisect, sums[-1]
    return (lambda: find(sums, draw() * total)), (lambda _backend, _latency: None)


def weighted_round_robin(backends: int, weights: list[int]) -> Pair:
    current, total = [0] * backends, sum(weights)

    def pick() -> int:
        best = 0
        for backend, weight in enumerate(weights):
            current[backend] += weight
            if current[backend] > current[best]:
                best = backend
        current[best] -= total
        return best

    return pick, lambda _backend, _latency: None


def least_connections(backends: int, _weights: list[int]) -> Pair:
    load = [0] * backends

    def pick() -> int:
        best = load.index(min(load))
        load[best] += 1
        return best

    def done(backend: int, _latency: float) -> None:
        load[backend] -= 1

    return pick, done


def two_choices(backends: int, _weights: list[int]) -> Pair:
    load, draw = [0] * backends, random.Random(1).random

    def pick() -> int:
        best, other = int(draw() * backends), int(draw() * backends)
        if load[other] < load[best]:
            best = other
        load[best] += 1
        return best

    def done(backend: int, _latency: float) -> None:
        load[backend] -= 1

    return pick, done


def peak_ewma(backends: int, _weights: list[int], decay: float = 10.0) -> Pair:
    load, latency, stamp = [0] * backends, [0.0] * backends, [0.0] * backends
    draw, clock, exp = random.Random(1).random, time.monotonic, math.exp

    def cost(backend: int, now: float) -> float:
        expected = latency[backend] * exp((stamp[backend] - now) / decay)
        return 1e9 * load[backend] if expected == 0 and load[backend] else expected * (load[backend] + 1)

    def pick() -> int:
        now = clock()
        best, other = int(draw() * backends), int(draw() * backends)
        if cost(other, now) < cost(best, now):
            best = other
        load[best] += 1
        return best

    def done(backend: int, seconds: float) -> None:
        load[backend] -= 1
        now = clock()
        rest = exp((stamp[backend] - now) / decay)
        peak = seconds > latency[backend]
        latency[backend] = seconds if peak else latency[backend] * rest + seconds * (1 - rest)
        stamp[backend] = now

    return pick, done


PYTHON: dict[str, Callable[[int, list[int]], Pair]] = {
    "RoundRobin": round_robin,
    "WeightedRoundRobin": weighted_round_robin,
    "Random": random_choice,
    "WeightedRandom": weighted_random,
    "LeastConnections": least_connections,
    "PowerOfTwoChoices": two_choices,
    "PeakEwma": peak_ewma,
}


def ours(policy: str, backends: int, weights: list[int]) -> Pair:
    settings = {"weights": weights} if policy.startswith("Weighted") else {}
    balancer = getattr(balance, policy)(range(backends), **settings)
    return balancer.pick, balancer.done


def nanoseconds(pair: Pair, decisions: int) -> float:
    pick, done = pair
    start = time.perf_counter_ns()
    for _ in range(decisions):
        done(pick(), 0.01)
    return (time.perf_counter_ns() - start) / decisions


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backends", default="10,100,1000")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    print(f"{'policy':20} {'backends':>8} {'python ns':>10} {'coterie ns':>10} {'ratio':>7}")
    for backends in map(int, arguments.backends.split(",")):
        weights = [1 + backend % 5 for backend in range(backends)]
        for policy, python in PYTHON.items():
            one, other = python(backends, weights), ours(policy, backends, weights)
            decisions = max(1_000, min(100_000, int(5e7 / nanoseconds(one, 200))))
            rounds = [
                (nanoseconds(one, decisions), nanoseconds(other, decisions)) for _ in range(arguments.rounds)
            ]
            theirs, mine = (median(column) for column in zip(*rounds, strict=True))
            ratio = median(python / coterie for python, coterie in rounds)
            print(f"{policy:20} {backends:8} {theirs:10.0f} {mine:10.0f} {ratio:7.2f}", flush=True)
    one = balance.RoundRobin(["a"])
    print(f"for scale: RoundRobin.pick alone {alone(one.pick):.0f} ns", end=", ")
    print(f"done alone {alone(lambda: one.done('a', 0.01)):.0f} ns with a lambda around it")


def alone(call: Decide) -> float:
    def once() -> float:
        start = time.perf_counter_ns()
        for _ in range(200_000):
            call()
        return (time.perf_counter_ns() - start) / 200_000

    return median(once() for _ in range(9))


if __name__ == "__main__":
    main()
