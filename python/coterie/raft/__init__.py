"""Raft, as one pure machine that can be driven by hand, simulated, or run for real.

::

    messages, alarms, requests ──►  Node  ──► effects (coterie.protocol)
                                     │
       messages  records  events  requests  answers  errors: what it says, keeps, tells, is asked and answers

From Ongaro's thesis ("Consensus: Bridging Theory and Practice", Stanford 2014): elections with pre-vote and priorities,
replication, check-quorum, reads by rounds or leases, leadership transfer, learners, joint membership changes and
snapshots. :mod:`coterie.sim` runs nodes in worlds where networks, disks and clocks fail.

Each family of words has a module of its own, because one word may belong to several: ``messages.Read`` is what a leader
tells a follower, ``requests.Read`` what a client asks.

Examples
--------
A cluster of one elects itself as soon as its disk has its vote:

>>> from coterie import protocol, raft
>>> node = raft.Node(1)
>>> effects = node.start(0.0, seed=1)
>>> effects += node.request(0.0, 1, raft.requests.Bootstrap(raft.Membership.of([1])))
>>> alarm = next(effect for effect in reversed(effects) if isinstance(effect, protocol.Set))
>>> for effect in node.expire(alarm.at, "Election"):
...     if isinstance(effect, protocol.Promise):  # the vote is written down: the promise may leave
...         effects = node.receive(alarm.at, effect.to, effect.message)
>>> node
RaftNode(id=1, term=1, leader=1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, SupportsFloat

from coterie import _coterie
from coterie.exceptions import ConfigError as _ConfigError
from coterie.raft import answers, errors, events, messages, records, requests
from coterie.raft.log import Position, RoleName, Run, Snapshot, SnapshotId
from coterie.raft.membership import AddLearner, AddVoter, Demote, Membership, Remove

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coterie.protocol import Effect, LinkName
    from coterie.raft.log import TimerName

__all__ = [
    "AddLearner",
    "AddVoter",
    "Demote",
    "Lease",
    "Membership",
    "Node",
    "Position",
    "Remove",
    "Run",
    "Snapshot",
    "SnapshotId",
    "Status",
    "answers",
    "errors",
    "events",
    "messages",
    "records",
    "requests",
]

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Lease:
    """A follower that answers a leader's beat promises to vote for nobody for so long; then reads need no round.

    Attributes
    ----------
    length : float, default 0.03
        Seconds that a leader may count on, from sending the beat. Heartbeats should come three times as often.
    drift : float, default 0.003
        Seconds that a follower adds, because clocks differ in speed and hers may be the quicker.

    Examples
    --------
    >>> from coterie import raft
    >>> node = raft.Node(1, heartbeat_interval=0.01, lease=raft.Lease(length=0.03))
    """

    length: float = 0.03
    drift: float = 0.003


@dataclass(frozen=True, slots=True)
class Status:
    """A member at a glance.

    Attributes
    ----------
    id : int
        Who.
    role : {"Follower", "PreCandidate", "Candidate", "Leader"}
        Its part.
    term : int
        Its term.
    vote : int or None
        Its vote in that term.
    leader : int or None
        Who leads, as far as it knows.
    commit : int
        Up to where its log is committed, as far as it knows.
    base, last : Position
        The entry before the first of its log, and the last one.
    membership : Membership
        The effective one: the last in its log.

    Examples
    --------
    >>> from coterie import raft
    >>> raft.Node(3).status.role
    'Follower'
    """

    id: int
    role: RoleName
    term: int
    vote: int | None
    leader: int | None
    commit: int
    base: Position
    last: Position
    membership: Membership


class Node(_coterie.RaftNode):
    """A member of a Raft: a machine that is handed the time and every input, and answers with effects.

    It does nothing by itself. Whoever drives it does the effects in their order, and keeps the durability law of
    :mod:`coterie.protocol`. All members of a cluster should be given the same settings.

    Parameters
    ----------
    id : int
        Who it is; 1 or more in simulated worlds.
    cluster : int, default 0
        The cluster: a journal of another one is refused.
    election_timeout : float, default 0.3
        Seconds that a follower waits at least for its leader before it campaigns; it draws from one to two of these.
        Also how long a leader leads without a quorum's answers. At least twice the heartbeat.
    heartbeat_interval : float, default 0.05
        Seconds after which a leader tells again that it is there.
    pre_vote : bool, default True
        Ask before opening a term (thesis §9.6).
    check_quorum : bool, default True
        A leader without a quorum's answers for an election time-out steps down (§6.2).
    lease : Lease, float or None, default None
        Leases for reads, or their length in seconds. None: none are granted.
    entry_bytes_max : int, default 1.5 MiB
        The greatest command.
    message_bytes_max : int, default 1 MiB
        How many bytes of entries go into one message; one entry always does.
    in_flight_messages_max : int, default 256
        How many appends may be on the way to one follower.
    in_flight_bytes_max : int, default 16 MiB
        How many bytes of entries may be on the way to one follower.
    uncommitted_bytes_max : int, default 64 MiB
        How many bytes a leader takes that are not yet committed.
    log_bytes_max : int, default 128 MiB
        How many bytes of log are kept since the last checkpoint; beyond it, proposals are refused.
    snapshot_log_bytes : int, default 32 MiB
        After how many bytes of committed log a snapshot is asked for.
    snapshot_log_entries : int, default 100000
        After how many committed entries a snapshot is asked for, if that comes first.
    retained_entries : int, default 1024
        How many entries stay behind a snapshot, for followers that are a little late.
    chunk_bytes : int, default 256 KiB
        How many bytes of a snapshot go into one message.
    pending_max : int, default 65536
        How many requests may be pending.

    Raises
    ------
    ConfigError
        A setting cannot work; it is named.

    Notes
    -----
    Times are seconds as floats. Inside they are whole nanoseconds: up to 2^51 of them (26 days) the float comes back as
    the same nanosecond, so nothing is lost on the way.

    References
    ----------
    D. Ongaro, "Consensus: Bridging Theory and Practice", PhD thesis, Stanford University, 2014.

    Examples
    --------
    >>> from coterie import raft
    >>> node = raft.Node(2, election_timeout=0.5)
    >>> node
    RaftNode(id=2, term=0, leader=None)
    >>> raft.Node(1, heartbeat_interval=0.2)
    Traceback (most recent call last):
        ...
    coterie.exceptions.ConfigError: election_timeout: must be at least twice heartbeat_interval
    """

    def __new__(
        cls,
        id: int,
        *,
        cluster: int = 0,
        election_timeout: float = 0.3,
        heartbeat_interval: float = 0.05,
        pre_vote: bool = True,
        check_quorum: bool = True,
        lease: Lease | float | None = None,
        entry_bytes_max: int = MEBIBYTE + MEBIBYTE // 2,
        message_bytes_max: int = MEBIBYTE,
        in_flight_messages_max: int = 256,
        in_flight_bytes_max: int = 16 * MEBIBYTE,
        uncommitted_bytes_max: int = 64 * MEBIBYTE,
        log_bytes_max: int = 128 * MEBIBYTE,
        snapshot_log_bytes: int = 32 * MEBIBYTE,
        snapshot_log_entries: int = 100_000,
        retained_entries: int = 1024,
        chunk_bytes: int = MEBIBYTE // 4,
        pending_max: int = 1 << 16,
    ) -> Self:
        if isinstance(id, bool) or not isinstance(id, int) or not 0 <= id < 1 << 64:
            raise _ConfigError(f"id is {id!r}; it must be an int from 0 to 2**64 - 1")
        sizes = {
            "cluster": cluster,
            "entry_bytes_max": entry_bytes_max,
            "message_bytes_max": message_bytes_max,
            "in_flight_messages_max": in_flight_messages_max,
            "in_flight_bytes_max": in_flight_bytes_max,
            "uncommitted_bytes_max": uncommitted_bytes_max,
            "log_bytes_max": log_bytes_max,
            "snapshot_log_bytes": snapshot_log_bytes,
            "snapshot_log_entries": snapshot_log_entries,
            "retained_entries": retained_entries,
            "chunk_bytes": chunk_bytes,
            "pending_max": pending_max,
        }
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 64:
                raise _ConfigError(f"{name} is {size!r}; it must be an int, 0 or more")
        granted = Lease(float(lease)) if isinstance(lease, SupportsFloat) else lease
        return super().__new__(
            cls,
            id,
            election_timeout=election_timeout,
            heartbeat_interval=heartbeat_interval,
            pre_vote=pre_vote,
            check_quorum=check_quorum,
            lease=None if granted is None else (granted.length, granted.drift),
            **sizes,
        )

    if TYPE_CHECKING:
        # Inherited from the compiled class, which documents them; here with their types.
        def start(
            self, now: float, seed: int, records: Sequence[records.Record] | None = None
        ) -> list[Effect]: ...
        def receive(self, now: float, sender: int, message: messages.Message) -> list[Effect]: ...
        def expire(self, now: float, timer: TimerName) -> list[Effect]: ...
        def request(self, now: float, id: int, request: requests.Request) -> list[Effect]: ...
        def link(self, now: float, peer: int, link: LinkName) -> list[Effect]: ...
        def flush(self, now: float) -> list[Effect]: ...
        @property
        def status(self) -> Status: ...
        @property
        def log(self) -> tuple[Run, ...]: ...
