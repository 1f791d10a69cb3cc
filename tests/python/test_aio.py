"""The pool for event loops: the same answers, and a loop that goes on meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coterie import Outcome, StoppedError, WorkerDiedError, aio

BACKENDS: list[Any] = ["process", "thread"]
PATIENCE = 60


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, PATIENCE))


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_answers_as_the_pool_does(backend: Any) -> None:
    async def main() -> None:
        async with aio.Pool(2, backend=backend) as pool:
            assert await pool.map(lambda x: x * x, range(1000)) == [x * x for x in range(1000)]
            assert await pool.map(abs, []) == []
            assert await pool.map(abs, (x for x in [-1, -2]), chunksize=2) == [1, 2]
            assert await pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
            assert await pool.apply(lambda *args, **kwds: (args, kwds), (1,), {"x": 2}) == ((1,), {"x": 2})
            assert [x async for x in pool.imap(abs, range(-1000, 0))] == list(range(1000, 0, -1))
            assert {x async for x in pool.imap_unordered(abs, range(1000), 3)} == set(range(1000))
            assert [x async for x in pool.imap(abs, [])] == []

    run(main())


@pytest.mark.parametrize("backend", BACKENDS)
def test_errors_are_raised_where_they_belong(backend: Any) -> None:
    async def main() -> None:
        async with aio.Pool(2, backend=backend) as pool:
            for awaited in (pool.apply(lambda: 1 / 0), pool.map(lambda x: 1 / x, [1, 0])):
                with pytest.raises(ZeroDivisionError):
                    await awaited
            results = pool.imap(lambda x: 6 // x, [3, 0, 1])
            assert await anext(results) == 2
            with pytest.raises(ZeroDivisionError):
                await anext(results)
            assert await anext(results) == 6, "the next item follows"
            with pytest.raises(StopAsyncIteration):
                await anext(results)
            with pytest.raises(RuntimeError, match="StopIteration"):
                await pool.apply(next, (iter([]),))
            outcomes = [outcome async for outcome in pool.imap(lambda x: 6 // x, [3, 0], outcomes=True)]
            assert outcomes[0] == Outcome(0, 2)
            assert isinstance(outcomes[1].error, ZeroDivisionError)

    run(main())


def test_the_loop_goes_on_while_workers_work() -> None:
    async def main() -> int:
        async with aio.Pool(2) as pool:
            mapped = asyncio.ensure_future(pool.map(time.sleep, [0.05] * 8))
            turns = 0
            while not mapped.done():
                await asyncio.sleep(0.001)
                turns += 1
            return turns

    assert run(main()) > 10


def test_many_results_reach_the_loop_in_few_calls() -> None:
    class Counting(asyncio.SelectorEventLoop):
        calls = 0

        def call_soon_threadsafe(self, *args: Any, **kwds: Any) -> Any:
            Counting.calls += 1
            return super().call_soon_threadsafe(*args, **kwds)

    async def main() -> None:
        async with aio.Pool(2) as pool:
            answers = await asyncio.gather(*(pool.apply(abs, (-x,)) for x in range(5000)))
            assert answers == list(range(5000))
            assert [x async for x in pool.imap(abs, range(5000))] == list(range(5000))

    with asyncio.Runner(loop_factory=Counting) as runner:
        runner.run(main())
    assert Counting.calls < 5000


def test_a_cancelled_task_cancels_what_has_not_begun(tmp_path: Path) -> None:
    def work(x: int) -> None:
        (tmp_path / str(x)).touch()
        time.sleep(0.1)

    def count() -> int:
        return len(list(tmp_path.iterdir()))

    async def main() -> None:
        async with aio.Pool(2) as pool:
            for asked in (
                pool.map(work, range(100)),
                asyncio.gather(*(pool.apply(work, (x,)) for x in range(100))),
                anext(pool.imap(lambda x: [work(x), time.sleep(60)], range(100))),
            ):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asked, 0.3)
                begun = count()
                await asyncio.sleep(0.5)
                assert count() <= begun + 2, "what ran may go on; no other begins"
                if begun < 90:
                    continue
                pytest.fail("it had all begun")

    run(main())


def test_what_is_cancelled_leaves_room_for_others() -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            first = asyncio.ensure_future(pool.apply(time.sleep, (0.3,)))
            await asyncio.sleep(0.1)
            others = [asyncio.ensure_future(pool.apply(time.sleep, (60,))) for _ in range(20)]
            await asyncio.sleep(0.05)
            for other in others:
                other.cancel()
            assert await pool.apply(abs, (-1,)) == 1
            await first
            assert pool.stats().waiting == 0

    run(main())


def test_a_dead_worker_costs_its_call_alone() -> None:
    async def main() -> None:
        async with aio.Pool(2) as pool:
            asked = [pool.apply(abs, (x,)) for x in range(20)] + [pool.apply(os._exit, (1,))]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert answers[:20] == list(range(20))
            assert isinstance(answers[20], WorkerDiedError)
            with pytest.raises(WorkerDiedError) as caught:
                await pool.map(lambda x: os._exit(1) if x == 7 else x, range(20))
            assert caught.value.index == 7

    run(main())


def test_a_terminated_pool_answers_everybody() -> None:
    async def main() -> None:
        pool = aio.Pool(2)
        asked = [
            asyncio.ensure_future(pool.map(time.sleep, [60] * 4)),
            asyncio.ensure_future(pool.apply(time.sleep, (60,))),
            asyncio.ensure_future(anext(pool.imap(time.sleep, [60] * 4))),
        ]
        await asyncio.sleep(0.1)
        await pool.terminate()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoppedError] * 3
        for refused in (pool.apply(abs, (1,)), pool.map(abs, [1])):
            with pytest.raises(ValueError, match="not running"):
                await refused

    run(main())


def test_a_pool_that_closes_does_what_it_was_given() -> None:
    async def main() -> None:
        pool = aio.Pool(2)
        asked = asyncio.ensure_future(pool.map(abs, range(-100, 0)))
        await asyncio.sleep(0)
        pool.close()
        await pool.join()
        assert await asked == list(range(100, 0, -1))

    run(main())


def test_an_endless_input_is_drawn_as_it_is_read() -> None:
    drawn = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            drawn.append(number)
            yield number

    async def main() -> None:
        async with aio.Pool(2) as pool:
            results = pool.imap(lambda x: x, numbers())
            assert [await anext(results) for _ in range(10)] == list(range(10))
            await asyncio.sleep(0.2)
            assert len(drawn) < 10_000
            await results.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(results)

    run(main())


def test_one_pool_serves_many_loops() -> None:
    pool = aio.Pool(2)
    answers: dict[int, Any] = {}

    async def ask(number: int) -> None:
        one = await pool.apply(pow, (number, 2))
        answers[number] = (one, await pool.map(abs, [-number] * 50), [x async for x in pool.imap(abs, [-1])])

    threads = [threading.Thread(target=lambda number=number: run(ask(number))) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert answers == {number: (number**2, [number] * 50, [1]) for number in range(6)}
    told = len(pool._pool._told)
    for number in range(10, 15):
        run(ask(number))
    assert len(pool._pool._told) <= told + 2, "a loop that is gone leaves nothing behind"
    run(pool.terminate())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_callable_hears_how_far_a_map_is(backend: Any) -> None:
    heard: list[tuple[int, int | None]] = []

    async def main() -> None:
        async with aio.Pool(2, backend=backend, progress=lambda *told: heard.append(told)) as pool:
            await pool.map(time.sleep, [0.02] * 30)
            assert heard == sorted(set(heard))
            assert len(heard) > 1, "now and then, and not only at the end"
            assert heard[-1] == (30, 30)
            heard.clear()
            assert [x async for x in pool.imap(abs, range(100))] == list(range(100))
            assert heard[-1] == (100, 100)

    run(main())


def test_with_tqdm_it_draws(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with aio.Pool(2, progress=True, name="squares") as pool:
            await pool.map(abs, range(300))
            assert "| 300/300 [" in capsys.readouterr().err
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.map(time.sleep, [60] * 4), 0.3)
            assert capsys.readouterr().err.endswith("\n"), "the bar of what was cancelled is closed"

    run(main())


def test_no_thread_is_left() -> None:
    before = threading.enumerate()

    async def main() -> None:
        async with aio.Pool(2) as pool:
            await pool.map(abs, range(10))
            await pool.apply(abs, (1,))

    run(main())
    assert threading.enumerate() == before


def test_the_pool_prints_itself() -> None:
    async def main() -> str:
        async with aio.Pool(2) as pool:
            return repr(pool)

    assert run(main()) == "<coterie.aio.Pool state=RUN pool_size=2>"
