"""What a member of a Raft answers when it could; when it could not, see :mod:`coterie.raft.errors`.

Examples
--------
>>> from coterie.raft import Position, answers
>>> print(answers.Committed(Position(2, 9)))
Committed 2/9
"""

from __future__ import annotations

from dataclasses import dataclass

from coterie import _coterie
from coterie.raft.log import Position

__all__ = [
    "Answer",
    "Changed",
    "Committed",
    "Done",
    "Read",
    "Transferred",
]


class Answer:
    """What a member answers when it could: the base of every answer.

    Examples
    --------
    >>> from coterie.raft import answers
    >>> isinstance(answers.Done(), answers.Answer)
    True
    """

    __slots__ = ()

    def __str__(self) -> str:
        return _coterie.raft_line("answer", self)


@dataclass(frozen=True, slots=True)
class Done(Answer):
    """It was done.

    Examples
    --------
    >>> print(Done())
    Done
    """


@dataclass(frozen=True, slots=True)
class Committed(Answer):
    """The commands are committed; the first is as many places before ``last`` as there are others.

    Attributes
    ----------
    last : Position
        The last one's place.

    Examples
    --------
    >>> print(Committed(Position(2, 9)))
    Committed 2/9
    """

    last: Position


@dataclass(frozen=True, slots=True)
class Read(Answer):
    """A read may be served once this entry is applied.

    Attributes
    ----------
    index : int
        The entry.

    Examples
    --------
    >>> print(Read(9))
    Read 9
    """

    index: int


@dataclass(frozen=True, slots=True)
class Changed(Answer):
    """The change is committed; this entry holds the new membership.

    Attributes
    ----------
    index : int
        The entry.

    Examples
    --------
    >>> print(Changed(9))
    Changed 9
    """

    index: int


@dataclass(frozen=True, slots=True)
class Transferred(Answer):
    """Another leads now.

    Attributes
    ----------
    leader : int
        Who.
    term : int
        In which term.

    Examples
    --------
    >>> print(Transferred(leader=2, term=3))
    Transferred leader=2 term=3
    """

    leader: int
    term: int
