"""What a pool answers with."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import TimeoutError as PoolTimeoutError
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from coterie._pool.progress import INTERVAL, Bar

if TYPE_CHECKING:
    from coterie._coterie import PoolMap
    from coterie._pool.pool import Pool

R = TypeVar("R")

OVER, TIMED_OUT = 0, 1
# The key under which the end of a whole job is told.
WHOLE = (1 << 64) - 1
# And the one under which a job tells that results may be fetched.
SOME = WHOLE - 1
# The most items of a lazy map that are drawn and not yet answered.
_WINDOW_MAX = 1 << 15


class AsyncResult(Generic[R]):
    """The result of one call, or of a whole map, when it is there."""

    def __init__(
        self,
        pool: Pool,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._pool: Pool | None = pool
        self._callback, self._error_callback = callback, error_callback
        self._lock = threading.Lock()
        self._done = False
        self._success = False
        self._value: Any = None
        # Who asks for a callback sees the result when the callback has run.
        self._told = threading.Event() if callback or error_callback else None

    def ready(self) -> bool:
        """Whether the call is finished."""
        if self._told is not None:
            return self._told.is_set()
        return self._done or self._is_there()

    def successful(self) -> bool:
        """Whether the call ended without an exception."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        self._fetch()
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, at most `timeout` seconds."""
        if self._told is not None:
            self._told.wait(timeout)
        elif not self._done and self._wait(timeout) != TIMED_OUT:
            self._fetch()

    def get(self, timeout: float | None = None) -> R:
        """The result, or the call's exception.

        Raises
        ------
        multiprocessing.TimeoutError
            It is not there after `timeout` seconds.
        """
        self.wait(timeout)
        if not self.ready():
            raise PoolTimeoutError
        self._fetch()
        if self._success:
            return cast("R", self._value)
        raise self._value

    def _is_there(self) -> bool:
        raise NotImplementedError

    def _wait(self, timeout: float | None) -> int:
        raise NotImplementedError

    def _take(self) -> tuple[bool, Any]:
        raise NotImplementedError

    def _fetch(self) -> None:
        with self._lock:
            if self._done:
                return
            success, value = self._take()
            self._settle(success, value)

    def _settle(self, success: bool, value: Any) -> None:
        self._success, self._value = success, value
        self._done = True
        self._pool = None

    def _tell(self) -> None:
        """In the pool's thread: the callback, and then whoever waits."""
        told = cast("threading.Event", self._told)
        self._fetch()
        callback = self._callback if self._success else self._error_callback
        try:
            if callback:
                callback(self._value)
        finally:
            told.set()


class CallResult(AsyncResult[R]):
    """The result of one call."""

    _index = -1

    def _is_there(self) -> bool:
        pool = self._pool
        return pool is None or pool._core.has_single(pool._calls, self._index) or pool._is_broken()

    def _wait(self, timeout: float | None) -> int:
        pool = self._pool
        return OVER if pool is None else pool._core.wait_single(pool._calls, self._index, timeout)

    def _take(self) -> tuple[bool, Any]:
        pool = cast("Pool", self._pool)
        found = pool._core.fetch_single(pool._calls, self._index)
        if found is None:
            return False, pool._why_not()
        failed, value = found
        return not failed, value

    def __del__(self) -> None:
        pool = getattr(self, "_pool", None)
        if pool is not None and not self._done and self._told is None and self._index >= 0:
            pool._core.forget_single(pool._calls, self._index)


class MapResult(AsyncResult[R]):
    """The results of a map."""

    _job = -1
    _bar: Bar | None = None
    # What feeds and gathers it, when one thread does nothing else meanwhile.
    _map: PoolMap | None = None

    def _offer(self, function: int, items: Any, *, waits: bool) -> None:
        """Hands out all items; or, when this thread waits for nothing else, as many at a time as keep the workers busy."""
        core = cast("Pool", self._pool)._core
        if waits:
            self._map = core.begin(self._job, function, items, len(items))
        else:
            core.offer(self._job, function, items, True, False)

    def _is_there(self) -> bool:
        pool = self._pool
        return pool is None or pool._core.is_over(self._job) or pool._is_broken()

    def _wait(self, timeout: float | None) -> int:
        pool = self._pool
        if pool is None:
            return OVER
        if self._bar is None:
            return self._advance(pool, timeout)
        return self._watch(pool, self._bar, timeout)

    def _advance(self, pool: Pool, timeout: float | None) -> int:
        if self._map is None:
            return pool._core.wait_over(self._job, timeout)
        try:
            return pool._core.advance(self._map, timeout)
        except KeyboardInterrupt:
            raise  # who waits sees to what runs
        except BaseException as error:
            # The user's iterator raised it, or his handler of a signal. Nobody feeds the map any more.
            pool._core.forget(self._job)
            self._settle(False, error)
            if not isinstance(error, Exception):
                raise
            return OVER

    def _watch(self, pool: Pool, bar: Bar, timeout: float | None) -> int:
        """Waits, and tells the bar."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = INTERVAL if deadline is None else max(0.0, min(INTERVAL, deadline - time.monotonic()))
            status = self._advance(pool, left)
            progress = pool._core.progress(self._job)
            if progress is not None:
                bar.to(progress[0])
            if status != TIMED_OUT:
                bar.close()
                return status
            if deadline is not None and time.monotonic() >= deadline:
                return status

    def _take(self) -> tuple[bool, Any]:
        pool = cast("Pool", self._pool)
        found = None
        if pool._core.is_over(self._job):
            found = pool._core.gather(self._job) if self._map is None else self._map.results()
        pool._core.forget(self._job)
        if found is None:
            return False, pool._why_not()
        values, failure = found
        return (True, values) if failure is None else (False, failure)

    def __del__(self) -> None:
        pool = getattr(self, "_pool", None)
        if pool is None or self._done or self._job < 0 or self._told is not None:
            return
        if self._map is None:
            # As in multiprocessing, what was asked for is done even when nobody looks at the result.
            pool._core.abandon(self._job)
        else:
            pool._core.forget(self._job)  # nobody is left who would feed it


class _Raised:
    """An exception among values."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class IMapIterator(Iterator[R]):
    """Results of a lazy map, in order or as they come.

    It draws from the input only what keeps the workers busy. Close to the front it asks for little; each time that
    the reader had to wait it asks for twice as much, up to what the workers do in a few milliseconds.
    """

    def __init__(
        self,
        pool: Pool,
        job: int,
        function: int,
        iterable: Iterable[Any],
        chunksize: int,
        *,
        outcomes: bool = False,
        window: int | None = None,
        bar: Bar | None = None,
        keeps: bool = False,
    ) -> None:
        self._pool: Pool | None = pool
        # Whether what was asked for is done even when nobody looks at the results.
        self._keeps = keeps
        self._cancelled = False
        self._outcomes, self._bar = outcomes, bar
        self._count = 0
        self._job, self._function, self._chunksize = job, function, chunksize
        self._input = iter(iterable)
        self._sealed = False
        self._error: BaseException | None = None
        self._ready: deque[R | _Raised] = deque()
        self._low = 0
        self._window = window or 2 * len(pool._pool) + 2
        self._window_max = window or _WINDOW_MAX
        self._lock = threading.RLock()
        with self._lock:
            self._feed()

    def __iter__(self) -> IMapIterator[R]:
        return self

    def __next__(self) -> R:
        """The next result, or its exception."""
        # As `next`, without the calls: results come by the million.
        with self._lock:
            try:
                ready = self._ready
                if not ready:
                    self._fill(None)
                value = ready.popleft()
                if len(ready) == self._low and not self._sealed:
                    self._feed()
            except KeyboardInterrupt:
                self._cancel(interrupt=True)
                raise
        if isinstance(value, _Raised):
            raise value.error
        return value

    def next(self, timeout: float | None = None) -> R:
        """The next result, or its exception, waiting at most `timeout` seconds.

        Ctrl-C meanwhile ends the whole map: what runs of it is interrupted, as in `Pool.map`.
        """
        with self._lock:
            try:
                if not self._ready:
                    self._fill(timeout)
                value = self._pop()
            except KeyboardInterrupt:
                self._cancel(interrupt=True)
                raise
        result: R = self._opened(value)
        return result

    def _pop(self) -> Any:
        ready = self._ready
        value = ready.popleft()
        if len(ready) == self._low and not self._sealed:
            self._feed()
        return value

    @staticmethod
    def _opened(value: Any) -> Any:
        if type(value) is _Raised:
            raise value.error
        return value

    def _fill(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ready:
            pool = self._pool
            if pool is None:
                if self._cancelled:
                    from concurrent.futures import CancelledError  # noqa: PLC0415 - few are cancelled

                    raise CancelledError
                raise StopIteration
            if self._look(pool):
                continue
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            status = pool._core.wait_some(self._job, left)
            if status == TIMED_OUT:
                raise PoolTimeoutError
            if status != OVER or not pool._is_alive():
                self._give_up(pool)
                raise pool._why_not()
            self._widen()

    def _widen(self) -> None:
        """The reader had to wait."""
        self._window = min(2 * self._window, self._window_max)

    def _look(self, pool: Pool) -> bool:
        """Takes in what is there; False when one has to wait for it."""
        core = pool._core
        values: list[Any]
        self._feed()
        is_over = self._sealed and core.is_over(self._job)  # asked first: what comes later is not missed
        if self._outcomes:
            from coterie._pool.outcome import Outcome  # noqa: PLC0415 - dataclasses take longer to load than a worker

            found = core.fetch_outcomes(self._job)
            values = [
                Outcome(index, error=value) if failed else Outcome(index, value)
                for index, failed, value in found
            ]
        else:
            values, failures = core.fetch(self._job)
            for place in failures:
                values[place] = _Raised(values[place])
        if values:
            self._ready.extend(values)
            self._low = len(values) // 2
            if self._bar is not None:
                self._count += len(values)
                self._bar.to(self._count)
            self._feed()
        elif is_over and core.progress(self._job) is None:
            self._give_up(pool)  # it is over because the pool dropped it
            raise pool._why_not()
        elif is_over:
            self._finish(pool)
        return bool(values) or is_over

    def _finish(self, pool: Pool) -> None:
        self._give_up(pool)
        if self._error is not None:
            self._ready.append(_Raised(self._error))
            self._error = None

    def _give_up(self, pool: Pool) -> None:
        self._pool = None
        if self._bar is not None:
            self._bar.close()
        pool._core.cancel(self._job)
        pool._core.release(self._function)

    def _feed(self, everything: bool = False) -> None:
        """Draws input, chunk by chunk, and hands it out."""
        pool = self._pool
        while pool is not None and not self._sealed:
            wanted = pool._core.appetite(self._job, self._window)
            if everything:
                wanted = 1 << 12
            if wanted == 0:
                return
            wanted = -(-wanted // self._chunksize) * self._chunksize
            batch: list[Any] = []
            try:
                batch.extend(itertools.islice(self._input, wanted))
            except Exception as error:  # noqa: BLE001 - whatever the user's generator raises, in its place
                self._error = error
                del batch[
                    len(batch) - len(batch) % self._chunksize :
                ]  # a chunk that was not complete never was
            self._sealed = self._error is not None or len(batch) < wanted
            pool._core.offer(self._job, self._function, batch, self._sealed, False)

    def _exhaust(self) -> None:
        """Draws all that is left: the pool closes, and takes what was asked for before."""
        with self._lock:
            self._feed(everything=True)

    def _cancel(self, *, interrupt: bool = False) -> None:
        """What was not begun is not to be done; perhaps not even what runs."""
        with self._lock:
            pool = self._pool
            if pool is not None:
                self._cancelled = True
                self._ready.clear()
                try:
                    if interrupt:
                        pool._interrupt(self._job, None)
                finally:
                    self._give_up(pool)

    def __del__(self) -> None:
        pool = getattr(self, "_pool", None)
        if pool is None:
            return
        if self._keeps and self._sealed:
            pool._core.abandon(self._job)
            pool._core.release(self._function)
        else:
            self._give_up(pool)
