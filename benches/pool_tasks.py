"""What the pools of bench_pool.py and soak_pool.py do: functions that every worker can import."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

_made: dict[int, Any] = {}


def square(x: int) -> int:
    return x * x


def first(array: Any) -> float:
    return float(array[0])


def plus_one(array: Any) -> Any:
    return array + 1.0


def same(length: int) -> Any:
    """The same array each time: only its way is paid for."""
    if length not in _made:
        _made[length] = np.ones(length // 8)
    return _made[length]


def fresh(length: int) -> Any:
    return np.full(length // 8, 1.5)


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
