"""The client itself."""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from coterie import _coterie
from coterie._client.elections import Election
from coterie._client.keyvalue import KeyValue
from coterie._client.locks import Lock, Reentrance, RLock, checked_ttl
from coterie._client.members import Members
from coterie._client.urls import File, open_core
from coterie._client.values import Key, Status, status_of
from coterie._client.watches import PRESENT, Watch, after

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Client", "connect"]


def connect(
    url: str,
    *,
    timeout: float = 5.0,
    grace: float | None = 0.03,
    cluster: str = "coterie",
    secret: File | Literal[False] | None = None,
    tls: tuple[File, File, File] | None = None,
) -> Client:
    """A client of the cluster at `url`. Nothing is sent before something is asked.

    Parameters
    ----------
    url
        ``coterie://host:port,host:port`` names members (`Member`); one of them is enough. ``memory:`` is a member in a thread of this process, with nobody else in it: the same machine that real members
        run, for tests. ``memory:name`` is the same one for all in this process who name it, until the last of them has
        closed.
    timeout
        Each request's time, in seconds, if it is not given another one. Locks wait as long as they are told to.
    grace
        Locks count as lost when the connection to the cluster was lost for so many seconds. It should be what the
        members are set to: after that time they give the locks of a client whose connection has ended to others. None:
        only their time to live counts.
    cluster
        The cluster's name.
    secret
        What members and clients prove to know, or the file that has it, as for `Member`; False: none. By default, on
        loopback, this user's own.
    tls
        Certificate, key, and the authority that signed everybody's, in PEM: files or bytes.

    Returns
    -------
    Client
        Threads may share it. It belongs to this process: a forked child must connect anew.

    Raises
    ------
    ConfigError
        If the address or a setting makes no sense.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     _ = client.kv.put("color", "red")
    ...     with client.lock("printer", timeout=10) as lock:
    ...         print(client.kv.get("color"), lock.token)
    b'red' 3
    """
    return Client(url, open_core(url, timeout, grace, cluster, secret, tls), timeout)


class Client:
    """A client of a cluster. Made by `coterie.connect`; threads may share it.

    Attributes
    ----------
    kv : KeyValue
        Keys and values.
    members : Members
        Who belongs to the cluster, and changes of that.

    Examples
    --------
    >>> import coterie
    >>> client = coterie.connect("memory:")
    >>> client.kv.put("color", "red")
    2
    >>> client
    Client('memory:')
    >>> client.close()
    >>> client.kv.get("color")
    Traceback (most recent call last):
        ...
    coterie.exceptions.StoppedError: stopped: the client is closed
    """

    def __init__(self, url: str, core: _coterie.ClientCore, timeout: float) -> None:
        self._url, self._core, self._timeout = url, core, timeout
        self._reentrances: weakref.WeakValueDictionary[bytes, Reentrance] = weakref.WeakValueDictionary()
        self.kv = KeyValue(self._core, timeout)
        self.members = Members(self._core, timeout)

    def lock(self, name: Key, *, ttl: float = 10.0, timeout: float | None = None) -> Lock:
        """A lock of the whole cluster.

        Parameters
        ----------
        name
            What is locked. `etcdctl lock` and other clients of etcd's kind respect it.
        ttl
            For how many seconds it outlives this process when nobody notices that it has ended: a machine that lost its
            power, a network that was cut. A process that dies is noticed at once.
        timeout
            For how many seconds `with` waits for it before it raises `LockTimeoutError`; None: for ever.
        """
        return Lock(self._core, name, ttl, timeout, self._timeout)

    def rlock(self, name: Key, *, ttl: float = 10.0, timeout: float | None = None) -> RLock:
        """A lock that the thread which has it may acquire again. The parameters are those of `lock`.

        All that this client hands out for a name are the same lock, with the `ttl` of the first one.
        """
        key = name.encode() if isinstance(name, str) else name
        # setdefault of a weak dictionary is not one step, but a thread that loses the race takes the winner's.
        fresh = Reentrance(Lock(self._core, name, checked_ttl(ttl), None, self._timeout))
        return RLock(self._reentrances.setdefault(key, fresh), timeout)

    def election(self, name: Key, *, ttl: float = 10.0) -> Election:
        """An election of the whole cluster. `ttl` is as for `lock`."""
        return Election(self._core, name, ttl, self._timeout)

    def watch(
        self,
        prefix: Key = "",
        start_revision: int | None = None,
        *,
        exact: bool = False,
        previous: bool = False,
    ) -> Watch:
        """Watch what happens to all keys that begin with `prefix`.

        Parameters
        ----------
        prefix
            Which keys.
        start_revision
            From which revision on; None: from now on.
        exact
            Watch the one key of that name.
        previous
            Tell what was there before, too, as far as history has it.

        Raises
        ------
        UnavailableError
            If it shall begin now, and no quorum said in time what "now" is.
        """
        if start_revision is None:
            # Asked here, so that what any client does after this is seen, however fast that one is.
            start_revision = after(self._core.range(*PRESENT, self._timeout))
        return Watch(self._core.watch(prefix, not exact, start_revision, previous))

    def status(self, *, timeout: float | None = None) -> Status:
        """How the cluster is."""
        wait = self._timeout if timeout is None else timeout
        return status_of(self._core.member_status(wait), self._core.store_status(wait))

    def compact(self, revision: int, *, timeout: float | None = None) -> None:
        """Forget history before `revision`. The cluster does so by itself, too, after an hour or 100,000 revisions.

        Raises
        ------
        CompactedError
            If that was done already.
        """
        self._core.compact(revision, self._timeout if timeout is None else timeout)

    def disarm(self, *, timeout: float | None = None) -> None:
        """Let the store take what adds again, after its quota was reached and room was made.

        Raises
        ------
        QuotaError
            If there is no room yet: delete keys, and `compact`, because history counts, too.

        Examples
        --------
        >>> import tempfile
        >>> import coterie
        >>> with (
        ...     tempfile.TemporaryDirectory() as folder,
        ...     coterie.Member("a", listen="127.0.0.1:0", data_dir=folder, quota=10_000) as member,
        ... ):
        ...     try:
        ...         while True:
        ...             member.kv["much"] = b"x" * 1000  # each version stays in history
        ...     except coterie.QuotaError:
        ...         member.compact(member.status().revision)
        ...         member.disarm()
        ...     member.kv["much"] = "no more"
        """
        self._core.disarm(self._timeout if timeout is None else timeout)

    def close(self) -> None:
        """Give back all locks, and stop. Takes two seconds at most, when no member answers. Closing twice is fine."""
        if not self._core.is_closed():
            self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r}{', closed' if self._core.is_closed() else ''})"
