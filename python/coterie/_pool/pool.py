"""A pool of workers with the interface of `multiprocessing.Pool`."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sized
from multiprocessing import util
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast, overload

from coterie._coterie import PoolCore
from coterie._pool import cpus, progress as bars
from coterie._pool.functions import CALL, ONE, STAR, Dumper, InContext, Main, is_importable, loads
from coterie._pool.relay import Begin, Relay
from coterie._pool.results import SOME, WHOLE, AsyncResult, CallResult, IMapIterator, MapResult
from coterie._pool.starters import ByContext, ForkedTemplate, FreshTemplate, Starter, Threads, alone
from coterie._pool.timeouts import TaskTimeoutError
from coterie._pool.worker import Place
from coterie.exceptions import ConfigError, StoppedError, TaskError, WorkerDiedError

if TYPE_CHECKING:
    from typing import Self

    # The last three are loaded by who wants them: dataclasses and hashes take longer to load than a worker.
    from coterie._pool import stats as statistics
    from coterie._pool.outcome import Outcome
    from coterie._pool.seeds import Seeds

__all__ = ["Pool"]

T = TypeVar("T")
R = TypeVar("R")

# As in `multiprocessing.pool`, which is imported only when there is a traceback to show: it costs as much as a fork.
INIT, RUN, CLOSE, TERMINATE = "INIT", "RUN", "CLOSE", "TERMINATE"
GATHERED, SORTED, ARRIVAL, SINGLE, CALLS = range(5)
_NOTHING: Mapping[str, Any] = {}
# Functions that were used lately keep their place, so that a stream of single calls need not send them again.
_FUNCTIONS_MAX = 256
# More than any machine has, of bytes and of threads.
_SANE = 1 << 47
# How long a task may take to end after it was interrupted.
_GRACE = 1.0


class Listener(Protocol):
    """Whom a pool tells, in its own thread, that something is there."""

    def _tell(self) -> None: ...


# Pools of this process, for the child of a fork, which must let go of them.
_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool:
    """Workers that do what they are given: a drop-in for `multiprocessing.Pool`.

    Parameters
    ----------
    processes : int, optional
        How many workers. By default as many as there are processors for this process, which its affinity and its
        control group may limit.
    initializer : callable, optional
        Called in each worker when it starts. If it raises, the pool fails with that exception.
    initargs : tuple
        The initializer's arguments.
    maxtasksperchild : int, optional
        How many tasks (for a map: chunks) a worker does before another takes its place.
    context : multiprocessing context, optional
        How workers start. By default as `multiprocessing.set_start_method` says; and if it was not called, or asks for
        Python's own default, workers are forked: from this process as it is now when it has one thread, else from a
        new interpreter. On macOS, where a fork is not safe, they are spawned.
    backend : {"process", "thread"}
        Whether workers are processes, or threads of this process.
    retries : int, default 0
        How often an item is tried again when the worker that ran it died.
    task_timeout : float, optional
        Seconds that an item may run. Then its worker is ended and replaced, and the item fails with
        `TaskTimeoutError`. Not for threads.
    seed : int, optional
        Before each item, Python's `random` and NumPy's global generator are seeded with this, the number of the pool's
        call, and the item's index: the same program draws the same numbers, whichever worker does what. Without it
        workers draw from generators of their own. Not for threads.
    blas_threads : int, optional
        How many threads NumPy's BLAS and other numeric libraries use in each worker: by default this process's
        processors divided by the workers, unless a variable like ``OMP_NUM_THREADS`` is set. Libraries that a forked
        worker has already loaded are limited through `threadpoolctl` if it is installed. 0 leaves them alone.
    memory_limit : int, optional
        How many bytes of shared memory large arguments and results may take together; by default a quarter of the
        machine's memory, or of the control group's. When it is used up they are copied instead. 0: always.
    engine
        Not available yet: anything but None is a `ConfigError`.
    progress : bool or callable, optional
        Whether maps draw a bar while somebody waits for them (tqdm's, if it is installed; else a line on the standard
        error). A callable is called with how many items are finished, and how many there are (None if unknown).
    name : str, optional
        What workers are called; a number follows.
    logs : bool, default True
        Whether what worker processes log and warn of is handled here, by the handlers of this process; else by
        whatever handlers a worker has.

    Raises
    ------
    ValueError, TypeError
        As `multiprocessing.Pool` does.
    ConfigError
        A setting is wrong; no worker was started.

    Notes
    -----
    A worker that dies costs the item that it ran, and no other: the item is tried again (`retries`) or fails with
    `WorkerDiedError`, and another worker takes the place. More than ten deaths within ten seconds, without one item
    finished, make the pool fail.

    A worker may make a pool of its own, three deep at most; by default it has its share of the processors.

    Threads run each call in a copy of the caller's context (`contextvars`).

    Functions that workers can import go by their names; lambdas, closures and what is defined in a notebook or at a
    prompt goes by value, once a map.

    Examples
    --------
    >>> from coterie import Pool
    >>> with Pool(2) as pool:
    ...     print(pool.map(lambda x: x * x, range(5)))
    ...     print(pool.apply(max, (3, 7)))
    [0, 1, 4, 9, 16]
    7
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
        engine: str | None = None,
        blas_threads: int | None = None,
        logs: bool = True,
    ) -> None:
        self._state = INIT
        if processes is None:
            processes = cpus.available()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        _check(
            backend,
            retries,
            task_timeout,
            seed,
            {"blas_threads": blas_threads, "memory_limit": memory_limit},
            {"engine": engine},
        )
        self._seeds: Seeds | None = None
        if seed is not None:
            from coterie._pool.seeds import Seeds  # noqa: PLC0415 - see TYPE_CHECKING

            self._seeds = Seeds(seed)
        self._owner = os.getpid()
        self._processes = processes
        self._progress, self._name = progress or False, name
        self._calls = -1
        self._functions: OrderedDict[tuple[Any, int], int] = OrderedDict()
        self._lock = threading.RLock()
        self._told: dict[tuple[int, int], Listener] = {}
        self._lazy: weakref.WeakSet[IMapIterator[Any]] = weakref.WeakSet()
        threads = backend == "thread"
        self._relay: Relay | None = None
        host = _Host(weakref.ref(self))
        self._core = PoolCore(
            host,
            processes,
            retries=retries,
            task_timeout=task_timeout,
            tasks_max=maxtasksperchild,
            threads=threads,
            memory_limit=memory_limit,
        )
        initargs = tuple(initargs)
        if threads:
            starter: Starter = Threads(initializer, initargs, name or "CoteriePoolThread")
            starter.core = self._core  # type: ignore[attr-defined]
        else:
            self._relay = Relay() if logs else None
            starter = _starter(
                context,
                [tuple(self._core.files(worker)) for worker in range(processes)],
                Place.below(processes, blas_threads),
                Begin(self._relay, initializer),
                initargs,
                name,
            )
        host.begin(starter)
        self._starter = starter
        self._threads = threads
        self._dumps = host.dumps
        try:
            (self._core.expect if starter.hurries else self._core.populate)()
        except BaseException:
            self._core.terminate()
            self._core.watch()
            _end(self._core, starter, self._owner, threads, self._relay)
            raise
        self._core.watch()
        if self._relay is not None:
            self._relay.listen()
        self._terminate = util.Finalize(
            self, _end, args=(self._core, starter, self._owner, threads, self._relay), exitpriority=15
        )
        _pools.add(self)
        self._state = RUN

    @property
    def _pool(self) -> list[Any]:
        return self._starter.members()

    def _repopulate_pool(self) -> None:
        self._core.populate()

    def __repr__(self) -> str:
        kind = type(self)
        return f"<{kind.__module__}.{kind.__qualname__} state={self._state} pool_size={self._processes}>"

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.terminate()

    def __del__(self, _warn: Any = warnings.warn, _run: str = RUN) -> None:
        if self._state == _run and self._owner == os.getpid():
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    # Calls

    def apply(
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
        result = self._call(func, args, kwds, None, None, waits=True)
        value: R = self._attend(result, self._calls, result._index)
        return value

    def apply_async(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = _NOTHING,
        callback: Callable[[R], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[R]:
        """The same without waiting.

        Returns
        -------
        AsyncResult
            `get`, `wait`, `ready` and `successful`, as in multiprocessing.
        """
        return self._call(func, args, kwds, callback, error_callback, waits=False)

    def map(self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int | None = None) -> list[R]:
        """`func` of each item, in order; the first exception that came if there was one.

        `chunksize` counts tasks for `maxtasksperchild`; it makes nothing faster.
        """
        result = self._map(func, iterable, ONE, chunksize, None, None, waits=True)
        values: list[R] = self._attend(result, result._job, None)
        return values

    def map_async(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[R]]:
        """The same without waiting."""
        return self._map(func, iterable, ONE, chunksize, callback, error_callback, waits=False)

    def starmap(
        self, func: Callable[..., R], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[R]:
        """`func(*item)` of each item, in order."""
        result = self._map(func, iterable, STAR, chunksize, None, None, waits=True)
        values: list[R] = self._attend(result, result._job, None)
        return values

    def starmap_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[R]]:
        """The same without waiting."""
        return self._map(func, iterable, STAR, chunksize, callback, error_callback, waits=False)

    @overload
    def imap(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int = 1,
        *,
        outcomes: Literal[False] = False,
    ) -> IMapIterator[R]: ...
    @overload
    def imap(
        self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int = 1, *, outcomes: Literal[True]
    ) -> IMapIterator[Outcome[R]]: ...
    def imap(
        self, func: Callable[[T], Any], iterable: Iterable[T], chunksize: int = 1, *, outcomes: bool = False
    ) -> IMapIterator[Any]:
        """`func` of each item, in order, while the input is drawn: it may be endless.

        Returns
        -------
        iterator
            Its `next(timeout)` waits so long at most. An item's exception is raised in its place, and the next item
            follows. With `outcomes` it is not raised: each item gives an `Outcome`.
        """
        return self._imap(func, iterable, chunksize, SORTED, outcomes=outcomes)

    @overload
    def imap_unordered(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int = 1,
        *,
        outcomes: Literal[False] = False,
    ) -> IMapIterator[R]: ...
    @overload
    def imap_unordered(
        self, func: Callable[[T], R], iterable: Iterable[T], chunksize: int = 1, *, outcomes: Literal[True]
    ) -> IMapIterator[Outcome[R]]: ...
    def imap_unordered(
        self, func: Callable[[T], Any], iterable: Iterable[T], chunksize: int = 1, *, outcomes: bool = False
    ) -> IMapIterator[Any]:
        """The same in the order in which results come."""
        return self._imap(func, iterable, chunksize, ARRIVAL, outcomes=outcomes)

    def stats(self) -> statistics.PoolStats:
        """What the pool has done, and where its time went.

        Returns
        -------
        PoolStats
            `done` and `waiting` items; `workers`, each with the share of its life in which it was `busy`; seconds in
            `user_code`, `pickling` and `transport`; bytes each way. It prints itself, in a notebook as a table.
        """
        from coterie._pool import stats as statistics  # noqa: PLC0415 - see TYPE_CHECKING

        return statistics.read(self._core.statistics(), self._name or type(self).__name__)

    @overload
    def share(self, thing: bytes | bytearray | memoryview) -> memoryview: ...
    @overload
    def share(self, thing: T) -> T: ...
    def share(self, thing: Any) -> Any:
        """Place an array or bytes in shared memory once, for as many tasks as there are.

        Parameters
        ----------
        thing : array, bytes, or an object that holds some
            Anything whose buffers `pickle` can leave out: NumPy arrays, and what is made of them.

        Returns
        -------
        object
            The same, read-only; a memoryview for bytes. Wherever it stands in what a task of this pool is given, in an
            argument or among what a function refers to, the worker sees this very memory and nothing is copied. When
            the last object that looks at it is gone, here and in the workers, the memory is free again.

        Raises
        ------
        TypeError
            There is no buffer in it.
        MemoryError
            There is no room for it: see `memory_limit`.

        Notes
        -----
        Elsewhere (another pool, a file) it is pickled like any array, by value. A worker that returns a part of it
        returns a copy.

        Examples
        --------
        >>> from coterie import Pool
        >>> with Pool(2) as pool:
        ...     text = pool.share(b"to be or not to be")
        ...     pool.starmap(lambda text, at: bytes(text[at : at + 2]), [(text, 0), (text, 3)])
        [b'to', b'be']
        """
        self._check_running()
        if isinstance(thing, (bytes, bytearray, memoryview)):
            return self._placed(memoryview(thing).cast("B"))
        body, views = self._dumps.parted(thing)
        if not views:
            raise TypeError(f"there is no buffer in this {type(thing).__name__} that workers could look at")
        return loads(body, buffers=[self._placed(view) for view in views])

    def _placed(self, view: memoryview) -> memoryview:
        if self._threads:
            return memoryview(bytes(view))
        placed = self._core.place(view)
        if placed is None:
            raise MemoryError(
                f"the pool has no room for {view.nbytes} bytes: drop something, or give it a larger memory_limit"
            )
        return placed

    # The end

    def close(self) -> None:
        """Takes no more work; workers leave when all is done."""
        if self._state == RUN:
            self._state = CLOSE
            self._core.close()

    def terminate(self) -> None:
        """Ends all workers at once. Results that are not there never will be."""
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Wait until all workers have left, after `close` or `terminate`."""
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        if self._state == CLOSE:
            for iterator in list(self._lazy):
                iterator._exhaust()
        self._core.wait_stopped(None)
        self._core.join_threads()
        self._starter.stop()
        if self._relay is not None:
            self._relay.stop()
        self._terminate.cancel()

    # Below

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")
        if self._owner != os.getpid():
            raise StoppedError("this pool belongs to the parent process; make a new one here")

    def _function(self, func: Callable[..., Any], style: int) -> int:
        """The place of what tasks call, with one more user."""
        core = self._core
        if self._threads:
            return core.define(style, InContext(func))
        if not is_importable(func, self._starter.main):
            return core.define(style, *self._dumps.function(func))
        return self._lasting(func, style, lambda func: bytes(ForkingPickler.dumps(func)))

    def _lasting(
        self, func: Callable[..., Any], style: int, definition: Callable[[Callable[..., Any]], Any]
    ) -> int:
        """The same for a function that keeps its place, because it is likely to be called again."""
        core = self._core
        with self._lock:
            place = self._functions.get((func, style))
            if place is None:
                place = core.define(style, definition(func))
                self._functions[func, style] = place
                if len(self._functions) > _FUNCTIONS_MAX:
                    core.release(self._functions.popitem(last=False)[1])
            core.share(place)
            return place

    def _sown(
        self, func: Callable[..., Any], style: int, items: Iterable[Any]
    ) -> tuple[Callable[..., Any], int, Iterable[Any]]:
        """With a seed, what is called with seeded generators, and numbered items."""
        if self._seeds is None:
            return func, style, items
        return self._seeds.of(func, style), ONE, enumerate(items)

    def _prepare(
        self, func: Callable[..., Any], args: Iterable[Any], kwds: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """The place of a call's function, with one more user, and its item."""
        args, kwds = tuple(args), dict(kwds)
        if self._threads:
            # The function goes with its arguments, so that nobody keeps it once it has been called.
            return self._lasting(_call, ONE, lambda call: call), (InContext(func), args, kwds)
        # One argument needs no pickle of a pair.
        style, item = (ONE, args[0]) if len(args) == 1 and not kwds else (CALL, (args, kwds))
        if self._seeds is not None:
            func, style, item = self._seeds.of(func, style), ONE, (0, item)
        return self._function(func, style), item

    def _call(
        self,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwds: Mapping[str, Any],
        callback: Any,
        error_callback: Any,
        *,
        waits: bool,
    ) -> CallResult[Any]:
        self._check_running()
        core = self._core
        result: CallResult[Any] = CallResult(self, callback, error_callback)
        try:
            place, item = self._prepare(func, args, kwds)
        except Exception as error:  # noqa: BLE001 - it belongs to the result, as in multiprocessing
            result._settle(False, error)
            if result._told is not None:
                result._tell()
            return result
        with self._lock:
            if self._calls < 0:
                opened = core.open(SINGLE, None, 1, False)
                if opened is None:
                    raise ValueError("Pool not running")
                self._calls = opened
        job = self._calls
        index = core.offer_call(job, place, item, waits)
        result._index = index
        if result._told is not None:
            self._told[job, index] = result
            if core.notify_item(job, index):
                self._deliver([(job, index)])
        return result

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        style: int,
        chunksize: int | None,
        callback: Any,
        error_callback: Any,
        *,
        waits: bool,
    ) -> MapResult[Any]:
        self._check_running()
        func, style, iterable = self._sown(func, style, iterable)
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        if chunksize is None:
            chunksize = -(-len(cast("Sized", iterable)) // (4 * self._processes))
        core = self._core
        result: MapResult[Any] = MapResult(self, callback, error_callback)
        told = result._told is not None
        job: int | None = None
        place: int | None = None
        try:
            place = self._function(func, style)
            job = core.open(GATHERED, place, max(1, chunksize), told)
            if job is None:
                raise ValueError("Pool not running")  # noqa: TRY301 - it is what the caller is told
            result._job = job
            result._bar = bars.bar(self._progress, len(cast("Sized", iterable)), self._name)
            if told:
                self._told[job, WHOLE] = result
            result._offer(place, iterable, waits=waits)
        except BaseException as error:
            if job is not None:
                self._told.pop((job, WHOLE), None)
                core.forget(job)
            result._settle(False, error)
            if (
                not isinstance(error, Exception)
                or self._core.is_stopped()
                or (place is not None and job is None)
            ):
                raise
            if told:
                result._tell()
        finally:
            if place is not None:
                core.release(place)
        return result

    def _imap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        order: int,
        *,
        outcomes: bool = False,
        style: int = ONE,
        window: int | None = None,
        keeps: bool = False,
    ) -> IMapIterator[Any]:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
        func, style, iterable = self._sown(func, style, iterable)
        place = self._function(func, style)
        job = self._core.open(order, place if keeps else None, chunksize, False)
        if job is None:
            raise ValueError("Pool not running")
        total = len(iterable) if isinstance(iterable, Sized) else None
        bar = bars.bar(self._progress, total, self._name)
        iterator: IMapIterator[Any] = IMapIterator(
            self, job, place, iterable, chunksize, outcomes=outcomes, window=window, bar=bar, keeps=keeps
        )
        self._lazy.add(iterator)
        return iterator

    def _attend(self, result: AsyncResult[Any], job: int, item: int | None) -> Any:
        """Waits for a result; whoever is interrupted meanwhile wants it no more."""
        try:
            return result.get()
        except KeyboardInterrupt:
            if result._done or job < 0:
                raise
            try:
                self._interrupt(job, item)
            finally:
                if item is None:
                    self._core.forget(job)
                else:
                    self._core.forget_single(job, item)
                result._settle(False, KeyboardInterrupt())
            raise

    def _interrupt(self, job: int, item: int | None) -> None:
        """What runs of a job, or of one call, ends within a second, or at the next Ctrl-C; what was not begun never is."""
        core = self._core
        if item is not None and core.withdraw(job, item):
            return
        if core.interrupt(job, item):
            try:
                core.wait_at_rest(job, item, _GRACE)
            finally:
                core.kill_runners(job, item)

    def _deliver(self, finished: list[tuple[int, int]]) -> None:
        """In the pool's thread: tells whoever asked to be told."""
        for key in finished:
            # Who hears of some results goes on hearing.
            told = self._told
            result = told.get(key) if key[1] == SOME else told.pop(key, None)
            if result is None:
                continue
            try:
                result._tell()
            except BaseException:  # noqa: BLE001 - a callback's error is its author's, as in a thread
                sys.excepthook(*sys.exc_info())

    def _is_alive(self) -> bool:
        return not self._core.is_stopped() and not self._is_broken()

    def _is_broken(self) -> bool:
        return self._state == TERMINATE or self._core.failure() is not None

    def _why_not(self) -> BaseException:
        """Why a result will never be there."""
        failure = self._core.failure()
        if self._state == TERMINATE or failure is None:
            return StoppedError("the pool was terminated before this was done")
        word, value = failure
        if word == "initializer":
            return _rebuilt(value, "the pool's initializer")
        if word == "object":
            return cast("BaseException", value)
        if word == "hopeless":
            pid, signal = value
            return WorkerDiedError(
                "more than ten workers died within ten seconds and nothing was finished: the pool has given up",
                pid=pid,
                signal=signal or None,
            )
        return TaskError(f"the pool does not work: {value}")


class _Host:
    """What the pool's threads ask of Python."""

    loads = staticmethod(loads)

    def __init__(self, pool: weakref.ref[Pool]) -> None:
        self._pool = pool
        self.dumps = Dumper(Main())

    def begin(self, starter: Starter) -> None:
        self.start, self.reap, self.dismiss = starter.start, starter.reap, starter.dismiss
        self.dumps = Dumper(starter.main, self._is_placed)

    def _is_placed(self, view: memoryview) -> bool:
        pool = self._pool()
        return pool is not None and pool._core.is_placed(view)

    def deliver(self, finished: list[tuple[int, int]]) -> None:
        pool = self._pool()
        if pool is not None:
            pool._deliver(finished)

    @staticmethod
    def failed(index: int, told: bytes) -> BaseException:
        return _rebuilt(told, f"item {index}", index)

    @staticmethod
    def cannot_load(index: int, why: BaseException) -> BaseException:
        error = TaskError(f"the result of item {index} cannot be unpickled: {why!r}", index=index)
        error.__cause__ = why
        return error

    @staticmethod
    def died(index: int, pid: int, signal: int) -> BaseException:
        how = f"by signal {signal}" if signal else "by itself"
        return WorkerDiedError(
            f"worker {pid} ended {how} while it ran item {index}", index=index, pid=pid, signal=signal or None
        )

    @staticmethod
    def timed_out(index: int, pid: int) -> BaseException:
        return TaskTimeoutError(f"item {index} ran longer than it may; worker {pid} was ended", index=index)


def _call(call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
    """A single call in a thread."""
    function, args, kwds = call
    return function(*args, **kwds)


def _rebuilt(told: bytes, what: str, index: int | None = None) -> BaseException:
    """An exception as it was, with the worker's traceback as its cause."""
    text, summary, body = loads(told)
    error: BaseException
    try:
        error = loads(body)
        if not isinstance(error, BaseException):
            raise TypeError(f"{error!r} is no exception")  # noqa: TRY301 - said below
    except Exception as why:  # noqa: BLE001 - whatever a user's class raises
        error = TaskError(
            f"{what} raised an exception that cannot be rebuilt here ({why!r}): {summary}", index=index
        )
    from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]  # noqa: PLC0415 - see INIT

    error.__cause__ = RemoteTraceback(text)
    return error


def _check(
    backend: str,
    retries: int,
    task_timeout: float | None,
    seed: int | None,
    sizes: Mapping[str, int | None],
    later: Mapping[str, object],
) -> None:
    if backend not in ("process", "thread"):
        raise ConfigError(f"backend must be 'process' or 'thread', not {backend!r}")
    if retries < 0:
        raise ConfigError(f"retries must be 0 or more, not {retries}")
    if task_timeout is not None and not task_timeout > 0:
        raise ConfigError(f"task_timeout must be positive, not {task_timeout}")
    if task_timeout is not None and backend == "thread":
        raise ConfigError("task_timeout needs processes: a thread cannot be ended")
    if seed is not None and backend == "thread":
        raise ConfigError("seed needs processes: threads share one random generator")
    _check_sizes(sizes)
    cpus.check_depth()
    for setting, value in later.items():
        if value is not None:
            raise ConfigError(f"{setting} is not available in this version")


def _check_sizes(sizes: Mapping[str, int | None]) -> None:
    for setting, size in sizes.items():
        if size is not None and not 0 <= size < _SANE:
            raise ConfigError(f"{setting} must be 0 or more, not {size}")


def _starter(
    context: Any,
    files: list[tuple[int, ...]],
    place: Place,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    name: str | None,
) -> Starter:
    method = _wished(context)
    if method is None and sys.platform == "darwin":
        # Apple's libraries do not survive a fork: there a program begins anew, as multiprocessing does it.
        method = "spawn"
    context = context or multiprocessing.get_context(method or "fork")
    if method in ("spawn", "forkserver"):
        return ByContext(context, files, place, initializer, initargs)
    process = context.Process
    names = f"{name}-{{}}" if name else f"{process.__name__.replace('Process', 'PoolWorker')}-{{}}"
    with alone() as is_alone:
        if method == "fork" or is_alone:
            return ForkedTemplate(files, place, initializer, initargs, names, process)
    return FreshTemplate(files, place, initializer, initargs, names, process)


def _wished(context: BaseContext | None) -> str | None:
    """The start method that the user asked for; None if it is ours to choose."""
    if context is not None:
        return context.get_start_method()
    method = multiprocessing.get_start_method(allow_none=True)
    # Who makes a lock or a queue (tqdm, for one) fixes the default, and nobody can tell that from a wish for it. A
    # process with threads is not to be forked because of that.
    return None if method == multiprocessing.get_all_start_methods()[0] else method


def _end(core: PoolCore, starter: Starter, owner: int, threads: bool, relay: Relay | None) -> None:
    """Ends the workers, and waits for it; nothing in a forked child."""
    if owner != os.getpid():
        return
    core.terminate()
    core.wait_stopped(None)
    core.join_threads()
    if not threads:
        starter.stop()
    if relay is not None:
        relay.stop()


def _forked() -> None:
    for pool in list(_pools):
        pool._starter.leave()
        if pool._relay is not None:
            pool._relay.leave()


os.register_at_fork(after_in_child=_forked)
