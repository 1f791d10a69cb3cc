"""Watches."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from coterie import _coterie
from coterie._client.values import Event, events_of

if TYPE_CHECKING:
    from typing import Self

__all__ = ["PRESENT", "Watch", "Watching", "after"]

#: A reading of next to nothing, whose answer says which revision is the present one.
PRESENT = ("", None, True, 1, False, True, False, None)


def after(present: tuple[object, bool, int, int]) -> int:
    """The revision that follows the one of which `PRESENT` was told: who watches from there misses nothing."""
    return present[3] + 1


class Watching:
    """What watches have in common, however one waits."""

    def __init__(self, core: _coterie.ClientWatch) -> None:
        self._core = core
        self._ready: deque[Event] = deque()

    @property
    def next_revision(self) -> int | None:
        """Where another watch would begin that misses nothing; None until a member has said what "now" is.

        When only some events of a revision were taken, that watch sees the others of it again.
        """
        return self._ready[0].revision if self._ready else self._core.next_revision

    def __repr__(self) -> str:
        place = "now on" if self.next_revision is None else f"revision {self.next_revision} on"
        return f"<{type(self).__name__} from {place}>"

    def close(self) -> None:
        """End the watch. Whoever waits for it stops waiting."""
        self._core.close()
        self._ready.clear()


class Watch(Watching):
    """What happens to some keys: an iterator of events, in order and without a gap, until it is closed.

    It holds no more than one batch of events that nobody has taken. Who is so slow that the cluster has forgotten the
    history in between gets `CompactedError`, and should read the present state and watch from there.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     with client.watch("color/") as watch:
    ...         _ = client.kv.put("color/1", "red")
    ...         _ = client.kv.delete("color/1")
    ...         for event in watch:
    ...             print(event.kind, event.key)
    ...             if event.kind == "delete":
    ...                 break
    put b'color/1'
    delete b'color/1'
    """

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while not self._ready:
            batch = self._core.next(None)
            if batch is None:
                raise StopIteration
            self._ready.extend(events_of(batch))
        return self._ready.popleft()

    def next_batch(self, timeout: float | None = None) -> list[Event]:
        """All events that are there, or else the next ones; an empty list when none came in `timeout` seconds.

        The events of one revision always come together.

        Raises
        ------
        CompactedError
            If the history in between is forgotten.
        """
        if self._ready:
            events = list(self._ready)
            self._ready.clear()
            return events
        until = None if timeout is None else time.monotonic() + timeout
        batch = self._core.next(None if until is None else max(0.0, until - time.monotonic()))
        return events_of(batch or [])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
