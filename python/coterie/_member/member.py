"""A member of a cluster, in this process."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from coterie._client.client import Client, connect
from coterie._client.members import Members
from coterie._client.urls import File
from coterie._coterie import ClientCore, MemberCore
from coterie.exceptions import ConfigError, UnavailableError

__all__ = ["Member"]


class Member(Client):
    """One member of a cluster, in this process: Raft, a journal on the disk, and a port.

    It is also a client of its cluster: `kv`, `lock`, `election`, `watch` and the rest work on it as on what `connect`
    returns, without a detour over the network.

    Parameters
    ----------
    name : str
        Its name, which no other member of the cluster has.
    listen : str, default "127.0.0.1:7433"
        ``host:port`` for peers and clients. With port 0 it takes a free one at the first start, and the same later.
    advertise : str, optional
        ``host:port`` where others find it, if that is not `listen`.
    peers : mapping of str to str, optional
        Name and ``host:port`` of all first members, this one included. It counts at the first start; then the log says
        who belongs. Without it the member forms a cluster of its own.
    data_dir : path-like
        Its folder, which it makes if need be, and of which it is the only owner.
    client_listen : None
        Reserved for etcd's interface.
    cluster : str, default "coterie"
        The cluster's name: members and clients of another cluster are refused.
    secret : bytes, path-like or False, optional
        What members and clients prove to know, or the file that has it. By default, on loopback, a file of this user's
        below ``~/.local/state/coterie`` that is made when it is not there; False: none.
    tls : tuple of three path-likes or bytes, optional
        Certificate, key, and the authority that signed everybody's, in PEM; see ``coterie certs``. Off loopback it is
        needed.
    insecure : bool, default False
        Listen off loopback without TLS.
    role : {"voter", "observer"}, default "voter"
        An observer gets everything and votes on nothing, when the cluster is formed.
    timeout : float, default 5.0
        Seconds that each request waits for a quorum.
    election_timeout : float, default 0.3
        Seconds after which a follower that hears no leader wants to lead.
    heartbeat_interval : float, optional
        Seconds between a leader's signs of life. By default 0.05, and a third of a read lease.
    read_lease : float, optional
        Seconds for which followers promise to elect nobody else. With it, reads in the leader's process ask nobody; all
        members must be given the same, and their clocks must not differ in speed by more than a tenth.
    grace : float or None, default 0.03
        Seconds after which what a client held is given back when its connection has ended. None: only its time to live
        counts.
    history : float or None, default 3600.0
        Seconds for which old revisions can be read at least. None: until somebody compacts them.
    quota : int, default 2 GiB
        How many bytes the store may have.
    segment_bytes : int, default 64 MiB
        How large the journal's files are. Room for one is reserved at a time, so a small disk wants small
        ones. As much, but 16 MiB at most, is kept back for an end in order, should the disk be full.
    snapshot_entries : int, default 100,000
        After how many writes a snapshot is taken and the journal begun anew, if 32 MiB of them do not come first.
    format_version : int, optional
        The newest version of the formats that this member speaks and writes. By default that of this release; that of the
        release before, while members are upgraded one by one, keeps the way back open.

    Attributes
    ----------
    name : str
        Its name.
    address : str
        ``host:port`` where it listens.

    Raises
    ------
    ConfigError
        A setting is wrong, the port is taken, or another process has the folder; nothing was started.
    StorageError
        The disk failed, or what it has is damaged.

    Notes
    -----
    Everything is done by threads that never hold the GIL. Consensus is Raft [1]_; a write is acknowledged when a majority
    has it on the disk. A member that the disk fails stops, and all that is asked of it raises `StoppedError`.

    References
    ----------
    .. [1] Ongaro, Diego. "Consensus: Bridging Theory and Practice." Stanford, 2014.

    Examples
    --------
    >>> import tempfile
    >>> import coterie
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with coterie.Member("a", listen="127.0.0.1:0", data_dir=folder) as member:
    ...         member.kv["colour"] = "green"
    ...     with coterie.Member("a", listen="127.0.0.1:0", data_dir=folder) as member:
    ...         member.kv["colour"]
    b'green'
    """

    def __init__(
        self,
        name: str,
        *,
        listen: str = "127.0.0.1:7433",
        advertise: str | None = None,
        peers: Mapping[str, str] | None = None,
        data_dir: str | os.PathLike[str],
        client_listen: None = None,
        cluster: str = "coterie",
        secret: File | Literal[False] | None = None,
        tls: tuple[File, File, File] | None = None,
        insecure: bool = False,
        role: Literal["voter", "observer"] = "voter",
        timeout: float = 5.0,
        election_timeout: float = 0.3,
        heartbeat_interval: float | None = None,
        read_lease: float | None = None,
        grace: float | None = 0.03,
        history: float | None = 3600.0,
        quota: int = 2 << 30,
        segment_bytes: int = 64 << 20,
        snapshot_entries: int = 100_000,
        format_version: int | None = None,
    ) -> None:
        if role not in ("voter", "observer"):
            raise ConfigError(f"role is 'voter' or 'observer', not {role!r}")
        if client_listen is not None:
            raise ConfigError("client_listen is reserved for etcd's interface, which members do not have yet")
        self._member = MemberCore(
            {
                "name": name,
                "data_dir": os.fspath(data_dir),
                "listen": listen,
                "advertise": advertise,
                "peers": dict(peers or {}),
                "cluster": cluster,
                "secret": secret,
                "tls": None if tls is None else tuple(tls),
                "insecure": insecure,
                "observer": role == "observer",
                "election_timeout": election_timeout,
                "heartbeat_interval": heartbeat_interval,
                "read_lease": read_lease,
                "grace": grace,
                "history": history,
                "quota": quota,
                "segment_bytes": segment_bytes,
                "snapshot_entries": snapshot_entries,
                "format_version": format_version,
            }
        )
        super().__init__(f"member:{name}", self._member.client(grace), timeout)
        trust: dict[str, Any] = {"cluster": cluster, "secret": secret, "tls": tls}
        self.members = Members(self._core, timeout, lambda address, wait: _reach(address, wait, trust))
        _living.add(self)

    @property
    def name(self) -> str:
        """Its name."""
        return self._member.name

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._member.address

    @property
    def url(self) -> str:
        """For `connect`: all members that it knows."""
        known = [each["address"] for each in self._member.status()["members"] if each["address"]]
        return "coterie://" + ",".join(known or [self.address])

    @property
    def role(self) -> str:
        """``"leader"``, ``"follower"``, ``"candidate"``, ``"observer"``, or ``"waiting"`` for the first others."""
        told: str = self._member.status()["role"]
        return told

    def wait_for_leader(self, timeout: float = 10.0) -> str:
        """The name of the member that leads, once this one knows of one.

        Parameters
        ----------
        timeout : float, default 10.0
            Seconds to wait.

        Raises
        ------
        UnavailableError
            It knows of none after that time.
        """
        until = time.monotonic() + timeout
        while True:
            told = self._member.status()
            for each in told["members"]:
                if each["id"] == told["leader"]:
                    leader: str = each["name"]
                    return leader
            self._raise_if_failed()
            if time.monotonic() > until:
                raise UnavailableError(f"{self!r} knows of no leader after {timeout:g} s")
            time.sleep(0.002)

    # Who belongs to the cluster

    def add(self, name: str, address: str, *, timeout: float | None = None) -> None:
        """Adds a member as an observer: it gets everything, and votes on nothing until `promote`.

        Parameters
        ----------
        name : str
            Its name.
        address : str
            ``host:port`` where it listens already, with this cluster's members as its `peers` and an empty folder.
        timeout : float, optional
            Seconds to wait; the member's own `timeout` when not given.

        Raises
        ------
        RequestError
            Another change is under way, the name is taken, or nobody answers there.

        Examples
        --------
        >>> import tempfile
        >>> import coterie
        >>> with coterie.Cluster(1) as cluster:
        ...     first = cluster.member(0)
        ...     known = {first.name: first.address, "late": "127.0.0.1:0"}
        ...     with (
        ...         tempfile.TemporaryDirectory() as folder,
        ...         coterie.Member(
        ...             "late", listen="127.0.0.1:0", peers=known, data_dir=folder, secret=cluster.secret
        ...         ) as late,
        ...     ):
        ...         first.add("late", late.address)
        ...         first.promote("late")
        ...         sorted(member.name for member in first.members)
        ['late', 'n0']
        """
        self.members.add(name, address, timeout=timeout)

    def promote(self, name: str, *, timeout: float | None = None) -> None:
        """Makes an observer a voter, as soon as it has caught up; see `coterie.client.Members.promote`."""
        self.members.promote(name, timeout=timeout)

    def demote(self, name: str, *, timeout: float | None = None) -> None:
        """Makes a voter an observer."""
        self.members.demote(name, timeout=timeout)

    def remove(self, name: str, *, timeout: float | None = None) -> None:
        """Takes a member out of the cluster. It may be this one, and it may be one that is gone.

        Parameters
        ----------
        name : str
            Its name, which is free from then on.
        timeout : float, optional
            Seconds to wait; the member's own `timeout` when not given.
        """
        self.members.remove(name, timeout=timeout)

    def transfer(self, name: str, *, timeout: float | None = None) -> None:
        """Hands leadership over to another voter."""
        self.members.transfer(name, timeout=timeout)

    # The end

    def _raise_if_failed(self) -> None:
        failure = self._member.failure()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Ends the member in order: leadership goes to another one, locks are given back, all is durable.

        It takes two seconds at most. Closing twice is fine.
        """
        _living.discard(self)
        super().close()
        self._member.close()

    def __repr__(self) -> str:
        if self._member.has_ended():
            return f"<Member {self.name!r}: closed>"
        told = self._member.status()
        return f"<Member {self.name!r} at {self.address}: {told['role']} in term {told['term']}>"


@contextlib.contextmanager
def _reach(address: str, timeout: float, trust: dict[str, Any]) -> Iterator[ClientCore]:
    """Another member of the same cluster."""
    with connect(f"coterie://{address}", timeout=timeout, **trust) as client:
        yield client._core


# Ended before the interpreter is, so that no thread of theirs outlives it.
_living: weakref.WeakSet[Member] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for member in list(_living):
        member._member.close()
