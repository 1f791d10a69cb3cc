"""The client for event loops."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from coterie import _coterie
from coterie._client.elections import below
from coterie._client.keyvalue import following, pairs_of, range_arguments, swap_arguments
from coterie._client.locks import checked_ttl, lost_error, shown, timeout_error
from coterie._client.members import PAUSE, Patience, id_among
from coterie._client.transactions import Conditional
from coterie._client.urls import File, open_core
from coterie._client.values import (
    Entry,
    Event,
    Key,
    Leader,
    MemberInfo,
    Status,
    TransactionResult,
    Value,
    entry_of,
    events_of,
    leader_of,
    members_of,
    status_of,
)
from coterie._client.watches import PRESENT, Watching, after
from coterie.exceptions import ConfigError, CoterieError, RequestError, StoppedError, UnavailableError

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "Client",
    "Election",
    "KeyValue",
    "Lock",
    "Lost",
    "Members",
    "RLock",
    "Transaction",
    "Watch",
    "connect",
]

# For how many seconds a closed client still hears of what becomes of its calls.
_LINGER = 1.0

_To = tuple[_coterie.ClientQueue, "asyncio.Future[Any]"]


def connect(
    url: str,
    *,
    timeout: float = 5.0,
    grace: float | None = 0.03,
    cluster: str = "coterie",
    secret: File | Literal[False] | None = None,
    tls: tuple[File, File, File] | None = None,
) -> Client:
    """A client for the event loop that first uses it. As `coterie.connect`, with `await`.

    Nothing is sent before something is asked, so this itself is not awaited.

    Parameters
    ----------
    url, timeout, grace, cluster, secret, tls
        As for `coterie.connect`.

    Examples
    --------
    >>> import asyncio
    >>> import coterie.aio
    >>> async def main():
    ...     async with coterie.aio.connect("memory:") as client:
    ...         await client.kv.put("color", "red")
    ...         async with client.lock("printer", timeout=10) as lock:
    ...             print(await client.kv.get("color"), lock.token)
    >>> asyncio.run(main())
    b'red' 3
    """
    return Client(url, open_core(url, timeout, grace, cluster, secret, tls), timeout)


class _Core:
    """The compiled half, and the way of its answers into one event loop."""

    def __init__(self, core: _coterie.ClientCore, timeout: float) -> None:
        self.compiled, self.timeout = core, timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: _coterie.ClientQueue | None = None

    def expect(self) -> _To:
        """A place for an answer: the queue to the running loop, and a future of it."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._enter(loop)
        if self._queue is None:
            raise StoppedError("stopped: the client is closed")
        return self._queue, loop.create_future()

    def _enter(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            raise RuntimeError(
                "this client belongs to another event loop; connect in each loop that needs one"
            )
        self._loop, self._queue = loop, _coterie.ClientQueue()
        loop.add_reader(self._queue.fileno(), self._queue.resolve)

    def leave(self) -> None:
        """Nothing is expected any more."""
        if self._loop is not None and self._queue is not None and not self._loop.is_closed():
            # Those who wait are told a moment after the one who closes.
            self._loop.call_later(_LINGER, self._loop.remove_reader, self._queue.fileno())
        self._queue = None

    async def ask(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a method of the compiled half, and waits for its answer."""
        to = self.expect()
        method(*arguments, to)
        return await to[1]

    def wait(self, timeout: float | None) -> float:
        """The time that a request has."""
        return self.timeout if timeout is None else timeout

    async def acquire(
        self, name: Key, value: Value, ttl: float, wait: float | None
    ) -> _coterie.ClientHold | None:
        """Queues for a lock; whoever is cancelled has left the queue."""
        to = self.expect()
        future = to[1]
        queueing = self.compiled.acquire(name, value, ttl, wait, self.timeout, to)
        try:
            if wait is None or wait <= 0:
                hold: _coterie.ClientHold | None = await future
            else:
                done, _ = await asyncio.wait([future], timeout=wait)
                if not done and queueing.cancel():
                    return None
                hold = await future
        except asyncio.CancelledError:
            queueing.cancel()
            if future.done() and not future.cancelled() and future.exception() is None:
                # It came in the same moment.
                hold = future.result()
                if hold is not None:
                    hold.release(self.timeout, self.expect())
            raise
        return hold


class KeyValue:
    """Ordered keys with their values, as `coterie.client.KeyValue`, with `await`.

    Examples
    --------
    >>> import asyncio
    >>> import coterie.aio
    >>> async def main():
    ...     async with coterie.aio.connect("memory:") as client:
    ...         await asyncio.gather(*(client.kv.put(f"key-{n}", str(n)) for n in range(1000)))
    ...         print(await client.kv.count("key-"), await client.kv.get("key-7"))
    >>> asyncio.run(main())
    1000 b'7'
    """

    def __init__(self, core: _Core) -> None:
        self._core = core

    async def put(self, key: Key, value: Value, *, timeout: float | None = None) -> int:
        """Set a key, and return the revision that did."""
        core = self._core
        to = core.expect()
        core.compiled.put(key, value, 0, core.wait(timeout), to)
        revision: int = await to[1]
        return revision

    async def put_many(
        self, items: Mapping[Any, Value] | Iterable[tuple[Key, Value]], *, timeout: float | None = None
    ) -> int:
        """Set many keys, all under way at once, and return the last revision. Each is set by itself."""
        core = self._core
        revisions = await core.ask(core.compiled.put_many, pairs_of(items), core.wait(timeout))
        return max(revisions, default=0)

    async def get(self, key: Key, *, timeout: float | None = None) -> bytes | None:
        """The value of a key; None when it is not there."""
        core = self._core
        to = core.expect()
        core.compiled.get(key, core.wait(timeout), to)
        value: bytes | None = await to[1]
        return value

    async def entry(
        self, key: Key, *, revision: int | None = None, timeout: float | None = None
    ) -> Entry | None:
        """A key with its revisions, as it is, or as it was after a revision; None when it is not there."""
        core = self._core
        found = await core.ask(core.compiled.entry, key, revision, core.wait(timeout))
        return None if found is None else entry_of(found)

    async def range(
        self,
        prefix: Key = "",
        *,
        start: Key | None = None,
        end: Key | None = None,
        limit: int | None = None,
        descending: bool = False,
        keys_only: bool = False,
        revision: int | None = None,
        timeout: float | None = None,
    ) -> list[Entry]:
        """Entries in the order of their keys, all as of one revision: see `coterie.client.KeyValue.range`."""
        core, found = self._core, list[Entry]()
        begin, stop, whole = range_arguments(prefix, start, end)
        while True:
            left = 0 if limit is None else limit - len(found)
            if limit is not None and left <= 0:
                return found
            arguments = begin, stop, whole, left, descending, keys_only, False, revision
            part, more, _, seen = await core.ask(core.compiled.range, *arguments, core.wait(timeout))
            found += [entry_of(entry) for entry in part]
            if not more or not part:
                return found
            revision = seen if revision is None else revision
            begin, stop, whole = following(begin, stop, whole, part[-1][0], descending)

    async def count(self, prefix: Key = "", *, timeout: float | None = None) -> int:
        """How many keys begin with `prefix`."""
        core = self._core
        arguments = prefix, None, True, 0, False, False, True, None
        _, _, total, _ = await core.ask(core.compiled.range, *arguments, core.wait(timeout))
        count: int = total
        return count

    async def delete(self, key: Key, *, prefix: bool = False, timeout: float | None = None) -> int:
        """Take a key away, or with `prefix` all that begin with it; return how many were there."""
        core = self._core
        count: int = await core.ask(core.compiled.delete, key, prefix, core.wait(timeout))
        return count

    async def compare_and_swap(
        self,
        key: Key,
        expected: Value | Entry | None,
        value: Value | None,
        *,
        timeout: float | None = None,
    ) -> bool:
        """Set a key (None: take it away) if it is as expected: see `coterie.client.KeyValue.compare_and_swap`."""
        core = self._core
        known, revision = swap_arguments(expected)
        method = core.compiled.compare_and_swap
        swapped: bool = await core.ask(method, key, known, revision, value, core.wait(timeout))
        return swapped

    def transaction(self) -> Transaction:
        """Begin a transaction: add conditions and steps, then `await commit()`."""
        return Transaction(self._core)


class Transaction(Conditional):
    """A transaction, as `coterie.client.Transaction`, with `await`.

    Examples
    --------
    >>> import asyncio
    >>> import coterie.aio
    >>> async def main():
    ...     async with coterie.aio.connect("memory:") as client:
    ...         sale = client.kv.transaction().require("sold", exists=False).put("sold", "1")
    ...         print((await sale.commit()).succeeded, (await sale.commit()).succeeded)
    >>> asyncio.run(main())
    True False
    """

    def __init__(self, core: _Core) -> None:
        super().__init__()
        self._core = core

    async def commit(self, *, timeout: float | None = None) -> TransactionResult:
        """Do it. A transaction may be committed several times."""
        core = self._core
        return self._result(await core.ask(core.compiled.transaction, *self._arguments(), core.wait(timeout)))


class Watch(Watching):
    """What happens to some keys, as `coterie.client.Watch`, for ``async for``.

    Examples
    --------
    >>> import asyncio
    >>> import coterie.aio
    >>> async def main():
    ...     async with coterie.aio.connect("memory:") as client:
    ...         async with client.watch("color/", start_revision=1) as watch:
    ...             await client.kv.put("color/1", "red")
    ...             async for event in watch:
    ...                 print(event.kind, event.key)
    ...                 break
    >>> asyncio.run(main())
    put b'color/1'
    """

    def __init__(self, core: _Core, watch: _coterie.ClientWatch) -> None:
        super().__init__(watch)
        self._client = core
        # What was asked for, and nobody has taken.
        self._late: asyncio.Future[Any] | None = None

    async def _begin(self) -> Self:
        """Waits until what happens from now on is seen."""
        if self.next_revision is None:
            client = self._client
            # Its own question went before this one; whichever is answered first, from then on nothing is missed.
            present = after(await client.ask(client.compiled.range, *PRESENT, client.timeout))
            until = asyncio.get_running_loop().time() + client.timeout
            while self.next_revision is None:
                if asyncio.get_running_loop().time() > until:
                    raise UnavailableError(f"no quorum said in time that revision {present} comes next")
                await asyncio.sleep(0.001)
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            batch = await self._next(None)
            if batch is None:
                raise StopAsyncIteration
            self._ready.extend(batch)
        return self._ready.popleft()

    async def next_batch(self, timeout: float | None = None) -> list[Event]:
        """All events that are there, or else the next ones; an empty list when none came in `timeout` seconds."""
        if self._ready:
            events = list(self._ready)
            self._ready.clear()
            return events
        return await self._next(timeout) or []

    async def _next(self, timeout: float | None) -> list[Event] | None:
        future = self._late
        if future is None:
            to = self._client.expect()
            self._late = future = to[1]
            self._core.next(None, to)
        try:
            done, _ = await asyncio.wait([future], timeout=timeout)
            if not done:
                if self._core.cancel():
                    self._late = None
                    return []
                await asyncio.wait([future])
        except asyncio.CancelledError:
            if self._core.cancel():
                self._late = None
            raise  # what is on its way is for the next one who asks
        self._late = None
        batch = future.result()
        return None if batch is None else events_of(batch)

    async def __aenter__(self) -> Self:
        return await self._begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Lost:
    """Says when a lock is lost, as an `asyncio.Event` would. See `coterie.client.Lost`.

    Examples
    --------
    >>> import asyncio
    >>> import coterie.aio
    >>> async def main():
    ...     async with coterie.aio.connect("memory:") as client, client.lock("door") as lock:
    ...         print(lock.lost.is_set())
    >>> asyncio.run(main())
    False
    """

    def __init__(self, core: _Core, hold: _coterie.ClientHold) -> None:
        self._core, self._hold = core, hold

    def is_set(self) -> bool:
        """Whether the lock is lost."""
        return self._hold.is_lost()

    async def wait(self) -> bool:
        """Wait until it is lost, and return True."""
        await self._core.ask(self._hold.wait_lost, None)
        return True

    def __bool__(self) -> bool:
        raise TypeError("an event is neither true nor false; ask lost.is_set()")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'set' if self._hold.is_lost() else 'not set'}>"


class _Scope:
    """Cancels a task when a lock is lost."""

    def __init__(self, core: _Core, hold: _coterie.ClientHold) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a lock's scope needs a task to cancel")
        self._task, self._cancelled = task, False
        self._cancelling = task.cancelling()
        to = core.expect()
        self._heard = to[1]
        self._heard.add_done_callback(self._lose)
        hold.wait_lost(None, to)

    def _lose(self, heard: asyncio.Future[Any]) -> None:
        if not heard.cancelled() and heard.exception() is None:
            self._cancelled = True
            self._task.cancel()

    def close(self, kind: type[BaseException] | None) -> bool:
        """Ends it. Whether the task was cancelled by it, and by nobody else."""
        self._heard.remove_done_callback(self._lose)
        self._heard.cancel()
        if not self._cancelled:
            return False
        ours = self._task.uncancel() <= self._cancelling
        return ours and (kind is None or issubclass(kind, asyncio.CancelledError))


class Lock:
    """A lock of the whole cluster, as `coterie.client.Lock`, with the methods of `asyncio.Lock`.

    ``async with`` is a scope: when the lock is lost, what runs in it is cancelled, and `LockLostError` raised.

    Examples
    --------
    >>> import asyncio
    >>> import coterie.aio
    >>> async def main():
    ...     async with coterie.aio.connect("memory:") as client:
    ...         try:
    ...             async with client.lock("door"):
    ...                 await client.kv.delete("door/", prefix=True)  # as an operator may
    ...         except coterie.LockLostError as error:
    ...             print(error)
    >>> asyncio.run(main())
    'door' was lost while it was held: others may have held it since
    """

    def __init__(self, core: _Core, name: Key, ttl: float, timeout: float | None) -> None:
        self._core, self._name, self._ttl, self._timeout = core, name, checked_ttl(ttl), timeout
        self._hold: _coterie.ClientHold | None = None
        self._latest: _coterie.ClientHold | None = None
        self._scope: _Scope | None = None

    @property
    def name(self) -> Key:
        """What is locked."""
        return self._name

    @property
    def token(self) -> int:
        """The fencing token of the latest acquisition: greater than that of every holder before."""
        return self._acquired().token

    @property
    def key(self) -> bytes:
        """The key by which it is held: there as long as it is. A transaction may require it, with the token."""
        return self._acquired().key

    @property
    def lost(self) -> Lost:
        """An event that is set when the lock is lost."""
        return Lost(self._core, self._acquired())

    def _acquired(self) -> _coterie.ClientHold:
        if self._latest is None:
            raise RuntimeError(f"{shown(self._name)} was not acquired by this object")
        return self._latest

    async def acquire(self, *, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock, and return whether that was done.

        Parameters
        ----------
        blocking
            Whether to wait while another one has it.
        timeout
            For how many seconds; -1: for ever. A task that is cancelled meanwhile gives its place in the queue back.
        """
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        wait = (None if timeout == -1 else float(timeout)) if blocking else 0.0
        hold = await self._core.acquire(self._name, b"", self._ttl, wait)
        if hold is None:
            return False
        self._hold = self._latest = hold
        return True

    async def release(self) -> None:
        """Give the lock back: the next one who waits has it.

        Raises
        ------
        RuntimeError
            If it is not held by this object.
        LockLostError
            If it was lost before.
        """
        hold, self._hold = self._hold, None
        if hold is None:
            raise RuntimeError("Lock is not acquired.")
        if await self._core.ask(hold.release, self._core.timeout) is False:
            raise lost_error(self._name, hold.token)

    def locked(self) -> bool:
        """Whether it is held by this object, as far as is known here."""
        return self._hold is not None and not self._hold.is_lost()

    async def __aenter__(self) -> Self:
        if self._timeout is None:
            await self.acquire()
        elif not await self.acquire(timeout=self._timeout):
            raise timeout_error(self._name, self._timeout)
        if self._hold is not None:
            self._scope = _Scope(self._core, self._hold)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        scope, self._scope = self._scope, None
        lost = scope is not None and scope.close(kind)
        token = self.token
        try:
            await self.release()
        except CoterieError as problem:
            if error is None or lost:
                raise
            error.add_note(f"and the lock: {problem}")
        if lost:
            raise lost_error(self._name, token)

    def __repr__(self) -> str:
        state = f"token={self._hold.token}" if self._hold is not None else "not held"
        lost = ", lost" if self._hold is not None and self._hold.is_lost() else ""
        return f"{type(self).__name__}({shown(self._name)}, {state}{lost})"


class _Reentrance:
    """Which task holds a re-entrant lock of one client, and how often."""

    def __init__(self, lock: Lock) -> None:
        self.lock = lock
        self.owner: asyncio.Task[Any] | None = None
        self.count = 0


class RLock:
    """A lock of the whole cluster that the task which has it may acquire again. All of one name are the same lock.

    Examples
    --------
    >>> import asyncio
    >>> import coterie.aio
    >>> async def main():
    ...     async with coterie.aio.connect("memory:") as client:
    ...         async with client.rlock("door") as outer, client.rlock("door") as inner:
    ...             print(outer.token == inner.token)
    >>> asyncio.run(main())
    True
    """

    def __init__(self, state: _Reentrance, timeout: float | None) -> None:
        self._state, self._timeout = state, timeout
        self._scopes: list[_Scope | None] = []

    @property
    def name(self) -> Key:
        """What is locked."""
        return self._state.lock.name

    @property
    def token(self) -> int:
        """The fencing token of the latest acquisition."""
        return self._state.lock.token

    @property
    def key(self) -> bytes:
        """The key by which it is held: there as long as it is. A transaction may require it, with the token."""
        return self._state.lock.key

    @property
    def lost(self) -> Lost:
        """An event that is set when the lock is lost."""
        return self._state.lock.lost

    async def acquire(self, *, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock, once more if this task has it; return whether that was done. See `Lock.acquire`."""
        state, me = self._state, asyncio.current_task()
        if me is not None and state.owner is me:
            if state.lock.lost.is_set():
                raise lost_error(state.lock.name, state.lock.token)
            state.count += 1
            return True
        if not await state.lock.acquire(blocking=blocking, timeout=timeout):
            return False
        state.owner, state.count = me, 1
        return True

    async def release(self) -> None:
        """Give the lock back, when it was released as often as acquired. See `Lock.release`."""
        state = self._state
        if state.owner is None or state.owner is not asyncio.current_task():
            raise RuntimeError("cannot release un-acquired lock")
        state.count -= 1
        if not state.count:
            state.owner = None
            await state.lock.release()

    async def __aenter__(self) -> Self:
        if self._timeout is None:
            await self.acquire()
        elif not await self.acquire(timeout=self._timeout):
            raise timeout_error(self.name, self._timeout)
        hold = self._state.lock._hold
        outermost = self._state.count == 1 and hold is not None
        self._scopes.append(_Scope(self._state.lock._core, hold) if outermost and hold is not None else None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        scope, token = self._scopes.pop(), self.token
        lost = scope is not None and scope.close(kind)
        try:
            await self.release()
        except CoterieError as problem:
            if error is None or lost:
                raise
            error.add_note(f"and the lock: {problem}")
        if lost:
            raise lost_error(self.name, token)


class Election:
    """Who of many is the one, as `coterie.client.Election`, with `await`.

    Examples
    --------
    >>> import asyncio
    >>> import coterie.aio
    >>> async def main():
    ...     async with coterie.aio.connect("memory:") as client:
    ...         election = client.election("primary")
    ...         await election.campaign("host-1")
    ...         print((await election.leader()).value)
    ...         await election.resign()
    >>> asyncio.run(main())
    b'host-1'
    """

    def __init__(self, core: _Core, name: Key, ttl: float) -> None:
        self._core, self._name, self._ttl = core, name, checked_ttl(ttl)
        self._hold: _coterie.ClientHold | None = None

    @property
    def name(self) -> Key:
        """What the election is for."""
        return self._name

    @property
    def term(self) -> int:
        """The term in which this object leads: a fencing token, greater than every term before."""
        return self._leading().token

    @property
    def lost(self) -> Lost:
        """An event that is set when the leadership is lost."""
        return Lost(self._core, self._leading())

    def _leading(self) -> _coterie.ClientHold:
        if self._hold is None:
            raise RuntimeError(f"this object does not lead {shown(self._name)}")
        return self._hold

    async def campaign(self, value: Value = b"", *, timeout: float | None = None) -> int | None:
        """Wait until it is this one's turn to lead, and return the term; None when that took longer than `timeout`.

        A task that is cancelled meanwhile gives its place in the queue back.
        """
        if self._hold is not None and not self._hold.is_lost():
            raise RuntimeError(f"this object leads {shown(self._name)} already")
        hold = await self._core.acquire(self._name, value, self._ttl, timeout)
        if hold is None:
            return None
        self._hold = hold
        return hold.token

    async def resign(self) -> None:
        """Lead no longer: the next one who campaigns does."""
        hold, self._hold = self._leading(), None
        if await self._core.ask(hold.release, self._core.timeout) is False:
            raise lost_error(self._name, hold.token)

    async def leader(self, *, timeout: float | None = None) -> Leader | None:
        """Who leads; None when nobody does."""
        return leader_of(
            await self._core.ask(self._core.compiled.holder, self._name, self._core.wait(timeout))
        )

    async def observe(self) -> AsyncIterator[Leader | None]:
        """Who leads, now and whenever that changes; None while nobody does."""
        watch = Watch(self._core, self._core.compiled.watch(below(self._name), True, None, False))
        await watch._begin()
        try:
            known = await self.leader()
            yield known
            while await watch.next_batch():
                leader = await self.leader()
                if leader != known:
                    known = leader
                    yield leader
        finally:
            watch.close()


class Members:
    """The members of the cluster, as `coterie.client.Members`, with `await`.

    Examples
    --------
    >>> import asyncio
    >>> import coterie.aio
    >>> async def main():
    ...     async with coterie.aio.connect("memory:") as client:
    ...         print([member.name for member in await client.members.list()])
    >>> asyncio.run(main())
    ['memory']
    """

    def __init__(self, core: _Core) -> None:
        self._core = core

    async def list(self, *, timeout: float | None = None) -> list[MemberInfo]:
        """All members, as the one knows them to which the client speaks."""
        return members_of(await self._core.ask(self._core.compiled.members, self._core.wait(timeout)))

    async def leader(self, *, timeout: float | None = None) -> MemberInfo | None:
        """The one that leads; None when the member that was asked knows of none."""
        return next((member for member in await self.list(timeout=timeout) if member.leads), None)

    async def add(self, name: str, address: str, *, timeout: float | None = None) -> None:
        """Adds a member as an observer: it gets everything, and votes on nothing until `promote`."""
        core = self._core
        await self._change(lambda: core.ask(core.compiled.add, name, address, core.wait(timeout)), timeout)

    async def promote(self, name: str, *, timeout: float | None = None) -> None:
        """Makes an observer a voter, as soon as it has caught up."""
        await self._change_of(self._core.compiled.promote, name, timeout, settles=False)

    async def demote(self, name: str, *, timeout: float | None = None) -> None:
        """Makes a voter an observer."""
        await self._change_of(self._core.compiled.demote, name, timeout)

    async def remove(self, name: str, *, timeout: float | None = None) -> None:
        """Takes a member out of the cluster, be it there or gone. Its name is free from then on."""
        await self._change_of(self._core.compiled.remove, name, timeout)

    async def transfer(self, name: str, *, timeout: float | None = None) -> None:
        """Hands leadership over to this voter."""
        await self._change_of(self._core.compiled.transfer, name, timeout)

    async def _change_of(
        self, change: Callable[..., Any], name: str, timeout: float | None, *, settles: bool = True
    ) -> None:
        async def ask() -> None:
            id = id_among(await self.list(), name)
            await self._core.ask(change, id, self._core.wait(timeout))

        await self._change(ask, timeout, settles=settles)

    async def _change(
        self, ask: Callable[[], Awaitable[object]], timeout: float | None, *, settles: bool = True
    ) -> None:
        """Changes something, once there is a leader, to whom the client goes by itself."""
        patience = Patience(self._core.wait(timeout), settles=settles)
        while True:
            try:
                await ask()
            except (RequestError, ConfigError) as refusal:
                if patience.is_over(refusal):
                    raise
                await asyncio.sleep(PAUSE)
            else:
                return

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of a cluster: list() asks for them>"


class Client:
    """A client of a cluster, as `coterie.client.Client`, for one event loop. Made by `coterie.aio.connect`.

    Attributes
    ----------
    kv : KeyValue
        Keys and values.
    members : Members
        Who belongs to the cluster.

    Examples
    --------
    >>> import asyncio
    >>> import coterie.aio
    >>> async def main():
    ...     async with coterie.aio.connect("memory:") as client:
    ...         await client.kv.put("color", "red")
    ...         print((await client.status()).keys)
    >>> asyncio.run(main())
    1
    """

    def __init__(self, url: str, core: _coterie.ClientCore, timeout: float) -> None:
        self._url = url
        self._core = _Core(core, timeout)
        self._reentrances: weakref.WeakValueDictionary[bytes, _Reentrance] = weakref.WeakValueDictionary()
        self.kv = KeyValue(self._core)
        self.members = Members(self._core)

    def lock(self, name: Key, *, ttl: float = 10.0, timeout: float | None = None) -> Lock:
        """A lock of the whole cluster. The parameters are those of `coterie.client.Client.lock`."""
        return Lock(self._core, name, ttl, timeout)

    def rlock(self, name: Key, *, ttl: float = 10.0, timeout: float | None = None) -> RLock:
        """A lock that the task which has it may acquire again. The parameters are those of `lock`."""
        key = name.encode() if isinstance(name, str) else name
        state = self._reentrances.setdefault(key, _Reentrance(Lock(self._core, name, ttl, None)))
        return RLock(state, timeout)

    def election(self, name: Key, *, ttl: float = 10.0) -> Election:
        """An election of the whole cluster."""
        return Election(self._core, name, ttl)

    def watch(
        self,
        prefix: Key = "",
        start_revision: int | None = None,
        *,
        exact: bool = False,
        previous: bool = False,
    ) -> Watch:
        """Watch what happens to all keys that begin with `prefix`: see `coterie.client.Client.watch`.

        ``async with`` waits until what happens from then on is seen. Without it the watch begins when a member hears of it,
        whenever its first event is awaited.
        """
        return Watch(self._core, self._core.compiled.watch(prefix, not exact, start_revision, previous))

    async def status(self, *, timeout: float | None = None) -> Status:
        """How the cluster is."""
        core = self._core
        member = await core.ask(core.compiled.member_status, core.wait(timeout))
        return status_of(member, await core.ask(core.compiled.store_status, core.wait(timeout)))

    async def compact(self, revision: int, *, timeout: float | None = None) -> None:
        """Forget history before `revision`."""
        core = self._core
        await core.ask(core.compiled.compact, revision, core.wait(timeout))

    async def disarm(self, *, timeout: float | None = None) -> None:
        """Let the store take what adds again, after its quota was reached and room was made."""
        core = self._core
        await core.ask(core.compiled.disarm, core.wait(timeout))

    async def close(self) -> None:
        """Give back all locks, and stop. Closing twice is fine."""
        core = self._core
        if not core.compiled.is_closed():
            await core.ask(core.compiled.close)
        core.leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(StoppedError):
            await self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._core.compiled.is_closed() else ""
        return f"{type(self).__name__}({self._url!r}{state})"
