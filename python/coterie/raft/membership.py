"""Who belongs to a Raft, and how that changes (thesis chapter 4).

Any change goes through joint consensus (§4.3): both sets of voters must agree until it is committed.

Examples
--------
>>> from coterie import raft
>>> before = raft.Membership.of([1, 2, 3])
>>> joint = before.begin(raft.AddVoter(4), raft.Remove(1))
>>> print(joint, "->", joint.leave())
{2 3 4}-{1 2 3} -> {2 3 4}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from coterie import _coterie

__all__ = ["AddLearner", "AddVoter", "Change", "Demote", "Membership", "Remove"]


@dataclass(frozen=True, slots=True)
class Membership:
    """Voters, learners, and while a change is under way the outgoing voters.

    Attributes
    ----------
    voters : tuple of (int, int)
        Who votes and may lead, each with a weight: a heavier one waits less before it campaigns, 0 never does.
    learners : tuple of int
        Who gets the log and never votes: the articles' observers.
    outgoing : tuple of int
        Who still votes, too, because a change is not yet committed.

    Examples
    --------
    >>> print(Membership(((1, 1), (2, 5)), learners=(3,)))
    {1 2:5}+{3}
    """

    voters: tuple[tuple[int, int], ...]
    learners: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()

    @classmethod
    def of(cls, voters: Iterable[int], learners: Iterable[int] = ()) -> Membership:
        """These voters, all of weight 1, and these learners.

        Parameters
        ----------
        voters, learners : iterable of int
            Ids of members.

        Returns
        -------
        Membership
            Sorted, so that equal ones compare equal.

        Examples
        --------
        >>> print(Membership.of([3, 1, 2]))
        {1 2 3}
        """
        return cls(tuple((voter, 1) for voter in sorted(set(voters))), tuple(sorted(set(learners))))

    def is_voter(self, member: int) -> bool:
        """Whether it votes, in the new set or in the outgoing one."""
        return any(member == voter for voter, _ in self.voters) or member in self.outgoing

    @property
    def is_joint(self) -> bool:
        """Whether a change is under way."""
        return bool(self.outgoing)

    def begin(self, *changes: Change) -> Membership:
        """The joint membership that begins these changes.

        Parameters
        ----------
        *changes : AddLearner, AddVoter, Demote or Remove
            All of them at once.

        Returns
        -------
        Membership
            With both sets of voters.

        Raises
        ------
        ConfigError
            They would change nothing, leave no voter, or name one member twice or one that is not here.

        Examples
        --------
        >>> print(Membership.of([1, 2]).begin(Demote(2)))
        {1}-{1 2}+{2}
        """
        joint: Membership = _coterie.raft_begin(self, changes)
        return joint

    def leave(self) -> Membership:
        """The membership that ends the change under way."""
        return Membership(self.voters, self.learners)

    def __str__(self) -> str:
        return _coterie.raft_line("membership", self)


@dataclass(frozen=True, slots=True)
class AddLearner:
    """A new member that gets the log and does not vote.

    Attributes
    ----------
    id : int
        Who.

    Examples
    --------
    >>> print(Membership.of([1, 2, 3]).begin(AddLearner(4)).leave())
    {1 2 3}+{4}
    """

    id: int


@dataclass(frozen=True, slots=True)
class AddVoter:
    """A new voter, or a learner that becomes one, or a voter that gets another weight.

    Attributes
    ----------
    id : int
        Who.
    weight : int, default 1
        How eager it is to lead; 0 to 255.

    Examples
    --------
    >>> print(Membership.of([1, 2]).begin(AddVoter(2, weight=5)).leave())
    {1 2:5}
    """

    id: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Demote:
    """A voter that becomes a learner.

    Attributes
    ----------
    id : int
        Who.

    Examples
    --------
    >>> print(Membership.of([1, 2, 3]).begin(Demote(3)).leave())
    {1 2}+{3}
    """

    id: int


@dataclass(frozen=True, slots=True)
class Remove:
    """A member that leaves.

    Attributes
    ----------
    id : int
        Who.

    Examples
    --------
    >>> print(Membership.of([1, 2, 3]).begin(Remove(3)).leave())
    {1 2}
    """

    id: int


Change: TypeAlias = AddLearner | AddVoter | Demote | Remove
