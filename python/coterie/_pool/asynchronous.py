"""The pool for event loops."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sized
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from coterie._pool import pool as synchronous, progress as bars, stats as statistics
from coterie._pool.functions import ONE, STAR
from coterie._pool.outcome import Outcome
from coterie._pool.pool import ARRIVAL, CALLS, GATHERED, SORTED
from coterie._pool.results import SOME, WHOLE, IMapIterator

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Pool"]

T = TypeVar("T")
R = TypeVar("R")

_NOTHING: Mapping[str, Any] = {}
# A map's input is drawn in pieces of this many items, and after so many seconds others have their turn.
_PIECE = 256
_TURN = 0.005


class _Door:
    """The way from the pool's thread into one event loop: however much comes together, the loop is called once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self.calls: _Calls | None = None

    def put(self, task: Callable[[], None]) -> None:
        with self._lock:
            self._waiting.append(task)
            if len(self._waiting) > 1:
                return  # it is called already
        loop = self._loop()
        with contextlib.suppress(RuntimeError):  # it is closed: nobody waits there any more
            if loop is not None:
                loop.call_soon_threadsafe(self._open)

    def _open(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        for task in waiting:
            task()


class _Calls:
    """Single calls that a loop waits for."""

    def __init__(self, pool: synchronous.Pool, door: _Door, loop: asyncio.AbstractEventLoop) -> None:
        job = pool._core.open(CALLS, None, 1, False)
        if job is None:
            raise ValueError("Pool not running")
        self._pool, self.job, self._door = pool, job, door
        self.futures: dict[int, asyncio.Future[Any]] = {}
        pool._told[job, SOME] = self
        pool._core.observe(job)
        # With the loop goes what only it could hear of.
        weakref.finalize(loop, _hang_up, weakref.ref(pool), job).atexit = False

    def _tell(self) -> None:
        self._door.put(self._settle)

    def _settle(self) -> None:
        for index, failed, value in self._pool._core.fetch_outcomes(self.job):
            _answer(self.futures.pop(index, None), failed, value)
        if not self._pool._is_alive():
            left, self.futures = self.futures, {}
            for future in left.values():
                _answer(future, True, self._pool._why_not())


def _hang_up(whose: weakref.ref[synchronous.Pool], job: int) -> None:
    pool = whose()
    if pool is not None:
        pool._told.pop((job, SOME), None)
        pool._core.cancel(job)


class _Whole:
    """A map that a loop waits for."""

    def __init__(self, door: _Door, future: asyncio.Future[None]) -> None:
        self._door, self._future = door, future

    def _tell(self) -> None:
        self._door.put(self._settle)

    def _settle(self) -> None:
        _answer(self._future, False, None)


def _answer(future: asyncio.Future[Any] | None, failed: bool, value: Any) -> None:
    if future is None or future.done():
        return
    if failed:
        # A future cannot carry StopIteration; a coroutine that raised it could not either.
        if isinstance(value, StopIteration):
            error = RuntimeError("the call raised StopIteration")
            error.__cause__ = value
            value = error
        future.set_exception(value)
    else:
        future.set_result(value)


class AsyncResults(AsyncIterator[R], Generic[R]):
    """Results of a lazy map, for `async for`."""

    def __init__(self, results: IMapIterator[R], door: _Door) -> None:
        self._results, self._door = results, door
        self._waiter: asyncio.Future[None] | None = None
        pool, self._job = results._pool, results._job
        if pool is not None:
            self._told: Any = pool._told
            self._told[self._job, SOME] = _Weak(self)
            pool._core.observe(self._job)

    def __aiter__(self) -> AsyncResults[R]:
        return self

    async def __anext__(self) -> R:
        """The next result, or its exception."""
        results = self._results
        while not results._ready:
            pool = results._pool
            if pool is None:
                self._told.pop((self._job, SOME), None)
                raise StopAsyncIteration
            if results._look(pool):
                continue
            if not pool._is_alive():
                results._give_up(pool)
                raise pool._why_not()
            results._widen()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                await self.aclose()
                raise
        value: R = results._opened(results._pop())
        return value

    async def aclose(self) -> None:
        """No more is wanted: what was not begun is cancelled."""
        self._results._cancel()
        self._told.pop((self._job, SOME), None)

    def _tell(self) -> None:
        self._door.put(self._wake)

    def _wake(self) -> None:
        _answer(self._waiter, False, None)

    def __del__(self) -> None:
        told = getattr(self, "_told", None)
        if told is not None:
            told.pop((self._job, SOME), None)


class _Weak:
    """Tells an iterator if it is still there: one that was dropped is not kept by who would tell it."""

    def __init__(self, results: AsyncResults[Any]) -> None:
        self._results = weakref.ref(results)

    def _tell(self) -> None:
        results = self._results()
        if results is not None:
            results._tell()


class Pool:
    """Workers for event loops: `coterie.Pool`, with coroutines where that waits.

    Parameters
    ----------
    processes, initializer, initargs, maxtasksperchild, context, backend, retries, task_timeout, memory_limit, seed, progress, name, logs
        As in `coterie.Pool`. Starting workers takes some milliseconds, in which the loop stands still.

    Notes
    -----
    A task that is cancelled while it waits cancels what was not begun. What runs is let run; its result is nobody's.

    However many results come together, they reach the loop by one callback. One pool may serve many loops.

    Examples
    --------
    >>> import asyncio
    >>> from coterie import aio
    >>> async def main():
    ...     async with aio.Pool(2) as pool:
    ...         print(await pool.map(lambda x: x * x, range(5)))
    ...         async for result in pool.imap(abs, [-1, -2]):
    ...             print(result)
    >>> asyncio.run(main())
    [0, 1, 4, 9, 16]
    1
    2
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        backend: Literal["process", "thread"] = "process",
        retries: int = 0,
        task_timeout: float | None = None,
        memory_limit: int | None = None,
        seed: int | None = None,
        progress: bool | bars.Watcher | None = None,
        name: str | None = None,
        logs: bool = True,
    ) -> None:
        self._pool = synchronous.Pool(
            processes,
            initializer,
            initargs,
            maxtasksperchild,
            context,
            backend=backend,
            retries=retries,
            task_timeout=task_timeout,
            memory_limit=memory_limit,
            seed=seed,
            progress=progress,
            name=name,
            logs=logs,
        )
        self._lock = threading.Lock()
        self._doors: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Door] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<coterie.aio.Pool state={self._pool._state} pool_size={self._pool._processes}>"

    async def __aenter__(self) -> Self:
        self._pool._check_running()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.terminate()

    async def apply(
        self, func: Callable[..., R], args: Iterable[Any] = (), kwds: Mapping[str, Any] = _NOTHING
    ) -> R:
        """`func(*args, **kwds)` in a worker.

        Raises
        ------
        Exception
            What `func` raised, with the worker's traceback as its cause.
        WorkerDiedError, TaskTimeoutError
            The worker died under it, or it ran too long.
        """
        pool = self._pool
        pool._check_running()
        loop, door = asyncio.get_running_loop(), self._door()
        with self._lock:
            calls = door.calls = door.calls or _Calls(pool, door, loop)
        place, item = pool._prepare(func, args, kwds)
        index = pool._core.offer_call(calls.job, place, item, False)
        future = loop.create_future()
        # Only this thread takes results of these calls, so none was taken before the future is there.
        calls.futures[index] = future
        if not pool._is_alive():
            calls._settle()
        try:
            value: R = await future
        except asyncio.CancelledError:
            pool._core.withdraw(calls.job, index)
            raise
        finally:
            calls.futures.pop(index, None)
        return value

    async def map(
        self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int | None = None
    ) -> list[R]:
        """`func` of each item, in order; the first exception that came if there was one."""
        return await self._map(func, iterable, ONE, chunksize)

    async def starmap(
        self, func: Callable[..., R], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[R]:
        """`func(*item)` of each item, in order."""
        return await self._map(func, iterable, STAR, chunksize)

    @overload
    def imap(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int = 1,
        *,
        outcomes: Literal[False] = False,
    ) -> AsyncResults[R]: ...
    @overload
    def imap(
        self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int = 1, *, outcomes: Literal[True]
    ) -> AsyncResults[Outcome[R]]: ...
    def imap(
        self, func: Callable[[T], Any], iterable: Iterable[T], chunksize: int = 1, *, outcomes: bool = False
    ) -> AsyncResults[Any]:
        """`func` of each item, in order, while the input is drawn: it may be endless.

        Returns
        -------
        async iterator
            An item's exception is raised in its place, and the next item follows; with `outcomes` each item gives an
            `Outcome` instead. `aclose` cancels what was not begun.
        """
        return self._imap(func, iterable, chunksize, SORTED, outcomes)

    @overload
    def imap_unordered(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int = 1,
        *,
        outcomes: Literal[False] = False,
    ) -> AsyncResults[R]: ...
    @overload
    def imap_unordered(
        self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int = 1, *, outcomes: Literal[True]
    ) -> AsyncResults[Outcome[R]]: ...
    def imap_unordered(
        self, func: Callable[[T], Any], iterable: Iterable[T], chunksize: int = 1, *, outcomes: bool = False
    ) -> AsyncResults[Any]:
        """The same in the order in which results come."""
        return self._imap(func, iterable, chunksize, ARRIVAL, outcomes)

    @overload
    def share(self, thing: bytes | bytearray | memoryview) -> memoryview: ...
    @overload
    def share(self, thing: T) -> T: ...
    def share(self, thing: Any) -> Any:
        """Place an array or bytes in shared memory once, for as many tasks as there are; see `coterie.Pool.share`."""
        return self._pool.share(thing)

    def stats(self) -> statistics.PoolStats:
        """What the pool has done, and where its time went; see `coterie.Pool.stats`."""
        return self._pool.stats()

    def close(self) -> None:
        """Takes no more work; workers leave when all is done."""
        self._pool.close()

    async def terminate(self) -> None:
        """Ends all workers at once. Results that are not there never will be."""
        await self._elsewhere(self._end)

    async def join(self) -> None:
        """Wait until all workers have left, after `close` or `terminate`."""
        await self._elsewhere(self._pool.join)

    # Below

    def _end(self) -> None:
        self._pool.terminate()
        self._pool.join()
        self._pool._told.clear()

    def _door(self) -> _Door:
        loop = asyncio.get_running_loop()
        with self._lock:
            door = self._doors.get(loop)
            if door is None:
                door = self._doors[loop] = _Door(loop)
            return door

    async def _map(
        self, func: Callable[..., R], iterable: Iterable[Any], style: int, chunksize: int | None
    ) -> list[R]:
        pool = self._pool
        pool._check_running()
        core = pool._core
        items = iterable if isinstance(iterable, Sized) else list(iterable)
        if chunksize is None:
            chunksize = -(-len(items) // (4 * pool._processes))
        func, style, sown = pool._sown(func, style, items)
        place = pool._function(func, style)
        job = core.open(GATHERED, place, max(1, chunksize), True)
        core.release(place)
        if job is None:
            raise ValueError("Pool not running")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pool._told[job, WHOLE] = _Whole(self._door(), future)
        bar = bars.bar(pool._progress, len(items), pool._name)
        try:
            await self._offer(job, place, sown)
            if pool._is_alive():
                await (future if bar is None else self._watch(future, job, bar))
            found = core.gather(job) if core.is_over(job) else None
        finally:
            if bar is not None:
                bar.close()
            pool._told.pop((job, WHOLE), None)
            core.cancel(job)
        if found is None:
            raise pool._why_not()
        values, failure = found
        if failure is not None:
            raise failure
        return values

    async def _watch(self, future: asyncio.Future[None], job: int, bar: bars.Bar) -> None:
        """Waits, and tells the bar."""
        while not future.done():
            await asyncio.wait([future], timeout=bars.INTERVAL)
            progress = self._pool._core.progress(job)
            if progress is not None:
                bar.to(progress[0])

    async def _offer(self, job: int, place: int, items: Iterable[Any]) -> None:
        """Hands out the input. A long one takes its turn with whatever else the loop does."""
        drawn = iter(items)
        core = self._pool._core
        turn = time.monotonic()
        while True:
            piece = list(itertools.islice(drawn, _PIECE))
            sealed = len(piece) < _PIECE
            core.offer(job, place, piece, sealed, False)
            if sealed:
                return
            if time.monotonic() - turn > _TURN:
                await asyncio.sleep(0)
                turn = time.monotonic()

    def _imap(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int, order: int, outcomes: bool
    ) -> AsyncResults[Any]:
        door = self._door()
        results = self._pool._imap(func, iterable, chunksize, order, outcomes=outcomes)
        return AsyncResults(results, door)

    async def _elsewhere(self, task: Callable[[], None]) -> None:
        """Does in a thread of its own what would hold up the loop; the thread has ended when this returns."""
        door = self._door()
        done = asyncio.get_running_loop().create_future()

        def run() -> None:
            failure: BaseException | None = None
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - it is the waiting task's
                failure = error
            door.put(lambda: _answer(done, failure is not None, failure))

        thread = threading.Thread(target=run, name="coterie-aio-end")
        thread.start()
        await asyncio.shield(done)
        thread.join()
