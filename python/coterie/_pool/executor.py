"""The pool as a `concurrent.futures.Executor`."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, _base
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from concurrent.futures.thread import BrokenThreadPool
from multiprocessing import TimeoutError as PoolTimeoutError
from multiprocessing.context import BaseContext
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback  # type: ignore[attr-defined]
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

from coterie._pool import cpus, stats as statistics
from coterie._pool.functions import ONE, STAR
from coterie._pool.pool import CALLS, SORTED, Pool
from coterie._pool.results import SOME, IMapIterator
from coterie.exceptions import StoppedError, WorkerDiedError

__all__ = ["Executor", "Future"]

P = ParamSpec("P")
R = TypeVar("R")


class BrokenWorkerError(WorkerDiedError, BrokenProcessPool):
    """A worker died under a call: as `concurrent.futures` calls it, though only this future failed."""


class Future(concurrent.futures.Future[R]):
    """What `Executor.submit` answers with: a future that can be cancelled while it runs.

    Examples
    --------
    >>> import time
    >>> import coterie
    >>> with coterie.Executor(1) as executor:
    ...     future = executor.submit(time.sleep, 60)
    ...     while not future.running():
    ...         time.sleep(0.01)
    ...     print(future.cancel(), future.cancel(force=True))
    False True
    """

    _works: _Works | None = None
    _index = -1

    def cancel(self, *, force: bool = False) -> bool:
        """Cancel the call, if it has not begun.

        Parameters
        ----------
        force : bool
            Cancel it even while it runs: its worker process is ended, and another takes its place.

        Returns
        -------
        bool
            Whether the call is cancelled now. A call that runs in a thread, or is finished, cannot be.
        """
        works = self._works
        if works is not None and not self.done() and not works.withdraw(self, force=force):
            return False
        if not super().cancel():
            return False
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            if self._state == _base.CANCELLED:
                self.set_running_or_notify_cancel()
        return True

    def running(self) -> bool:
        """Whether a worker is at it now."""
        works = self._works
        return not self.done() and works is not None and works.core.is_running(works.job, self._index)

    def _settle(self, failed: bool, value: Any) -> None:
        self._works = None
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # it was cancelled meanwhile
            if failed:
                self.set_exception(_as_expected(value))
            else:
                self.set_result(value)


class _Works:
    """What runs an executor's calls. It lives as long as there are any, even when the executor does not."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.core = pool, pool._core
        job = self.core.open(CALLS, None, 1, False)
        if job is None:
            raise StoppedError("the pool was stopped")
        self.job = job
        self._lock = threading.Lock()
        self._futures: dict[int, Future[Any]] = {}
        # Results that were faster than who asked for them.
        self._early: dict[int, tuple[bool, Any]] = {}
        # Calls whose worker was ended: what is said of them is for nobody.
        self._ended: set[int] = set()
        self._maps: weakref.WeakSet[IMapIterator[Any]] = weakref.WeakSet()
        self.closed: str | None = None
        pool._told[job, SOME] = self
        self.core.observe(job)

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwds: dict[str, Any]
    ) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            place, item = self.pool._prepare(function, args, kwds)
        except Exception as error:  # noqa: BLE001 - a function that cannot be pickled fails its future
            future.set_exception(error)
            return future
        future._works = self
        future._index = self.core.offer_call(self.job, place, item, False)
        with self._lock:
            early = self._early.pop(future._index, None)
            if early is None:
                self._futures[future._index] = future
        if early is not None:
            future._settle(*early)
        elif not self.pool._is_alive():
            self._tell()  # it broke or stopped meanwhile, and who was told then did not know of this one
        return future

    def withdraw(self, future: Future[Any], *, force: bool) -> bool:
        """Sees to it that a call is not done; says whether that came in time."""
        index = future._index
        # The lock keeps `_tell` from settling it meanwhile.
        with self._lock:
            if index not in self._futures:
                return False
            if not self.core.withdraw(self.job, index):
                if not force or not self.core.kill_runners(self.job, index):
                    return False
                self._ended.add(index)
            del self._futures[index]
        future._works = None
        return True

    def _tell(self) -> None:
        """In the pool's thread: results are there, or will never be."""
        found = self.core.fetch_outcomes(self.job)
        settled = []
        with self._lock:
            for index, failed, value in found:
                future = self._futures.pop(index, None)
                if index in self._ended:
                    self._ended.remove(index)
                elif future is None:
                    self._early[index] = (failed, value)
                else:
                    settled.append((future, failed, value))
        # Callbacks are the user's: no lock is held. Nobody but the future keeps a value.
        settled.reverse()
        while settled:
            future, failed, value = settled.pop()
            future._settle(failed, value)
            del future, value
        if not self.pool._is_alive():
            with self._lock:
                left = list(self._futures.values())
                self._futures.clear()
            for future in left:
                future._settle(True, self.broken() or self.pool._why_not())

    def broken(self) -> BaseException | None:
        """Why nothing more can be done, if that is so."""
        if self.core.failure() is None:
            return None
        why = self.pool._why_not()
        kind = BrokenThreadPool if self.pool._threads else BrokenProcessPool
        error: BaseException = kind(f"the executor does not work any more: {why}")
        error.__cause__ = why
        return error

    def close(self, why: str, *, cancel: bool = False) -> None:
        self.closed = self.closed or why
        if cancel:
            with self._lock:
                futures = list(self._futures.values())
            for future in reversed(futures):  # the last ones were not handed out yet
                future.cancel()
            for results in list(self._maps):
                results._cancel()
        self.pool.close()

    def interrupt(self) -> None:
        """Ctrl-C, which CPython's workers get themselves: what waits is cancelled, what runs is ended."""
        with self._lock:
            futures = list(self._futures.values())
        for future in reversed(futures):
            future.cancel()
        for results in list(self._maps):
            results._cancel(interrupt=True)
        self.pool._interrupt(self.job, None)

    def join(self) -> None:
        self.pool.join()
        self.pool._told.clear()  # nothing more is told, and nobody need wait for the garbage collector
        _all_works.discard(self)


# Those that may have something to do, so that it is done before the interpreter ends.
_all_works: set[_Works] = set()
_exits = False


class Executor(concurrent.futures.Executor):
    """A `concurrent.futures.Executor` on a `Pool`: calls return futures.

    Parameters
    ----------
    max_workers : int, optional
        How many workers; by default as many processes as `Pool` has, or four threads more than that and 32 at most, for
        threads often wait.
    mp_context : multiprocessing context, optional
        How workers start.
    initializer : callable, optional
        Called in each worker when it starts. If it raises, the executor is broken.
    initargs : tuple
        Its arguments.
    max_tasks_per_child : int, optional
        How many calls a worker does before another takes its place; with any way to start workers.
    backend : {"process", "thread"}
        Whether workers are processes, or threads of this process.
    retries, task_timeout, memory_limit, seed, name, logs
        As in `Pool`.

    Notes
    -----
    A worker that dies costs the future of the call that it ran, and no other: that fails with an error that is a
    `WorkerDiedError` and a `BrokenProcessPool`. The executor goes on, unless workers do nothing but die: then all
    its futures fail with `BrokenProcessPool`, as they do in `concurrent.futures` after the first death.

    Examples
    --------
    >>> import coterie
    >>> with coterie.Executor(2) as executor:
    ...     future = executor.submit(pow, 2, 10)
    ...     print(future.result(), list(executor.map(lambda x: x + 1, [1, 2, 3])))
    1024 [2, 3, 4]
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        backend: Literal["process", "thread"] = "process",
        retries: int = 0,
        task_timeout: float | None = None,
        memory_limit: int | None = None,
        seed: int | None = None,
        name: str | None = None,
        logs: bool = True,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        for finished in [works for works in _all_works if works.core.is_stopped()]:
            finished.join()
        if max_workers is None and backend == "thread":
            max_workers = min(32, cpus.available() + 4)
        pool = Pool(
            max_workers,
            initializer and _Initializer(initializer),
            initargs,
            max_tasks_per_child,
            mp_context,
            backend=backend,
            retries=retries,
            task_timeout=task_timeout,
            memory_limit=memory_limit,
            seed=seed,
            name=name,
            logs=logs,
        )
        self._works = _Works(pool)
        _all_works.add(self._works)
        self._max_workers = pool._processes
        self._mp_context = mp_context or multiprocessing
        # When nobody can submit any more, what was submitted is done all the same, as in `concurrent.futures`.
        weakref.finalize(self, _Works.close, self._works, "the executor is gone").atexit = False

    @property
    def _processes(self) -> dict[int, Any]:
        return {worker.pid: worker for worker in self._works.pool._pool if hasattr(worker, "pid")}

    @property
    def _broken(self) -> bool:
        return self._works.core.failure() is not None

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """`fn(*args, **kwargs)` in a worker.

        Returns
        -------
        Future
            Its `cancel(force=True)` ends the worker that runs it.

        Raises
        ------
        RuntimeError
            The executor was shut down.
        BrokenExecutor
            It does not work any more.
        """
        self._check()
        return self._works.submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """`fn` of the items of the iterables, in order, like the builtin `map`.

        Parameters
        ----------
        fn : callable
            It takes as many arguments as there are iterables.
        *iterables : iterable
            All of the input is drawn now, unless there is a `buffersize`.
        timeout : float, optional
            Seconds from now until the last result must be there; else `TimeoutError`.
        chunksize : int
            How many items count as one task for `max_tasks_per_child`. It makes nothing faster.
        buffersize : int, optional
            At most so many items are drawn whose results were not yet taken.

        Returns
        -------
        iterator
            An exception ends it; what was not begun by then is cancelled.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        self._check()
        deadline = None if timeout is None else time.monotonic() + timeout
        items: Iterable[Any] = iterables[0] if len(iterables) == 1 else zip(*iterables)  # noqa: B905 - as `map` does
        style = ONE if len(iterables) == 1 else STAR
        results: IMapIterator[R] = self._works.pool._imap(
            fn, items, chunksize, SORTED, style=style, window=buffersize, keeps=True
        )
        if buffersize is None:
            results._exhaust()
        self._works._maps.add(results)
        return _each(results, deadline)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Parameters
        ----------
        wait : bool
            Whether to return only when all calls are done and the workers have left.
        cancel_futures : bool
            Whether calls that have not begun are cancelled.
        """
        self._works.close("cannot schedule new futures after shutdown", cancel=cancel_futures)
        if wait:
            self._works.join()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._works.interrupt()
        self.shutdown(wait=True)

    def stats(self) -> statistics.PoolStats:
        """What the executor has done, and where its time went; see `Pool.stats`."""
        return statistics.read(self._works.core.statistics(), self._works.pool._name or type(self).__name__)

    def _check(self) -> None:
        works = self._works
        if works.pool._owner != os.getpid():
            raise StoppedError("this executor belongs to the parent process; make a new one here")
        broken = works.broken()
        if broken is not None:
            raise broken
        if _exits:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if works.closed is not None:
            raise RuntimeError(works.closed)


class _Initializer:
    """The user's initializer; what it raises is logged, as `concurrent.futures` does."""

    def __init__(self, initializer: Callable[..., object]) -> None:
        self._initializer = initializer

    def __call__(self, *arguments: Any) -> None:
        try:
            self._initializer(*arguments)
        except BaseException:
            _base.LOGGER.critical("Exception in initializer:", exc_info=True)
            raise


def _each(results: IMapIterator[R], deadline: float | None) -> Iterator[R]:
    try:
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            try:
                value = [results.next(left)]
            except StopIteration:
                return
            # Nobody but the caller keeps it.
            yield value.pop()
    except PoolTimeoutError:
        raise TimeoutError from None
    except CancelledError:
        raise
    except Exception as error:
        expected = _as_expected(error)
        if expected is error:
            raise
        raise expected from error
    finally:
        results._cancel()


def _as_expected(error: BaseException) -> BaseException:
    """An error as `concurrent.futures` tells it."""
    if isinstance(error.__cause__, RemoteTraceback):
        error.__cause__ = _RemoteTraceback(error.__cause__.tb)
    if type(error) is WorkerDiedError:
        expected = BrokenWorkerError(str(error), pid=error.pid, signal=error.signal, index=error.index)
        expected.__cause__ = error.__cause__
        return expected
    if type(error) is MaybeEncodingError and hasattr(error, "reason"):
        reason: BaseException = error.reason
        reason.__cause__ = error.__cause__
        return reason
    return error


def _at_exit() -> None:
    """All that was submitted is done before the interpreter ends."""
    global _exits  # noqa: PLW0603 - there is one interpreter
    _exits = True
    ours = [works for works in _all_works if works.pool._owner == os.getpid()]
    for works in ours:
        works.close("the interpreter ends")
    if _is_interrupted():
        for works in ours:
            works.interrupt()
    for works in ours:
        works.join()


def _is_interrupted() -> bool:
    """Whether the program ends because of Ctrl-C. At a prompt that was some earlier line."""
    last = getattr(sys, "last_type", None)
    return last is not None and issubclass(last, KeyboardInterrupt) and not hasattr(sys, "ps1")


def _forked() -> None:
    _all_works.clear()


threading._register_atexit(_at_exit)  # type: ignore[attr-defined]  # what concurrent.futures does
os.register_at_fork(after_in_child=_forked)
