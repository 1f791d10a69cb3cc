"""Keys and values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from coterie import _coterie
from coterie._client.transactions import Transaction
from coterie._client.values import Entry, Key, Value, entry_of

__all__ = ["KeyValue", "pairs_of", "range_arguments", "swap_arguments"]


def pairs_of(items: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The items of a mapping, or those that were given."""
    return list(items.items() if isinstance(items, Mapping) else items)


def range_arguments(prefix: Key, start: Key | None, end: Key | None) -> tuple[Key, Key | None, bool]:
    """Where a range begins, where it ends, and whether it is all with that prefix."""
    if start is None and end is None:
        return prefix, None, True
    return (prefix if start is None else start), end, False


def swap_arguments(expected: Value | Entry | None) -> tuple[Value | None, int | None]:
    """What must be there: a value, or a revision."""
    if isinstance(expected, Entry):
        return None, expected.mod_revision
    return expected, None


class KeyValue:
    """Ordered keys with their values, as `coterie.Client.kv` has them. It can be used as a mapping.

    Keys are str or bytes, values bytes or str; what comes back is bytes. Everything is linearizable: a read sees all that
    was acknowledged before it was asked.

    Each method takes `timeout`, in seconds, in place of the client's own, and raises

    - `UnavailableError` when no quorum answered in that time and nothing happened,
    - `UnknownOutcomeError` when it may have happened,
    - `OverloadedError`, `QuotaError` or another `RequestError` when it was refused.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     kv = client.kv
    ...     _ = kv.put("color", "red")
    ...     kv["shape"] = b"round"
    ...     print(kv.get("color"), kv["shape"], kv.get("size"), "size" in kv, list(kv))
    b'red' b'round' None False [b'color', b'shape']
    """

    def __init__(self, core: _coterie.ClientCore, timeout: float) -> None:
        self._core, self._timeout = core, timeout

    def _wait(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout

    def put(self, key: Key, value: Value, *, timeout: float | None = None) -> int:
        """Set a key, and return the revision that did."""
        revision: int = self._core.put(key, value, 0, self._wait(timeout))
        return revision

    def put_many(
        self, items: Mapping[Any, Value] | Iterable[tuple[Key, Value]], *, timeout: float | None = None
    ) -> int:
        """Set many keys, all under way at once, and return the last revision. Each is set by itself.

        When it raises, some may be set and others not; where all or none is wanted, use `transaction`.
        """
        revisions: list[int] = self._core.put_many(pairs_of(items), self._wait(timeout))
        return max(revisions, default=0)

    def get(self, key: Key, *, timeout: float | None = None) -> bytes | None:
        """The value of a key; None when it is not there."""
        value: bytes | None = self._core.get(key, self._wait(timeout))
        return value

    def entry(self, key: Key, *, revision: int | None = None, timeout: float | None = None) -> Entry | None:
        """A key with its revisions, as it is, or as it was after a revision; None when it is not there.

        Raises
        ------
        CompactedError
            If that revision is forgotten.
        """
        found = self._core.entry(key, revision, self._wait(timeout))
        return None if found is None else entry_of(found)

    def range(
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
        """Entries in the order of their keys, all as of one revision.

        Parameters
        ----------
        prefix
            Those that begin with it.
        start, end
            In place of a prefix: from this key on; before that key.
        limit
            At most so many.
        descending
            The last ones first.
        keys_only
            Leave the values out.
        revision
            As of this revision.
        timeout
            Seconds for each part: what is large comes in several.

        Raises
        ------
        CompactedError
            If that revision is forgotten.
        """
        found: list[Entry] = []
        begin, stop, whole = range_arguments(prefix, start, end)
        while True:
            left = 0 if limit is None else limit - len(found)
            if limit is not None and left <= 0:
                return found
            part, more, _, seen = self._core.range(
                begin, stop, whole, left, descending, keys_only, False, revision, self._wait(timeout)
            )
            found += [entry_of(entry) for entry in part]
            if not more or not part:
                return found
            revision = seen if revision is None else revision
            begin, stop, whole = following(begin, stop, whole, part[-1][0], descending)

    def count(self, prefix: Key = "", *, timeout: float | None = None) -> int:
        """How many keys begin with `prefix`."""
        told = self._core.range(prefix, None, True, 0, False, False, True, None, self._wait(timeout))
        total: int = told[2]
        return total

    def delete(self, key: Key, *, prefix: bool = False, timeout: float | None = None) -> int:
        """Take a key away, or with `prefix` all that begin with it; return how many were there."""
        count: int = self._core.delete(key, prefix, self._wait(timeout))
        return count

    def compare_and_swap(
        self,
        key: Key,
        expected: Value | Entry | None,
        value: Value | None,
        *,
        timeout: float | None = None,
    ) -> bool:
        """Set a key to `value` (None: take it away) if it is as expected; return whether it was.

        Parameters
        ----------
        key
            Which key.
        expected
            Its value; or an `Entry`, when it must not have been set since; or None, when it must not be there.
        value
            What then.
        timeout
            Seconds.
        """
        known, revision = swap_arguments(expected)
        swapped: bool = self._core.compare_and_swap(key, known, revision, value, self._wait(timeout))
        return swapped

    def transaction(self) -> Transaction:
        """Begin a transaction: add conditions and steps, then `commit`."""
        return Transaction(self._core, self._timeout)

    def __getitem__(self, key: Key) -> bytes:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Key, value: Value) -> None:
        self.put(key, value)

    def __delitem__(self, key: Key) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, (str, bytes)) and self.get(key) is not None

    def __iter__(self) -> Iterator[bytes]:
        return iter([entry.key for entry in self.range(keys_only=True)])

    def __len__(self) -> int:
        return self.count()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of a cluster: range() asks for its entries>"

    def __bool__(self) -> bool:
        return (
            True  # whether there is a store, not whether it is empty: that would be a question to the cluster
        )


def following(
    begin: Key, stop: Key | None, whole: bool, last: bytes, descending: bool
) -> tuple[Key, Key | None, bool]:
    """The range that is left when `last` was seen."""
    if descending:
        return begin, last, False
    if not whole:
        return last + b"\0", stop, False
    prefix = begin.encode() if isinstance(begin, str) else begin
    kept = prefix.rstrip(b"\xff")
    end = kept[:-1] + bytes([kept[-1] + 1]) if kept else None
    return last + b"\0", end, False
