"""Who belongs to the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from coterie import _coterie
from coterie._client.values import MemberInfo, members_of
from coterie.exceptions import ConfigError, NotLeaderError, RequestError

__all__ = ["PAUSE", "Members", "Patience", "id_among"]

# Seconds between two attempts, while a leader is elected or an observer catches up.
PAUSE = 0.01
# Seconds in which a leader that was just elected commits its first entry, before which it changes nothing.
_SETTLING = 1.0


class Members:
    """The members of the cluster: who they are, and changes of that. Only one change is made at a time.

    A change waits for a leader and for a majority, and raises what `KeyValue` raises beside what each method says. Its
    `timeout` is in seconds, in place of the client's own.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     print([member.name for member in client.members], client.members.leader().name)
    ['memory'] memory

    >>> with coterie.Cluster(3) as cluster, cluster.connect() as client:
    ...     client.members.demote("n2")
    ...     client.members.remove("n2")
    ...     sorted(member.name for member in client.members)
    ['n0', 'n1']
    """

    def __init__(
        self,
        core: _coterie.ClientCore,
        timeout: float,
        reach: Callable[[str, float], AbstractContextManager[_coterie.ClientCore]] | None = None,
    ) -> None:
        self._core, self._timeout = core, timeout
        # How to ask another member, where the client is not one of them who go to the leader by themselves.
        self._reach = reach

    def list(self, *, timeout: float | None = None) -> list[MemberInfo]:
        """All members, as the one knows them to which the client speaks."""
        return members_of(self._core.members(self._wait(timeout)))

    def leader(self, *, timeout: float | None = None) -> MemberInfo | None:
        """The one that leads; None when the member that was asked knows of none."""
        return next((member for member in self.list(timeout=timeout) if member.leads), None)

    def add(self, name: str, address: str, *, timeout: float | None = None) -> None:
        """Adds a member as an observer: it gets everything, and votes on nothing until `promote`.

        Parameters
        ----------
        name : str
            Its name.
        address : str
            ``host:port`` where it listens already, with this cluster's members as its `peers` and an empty folder.
        timeout : float, optional
            Seconds.

        Raises
        ------
        RequestError
            Another change is under way, the name is taken, or nobody answers there.
        """
        self._change(lambda core, wait: core.add(name, address, wait), timeout)

    def promote(self, name: str, *, timeout: float | None = None) -> None:
        """Makes an observer a voter, as soon as it has caught up.

        Raises
        ------
        ConfigError
            No member has that name.
        RequestError
            It has not caught up in that time, or another change is under way.
        """
        self._change(lambda core, wait: core.promote(self._id_of(name), wait), timeout, settles=False)

    def demote(self, name: str, *, timeout: float | None = None) -> None:
        """Makes a voter an observer."""
        self._change(lambda core, wait: core.demote(self._id_of(name), wait), timeout)

    def remove(self, name: str, *, timeout: float | None = None) -> None:
        """Takes a member out of the cluster, be it there or gone. Its name is free from then on."""
        self._change(lambda core, wait: core.remove(self._id_of(name), wait), timeout)

    def transfer(self, name: str, *, timeout: float | None = None) -> None:
        """Hands leadership over to this voter."""
        self._change(lambda core, wait: core.transfer(self._id_of(name), wait), timeout)

    def _wait(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout

    def _id_of(self, name: str) -> int:
        return id_among(self.list(), name)

    def _change(
        self,
        change: Callable[[_coterie.ClientCore, float], object],
        timeout: float | None,
        *,
        settles: bool = True,
    ) -> None:
        """Changes something, once there is a leader, and nothing else is being changed."""
        wait = self._wait(timeout)
        patience = Patience(wait, settles=settles)
        while True:
            try:
                self._change_at_leader(change, wait)
            except (RequestError, ConfigError) as refusal:
                if patience.is_over(refusal):
                    raise
                time.sleep(PAUSE)
            else:
                return

    def _change_at_leader(self, change: Callable[[_coterie.ClientCore, float], object], wait: float) -> None:
        """Only the leader takes changes: the member that is asked, or the one that it names."""
        try:
            change(self._core, wait)
        except NotLeaderError as refusal:
            leader = next((member for member in self.list() if member.id == refusal.leader), None)
            if leader is None or not leader.address or self._reach is None:
                raise
            with self._reach(leader.address, wait) as core:
                change(core, wait)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of a cluster: list() asks for them>"

    def __iter__(self) -> Iterator[MemberInfo]:
        return iter(self.list())


def id_among(known: Sequence[MemberInfo], name: str) -> int:
    """The id of the member of that name."""
    for member in known:
        if member.name == name:
            return member.id
    names = ", ".join(sorted(member.name for member in known))
    raise ConfigError(f"no member is named {name!r}; there are {names}")


class Patience:
    """How long a change that is refused is asked for again."""

    def __init__(self, wait: float, *, settles: bool) -> None:
        now = time.monotonic()
        self._until, self._settled = now + wait, now + min(wait, _SETTLING)
        self._settles = settles

    def is_over(self, refusal: RequestError | ConfigError) -> bool:
        """Whether to give up: what is not a matter of a moment, or the time is over."""
        if type(refusal) not in (NotLeaderError, RequestError, ConfigError):
            return True
        # The member that was asked may not have heard of a name that was added a moment ago.
        is_of_a_moment = isinstance(refusal, ConfigError) or (
            self._settles and not isinstance(refusal, NotLeaderError)
        )
        return time.monotonic() > (self._settled if is_of_a_moment else self._until)
