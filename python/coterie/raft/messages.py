"""What members of a Raft say to each other, with the names and fields of the core (`src/raft/messages.rs`).

Each is a frozen dataclass; ``str()`` gives the one line that traces and the conversations in ``tests/scripts`` show.

Examples
--------
>>> from coterie.raft import Position, messages
>>> print(messages.RequestVote(term=2, last=Position(1, 3)))
RequestVote term=2 last=1/3
"""

from __future__ import annotations

from dataclasses import dataclass

from coterie import _coterie
from coterie.raft.log import Position, Run, Snapshot, SnapshotId

__all__ = [
    "Append",
    "Appended",
    "Beat",
    "Heard",
    "Install",
    "Installed",
    "Message",
    "PreVote",
    "Read",
    "Rejected",
    "RequestPreVote",
    "RequestRead",
    "RequestVote",
    "Stored",
    "Superseded",
    "TimeoutNow",
    "Vote",
]


class Message:
    """What members say to each other: the base of every message.

    Examples
    --------
    >>> from coterie.raft import messages
    >>> isinstance(messages.Vote(term=2, granted=True), messages.Message)
    True
    """

    __slots__ = ()

    def __str__(self) -> str:
        return _coterie.raft_line("message", self)


@dataclass(frozen=True, slots=True)
class Beat:
    """A leader's question "do you still follow me?", carried by an append (§6.4).

    Attributes
    ----------
    round : int
        Which question. Rounds of one term never repeat.
    sent : float
        The leader's clock when it asked, in seconds; comes back with the answer. A lease counts from here.

    Examples
    --------
    >>> print(Beat(round=7, sent=0.05))
    7@50ms
    """

    round: int
    sent: float

    def __str__(self) -> str:
        return _coterie.raft_line("beat", self)


@dataclass(frozen=True, slots=True)
class RequestPreVote(Message):
    """Asks "would you vote for me in ``term``?" (thesis §9.6). Changes nothing at the one who is asked.

    Attributes
    ----------
    term : int
        The term that the candidate would open.
    last : Position
        The end of its log.

    Examples
    --------
    >>> print(RequestPreVote(term=2, last=Position(1, 3)))
    RequestPreVote term=2 last=1/3
    """

    term: int
    last: Position


@dataclass(frozen=True, slots=True)
class PreVote(Message):
    """The answer to :class:`RequestPreVote`.

    Attributes
    ----------
    term : int
        When granted, the term that was asked about; when refused, that of the one who answers.
    granted : bool
        Whether it would.

    Examples
    --------
    >>> print(PreVote(term=2, granted=True))
    PreVote term=2 granted
    """

    term: int
    granted: bool


@dataclass(frozen=True, slots=True)
class RequestVote(Message):
    """Asks "vote for me in ``term``" (§3.4). A promise: the candidate has written down its vote for itself.

    Attributes
    ----------
    term : int
        The term that the candidate has opened.
    last : Position
        The end of its log.
    transfer : tuple of int, or None
        Set when the leader asked it to campaign (§3.10): that leader's term, and the last round of which it
        counts no lease any more.

    Examples
    --------
    >>> print(RequestVote(term=2, last=Position(1, 3), transfer=(1, 9)))
    RequestVote term=2 last=1/3 transfer=1:9
    """

    term: int
    last: Position
    transfer: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Vote(Message):
    """The answer to :class:`RequestVote`. A promise when granted.

    Attributes
    ----------
    term : int
        The term of the one who answers.
    granted : bool
        Whether the vote is given.

    Examples
    --------
    >>> print(Vote(term=2, granted=False))
    Vote term=2 refused
    """

    term: int
    granted: bool


@dataclass(frozen=True, slots=True)
class Append(Message):
    """Entries that follow ``previous``, or none: then it tells that the leader is there (§3.5).

    Attributes
    ----------
    term : int
        The leader's term.
    previous : Position
        The entry before the first.
    commit : int
        What is committed, as far as the leader knows.
    matched : int
        Up to where the leader knows that this follower has its log.
    joined : int
        The entry that made the follower a member, so that answers of an earlier membership go astray.
    beat : Beat or None
        A question that wants an answer at once.
    entries : tuple of Run
        The entries.

    Examples
    --------
    >>> print(Append(2, Position(1, 1), commit=1, entries=(Run(2, 2, (b"x", b"y")),)))
    Append term=2 previous=1/1 commit=1 [2/2..3 "x" "y"]
    """

    term: int
    previous: Position
    commit: int
    matched: int = 0
    joined: int = 0
    beat: Beat | None = None
    entries: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True)
class Appended(Message):
    """Says "my disk has your log up to ``matched``". A promise.

    Attributes
    ----------
    term : int
        The leader's term.
    matched : int
        The end of what is stored and equals the leader's log.
    joined : int
        The entry that made the follower a member, so that answers of an earlier membership go astray.

    Examples
    --------
    >>> print(Appended(term=2, matched=7))
    Appended term=2 matched=7
    """

    term: int
    matched: int
    joined: int = 0


@dataclass(frozen=True, slots=True)
class Rejected(Message):
    """Says "I have not what you say comes before" (§5.3 of the paper).

    Attributes
    ----------
    term : int
        The leader's term.
    previous : int
        The index of the entry before, that is missing or differs.
    hint : Position
        A place where the logs may agree: nothing between it and ``previous`` can.
    joined : int
        The entry that made the follower a member, so that answers of an earlier membership go astray.
    beat : Beat or None
        The answer to the question, if there was one.

    Examples
    --------
    >>> print(Rejected(term=2, previous=7, hint=Position(1, 4)))
    Rejected term=2 previous=7 hint=1/4
    """

    term: int
    previous: int
    hint: Position
    joined: int = 0
    beat: Beat | None = None


@dataclass(frozen=True, slots=True)
class Heard(Message):
    """Says "I follow you": the answer to a beat.

    Attributes
    ----------
    term : int
        The leader's term; or, when it is smaller than that of the one who answers, the latter's.
    beat : Beat
        The question.
    lease : bool
        Whether it also promises no vote for the length of a lease.

    Examples
    --------
    >>> print(Heard(2, Beat(round=7, sent=0.05025), lease=True))
    Heard term=2 beat=7@50.25ms lease
    """

    term: int
    beat: Beat
    lease: bool = False


@dataclass(frozen=True, slots=True)
class Install(Message):
    """Part of a snapshot, for a follower that needs entries which the log has no more (§5).

    Attributes
    ----------
    term : int
        The leader's term.
    snapshot : Snapshot
        Which snapshot.
    offset : int
        Where in it ``data`` begins.
    data : bytes
        A range of its bytes.
    joined : int
        The entry that made the follower a member, so that answers of an earlier membership go astray.

    Examples
    --------
    >>> from coterie.raft import Membership
    >>> whole = Snapshot(SnapshotId(Position(1, 9), by=2), (1, Membership.of([1, 2])), length=4)
    >>> print(Install(2, whole, offset=0, data=b"abcd"))
    Install term=2 1/9@2(4) offset=0 data="abcd"
    """

    term: int
    snapshot: Snapshot
    offset: int
    data: bytes
    joined: int = 0


@dataclass(frozen=True, slots=True)
class Installed(Message):
    """Says "I have the snapshot up to ``offset``".

    Attributes
    ----------
    term : int
        The leader's term.
    snapshot : SnapshotId
        Which snapshot.
    offset : int
        How many of its bytes are there, from the first.
    joined : int
        The entry that made the follower a member, so that answers of an earlier membership go astray.

    Examples
    --------
    >>> print(Installed(2, SnapshotId(Position(1, 9), by=2), offset=4))
    Installed term=2 1/9@2 offset=4
    """

    term: int
    snapshot: SnapshotId
    offset: int
    joined: int = 0


@dataclass(frozen=True, slots=True)
class TimeoutNow(Message):
    """Says "campaign now" (§3.10): you have my whole log.

    Attributes
    ----------
    term : int
        The leader's term.
    round : int
        The last round of which the leader counts no lease any more.

    Examples
    --------
    >>> print(TimeoutNow(term=2))
    TimeoutNow term=2
    """

    term: int
    round: int = 0


@dataclass(frozen=True, slots=True)
class RequestRead(Message):
    """Asks, for a follower's reads, "what must I have applied to serve them?" (§6.4).

    Attributes
    ----------
    term : int
        The term in which it follows.
    token : int
        Its number for them.

    Examples
    --------
    >>> print(RequestRead(term=2, token=77))
    RequestRead term=2
    """

    term: int
    token: int


@dataclass(frozen=True, slots=True)
class Read(Message):
    """The answer to :class:`RequestRead`, once a quorum has confirmed that the leader still led when it was asked.

    Attributes
    ----------
    term : int
        The leader's term.
    token : int
        The follower's number.
    index : int
        What must be applied.

    Examples
    --------
    >>> print(Read(term=2, token=77, index=9))
    Read term=2 index=9
    """

    term: int
    token: int
    index: int


@dataclass(frozen=True, slots=True)
class Stored(Message):
    """To oneself: the own disk has the log up to ``last``.

    Attributes
    ----------
    term : int
        The term in which it was appended.
    last : int
        The end of what is stored.

    Examples
    --------
    >>> print(Stored(term=2, last=9))
    Stored term=2 last=9
    """

    term: int
    last: int


@dataclass(frozen=True, slots=True)
class Superseded(Message):
    """To oneself: all is durable that makes this snapshot superfluous.

    Attributes
    ----------
    term : int
        The term in which it became so.
    snapshot : SnapshotId
        Which snapshot.

    Examples
    --------
    >>> print(Superseded(2, SnapshotId(Position(1, 9), by=2)))
    Superseded term=2 snapshot=1/9@2
    """

    term: int
    snapshot: SnapshotId
