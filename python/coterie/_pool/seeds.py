"""Random numbers that depend on the pool's seed, the call and the item alone, whoever works on it."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable
from typing import Any

from coterie._pool.functions import ONE, STAR


class Seeds:
    """A pool's seed. Calls of the pool are counted: the same program draws the same numbers."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls = itertools.count()

    def of(self, function: Callable[..., Any], style: int) -> Seeded:
        """`function` for one call of the pool; its items are pairs of their index and what they were."""
        return Seeded(function, style, f"{self._seed}/{next(self._calls)}")


class Seeded:
    """A function that is called with seeded generators: Python's `random`, and NumPy's old global one."""

    def __init__(self, function: Callable[..., Any], style: int, call: str) -> None:
        self._function, self._style, self._call = function, style, call

    def __call__(self, numbered: tuple[int, Any]) -> Any:
        index, item = numbered
        digest = hashlib.blake2b(f"{self._call}/{index}".encode(), digest_size=32).digest()
        random.seed(digest)
        try:
            import numpy.random  # noqa: PLC0415 - a task may load it half-way, when it would be too late
        except ImportError:
            pass
        else:
            words = [int.from_bytes(digest[place : place + 4], "little") for place in range(0, 32, 4)]
            numpy.random.seed(words)  # noqa: NPY002 - the global one is what tasks draw from
        if self._style == ONE:
            return self._function(item)
        if self._style == STAR:
            return self._function(*item)
        args, kwds = item
        return self._function(*args, **kwds)
