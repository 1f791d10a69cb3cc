"""What a member of a Raft writes into its journal.

Examples
--------
>>> from coterie.raft import records
>>> print(records.HardState(term=2, vote=1))
HardState term=2 vote=1
"""

from __future__ import annotations

from dataclasses import dataclass

from coterie import _coterie
from coterie.raft.log import Position, Run, Snapshot
from coterie.raft.membership import Membership

__all__ = [
    "Append",
    "Checkpoint",
    "HardState",
    "Identity",
    "Record",
]


class Record:
    """What the journal keeps: the base of every record.

    Examples
    --------
    >>> from coterie.raft import records
    >>> isinstance(records.Append(()), records.Record)
    True
    """

    __slots__ = ()

    def __str__(self) -> str:
        return _coterie.raft_line("record", self)


@dataclass(frozen=True, slots=True)
class Identity(Record):
    """Whose journal this is: the first record of all.

    Attributes
    ----------
    cluster : int
        The cluster.
    id : int
        The member.

    Examples
    --------
    >>> print(Identity(cluster=0, id=1))
    Identity cluster=0 id=1
    """

    cluster: int
    id: int


@dataclass(frozen=True, slots=True)
class HardState(Record):
    """Term and vote: one record, so that no crash can fall between them.

    Attributes
    ----------
    term : int
        The latest term seen.
    vote : int or None
        Who got the vote in it.

    Examples
    --------
    >>> print(HardState(term=2))
    HardState term=2
    """

    term: int
    vote: int | None = None


@dataclass(frozen=True, slots=True)
class Append(Record):
    """Entries, which replace whatever stood at their indexes and after.

    Attributes
    ----------
    entries : tuple of Run
        The entries.

    Examples
    --------
    >>> print(Append((Run(1, 1, (b"x",)),)))
    Append [1/1 "x"]
    """

    entries: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint(Record):
    """Replaces all records before it.

    Attributes
    ----------
    cluster : int
        The cluster.
    id : int
        The member.
    hard : HardState
        Term and vote.
    snapshot : Snapshot or None
        The snapshot that holds the state; None while everything is still in the log.
    base : Position
        The entry before the first retained one.
    membership : tuple
        The membership at ``base``, after the entry that set it (0: none did).
    entries : tuple of Run
        The retained end of the log.

    Examples
    --------
    >>> print(Checkpoint(0, 1, HardState(2), None, Position(0, 0), (0, Membership.of([1, 2]))))
    Checkpoint cluster=0 id=1 term=2 base=0/0 membership=0:{1 2}
    """

    cluster: int
    id: int
    hard: HardState
    snapshot: Snapshot | None
    base: Position
    membership: tuple[int, Membership]
    entries: tuple[Run, ...] = ()
