"""A user's pool: what comes back has the function's type."""

from __future__ import annotations

from typing import assert_type

import coterie


def square(x: int) -> int:
    return x * x


def add(x: int, y: int) -> int:
    return x + y


with coterie.Pool(2, retries=1, task_timeout=3.0) as pool:
    assert_type(pool.map(square, range(3)), list[int])
    assert_type(pool.apply(square, (2,)), int)
    assert_type(pool.starmap(add, [(7, 2)]), list[int])
    pool.map_async(square, [1], callback=print).wait(1.0)
    try:
        pool.map(square, [1])
    except coterie.WorkerDiedError as error:
        assert_type(error.signal, int | None)
    except coterie.TaskTimeoutError as late:
        assert_type(late.index, int | None)
