"""Locks."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from coterie import _coterie
from coterie._client.values import Key
from coterie.exceptions import ConfigError, CoterieError, LockLostError, LockTimeoutError

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Lock", "Lost", "RLock", "Reentrance", "checked_ttl", "lost_error", "shown", "timeout_error"]


def checked_ttl(ttl: float) -> float:
    """`ttl`, if it is a span of time."""
    if not 0 < ttl < 3e9:
        raise ConfigError(f"ttl is {ttl!r}; it must be a positive number of seconds")
    return float(ttl)


def shown(name: Key) -> str:
    """A name for a message."""
    return repr(name if isinstance(name, str) else name.decode(errors="backslashreplace"))


def lost_error(name: Key, token: int) -> LockLostError:
    """What a holder hears whose lock is gone."""
    return LockLostError(
        f"{shown(name)} was lost while it was held: others may have held it since", token=token
    )


def timeout_error(name: Key, timeout: float) -> LockTimeoutError:
    """What someone hears who has waited in vain."""
    return LockTimeoutError(f"{shown(name)} was held by another for {timeout:g} seconds")


class Lost:
    """Says when a lock is lost, as a `threading.Event` would.

    It is set as soon as this process knows: when a member says that the lease is over, when the connection has ended and
    no other was found in time, and at the latest before any member can have given the lock to another one. A cut that
    only the cluster sees is what the fencing token is for.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client, client.lock("door") as lock:
    ...     print(lock.lost.is_set(), lock.lost.wait(0.01))
    False False
    """

    def __init__(self, hold: _coterie.ClientHold) -> None:
        self._hold = hold

    def is_set(self) -> bool:
        """Whether the lock is lost."""
        return self._hold.is_lost()

    def __bool__(self) -> bool:
        raise TypeError("an event is neither true nor false; ask lost.is_set()")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'set' if self._hold.is_lost() else 'not set'}>"

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is lost, at most so many seconds; return whether it is."""
        lost: bool = self._hold.wait_lost(timeout)
        return lost


class Lock:
    """A lock of the whole cluster, with the methods of `threading.Lock`. Whoever asks first gets it first.

    It belongs to whoever acquired it by this object, thread or not, and ends with the process: a Rust thread keeps it
    alive, however long Python computes, and when the process dies, it is free within milliseconds.

    Parameters
    ----------
    client, name, ttl, timeout
        As `Client.lock` has them, which makes locks.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     lock = client.lock("printer")
    ...     with lock:
    ...         print(client.lock("printer").acquire(blocking=False))
    ...     print(client.lock("printer").acquire(blocking=False))
    False
    True
    """

    def __init__(
        self, core: _coterie.ClientCore, name: Key, ttl: float, timeout: float | None, patience: float
    ) -> None:
        self._core, self._name, self._ttl = core, name, checked_ttl(ttl)
        self._timeout, self._patience = timeout, patience
        self._hold: _coterie.ClientHold | None = None
        self._latest: _coterie.ClientHold | None = None

    @property
    def name(self) -> Key:
        """What is locked."""
        return self._name

    @property
    def token(self) -> int:
        """The fencing token of the latest acquisition: greater than that of every holder before.

        It is the `create_revision` of the key that holds the lock.

        Raises
        ------
        RuntimeError
            If this lock was never acquired.
        """
        return self._acquired().token

    @property
    def key(self) -> bytes:
        """The key by which it is held: there as long as it is. A transaction may require it, with the token.

        Examples
        --------
        >>> import coterie
        >>> with coterie.connect("memory:") as client, client.lock("door") as lock:
        ...     guarded = (
        ...         client.kv.transaction().require(lock.key, create_revision=lock.token).put("open", "yes")
        ...     )
        ...     print(guarded.commit().succeeded)
        True
        """
        return self._acquired().key

    @property
    def lost(self) -> Lost:
        """An event that is set when the lock is lost."""
        return Lost(self._acquired())

    def _acquired(self) -> _coterie.ClientHold:
        if self._latest is None:
            raise RuntimeError(f"{shown(self._name)} was not acquired by this object")
        return self._latest

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock, and return whether that was done.

        Parameters
        ----------
        blocking
            Whether to wait while another one has it.
        timeout
            For how many seconds; -1: for ever. Ctrl-C ends the waiting, and gives the place in the queue back.

        Raises
        ------
        UnavailableError
            If `blocking` is false and no quorum answered.
        """
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        wait = (None if timeout == -1 else float(timeout)) if blocking else 0.0
        hold = self._core.acquire(self._name, b"", self._ttl, wait, self._patience)
        if hold is None:
            return False
        self._hold = self._latest = hold
        return True

    def release(self) -> None:
        """Give the lock back: the next one who waits has it.

        Raises
        ------
        RuntimeError
            If it is not held by this object.
        LockLostError
            If it was lost before.
        UnknownOutcomeError, UnavailableError
            If no quorum answered in time. The client goes on giving it back.
        """
        hold, self._hold = self._hold, None
        if hold is None:
            raise RuntimeError("release unlocked lock")
        if hold.release(self._patience) is False:
            raise lost_error(self._name, hold.token)

    def locked(self) -> bool:
        """Whether it is held by this object, as far as is known here."""
        return self._hold is not None and not self._hold.is_lost()

    def __enter__(self) -> Self:
        if self._timeout is None:
            self.acquire()
        elif not self.acquire(timeout=self._timeout):
            raise timeout_error(self._name, self._timeout)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except CoterieError as problem:
            if error is None:
                raise
            error.add_note(f"and the lock: {problem}")

    def __repr__(self) -> str:
        state = f"token={self._hold.token}" if self._hold is not None else "not held"
        lost = ", lost" if self._hold is not None and self._hold.is_lost() else ""
        return f"{type(self).__name__}({shown(self._name)}, {state}{lost})"


class Reentrance:
    """Who holds a re-entrant lock of one client, and how often."""

    def __init__(self, lock: Lock) -> None:
        self.lock = lock
        self.owner: int | None = None
        self.count = 0


class RLock:
    """A lock of the whole cluster that the thread which has it may acquire again, with the methods of `threading.RLock`.

    All that one client hands out for one name are the same lock.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     with client.rlock("printer") as outer, client.rlock("printer") as inner:
    ...         print(outer.token == inner.token, client.lock("printer").acquire(blocking=False))
    True False
    """

    def __init__(self, state: Reentrance, timeout: float | None) -> None:
        self._state, self._timeout = state, timeout

    @property
    def name(self) -> Key:
        """What is locked."""
        return self._state.lock.name

    @property
    def token(self) -> int:
        """The fencing token of the latest acquisition, as `Lock.token`."""
        return self._state.lock.token

    @property
    def key(self) -> bytes:
        """The key by which it is held: there as long as it is. A transaction may require it, with the token."""
        return self._state.lock.key

    @property
    def lost(self) -> Lost:
        """An event that is set when the lock is lost."""
        return self._state.lock.lost

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock, once more if this thread has it; return whether that was done. See `Lock.acquire`.

        Raises
        ------
        LockLostError
            If this thread has it, and it was lost.
        """
        state, me = self._state, threading.get_ident()
        if state.owner == me:
            if state.lock.lost.is_set():
                raise lost_error(state.lock.name, state.lock.token)
            state.count += 1
            return True
        if not state.lock.acquire(blocking, timeout):
            return False
        state.owner, state.count = me, 1
        return True

    def release(self) -> None:
        """Give the lock back, when it was released as often as acquired. See `Lock.release`."""
        state = self._state
        if state.owner != threading.get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        state.count -= 1
        if not state.count:
            state.owner = None
            state.lock.release()

    def __enter__(self) -> Self:
        if self._timeout is None:
            self.acquire()
        elif not self.acquire(timeout=self._timeout):
            raise timeout_error(self.name, self._timeout)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except CoterieError as problem:
            if error is None:
                raise
            error.add_note(f"and the lock: {problem}")

    def __repr__(self) -> str:
        return f"RLock({shown(self.name)}, count={self._state.count})"
