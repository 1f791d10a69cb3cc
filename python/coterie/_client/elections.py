"""Elections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from coterie import _coterie
from coterie._client.locks import Lost, checked_ttl, lost_error, shown
from coterie._client.values import Key, Leader, Value, leader_of
from coterie._client.watches import PRESENT, Watch, after

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Election", "below"]


def below(name: Key) -> Key:
    """The prefix of the keys of those who queue for `name`."""
    return f"{name}/" if isinstance(name, str) else name + b"/"


class Election:
    """Who of many is the one: a lock whose holder says who it is.

    Parameters
    ----------
    client, name, ttl
        As `Client.election` has them, which makes elections.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     election = client.election("primary")
    ...     term = election.campaign("host-1")
    ...     print(election.leader().value)
    ...     election.resign()
    ...     print(election.leader())
    b'host-1'
    None
    """

    def __init__(self, core: _coterie.ClientCore, name: Key, ttl: float, patience: float) -> None:
        self._core, self._name, self._ttl, self._patience = core, name, checked_ttl(ttl), patience
        self._hold: _coterie.ClientHold | None = None

    @property
    def name(self) -> Key:
        """What the election is for."""
        return self._name

    @property
    def term(self) -> int:
        """The term in which this object leads: a fencing token, greater than every term before.

        Raises
        ------
        RuntimeError
            If it does not lead.
        """
        return self._leading().token

    @property
    def lost(self) -> Lost:
        """An event that is set when the leadership is lost."""
        return Lost(self._leading())

    def _leading(self) -> _coterie.ClientHold:
        if self._hold is None:
            raise RuntimeError(f"this object does not lead {shown(self._name)}")
        return self._hold

    def campaign(self, value: Value = b"", *, timeout: float | None = None) -> int | None:
        """Wait until it is this one's turn to lead, and return the term; None when that took longer than `timeout`.

        Parameters
        ----------
        value
            What others shall know of the leader.
        timeout
            Seconds; None: wait for ever. Ctrl-C ends the waiting, and gives the place in the queue back.
        """
        if self._hold is not None and not self._hold.is_lost():
            raise RuntimeError(f"this object leads {shown(self._name)} already")
        hold = self._core.acquire(self._name, value, self._ttl, timeout, self._patience)
        if hold is None:
            return None
        self._hold = hold
        term: int = hold.token
        return term

    def resign(self) -> None:
        """Lead no longer: the next one who campaigns does.

        Raises
        ------
        LockLostError
            If the leadership was lost before.
        """
        hold, self._hold = self._leading(), None
        if hold.release(self._patience) is False:
            raise lost_error(self._name, hold.token)

    def leader(self, *, timeout: float | None = None) -> Leader | None:
        """Who leads; None when nobody does."""
        return leader_of(self._core.holder(self._name, self._patience if timeout is None else timeout))

    def observe(self) -> Iterator[Leader | None]:
        """Who leads, now and whenever that changes; None while nobody does.

        Leaders that were so only for moments may be left out. Close the iterator, or leave it, to stop.
        """
        return self._observe()

    def _observe(self) -> Generator[Leader | None, None, None]:
        start = after(self._core.range(*PRESENT, self._patience))
        watch = Watch(self._core.watch(below(self._name), True, start, False))
        try:
            known = self.leader()
            yield known
            while True:
                if not watch.next_batch():
                    return
                leader = self.leader()
                if leader != known:
                    known = leader
                    yield leader
        finally:
            watch.close()

    def __repr__(self) -> str:
        state = f"term={self._hold.token}" if self._hold is not None else "does not lead"
        return f"{type(self).__name__}({shown(self._name)}, {state})"
