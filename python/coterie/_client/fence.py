"""What a resource does with fencing tokens."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from coterie.exceptions import LockLostError

if TYPE_CHECKING:
    from coterie._client.keyvalue import KeyValue
    from coterie._client.values import Key

__all__ = ["Fence"]


class Fence:
    """Refuses whoever held a lock before its latest holder. It stands at what the lock guards.

    A lock alone cannot keep two holders apart: one may be paused just after it has looked, for longer than its lease
    lives, and go on as if nothing had happened. Each holder therefore sends its token along with what it does, and the
    resource refuses a token that is older than one that it has seen.

    Parameters
    ----------
    kv, key
        Where the greatest token is kept, so that all who serve the resource know of it. Without them it is kept in this
        object, which serves a resource that one process owns.

    Notes
    -----
    Thread-safe. With `kv`, a check of a token that is not the latest costs one read, of a new one a write more.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     fence = coterie.Fence()
    ...     with client.lock("printer") as lock:
    ...         paused = lock.token
    ...         fence.check(lock.token)
    ...     with client.lock("printer") as lock:
    ...         fence.check(lock.token)
    ...     fence.check(paused)
    Traceback (most recent call last):
        ...
    coterie.exceptions.LockLostError: token 2 is older than 4, which was seen already
    """

    def __init__(self, kv: KeyValue | None = None, key: Key | None = None) -> None:
        if (kv is None) != (key is None):
            raise TypeError("kv and key come together")
        self._kv, self._key = kv, key
        self._lock = threading.Lock()
        self._latest = 0

    @property
    def latest(self) -> int:
        """The greatest token that was seen here."""
        return self._latest

    def check(self, token: int) -> None:
        """Take note of a token, and refuse it when it is older than another one.

        Raises
        ------
        LockLostError
            If a greater token was seen: whoever sends this one holds the lock no longer.
        """
        if not self.admits(token):
            raise LockLostError(
                f"token {token} is older than {self._latest}, which was seen already", token=token
            )

    def admits(self, token: int) -> bool:
        """Take note of a token, and say whether no greater one was seen."""
        with self._lock:
            if token < self._latest:
                return False
            if self._kv is not None and self._key is not None:
                self._latest = _raise_to(self._kv, self._key, token)
                return token == self._latest
            self._latest = token
            return True


def _raise_to(kv: KeyValue, key: Key, token: int) -> int:
    """Keeps the greater of `token` and what is kept."""
    while True:
        entry = kv.entry(key)
        if entry is not None and int(entry.value) >= token:
            return int(entry.value)
        if kv.compare_and_swap(key, entry, str(token)):
            return token
