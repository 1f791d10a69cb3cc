"""Clients of event loops: the same meaning, waited for with `await`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import pytest

import coterie.aio

Engine = Any  # conftest's: no test can import it


def looped(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[Engine], None]:
    """Runs a test in an event loop of its own, with two clients of one cluster and a name that no other test uses."""

    @wraps(test)
    def run(engine: Engine) -> None:
        async def main() -> None:
            async with connected(engine) as (one, other):
                await asyncio.wait_for(test(one, other, f"test-{uuid.uuid4()}/"), 60)

        asyncio.run(main())

    del run.__wrapped__  # type: ignore[attr-defined] # or pytest would look for fixtures
    return run


@asynccontextmanager
async def connected(engine: Engine) -> AsyncIterator[tuple[coterie.aio.Client, coterie.aio.Client]]:
    one = coterie.aio.connect(engine.url, **engine.settings)
    other = coterie.aio.connect(engine.url, **engine.settings)
    async with one, other:
        yield one, other


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await holds():
            await asyncio.sleep(0.001)


async def queued(client: coterie.aio.Client, name: str) -> int:
    return await client.kv.count(f"{name}/")


@looped
async def test_keys_and_values(one: coterie.aio.Client, other: coterie.aio.Client, name: str) -> None:
    first = await one.kv.put(name, "v")
    assert await other.kv.get(name) == b"v"
    entry = await other.kv.entry(name)
    assert entry is not None
    assert entry.create_revision == first
    assert await one.kv.compare_and_swap(name, entry, "w")
    assert not await one.kv.compare_and_swap(name, entry, "x")
    assert await one.kv.range(name) == [entry._replace(value=b"w", mod_revision=first + 1, version=2)]
    assert await one.kv.delete(name) == 1
    with pytest.raises(coterie.RequestError):
        await one.kv.put("", "v")
    with pytest.raises(TypeError):
        await one.kv.put(1, "v")  # type: ignore[arg-type]


@looped
async def test_a_thousand_puts_at_once(one: coterie.aio.Client, other: coterie.aio.Client, name: str) -> None:
    revisions = await asyncio.gather(*(one.kv.put(f"{name}{n}", str(n)) for n in range(1000)))
    assert len(set(revisions)) == 1000
    values = await asyncio.gather(*(other.kv.get(f"{name}{n}") for n in range(1000)))
    assert values == [str(n).encode() for n in range(1000)]
    assert await one.kv.put_many({f"{name}{n}": "v" for n in range(1000)}) > max(revisions)


@looped
async def test_a_range_comes_whole(one: coterie.aio.Client, other: coterie.aio.Client, name: str) -> None:
    await one.kv.put_many({f"{name}{n:02}": b"v" * 200_000 for n in range(50)})
    assert len(await one.kv.range(name)) == 50
    assert len(await one.kv.range(name, limit=49, descending=True)) == 49


@looped
async def test_transactions(one: coterie.aio.Client, other: coterie.aio.Client, name: str) -> None:
    once = one.kv.transaction().require(name, exists=False).put(name, "v").get(name)
    once.otherwise.delete(name)
    first, second = await once.commit(), await once.commit()
    assert first.succeeded
    assert first.results[1] is not None
    assert (second.succeeded, second.results) == (False, [1])


@looped
async def test_watches(one: coterie.aio.Client, other: coterie.aio.Client, name: str) -> None:
    async with one.watch(name) as watch:
        assert await watch.next_batch(timeout=0.01) == []
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        for n in range(100):
            await other.kv.put(name, str(n))
        events = [await anext(watch) for _ in range(100)]
        assert [event.value for event in events] == [str(n).encode() for n in range(100)]
        ending = asyncio.create_task(anext(watch, None))
        await asyncio.sleep(0.01)
        watch.close()
        assert await ending is None


@looped
async def test_a_cancelled_wait_loses_no_event(
    one: coterie.aio.Client, other: coterie.aio.Client, name: str
) -> None:
    seen = []
    start = await other.kv.put(name, "0")
    async with one.watch(name, start) as watch:
        for n in range(1, 200):
            await other.kv.put(name, str(n))
            try:
                async with asyncio.timeout(0.0001 * (n % 7)):
                    seen.append(await anext(watch))
            except TimeoutError:
                pass
        while len(seen) < 200:
            seen.append(await anext(watch))
    assert [event.value for event in seen] == [str(n).encode() for n in range(200)]


@looped
async def test_history_that_is_gone(one: coterie.aio.Client, other: coterie.aio.Client, name: str) -> None:
    first = await one.kv.put(name, "1")
    last = await one.kv.put(name, "2")
    await one.compact(last)
    with pytest.raises(coterie.CompactedError) as caught:
        await anext(one.watch(name, first))
    assert caught.value.revision == last


@looped
async def test_locks_exclude_tasks(one: coterie.aio.Client, other: coterie.aio.Client, name: str) -> None:
    inside, tokens = [], []

    async def enter(which: int) -> None:
        for _ in range(10):
            async with (one, other)[which % 2].lock(name) as lock:
                inside.append(which)
                tokens.append(lock.token)
                await asyncio.sleep(0.0001)
                assert inside == [which]
                inside.pop()

    await asyncio.gather(*(enter(which) for which in range(10)))
    assert len(tokens) == 100
    assert tokens == sorted(set(tokens))


@looped
async def test_who_is_cancelled_leaves_the_queue(
    one: coterie.aio.Client, other: coterie.aio.Client, name: str
) -> None:
    lock = one.lock(name)
    await lock.acquire()
    waiting = [asyncio.create_task(other.lock(name).acquire()) for _ in range(20)]
    await until(lambda: is_(queued(one, name), 21))
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert all(task.cancelled() for task in waiting)
    await until(lambda: is_(queued(one, name), 1))
    await lock.release()
    assert await other.lock(name).acquire(blocking=False)


@looped
async def test_who_is_cancelled_in_the_moment_of_success_holds_nothing(
    one: coterie.aio.Client, other: coterie.aio.Client, name: str
) -> None:
    for n in range(100):
        async with one.lock(name):
            task = asyncio.create_task(other.lock(name).acquire())
            await asyncio.sleep(0.0002 * (n % 5))
        await asyncio.sleep(0.0001 * (n % 7))
        if not task.cancel():
            await task
        await asyncio.wait([task])
        if not task.cancelled():
            await until(lambda: is_(queued(one, name), 1))
            await one.kv.delete(f"{name}/", prefix=True)
        await until(lambda: is_(queued(one, name), 0))


@looped
async def test_acquire_takes_a_time_out(
    one: coterie.aio.Client, other: coterie.aio.Client, name: str
) -> None:
    async with one.lock(name):
        assert not await other.lock(name).acquire(blocking=False)
        assert not await other.lock(name).acquire(timeout=0.01)
        with pytest.raises(coterie.LockTimeoutError):
            async with other.lock(name, timeout=0.01):
                pytest.fail("it is another's")
    async with other.lock(name, timeout=5):
        pass
    with pytest.raises(RuntimeError):
        await other.lock(name).release()


@looped
async def test_a_scope_ends_when_its_lock_is_lost(
    one: coterie.aio.Client, other: coterie.aio.Client, name: str
) -> None:
    reached = []

    async def hold(lock: coterie.aio.Lock | coterie.aio.RLock) -> None:
        async with lock:
            reached.append(lock)
            await asyncio.sleep(60)

    for lock in (one.lock(name), one.rlock(name)):
        holding = asyncio.create_task(hold(lock))
        await until(lambda: is_(queued(one, name), 1))
        entry = (await one.kv.range(f"{name}/"))[0]
        await other._core.ask(other._core.compiled.revoke, entry.lease, 5.0)
        with pytest.raises(coterie.LockLostError) as caught:
            await holding
        assert caught.value.token == entry.create_revision
        assert lock.lost.is_set()
        assert await lock.lost.wait()
    assert len(reached) == 2
    async with other.lock(name, timeout=5):
        pass


@looped
async def test_a_scope_that_is_cancelled_from_outside_is_cancelled(
    one: coterie.aio.Client, other: coterie.aio.Client, name: str
) -> None:
    async def hold() -> None:
        async with one.lock(name):
            await asyncio.sleep(60)

    holding = asyncio.create_task(hold())
    await until(lambda: is_(queued(one, name), 1))
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    assert await queued(one, name) == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), one.lock(name):
            await asyncio.sleep(60)
    assert await queued(one, name) == 0


@looped
async def test_rlock_is_reentrant_for_its_task_alone(
    one: coterie.aio.Client, other: coterie.aio.Client, name: str
) -> None:
    async with one.rlock(name) as outer, one.rlock(name) as inner:
        assert outer.token == inner.token
        assert not await asyncio.create_task(one.rlock(name).acquire(blocking=False))
    assert await queued(one, name) == 0


@looped
async def test_elections(one: coterie.aio.Client, other: coterie.aio.Client, name: str) -> None:
    mine, theirs = one.election(name), other.election(name)
    seen = []

    async def observe() -> None:
        async for leader in other.election(name).observe():
            seen.append(None if leader is None else leader.value)
            if leader is not None and leader.value == b"theirs":
                return

    observing = asyncio.create_task(observe())
    first = await mine.campaign("mine")
    assert first is not None
    assert await theirs.campaign("theirs", timeout=0.01) is None
    campaigning = asyncio.create_task(theirs.campaign("theirs"))
    await until(lambda: is_(queued(one, name), 2))
    await mine.resign()
    second = await campaigning
    assert second is not None
    assert second > first
    await observing
    assert seen[-1] == b"theirs"
    leader = await one.election(name).leader()
    assert leader is not None
    assert (leader.value, leader.term) == (b"theirs", second)


@looped
async def test_status_and_members(one: coterie.aio.Client, other: coterie.aio.Client, name: str) -> None:
    await one.kv.put(name, "v")
    leader = await one.members.leader()
    assert leader is not None
    assert (await one.status()).leader == leader.id


@looped
async def test_what_waits_when_the_client_is_closed_hears_of_it(
    one: coterie.aio.Client, other: coterie.aio.Client, name: str
) -> None:
    async with other.lock(name):
        waiting = asyncio.create_task(one.lock(name).acquire())
        await until(lambda: is_(queued(other, name), 2))
        await one.close()
        with pytest.raises(coterie.StoppedError):
            await waiting
    with pytest.raises(coterie.StoppedError):
        await one.kv.get(name)
    await one.close()


def test_a_client_belongs_to_one_loop() -> None:
    client = coterie.aio.connect("memory:")

    async def use() -> None:
        await client.kv.put("k", "v")

    asyncio.run(use())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(use())


async def is_(count: Awaitable[int], expected: int) -> bool:
    return await count == expected
