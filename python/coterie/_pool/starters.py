"""How workers come to be.

- `ForkedTemplate`: they are forked from a process that was forked from this one when the pool was made, so they find
  everything as it was then. Only a process with one thread can be forked safely.
- `FreshTemplate`: they are forked from a new interpreter, which knows nothing of this process but what it is sent.
- `ByContext`: multiprocessing starts them (spawn, forkserver).
- `Threads`: they are threads of this process.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import process as processes, reduction, util
from multiprocessing.context import BaseContext, set_spawning_popen
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from coterie._coterie import PoolDesk, pool_await_end, pool_hold, pool_pin, pool_resume
from coterie._pool import template
from coterie._pool.functions import ImportedMain, InheritedMain, Main, dump_by_value, loads
from coterie._pool.template import LEAVE, REAP, REPLY, REQUEST, START, UNKNOWN, Plan
from coterie._pool.worker import Place, work

Initializer = Callable[..., object] | None


class Starter(Protocol):
    """What the pool asks of each way to start workers."""

    main: Main
    # Whether the first workers are on their way before they are asked for.
    hurries: bool

    def start(self, worker: int) -> int:
        """Start a worker; its process id, or zero."""

    def reap(self, worker: int) -> int | None:
        """A worker has ended: how."""

    def dismiss(self) -> None:
        """All workers were told to leave, and nothing will be asked for but their end."""

    def members(self) -> list[Any]:
        """The workers, as objects like `multiprocessing.Process`."""

    def stop(self) -> None:
        """All workers have ended."""

    def leave(self) -> None:
        """In a forked child: let go of what belongs to the parent."""


class Member:
    """A worker process that a template forked."""

    def __init__(self, pid: int, name: str) -> None:
        self.pid = self.ident = pid
        self.name = name
        self.daemon = False
        self.exitcode: int | None = None

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.exitcode is None and not self._has_ended(0)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        if self.exitcode is None:
            self._has_ended(timeout)

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _has_ended(self, timeout: float | None) -> bool:
        return pool_await_end(self.pid, None if timeout is None else max(0.0, timeout))

    def __repr__(self) -> str:
        state = "started" if self.exitcode is None else f"stopped exitcode={self.exitcode}"
        return f"<{type(self).__name__} name={self.name!r} pid={self.pid} {state}>"


class _Template:
    """The pool's side of a template."""

    hurries = True

    def __init__(self, names: str) -> None:
        self._channel, self._theirs = socket.socketpair()
        # Its end tells workers that this process is gone, however it went.
        self._sentinel, self._alive = os.pipe()
        self._lock = threading.RLock()
        self._members: dict[int, Member] = {}
        self._names = names
        self._pid = 0
        # The first workers are started without being asked for: who they are stands in the channel, in this order.
        self._numbers: deque[tuple[int, int]] = deque()
        self._begun: dict[int, int] = {}

    def _plan(
        self,
        files: list[tuple[int, ...]],
        place: Place,
        initializer: Initializer,
        initargs: tuple[Any, ...],
        process: type[BaseProcess],
        sentinel: int,
    ) -> Plan:
        current: Any = processes.current_process()
        counter: Any = processes._process_counter  # type: ignore[attr-defined]
        numbers = tuple(next(counter) for _ in files)
        self._numbers.extend(enumerate(numbers))
        return Plan(
            files=files,
            numbers=numbers,
            sentinel=sentinel,
            process=process,
            identity=tuple(current._identity),
            parent_id=os.getpid(),
            parent_name=current.name,
            names=self._names,
            place=place,
            initializer=initializer,
            initargs=initargs,
        )

    def start(self, worker: int) -> int:
        with self._lock:
            while self._numbers and worker not in self._begun:
                self._greet()
            if worker in self._begun:
                return self._answered(self._begun.pop(worker))
            counter: Any = processes._process_counter  # type: ignore[attr-defined]
            number = next(counter)
            return self._answered(self._know(worker, number, self._ask(START, worker, number)))

    def _greet(self) -> None:
        """Hears of the next of the first workers."""
        worker, number = self._numbers.popleft()
        self._begun[worker] = self._know(worker, number, self._hear())

    def _know(self, worker: int, number: int, pid: int) -> int:
        if pid > 0:
            identity = (*processes.current_process()._identity, number)
            self._members[worker] = Member(pid, self._names.format(":".join(map(str, identity))))
        return pid

    @staticmethod
    def _answered(pid: int) -> int:
        if pid < 0:
            raise OSError(-pid, f"a worker could not be forked: {os.strerror(-pid)}")
        return pid

    def reap(self, worker: int) -> int | None:
        with self._lock:
            member = self._members[worker]
            try:
                status = self._ask(REAP, 0, member.pid)
            except OSError:
                status = UNKNOWN
            member.exitcode = 255 if status == UNKNOWN else status
            return None if status == UNKNOWN else status

    def dismiss(self) -> None:
        # The template ends with the last worker, and not when the pool has seen that one end.
        with self._lock, contextlib.suppress(OSError):
            while self._numbers:
                self._greet()
            self._channel.sendall(REQUEST.pack(LEAVE, 0, 0))

    def _ask(self, verb: bytes, worker: int, number: int) -> int:
        while self._numbers:
            self._greet()
        with contextlib.suppress(OSError):
            self._channel.sendall(REQUEST.pack(verb, worker, number))
        return self._hear()

    def _hear(self) -> int:
        try:
            answer = self._channel.recv(REPLY.size, socket.MSG_WAITALL)
        except OSError:
            answer = b""
        if len(answer) != REPLY.size:
            raise ChildProcessError("the process from which workers are forked has ended")
        return int(REPLY.unpack(answer)[0])

    def members(self) -> list[Any]:
        with self._lock:
            with contextlib.suppress(OSError):
                while self._numbers:
                    self._greet()
            return [self._members[worker] for worker in sorted(self._members)]

    def stop(self) -> None:
        with self._lock:
            if self._pid == 0:
                return
            self.leave()
            with contextlib.suppress(OSError):
                os.waitpid(self._pid, 0)
            self._pid = 0

    def leave(self) -> None:
        self._channel.close()
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1


class ForkedTemplate(_Template):
    """Workers find everything as it was when the pool was made."""

    def __init__(
        self,
        files: list[tuple[int, ...]],
        place: Place,
        initializer: Initializer,
        initargs: tuple[Any, ...],
        names: str,
        process: type[BaseProcess],
    ) -> None:
        super().__init__(names)
        self.main: Main = InheritedMain()
        plan = self._plan(files, place, initializer, initargs, process, self._sentinel)
        util._flush_std_streams()  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            if has_one_thread():
                # Python 3.12 and later warn of threads; those that there are belong to pools and run no Python now.
                warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            try:
                pool_resume()  # what `alone` holds
                self.leave()
                template.serve(self._theirs, plan)
            finally:
                os._exit(1)
        self._theirs.close()
        os.close(self._sentinel)


class FreshTemplate(_Template):
    """Workers know nothing of this process but what they are sent."""

    def __init__(
        self,
        files: list[tuple[int, ...]],
        place: Place,
        initializer: Initializer,
        initargs: tuple[Any, ...],
        names: str,
        process: type[BaseProcess],
    ) -> None:
        from multiprocessing import spawn  # noqa: PLC0415 - who forks does without

        super().__init__(names)
        self.main = Main()
        self._lent: list[int] = []
        data, pipe = os.pipe()
        plan = self._plan(files, place.afar(), initializer, initargs, process, self._sentinel)
        preparation = spawn.get_preparation_data("template")
        for key in ("init_main_from_name", "init_main_from_path"):
            preparation.pop(key, None)
        preparation["start_method"] = "fork"
        set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            sent = pickle.dumps(preparation) + dump_by_value(plan, self.main)
        finally:
            set_spawning_popen(None)
        command = sys.executable
        flags: list[str] = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
        code = f"from coterie._pool.template import main; main({self._theirs.fileno()}, {data})"
        arguments = [
            os.fsencode(command),
            *map(os.fsencode, flags),
            b"-c",
            code.encode(),
        ]
        # What the plan holds of sockets and files is inherited under its own number.
        own = (data, self._sentinel, self._theirs.fileno())
        kept = {*own, *self._lent, *(file for each in files for file in each)}
        self._pid = util.spawnv_passfds(os.fsencode(command), arguments, sorted(kept))
        self._theirs.close()
        os.close(self._sentinel)
        os.close(data)
        with open(pipe, "wb") as out:  # noqa: PTH123 - a descriptor
            out.write(sent)

    @staticmethod
    def DupFd(descriptor: int) -> Any:  # noqa: N802 - multiprocessing's name
        """For multiprocessing's reductions: how a descriptor is pickled."""
        from multiprocessing import popen_spawn_posix  # noqa: PLC0415 - who forks does without

        return popen_spawn_posix._DupFd(descriptor)

    def duplicate_for_child(self, descriptor: int) -> int:
        """For multiprocessing's reductions: descriptors are inherited under their own numbers."""
        self._lent.append(descriptor)
        return descriptor


class _Inherited:
    """A descriptor that arrives in a child of multiprocessing as a number."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return _detached, (reduction.DupFd(self.descriptor),)


def _detached(duplicate: Any) -> int:
    return int(duplicate.detach())


class _Begun:
    """The initializer and its arguments, by value where a new interpreter could not import them."""

    def __init__(self, initializer: Initializer, initargs: tuple[Any, ...], main: Main) -> None:
        self.initializer, self.initargs, self.main = initializer, initargs, main

    def __reduce__(self) -> tuple[Any, ...]:
        return loads, (dump_by_value((self.initializer, self.initargs), self.main),)


def _work(
    files: tuple[int, ...],
    workers: int,
    worker: int,
    sentinel: int,
    place: Place,
    begun: tuple[Initializer, tuple[Any, ...]],
) -> None:
    work(files, workers, worker, sentinel, False, place, *begun)


@contextlib.contextmanager
def _importable_main() -> Iterator[None]:
    """Without a ``__main__.__file__`` that is no file (a program from standard input), which a child could not import."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None or getattr(main, "__spec__", None) is not None or os.path.exists(file):  # noqa: PTH110 - a str
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = file


class ByContext:
    """Workers that multiprocessing starts."""

    hurries = False

    def __init__(
        self,
        context: BaseContext,
        files: list[tuple[int, ...]],
        place: Place,
        initializer: Initializer,
        initargs: tuple[Any, ...],
    ) -> None:
        self.main: Main = ImportedMain()
        self._context: Any = context
        self._files, self._place = files, place.afar()
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        self._begun = _Begun(initializer, initargs, self.main)
        self._sentinel, self._alive = os.pipe()
        self._lock = threading.RLock()
        self._members: dict[int, Any] = {}

    def start(self, worker: int) -> int:
        with self._lock:
            arguments = (
                tuple(map(_Inherited, self._files[worker])),
                len(self._files),
                worker,
                _Inherited(self._sentinel),
                self._place,
                self._begun,
            )
            process = self._context.Process(target=_work, args=arguments)
            process.name = process.name.replace("Process", "PoolWorker")
            # A child inherits which signals are blocked; the pool's own thread, which may be ours, blocks them all.
            mask = signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            try:
                with _importable_main():
                    process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._members[worker] = process
            return int(process.pid)

    def reap(self, worker: int) -> int | None:
        with self._lock:
            process = self._members[worker]
            _join_with_group(process)
            return None if process.exitcode is None else int(process.exitcode)

    def dismiss(self) -> None:
        pass

    def members(self) -> list[Any]:
        with self._lock:
            return [self._members[worker] for worker in sorted(self._members)]

    def stop(self) -> None:
        for process in self.members():
            _join_with_group(process)
        self.leave()

    def leave(self) -> None:
        if self._alive >= 0:
            os.close(self._alive)
            os.close(self._sentinel)
            self._alive = -1


def _join_with_group(process: Any) -> None:
    """Waits for a worker's end, and ends what it started and left: its process group, which only it led."""
    process.join()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class Threads:
    """Workers that are threads of this process."""

    main = Main()
    hurries = False

    def __init__(self, initializer: Initializer, initargs: tuple[Any, ...], name: str) -> None:
        self._initializer, self._initargs, self._name = initializer, initargs, name
        self._members: dict[int, threading.Thread] = {}
        self._count = 0
        self._lock = threading.RLock()
        self.core: Any = None

    def start(self, worker: int) -> int:
        with self._lock:
            self._count += 1
            desk = self.core.desk(worker)
            thread = threading.Thread(
                target=self._work, args=(worker, desk), name=f"{self._name}-{self._count}"
            )
            thread.daemon = True
            self._members[worker] = thread
            thread.start()
            return 0

    def _work(self, worker: int, desk: PoolDesk) -> None:
        try:
            try:
                if self._initializer is not None:
                    self._initializer(*self._initargs)
            except BaseException as error:  # noqa: BLE001 - it is told to whoever waits for a result
                self.core.fail(error)
                return
            desk.run(_NoCodec)
        finally:
            self.core.left(worker)

    def reap(self, worker: int) -> int | None:  # noqa: ARG002 - a thread ends in one way
        return 0

    def dismiss(self) -> None:
        pass

    def members(self) -> list[Any]:
        with self._lock:
            return [self._members[worker] for worker in sorted(self._members)]

    def stop(self) -> None:
        for thread in self.members():
            thread.join()

    def leave(self) -> None:
        self._members.clear()


class _NoCodec:
    """Objects stay what they are."""

    loads = dumps = None


def has_one_thread() -> bool:
    """Whether this process can be forked safely: no other thread of Python's is there."""
    return len(sys._current_frames()) == 1


# How long the threads of pools may take to leave Python (a callback of the user's may keep them there).
_PATIENCE = 0.2


@contextlib.contextmanager
def alone() -> Iterator[bool]:
    """Keeps the threads of all pools out of Python meanwhile, if they leave in time; says whether no other is in it."""
    held = pool_hold(_PATIENCE)
    try:
        yield held and has_one_thread()
    finally:
        pool_resume()


def _before_fork() -> None:
    pool_hold(_PATIENCE)
    pool_pin()


# Whoever forks, we or the user's program: no thread of ours shall own a lock of Python's then, for the child's sake.
os.register_at_fork(
    before=_before_fork,
    after_in_parent=pool_resume,
    after_in_child=lambda: pool_resume(True),
)
