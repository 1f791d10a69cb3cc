"""Places in a Raft's log, the entries there, and the snapshots that stand for them.

Examples
--------
>>> from coterie.raft import Position
>>> max(Position(term=1, index=9), Position(term=2, index=3))  # more up-to-date: the later term first
Position(term=2, index=3)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from coterie import _coterie
from coterie.raft.membership import Membership

__all__ = ["Position", "Run", "Snapshot", "SnapshotId"]

RoleName: TypeAlias = Literal["Follower", "PreCandidate", "Candidate", "Leader"]
TimerName: TypeAlias = Literal["Election", "Heartbeat", "Quorum", "Transfer", "Deadline"]


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the log and the term of the entry there, ordered as "more up-to-date" (thesis §3.6.1).

    Attributes
    ----------
    term : int
        The term in which the entry was appended.
    index : int
        Where it stands, counted from 1; 0 comes before the first.

    Examples
    --------
    >>> print(Position(term=2, index=9))
    2/9
    """

    term: int
    index: int

    def __str__(self) -> str:
        return f"{self.term}/{self.index}"


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of the log, which one leader appended in one term.

    Attributes
    ----------
    term : int
        The term.
    first : int
        The index of its first entry.
    payload : tuple of bytes, Membership, or None
        One entry for each command; one that sets the membership; or one that is blank, a new leader's first.

    Examples
    --------
    >>> print(Run(term=2, first=5, payload=(b"x", b"y")))
    2/5..6 "x" "y"
    >>> print(Run(3, 7, None))
    3/7 blank
    >>> len(Run(2, 5, (b"x", b"y")))
    2
    """

    term: int
    first: int
    payload: tuple[bytes, ...] | Membership | None

    def __str__(self) -> str:
        return _coterie.raft_line("run", self)

    def __len__(self) -> int:
        return len(self.payload) if isinstance(self.payload, tuple) else 1

    @property
    def last(self) -> int:
        """The index of its last entry."""
        return self.first + len(self) - 1


@dataclass(frozen=True, slots=True, order=True)
class SnapshotId:
    """A snapshot's name.

    Attributes
    ----------
    last : Position
        The last entry that it covers.
    by : int
        Who made it: two members' bytes may differ.

    Examples
    --------
    >>> print(SnapshotId(Position(1, 9), by=2))
    1/9@2
    """

    last: Position
    by: int

    def __str__(self) -> str:
        return f"{self.last}@{self.by}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of a snapshot but its bytes, which are the application's.

    Attributes
    ----------
    id : SnapshotId
        Its name.
    membership : tuple
        The membership at its last entry, after the entry that set it.
    length : int
        How many bytes it has.

    Examples
    --------
    >>> print(Snapshot(SnapshotId(Position(1, 9), by=2), (1, Membership.of([1, 2])), length=4))
    1/9@2(4)
    """

    id: SnapshotId
    membership: tuple[int, Membership]
    length: int

    def __str__(self) -> str:
        return _coterie.raft_line("snapshot", self)
