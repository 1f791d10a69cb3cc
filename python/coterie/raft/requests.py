"""What a member of a Raft may be asked.

A deadline is a time on the member's own clock, in seconds; the default never comes.

Examples
--------
>>> from coterie.raft import requests
>>> requests.Propose((b"x", b"y"), deadline=2.5).commands
(b'x', b'y')
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from coterie.raft.log import SnapshotId
from coterie.raft.membership import Change as _Change, Membership

__all__ = [
    "Bootstrap",
    "Campaign",
    "Change",
    "Chunk",
    "Propose",
    "Read",
    "Request",
    "Snapshotted",
    "Transfer",
    "Written",
]


class Request:
    """What a member may be asked: the base of every request.

    Examples
    --------
    >>> from coterie.raft import requests
    >>> isinstance(requests.Campaign(), requests.Request)
    True
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Bootstrap(Request):
    """Begin a cluster with these members. Only with an empty journal; every member that is asked must be told the same.

    Attributes
    ----------
    membership : Membership
        Who belongs at first.

    Examples
    --------
    >>> Bootstrap(Membership.of([1, 2, 3])).membership.is_voter(3)
    True
    """

    membership: Membership


@dataclass(frozen=True, slots=True)
class Propose(Request):
    """Replicate these commands. Leader only. Answered when the last of them is committed.

    Attributes
    ----------
    commands : tuple of bytes
        The commands, one entry each.
    deadline : float
        When the asker gives up: the answer is then ``errors.Unknown``.

    Examples
    --------
    >>> Propose((b"x",))
    Propose(commands=(b'x',), deadline=inf)
    """

    commands: tuple[bytes, ...]
    deadline: float = inf


@dataclass(frozen=True, slots=True)
class Read(Request):
    """Ask up to which entry the application must have applied, so that a read sees all that was acknowledged.

    Attributes
    ----------
    lease : bool
        Whether a lease may answer; without a valid one it falls back to a round of questions.
    deadline : float
        When the asker gives up.

    Examples
    --------
    >>> Read(deadline=1.5)
    Read(lease=False, deadline=1.5)
    """

    lease: bool = False
    deadline: float = inf


@dataclass(frozen=True, slots=True)
class Change(Request):
    """Change the membership. Leader only, one change at a time. Answered when the new membership is committed.

    Attributes
    ----------
    changes : tuple[_Change, ...]
        All of them at once.
    deadline : float
        When the asker gives up: the answer is then ``errors.Unknown``.

    Examples
    --------
    >>> from coterie import raft
    >>> Change((raft.AddLearner(4),))
    Change(changes=(AddLearner(id=4),), deadline=inf)
    """

    changes: tuple[_Change, ...]
    deadline: float = inf


@dataclass(frozen=True, slots=True)
class Transfer(Request):
    """Hand leadership to this voter. Leader only.

    Attributes
    ----------
    to : int
        Who shall lead.

    Examples
    --------
    >>> Transfer(to=2)
    Transfer(to=2)
    """

    to: int


@dataclass(frozen=True, slots=True)
class Campaign(Request):
    """Campaign now, as if no leader had been heard for long; pre-vote and stickiness still rule.

    Examples
    --------
    >>> Campaign()
    Campaign()
    """


@dataclass(frozen=True, slots=True)
class Snapshotted(Request):
    """The application has a durable snapshot of all entries through ``last``.

    Attributes
    ----------
    last : int
        The last entry that it covers.
    length : int
        How many bytes it has.

    Examples
    --------
    >>> Snapshotted(last=9, length=4)
    Snapshotted(last=9, length=4)
    """

    last: int
    length: int


@dataclass(frozen=True, slots=True)
class Chunk(Request):
    """A range of a snapshot, as asked for.

    Attributes
    ----------
    snapshot : SnapshotId
        Which snapshot.
    offset : int
        Where the range begins.
    to : int
        For whom.
    data : bytes or None
        The bytes; None when it cannot be read.

    Examples
    --------
    >>> from coterie.raft import Position
    >>> Chunk(SnapshotId(Position(1, 9), by=2), offset=0, to=3, data=b"abcd").data
    b'abcd'
    """

    snapshot: SnapshotId
    offset: int
    to: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Written(Request):
    """The application has the snapshot up to ``offset``, durably.

    Attributes
    ----------
    snapshot : SnapshotId
        Which snapshot.
    offset : int
        How many bytes, from the first.

    Examples
    --------
    >>> from coterie.raft import Position
    >>> Written(SnapshotId(Position(1, 9), by=2), offset=4).offset
    4
    """

    snapshot: SnapshotId
    offset: int
