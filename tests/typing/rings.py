"""A user's file: rings, with the types of their nodes."""

from __future__ import annotations

from typing import assert_type

import numpy as np
import numpy.typing as npt

import coterie
from coterie.ring import Anchor, BoundedLoad, Jump, Ketama, Maglev, Rendezvous, Ring

ring = coterie.ConsistentHash(["a", "b"], hash="xxh3", weights={"a": 2})
assert_type(ring, coterie.ConsistentHash[str])
assert_type(ring.get("key"), str)
assert_type(ring.get(np.int64(7)), str)
assert_type(ring.get_n(b"key", 2), list[str])
assert_type(ring.get_many(["a", "b"]), list[str])
assert_type(ring.get_many(np.arange(3)), list[str])
assert_type(ring.get_many_indices(range(3)), npt.NDArray[np.intp])
assert_type(ring.nodes, set[str])
assert_type(ring.distribution(), dict[str, float])
assert_type(ring.copy(), coterie.ConsistentHash[str])
ring.add_node("c", weight=np.float64(1.5))
moved: float = ring.moved(Rendezvous(["a"]))

addresses = coterie.ConsistentHash([("10.0.0.1", 80)], name=lambda address: f"{address[0]}:{address[1]}")
assert_type(addresses.get("key"), tuple[str, int])

kinds: list[Ring[str]] = [
    Ketama(["a:1"]),
    Jump(["a"]),
    Maglev(["a"], table_size=101),
    Anchor(["a"], capacity=4),
]
bounded = BoundedLoad(["a"], epsilon=0.5)
assert_type(bounded.acquire("key"), str)
assert_type(bounded.loads, dict[str, int])


def refuse() -> None:
    # Strict checkers complain when a line here turns out to be fine after all.
    coterie.ConsistentHash(["a"], hash="sha")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Ketama(["a"], variant="nope")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ring.get(1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ring.add_node(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
