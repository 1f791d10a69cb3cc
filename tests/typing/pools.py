"""A user's pool: what comes back has the function's type."""

from __future__ import annotations

from typing import assert_type

import coterie
from coterie import aio


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
    assert_type(pool.apply_async(square, (2,)).get(), int)
    assert_type(pool.map_async(square, [1]).get(), list[int])
    assert_type(next(pool.imap(square, [1])), int)
    for outcome in pool.imap_unordered(square, [1], outcomes=True):
        assert_type(outcome, coterie.Outcome[int])
        assert_type(outcome.value, int | None)
        assert_type(outcome.get(), int)
    assert_type(pool.stats().busy, float)
    assert_type(pool.stats().memory_used, int)
    assert_type(pool.share(b"once for all"), memoryview)
    assert_type(pool.share([bytearray(3)]), list[bytearray])

with coterie.Executor(2) as executor:
    future = executor.submit(add, 1, y=2)
    assert_type(future, coterie.Future[int])
    assert_type(future.result(), int)
    assert_type(future.cancel(force=True), bool)
    assert_type(list(executor.map(square, [1], buffersize=2)), list[int])
    executor.submit(add, "1", 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def main() -> None:
    async with aio.Pool(2) as pool:
        assert_type(await pool.map(square, [1]), list[int])
        assert_type(await pool.apply(square, (1,)), int)
        async for result in pool.imap(square, [1]):
            assert_type(result, int)
        async for told in pool.imap(square, [1], outcomes=True):
            assert_type(told, coterie.Outcome[int])
