"""Why a member of a Raft could not do what it was asked. All but :class:`Unknown`: nothing happened, and nothing will.

These are values in an :class:`coterie.protocol.Answer`, not exceptions: a machine raises nothing for what is asked.

Examples
--------
>>> from coterie.raft import errors
>>> print(errors.NotLeader(term=2, leader=3))
this member does not lead term 2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "Behind",
    "Bootstrapped",
    "ChangeInProgress",
    "Error",
    "Halted",
    "InvalidChange",
    "NoTarget",
    "NotLeader",
    "Overloaded",
    "Overwritten",
    "Stale",
    "TimedOut",
    "TooLarge",
    "Transferring",
    "Unknown",
]


class Error:
    """Why a member could not: the base of every error.

    Examples
    --------
    >>> from coterie.raft import errors
    >>> isinstance(errors.Unknown(), errors.Error)
    True
    """

    __slots__ = ()
    _words: ClassVar[str] = ""

    def __str__(self) -> str:
        return self._words.format(self)


@dataclass(frozen=True, slots=True)
class NotLeader(Error):
    """Only the leader takes this. Ask ``leader``, when known.

    Attributes
    ----------
    term : int
        The term.
    leader : int or None
        Who leads it, when known.

    Examples
    --------
    >>> print(NotLeader(term=2, leader=3))
    this member does not lead term 2
    """

    _words = "this member does not lead term {0.term}"

    term: int
    leader: int | None = None


@dataclass(frozen=True, slots=True)
class Overloaded(Error):
    """A bound is reached. Ask again later.

    Attributes
    ----------
    limit : str
        Which bound.

    Examples
    --------
    >>> print(Overloaded("pending requests"))
    overloaded: pending requests
    """

    _words = "overloaded: {0.limit}"

    limit: str


@dataclass(frozen=True, slots=True)
class TooLarge(Error):
    """A command is larger than an entry may be, or the batch is empty.

    Attributes
    ----------
    bytes : int
        The command's size.
    limit : int
        What is allowed.

    Examples
    --------
    >>> print(TooLarge(bytes=9, limit=8))
    a command of 9 bytes; an entry may have 8
    """

    _words = "a command of {0.bytes} bytes; an entry may have {0.limit}"

    bytes: int
    limit: int


@dataclass(frozen=True, slots=True)
class Transferring(Error):
    """The leader is handing over. Ask again soon.

    Attributes
    ----------
    to : int
        To whom.

    Examples
    --------
    >>> print(Transferring(to=2))
    leadership is being handed to 2
    """

    _words = "leadership is being handed to {0.to}"

    to: int


@dataclass(frozen=True, slots=True)
class NoTarget(Error):
    """The target cannot take over: it is no voter, or it leads already.

    Attributes
    ----------
    to : int
        Who was named.

    Examples
    --------
    >>> print(NoTarget(to=2))
    2 cannot be handed the leadership
    """

    _words = "{0.to} cannot be handed the leadership"

    to: int


@dataclass(frozen=True, slots=True)
class ChangeInProgress(Error):
    """Another change is not yet committed, or the leader has committed no entry of its own term yet.

    Examples
    --------
    >>> print(ChangeInProgress())
    another change of the membership is under way
    """

    _words = "another change of the membership is under way"


@dataclass(frozen=True, slots=True)
class InvalidChange(Error):
    """The change makes no sense here.

    Attributes
    ----------
    reason : str
        Why.

    Examples
    --------
    >>> print(InvalidChange("4 is no member"))
    4 is no member
    """

    _words = "{0.reason}"

    reason: str


@dataclass(frozen=True, slots=True)
class Behind(Error):
    """The learner is too far behind to become a voter.

    Attributes
    ----------
    id : int
        The learner.
    entries : int
        How many entries it lacks.

    Examples
    --------
    >>> print(Behind(id=4, entries=900))
    4 lacks 900 entries; wait until it has caught up
    """

    _words = "{0.id} lacks {0.entries} entries; wait until it has caught up"

    id: int
    entries: int


@dataclass(frozen=True, slots=True)
class Bootstrapped(Error):
    """The journal is not empty, or the membership makes no sense.

    Examples
    --------
    >>> print(Bootstrapped())
    this member has a cluster already
    """

    _words = "this member has a cluster already"


@dataclass(frozen=True, slots=True)
class Overwritten(Error):
    """Another leader's entry stands where this one's stood.

    Examples
    --------
    >>> print(Overwritten())
    overwritten by a later leader
    """

    _words = "overwritten by a later leader"


@dataclass(frozen=True, slots=True)
class TimedOut(Error):
    """The deadline has passed; nothing was done.

    Examples
    --------
    >>> print(TimedOut())
    not in time
    """

    _words = "not in time"


@dataclass(frozen=True, slots=True)
class Stale(Error):
    """The application named something that is not so.

    Examples
    --------
    >>> print(Stale())
    stale
    """

    _words = "stale"


@dataclass(frozen=True, slots=True)
class Halted(Error):
    """The machine does nothing any more.

    Attributes
    ----------
    reason : str
        Why.

    Examples
    --------
    >>> print(Halted("the journal has a gap"))
    halted: the journal has a gap
    """

    _words = "halted: {0.reason}"

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown(Error):
    """It may have happened, or may yet happen.

    Examples
    --------
    >>> print(Unknown())
    the outcome is unknown
    """

    _words = "the outcome is unknown"
