"""Rings against uhashring, and against a ring in the plainest Python.

    python benches/bench_rings.py [--nodes 100] [--keys 200000] [--rounds 7]

All contestants run in one process and take turns, so that what else the machine does meets all of them.
Wall time, medians over the rounds. Needs: pip install uhashring xxhash
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from bisect import bisect_left
from collections.abc import Callable
from hashlib import md5
from typing import Any

from coterie import ConsistentHash
from coterie.ring import Anchor, BoundedLoad, Jump, Ketama, Maglev, Rendezvous

try:
    from uhashring import HashRing
    from xxhash import xxh3_64_intdigest
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed; pip install uhashring xxhash")


class PlainRing:
    """Points in a list, 128 for each node, and `bisect`."""

    def __init__(self, nodes: list[str], hash: Callable[[bytes], int]) -> None:
        self.hash = hash
        placed = sorted((hash(f"{node}{i}".encode()), node) for node in nodes for i in range(128))
        self.points = [point for point, _ in placed]
        self.owners = [node for _, node in placed]
        self.owners.append(self.owners[0])

    def get(self, key: str) -> str:
        return self.owners[bisect_left(self.points, self.hash(key.encode()))]


def md5_number(text: bytes) -> int:
    return int.from_bytes(md5(text, usedforsecurity=False).digest(), "big")


def loop(get: Callable[[str], Any]) -> Callable[[list[str]], None]:
    def run(keys: list[str]) -> None:
        for key in keys:
            get(key)

    return run


def contest(
    contestants: dict[str, Callable[[list[str]], Any]], keys: list[str], rounds: int
) -> dict[str, float]:
    """Median nanoseconds a key, contestants taking turns."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run(keys)
            times[name].append((time.perf_counter() - start) / len(keys) * 1e9)
    return {name: statistics.median(measured) for name, measured in times.items()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--nodes", type=int, default=100)
    arguments.add_argument("--keys", type=int, default=200_000)
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    nodes = [f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}:11211" for i in range(options.nodes)]
    keys = [f"user:{i}:session" for i in range(options.keys)]
    ring, fast = ConsistentHash(nodes), ConsistentHash(nodes, hash="xxh3")
    contestants: dict[str, Callable[[list[str]], Any]] = {
        "uhashring, loop": loop(HashRing(nodes).get_node),
        "plain Python md5, loop": loop(PlainRing(nodes, md5_number).get),
        "plain Python xxh3, loop": loop(PlainRing(nodes, xxh3_64_intdigest).get),
        "ConsistentHash md5 get": loop(ring.get),
        "ConsistentHash xxh3 get": loop(fast.get),
        "ConsistentHash md5 get_many": ring.get_many,
        "ConsistentHash xxh3 get_many": fast.get_many,
        **{
            f"{kind.__name__} get_many": kind(nodes).get_many
            for kind in (Ketama, Jump, Rendezvous, Maglev, Anchor, BoundedLoad)
        },
    }
    measured = contest(contestants, keys, options.rounds)
    print(f"{options.nodes} nodes, {options.keys:,} keys, median of {options.rounds} rounds")
    print(f"{'':32}{'ns a key':>10}{'x uhashring':>13}{'x plain md5':>13}")
    for name, nanoseconds in measured.items():
        peers = (measured["uhashring, loop"], measured["plain Python md5, loop"])
        print(f"{name:32}{nanoseconds:10.1f}{peers[0] / nanoseconds:13.1f}{peers[1] / nanoseconds:13.1f}")
    print("wanted against uhashring: get_many 20 with xxh3, 8 with md5; get 3")


if __name__ == "__main__":
    main()
