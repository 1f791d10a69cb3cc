"""What a worker does."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import util
from multiprocessing.reduction import ForkingPickler
from types import FrameType
from typing import Any, NamedTuple

from coterie._coterie import PoolDesk, pool_follow
from coterie._pool import cpus, limits
from coterie._pool.functions import Dumper, LeftOut, Main, dump_by_value, is_large, loads

# How long what the initializer put into queues may take to arrive, in seconds.
_PATIENCE = 1.0


class Codec:
    """How a worker reads its tasks and says what came of them."""

    def __init__(self) -> None:
        self.loads = loads
        self.dumps = _Results()

    @staticmethod
    def load_function(definition: bytes) -> Any:
        """What tasks call."""
        return loads(definition)

    @staticmethod
    def failure(error: BaseException) -> bytes:
        """An exception, with the text of its traceback in case it cannot be rebuilt."""
        import traceback  # noqa: PLC0415 - what a worker may never need, no worker waits for

        lines = traceback.format_exception(type(error), error, error.__traceback__)
        text = '\n"""\n' + "".join(lines) + '"""'
        try:
            body = _dump_error(error)
        except Exception as why:  # noqa: BLE001 - whatever a user's __reduce__ raises
            body = _dump_error(_unencodable(why, error))
        return pickle.dumps((text, _summary(error), body))

    def encoding_failure(self, why: BaseException, result: object) -> bytes:
        """A result that cannot be pickled."""
        return self.failure(_unencodable(why, result))


class _Results(Dumper):
    """Results go by name. The one who made the pool has every class of its own ``__main__``; what it lacks goes by value."""

    def __init__(self) -> None:
        super().__init__(Main())

    def __call__(self, thing: Any) -> Any:
        left_out = LeftOut(is_large)
        try:
            made: Any = self._by_name(thing, left_out)
        except Exception:
            left_out.views.clear()
            try:
                # As in multiprocessing, a lambda of some module is no result; an object of a notebook's class is.
                made = self._by_value(thing, left_out, of_main=True)
            except Exception:  # noqa: BLE001 - the first error says more
                made = None
            if made is None:
                raise
        return (made, left_out.views) if left_out.views else made


def _dump_error(error: BaseException) -> bytes:
    try:
        return bytes(ForkingPickler.dumps(error))
    except Exception:
        try:
            return dump_by_value(error, Main(), of_main=True)
        except Exception:  # noqa: BLE001, S110 - the first error says more
            pass
        raise


def _unencodable(why: BaseException, thing: object) -> BaseException:
    from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]  # noqa: PLC0415 - seldom needed

    error: BaseException = MaybeEncodingError(why, thing)
    error.__cause__ = why
    try:
        loads(_dump_error(why))
    except Exception:  # noqa: BLE001 - whatever a user's __reduce__ raises
        return error
    error.reason = why  # type: ignore[attr-defined]  # for who is told what pickle said: the executor's users
    return error


def _summary(error: BaseException) -> str:
    import traceback  # noqa: PLC0415 - as above

    return "".join(traceback.format_exception_only(type(error), error)).strip()


class Place(NamedTuple):
    """Where a worker stands among processes, which a new interpreter could not know."""

    # A pool in a worker of a pool in …
    depth: int
    # How many workers share the processors.
    sharers: int
    # How many threads a numeric library may use; 0 leaves it alone.
    threads: int
    # Which of these libraries it has from the beginning, because it is forked.
    libraries: tuple[str, ...] | None

    @classmethod
    def below(cls, workers: int, threads: int | None) -> Place:
        """Of each of so many workers of this process."""
        sharers = cpus.sharers * workers
        if threads is None:
            # A single worker may use what this process might.
            leaves = workers == 1 or limits.is_decided()
            threads = 0 if leaves else max(1, cpus.available() // workers)
        return cls(cpus.depth + 1, sharers, threads, limits.loaded() if threads else ())

    def afar(self) -> Place:
        """For a worker in a new interpreter."""
        return self._replace(libraries=None)

    def take(self) -> None:
        """Say that we are there now."""
        cpus.descend(self.depth, self.sharers)
        limits.announce(self.threads)


def work(
    files: tuple[int, ...],
    workers: int,
    worker: int,
    sentinel: int,
    group: bool,
    place: Place,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    """The life of a worker process: `files` lead to the pool's memory, `sentinel` ends with the pool's process."""
    if not group:
        os.setpgid(0, 0)  # a terminal's Ctrl-C is for the pool's process, which decides what becomes of tasks
        place.take()  # with a template, that has taken it
    desk = PoolDesk(list(files), workers, worker)
    if desk.is_superfluous() and getattr(initializer, "is_bare", False):
        return  # the pool was closed before we were there, and nobody would see a difference
    limits.limit(place.threads, place.libraries)
    pool_follow(sentinel, not group)

    def interrupted(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape of a handler
        if desk.is_interrupted():
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupted)
    _reseed()
    codec = Codec()
    try:
        if initializer is not None:
            initializer(*initargs)
    except BaseException as error:  # noqa: BLE001 - told to whoever waits for a result
        told = codec.failure(error)
        _empty_queues()
        desk.give_up(told)
        raise SystemExit(1) from None
    desk.run(codec)


def _empty_queues() -> None:
    """What the initializer put into queues of multiprocessing arrives: the pool that fails ends its workers at once."""
    leaving = threading.Thread(target=util._run_finalizers, daemon=True)  # type: ignore[attr-defined]
    leaving.start()
    leaving.join(_PATIENCE)  # a queue that is full, and that nobody reads, is not waited for


def _reseed() -> None:
    # Forked workers would all draw the same numbers; `random` sees to itself.
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed()
