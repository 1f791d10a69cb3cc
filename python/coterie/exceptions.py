"""What can go wrong, and what to do about it.

::

    CoterieError
    ├─ ConfigError(ValueError)            a setting is wrong; nothing was started
    ├─ RequestError                       refused; nothing changed
    │  ├─ EmptyRingError                  a ring without nodes was asked for an owner
    │  ├─ UnknownNodeError(KeyError)      .node is not here
    │  ├─ NoBackendError                  .reasons says why each backend was passed over
    │  ├─ NotLeaderError                  .leader .term of who takes this
    │  ├─ OverloadedError                 .limit that is reached: ask again later
    │  ├─ QuotaError                      the store is full: delete and compact
    │  ├─ CompactedError                  .revision where history begins now
    │  ├─ AuthError(PermissionError)      who asked could not prove that it may
    │  └─ StoppedError                    what was asked does nothing any more, or not now
    ├─ UnknownOutcomeError                it may or may not have happened
    ├─ LockTimeoutError(TimeoutError)     the lock was another's all the time that one waited
    ├─ LockLostError                      .token of a lock that is held no longer
    ├─ UnavailableError(ConnectionError)  no quorum within the time allowed; nothing happened
    ├─ StorageError(OSError)              .path .offset of what a disk failed to keep
    ├─ TaskError                         .index of what the pool itself says of an item
    │  ├─ WorkerDiedError                .pid .signal of the worker that died under it
    │  └─ TaskTimeoutError(TimeoutError) it ran longer than it may
    ├─ InvariantViolated                  .seed .step .invariant .trace of a simulated world
    └─ InternalError                      ours: please report

Each class says who erred and whether anything changed. All of them can be pickled, with their fields,
so they survive the way back from a worker process.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coterie._pool.timeouts import TaskTimeoutError

__all__ = [
    "AuthError",
    "CompactedError",
    "ConfigError",
    "CoterieError",
    "EmptyRingError",
    "InternalError",
    "InvariantViolated",
    "LockLostError",
    "LockTimeoutError",
    "NoBackendError",
    "NotLeaderError",
    "OverloadedError",
    "QuotaError",
    "RequestError",
    "StoppedError",
    "StorageError",
    "TaskError",
    "TaskTimeoutError",
    "UnavailableError",
    "UnknownNodeError",
    "UnknownOutcomeError",
    "WorkerDiedError",
]


class CoterieError(Exception):
    """Base of all errors that Coterie raises on purpose.

    Examples
    --------
    >>> import coterie
    >>> try:
    ...     coterie.ConsistentHash([]).get("key")
    ... except coterie.CoterieError as error:
    ...     print(type(error).__name__)
    EmptyRingError
    """

    def __init__(self, message: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.__dict__.update(fields)

    def __str__(self) -> str:
        # KeyError, a base of some of these, would print the message in quotes.
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[CoterieError], args: tuple[Any, ...], fields: dict[str, Any]) -> CoterieError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class ConfigError(CoterieError, ValueError):
    """A setting is wrong; nothing was started and nothing changed. Correct it and call again.

    Examples
    --------
    >>> import coterie
    >>> coterie.ConsistentHash(["a", "a"])
    Traceback (most recent call last):
        ...
    coterie.exceptions.ConfigError: two nodes are named 'a'; names must differ
    """


class RequestError(CoterieError):
    """A request was refused; nothing changed.

    Examples
    --------
    >>> import coterie
    >>> issubclass(coterie.NoBackendError, coterie.RequestError)
    True
    """


class EmptyRingError(RequestError):
    """A ring without nodes was asked for an owner. Add a node first.

    Examples
    --------
    >>> import coterie
    >>> coterie.ConsistentHash([]).get("key")
    Traceback (most recent call last):
        ...
    coterie.exceptions.EmptyRingError: the ring has no nodes; add one with add_node
    """


class UnknownNodeError(RequestError, KeyError):
    """A node or backend was named that is not here; nothing changed.

    Attributes
    ----------
    node : object
        What was named.

    Examples
    --------
    >>> import coterie
    >>> try:
    ...     coterie.ConsistentHash(["a"]).remove_node("b")
    ... except KeyError as error:
    ...     print(error.node)
    b
    """

    node: Hashable

    def __init__(self, message: str = "", *, node: Hashable = None) -> None:
        super().__init__(message, node=node)


class NoBackendError(RequestError):
    """No backend may take the request; nothing was counted.

    Attributes
    ----------
    reasons : dict
        For each backend, why it was passed over. Empty when the balancer has no backends at all.

    Examples
    --------
    >>> import coterie
    >>> from coterie.balance import RoundRobin, Trusted
    >>> balancer = Trusted(RoundRobin(["a"]), require={"tls": True}, labels={"a": {"tls": False}})
    >>> try:
    ...     balancer.pick()
    ... except coterie.NoBackendError as error:
    ...     print(error.reasons)
    {'a': "label 'tls' is False, not True"}
    """

    reasons: dict[Hashable, str]

    def __init__(self, message: str = "", *, reasons: Mapping[Hashable, str] | None = None) -> None:
        super().__init__(message, reasons=dict(reasons or {}))


class NotLeaderError(RequestError):
    """Only the leader takes this, and the member that was asked does not lead; nothing changed. Ask `leader`.

    Attributes
    ----------
    leader : int or None
        The id of the member that leads, when it is known.
    term : int
        The term that it leads.

    Examples
    --------
    >>> import coterie
    >>> coterie.NotLeaderError("ask another one", leader=2, term=7).leader
    2
    """

    leader: int | None
    term: int

    def __init__(self, message: str = "", *, leader: int | None = None, term: int = 0) -> None:
        super().__init__(message, leader=leader, term=term)


class OverloadedError(RequestError):
    """A bound is reached, and the request was not taken; nothing changed. Ask again later.

    Attributes
    ----------
    limit : str
        Which bound.

    Examples
    --------
    >>> import coterie
    >>> coterie.OverloadedError("too much at once", limit="pending_max").limit
    'pending_max'
    """

    limit: str

    def __init__(self, message: str = "", *, limit: str = "") -> None:
        super().__init__(message, limit=limit)


class QuotaError(RequestError):
    """The store is full; nothing changed. It takes nothing that adds until somebody makes room and says so.

    Delete keys, `compact` history, which counts as well, and `disarm`: all three are methods of a client.

    Examples
    --------
    >>> import coterie
    >>> issubclass(coterie.QuotaError, coterie.RequestError)
    True
    """


class CompactedError(RequestError):
    """History was asked for that is forgotten. Read the present state, and go on from there.

    Attributes
    ----------
    revision : int
        The first revision that can still be read.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     for n in range(5):
    ...         _ = client.kv.put("n", str(n))
    ...     client.compact(5)
    ...     try:
    ...         client.kv.entry("n", revision=2)
    ...     except coterie.CompactedError as error:
    ...         print(error.revision)
    5
    """

    revision: int

    def __init__(self, message: str = "", *, revision: int = 0) -> None:
        super().__init__(message, revision=revision)


class AuthError(RequestError, PermissionError):
    """Who asked could not prove to the cluster that it may, or the cluster to who asked; nothing changed.

    Examples
    --------
    >>> import coterie
    >>> issubclass(coterie.AuthError, PermissionError)
    True
    """


class StoppedError(RequestError):
    """What was asked does nothing any more, or is busy with another call; nothing changed.

    Examples
    --------
    >>> import coterie
    >>> from coterie import sim
    >>> kept = []
    >>> class Hoarder(sim.Process):
    ...     def start(self, now, random, records, out):
    ...         kept.append(out)
    >>> sim.World(lambda id: Hoarder(), members=1).run(seconds=1)
    >>> kept[0].send(1, "too late")
    Traceback (most recent call last):
        ...
    coterie.exceptions.StoppedError: this outbox was for an earlier input; use the one that came with this input
    """


class UnknownOutcomeError(CoterieError):
    """It may or may not have happened, or may yet happen. Look before you do it again.

    Examples
    --------
    >>> import coterie
    >>> from coterie import textbook
    >>> raft = textbook.Raft(["a", "b", "c"])
    >>> raft.start()
    >>> raft.world.partition([raft.world.leader])  # it does not know yet that nobody hears it
    >>> try:
    ...     raft.append("x = 1")
    ... except coterie.UnknownOutcomeError as error:
    ...     print(error)
    the outcome is unknown
    """


class LockTimeoutError(CoterieError, TimeoutError):
    """A lock was another's all the time that one was willing to wait. Its queue has forgotten who waited.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client, client.lock("door"):
    ...     try:
    ...         with client.lock("door", timeout=0.01):
    ...             pass
    ...     except TimeoutError as error:
    ...         print(error)
    'door' was held by another for 0.01 seconds
    """


class LockLostError(CoterieError):
    """A lock that was held is held no longer: others may have held it since, and may hold it now.

    What was done in the meantime was done without it, unless what it guards looks at fencing tokens (`coterie.Fence`).

    Attributes
    ----------
    token : int or None
        The fencing token of the lock that is lost.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     try:
    ...         with client.lock("door") as lock:
    ...             client.kv.delete("door/", prefix=True)  # as an operator may
    ...     except coterie.LockLostError as error:
    ...         print(error.token == lock.token)
    1
    True
    """

    token: int | None

    def __init__(self, message: str = "", *, token: int | None = None) -> None:
        super().__init__(message, token=token)


class UnavailableError(CoterieError, ConnectionError):
    """There was no quorum within the time allowed; nothing happened. Try again later.

    Examples
    --------
    >>> import coterie
    >>> from coterie import textbook
    >>> raft = textbook.Raft(["a", "b", "c"])
    >>> raft.world.pause(1)
    >>> raft.world.pause(2)
    >>> raft.start()
    Traceback (most recent call last):
        ...
    coterie.exceptions.UnavailableError: nobody was elected within 30 simulated seconds
    """


class StorageError(CoterieError, OSError):
    """A disk could not keep what it was given, or has kept something else. The member that it belongs to has stopped.

    Attributes
    ----------
    path : str
        The file.
    offset : int or None
        Where in it, when that is known.

    Examples
    --------
    >>> import coterie
    >>> coterie.StorageError("a record is damaged", path="wal/1", offset=4096).offset
    4096
    """

    path: str
    offset: int | None

    def __init__(self, message: str = "", *, path: str = "", offset: int | None = None) -> None:
        super().__init__(message, path=path, offset=offset)


class TaskError(CoterieError):
    """What the pool itself says of an item; a user's exception arrives as itself.

    Attributes
    ----------
    index : int or None
        Which item of a map; None when it is not about one.

    Examples
    --------
    >>> import coterie
    >>> class Stubborn:
    ...     def __reduce__(self):
    ...         return int, ("no number",)
    >>> with coterie.Pool(1) as pool:
    ...     try:
    ...         pool.apply(Stubborn)
    ...     except coterie.TaskError as error:
    ...         print(error)
    the result of item 0 cannot be unpickled: ValueError("invalid literal for int() with base 10: 'no number'")
    """

    index: int | None

    def __init__(self, message: str = "", *, index: int | None = None, **fields: Any) -> None:
        super().__init__(message, index=index, **fields)


class WorkerDiedError(TaskError):
    """A worker died under an item, more often than `retries` allows. What the item had done by then is unknown.

    Attributes
    ----------
    pid : int
        The worker.
    signal : int or None
        What ended it; None when it ended by itself.
    index : int or None
        The item that it ran.

    Examples
    --------
    >>> import os
    >>> import coterie
    >>> with coterie.Pool(1) as pool:
    ...     try:
    ...         pool.map(os._exit, [3])
    ...     except coterie.WorkerDiedError as error:
    ...         print(error.index, error.signal)
    0 None
    """

    pid: int
    signal: int | None

    def __init__(
        self, message: str = "", *, pid: int = 0, signal: int | None = None, index: int | None = None
    ) -> None:
        super().__init__(message, pid=pid, signal=signal, index=index)


class InvariantViolated(CoterieError):  # noqa: N818 - it tells a fact about a world, and is no error of the caller
    """Something happened in a simulated world that must never happen, or a process of the world raised an exception.

    The same seed and the same program lead to it again. When a process raised, that exception is the cause.

    Attributes
    ----------
    seed : int
        Of the world.
    step : int
        How many inputs had been handled.
    invariant : str
        What should have held.
    trace : coterie.sim.Trace
        What came before.

    Examples
    --------
    >>> import coterie
    >>> from coterie import sim
    >>> class Fragile(sim.Process):
    ...     def start(self, now, random, records, out):
    ...         raise RuntimeError("it broke")
    >>> try:
    ...     sim.World(lambda id: Fragile(), members=1, seed=7).run(seconds=1)
    ... except coterie.InvariantViolated as failure:
    ...     print(failure.seed, failure.invariant)
    ...     print(repr(failure.__cause__))
    7 no process raises
    RuntimeError('it broke')
    """

    seed: int
    step: int
    invariant: str
    trace: Any

    def __init__(
        self, message: str = "", *, seed: int = 0, step: int = 0, invariant: str = "", trace: Any = ()
    ) -> None:
        super().__init__(message, seed=seed, step=step, invariant=invariant, trace=trace)


class InternalError(CoterieError):
    """A bug of ours: please report it with the message. The object that raised it should not be used again.

    Examples
    --------
    >>> import coterie
    >>> issubclass(coterie.InternalError, RuntimeError)
    False
    """


def __getattr__(name: str) -> Any:
    # Its bases come from multiprocessing, which takes longer to import than all of this.
    if name == "TaskTimeoutError":
        from coterie._pool.timeouts import TaskTimeoutError  # noqa: PLC0415

        globals()[name] = TaskTimeoutError
        return TaskTimeoutError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
