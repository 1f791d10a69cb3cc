"""What the application of a Raft hears.

Examples
--------
>>> from coterie.raft import events
>>> print(events.Role("Leader", term=2, leader=1))
Role Leader term=2 leader=1
"""

from __future__ import annotations

from dataclasses import dataclass

from coterie import _coterie
from coterie.raft.log import RoleName, Run, Snapshot, SnapshotId
from coterie.raft.membership import Membership as _Membership

__all__ = [
    "Committed",
    "Discard",
    "Event",
    "Halted",
    "Install",
    "MakeSnapshot",
    "Membership",
    "Read",
    "Restore",
    "Role",
    "Write",
]


class Event:
    """What the application hears: the base of every event.

    Examples
    --------
    >>> from coterie.raft import events
    >>> isinstance(events.MakeSnapshot(), events.Event)
    True
    """

    __slots__ = ()

    def __str__(self) -> str:
        return _coterie.raft_line("event", self)


@dataclass(frozen=True, slots=True)
class Restore(Event):
    """At a start: the state is this snapshot's; entries follow.

    Attributes
    ----------
    snapshot : Snapshot
        The snapshot.

    Examples
    --------
    >>> from coterie.raft import Membership as Members, Position
    >>> print(Restore(Snapshot(SnapshotId(Position(1, 9), 2), (1, Members.of([1])), 4)))
    Restore 1/9@2(4)
    """

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Committed(Event):
    """Apply these in order. They follow each other without a gap.

    Attributes
    ----------
    entries : tuple of Run
        The entries.

    Examples
    --------
    >>> print(Committed((Run(1, 2, (b"x",)),)))
    Committed [1/2 "x"]
    """

    entries: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Role(Event):
    """Role, term or known leader have changed.

    Attributes
    ----------
    role : {"Follower", "PreCandidate", "Candidate", "Leader"}
        The role.
    term : int
        The term.
    leader : int or None
        Who leads, when known.

    Examples
    --------
    >>> print(Role("Follower", term=2))
    Role Follower term=2
    """

    role: RoleName
    term: int
    leader: int | None = None


@dataclass(frozen=True, slots=True)
class Membership(Event):
    """The membership is effective now, though it may not be committed yet.

    Attributes
    ----------
    index : int
        The entry that set it.
    membership : _Membership
        Who belongs.

    Examples
    --------
    >>> from coterie import raft
    >>> print(Membership(1, raft.Membership.of([1, 2, 3])))
    Membership 1 {1 2 3}
    """

    index: int
    membership: _Membership


@dataclass(frozen=True, slots=True)
class MakeSnapshot(Event):
    """The log has grown long: make a snapshot of what is applied and ask ``requests.Snapshotted``.

    Examples
    --------
    >>> print(MakeSnapshot())
    MakeSnapshot
    """


@dataclass(frozen=True, slots=True)
class Read(Event):
    """A follower needs this range: answer with ``requests.Chunk``.

    Attributes
    ----------
    snapshot : SnapshotId
        Which snapshot.
    offset : int
        From where.
    length : int
        How much.
    to : int
        For whom.

    Examples
    --------
    >>> from coterie.raft import Position
    >>> print(Read(SnapshotId(Position(1, 9), by=2), offset=0, length=4, to=3))
    Read 1/9@2 offset=0 length=4 to=3
    """

    snapshot: SnapshotId
    offset: int
    length: int
    to: int


@dataclass(frozen=True, slots=True)
class Write(Event):
    """Keep this part of a snapshot; when it is stored, ask ``requests.Written``.

    Attributes
    ----------
    snapshot : Snapshot
        Which snapshot.
    offset : int
        Where ``data`` belongs.
    data : bytes
        The bytes.

    Examples
    --------
    >>> from coterie.raft import Membership as Members, Position
    >>> print(Write(Snapshot(SnapshotId(Position(1, 9), 2), (1, Members.of([1])), 4), 0, b"abcd"))
    Write 1/9@2(4) offset=0 data="abcd"
    """

    snapshot: Snapshot
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Install(Event):
    """The snapshot is whole: make it the state, in place of all that was applied.

    Attributes
    ----------
    snapshot : Snapshot
        The snapshot.

    Examples
    --------
    >>> from coterie.raft import Membership as Members, Position
    >>> print(Install(Snapshot(SnapshotId(Position(1, 9), 2), (1, Members.of([1])), 4)))
    Install 1/9@2(4)
    """

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Discard(Event):
    """Nobody needs this snapshot any more.

    Attributes
    ----------
    snapshot : SnapshotId
        Which snapshot.

    Examples
    --------
    >>> from coterie.raft import Position
    >>> print(Discard(SnapshotId(Position(1, 9), by=2)))
    Discard 1/9@2
    """

    snapshot: SnapshotId


@dataclass(frozen=True, slots=True)
class Halted(Event):
    """The journal is another member's or makes no sense: this machine does nothing any more.

    Attributes
    ----------
    reason : str
        Why.

    Examples
    --------
    >>> Halted("the journal is another member's").reason
    "the journal is another member's"
    """

    reason: str
