"""The process from which workers are forked: it has one thread, does nothing else, and stays as it was made."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import sys
from collections.abc import Callable
from multiprocessing import process as processes
from typing import Any, NamedTuple

from coterie._pool.worker import Place, work

REQUEST = struct.Struct("=cii")
REPLY = struct.Struct("=i")
START, REAP, LEAVE = b"S", b"R", b"L"
# No exit status: the process is not ours to ask about.
UNKNOWN = -(1 << 31)


class Plan(NamedTuple):
    """What all workers of a pool have in common."""

    # The descriptors that each of them inherits.
    files: list[tuple[int, ...]]
    # The numbers of the workers that are started at once, one each.
    numbers: tuple[int, ...]
    sentinel: int
    process: type[processes.BaseProcess]
    identity: tuple[int, ...]
    parent_id: int
    parent_name: str
    names: str
    place: Place
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]


def serve(channel: socket.socket, plan: Plan) -> None:
    """Forks workers and reaps them as it is told, until the other end is closed; then ends its process group."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    plan.place.take()  # once for all workers
    for worker, number in enumerate(plan.numbers):
        channel.sendall(REPLY.pack(_start(channel, plan, worker, number)))
    while True:
        request = channel.recv(REQUEST.size)
        if len(request) != REQUEST.size:
            _reap_all()
            break
        verb, worker, number = REQUEST.unpack(request)
        if verb == LEAVE:
            _wait_for_all()
            break
        channel.sendall(REPLY.pack(_start(channel, plan, worker, number) if verb == START else _reap(number)))
    os.killpg(0, signal.SIGKILL)


def _start(channel: socket.socket, plan: Plan, worker: int, number: int) -> int:
    try:
        child = os.fork()
    except OSError as error:
        return -(error.errno or 1)
    if child:
        return child
    code = 1
    try:
        channel.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = _process(plan, worker, number)._bootstrap(parent_sentinel=plan.sentinel)
    finally:
        os._exit(code)


def _process(plan: Plan, worker: int, number: int) -> Any:
    arguments = (plan.files[worker], len(plan.files), worker, plan.sentinel, True, plan.place)
    process: Any = plan.process(target=work, args=(*arguments, plan.initializer, plan.initargs))
    process._identity = (*plan.identity, number)
    process._parent_pid = plan.parent_id
    process._parent_name = plan.parent_name
    process._config["daemon"] = False
    process.name = plan.names.format(":".join(map(str, process._identity)))
    return process


def _reap(process: int) -> int:
    try:
        _, status = os.waitpid(process, 0)
    except OSError:
        return UNKNOWN
    return os.waitstatus_to_exitcode(status)


def _wait_for_all() -> None:
    """The workers are about to leave. If the pool's process dies meanwhile they end this group, and us with it."""
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return


def _reap_all() -> None:
    """Workers that have ended, so that no init need do it (a container may have none)."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except OSError:
        return


def main(channel: int, data: int) -> None:
    """A template in an interpreter of its own: what it is to be comes through the pipe `data`."""
    from multiprocessing import spawn  # noqa: PLC0415 - one that is forked does without

    with open(data, "rb") as pipe:
        preparation = pickle.load(pipe)
        spawn.prepare(preparation)
        plan = pickle.load(pipe)
    try:
        serve(socket.socket(fileno=channel), plan)
    finally:
        sys.stdout.flush()
        os._exit(1)
