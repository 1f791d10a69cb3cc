"""The classes of the articles that Coterie grew from, with the articles' names, on real protocols.

The articles' versions show the words of a protocol and not what it promises. Each class here keeps the article's
surface, and stands on the same core as everything else: a thin surface, no second implementation.

Examples
--------
>>> from coterie import textbook
>>> raft = textbook.Raft(["a", "b", "c"])
>>> raft.start()
>>> raft.current_term, raft.voted_for == raft.leader
(1, True)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from coterie import sim
from coterie.exceptions import ConfigError, UnavailableError, UnknownNodeError, UnknownOutcomeError
from coterie.raft import Membership, Node, answers, errors, requests

__all__ = ["Raft", "raft"]

# Simulated seconds after which a cluster in which nothing breaks has done whatever it was asked.
PATIENCE = 30.0
# The roles of the articles: who leads is elected, so "leader" and "follower" both mean a voter.
VOTERS, OBSERVERS = frozenset({"leader", "follower", "voter"}), frozenset({"observer", "learner"})


class Raft:
    """A Raft among nodes: one election after the other, and a replicated log.

    The article's version raises ``current_term`` and votes for itself in one step: it asks nobody, so each node could
    lead each term. Here every node is a real member. A candidate needs the votes of a majority, nobody votes twice in a
    term, and the log holds what a majority has written down.

    Parameters
    ----------
    nodes : iterable
        The members: objects of yours, or just names. Those that have a method ``receive_start()`` are told that an
        election begins, those that have ``receive_vote(candidate)`` whom a majority has elected. A node with an
        attribute ``role`` of "observer" gets the log and never votes.
    seed : int, default 0
        Time-outs are drawn from it: the same seed elects the same nodes.

    Attributes
    ----------
    nodes : list
        The members, in order.

    Notes
    -----
    The members live in a small simulated world (:attr:`world`), in which networks take their time and disks, too, so
    all of :mod:`coterie.sim` can be done to them. Calls return when the cluster has done what was asked.

    Examples
    --------
    >>> from coterie import textbook
    >>> class Node:
    ...     def __init__(self, name):
    ...         self.name, self.elected = name, None
    ...
    ...     def receive_start(self):
    ...         pass
    ...
    ...     def receive_vote(self, candidate):
    ...         self.elected = candidate
    >>> nodes = [Node("a"), Node("b"), Node("c")]
    >>> cluster = textbook.Raft(nodes)
    >>> cluster.start()
    >>> cluster.vote(nodes[1])
    True
    >>> [node.elected.name for node in nodes]
    ['b', 'b', 'b']
    >>> cluster.append("x = 1")
    >>> cluster.log
    ['x = 1']
    """

    def __init__(self, nodes: Iterable[Any], *, seed: int = 0) -> None:
        self.nodes: list[Any] = list(nodes)
        if not self.nodes:
            raise ConfigError("a Raft needs nodes; the list is empty")
        for node in self.nodes:
            _check_role(node)
        ids = range(1, len(self.nodes) + 1)
        observers = [id for id, node in zip(ids, self.nodes, strict=True) if _role(node) in OBSERVERS]
        voters = [id for id in ids if id not in observers]
        if not voters:
            raise ConfigError("all nodes are observers; somebody must be able to vote")
        self._world = sim.World(
            Node, members=len(self.nodes), seed=seed, membership=Membership.of(voters, observers)
        )
        self._voters = voters
        self._commands: dict[bytes, Any] = {}

    @property
    def world(self) -> sim.World:
        """The world in which the members live."""
        return self._world

    @property
    def leader(self) -> Any:
        """The node that leads; None before the first election."""
        leader = self._world.leader
        return None if leader is None else self.nodes[leader - 1]

    @property
    def current_term(self) -> int:
        """The latest term that any member has seen; 0 before the first election."""
        terms: list[int] = [status.term for status in self._world.nodes.values() if status is not None]
        return max(terms, default=0)

    @property
    def voted_for(self) -> Any:
        """The node that a majority has voted for in the current term; None while there is none."""
        leader = self._world.leader
        return (
            self.leader
            if leader is not None and self._world.nodes[leader].term == self.current_term
            else None
        )

    @property
    def log(self) -> list[Any]:
        """What was appended and is committed: a majority has it, so no later leader lacks it."""
        leader = self._world.leader
        if leader is None:
            return []
        commit = self._world.nodes[leader].commit
        runs = self._world.log(leader)
        placed = [
            (run.first + place, command)
            for run in runs
            if isinstance(run.payload, tuple)
            for place, command in enumerate(run.payload)
        ]
        return [self._commands[command] for index, command in placed if index <= commit]

    def log_of(self, node: Any) -> list[Any]:
        """What one member has written down of the log, observers included.

        Parameters
        ----------
        node : object
            One of :attr:`nodes`.

        Returns
        -------
        list
            The appended values; the last ones may not be committed yet.

        Raises
        ------
        UnknownNodeError
            It is none of the nodes.
        """
        runs = self._world.log(self._id(node))
        commands = (command for run in runs if isinstance(run.payload, tuple) for command in run.payload)
        return [self._commands[command] for command in commands]

    def start(self) -> None:
        """Let the members elect a leader, if there is none; each is told with ``receive_start``.

        Raises
        ------
        UnavailableError
            Nobody was elected within 30 simulated seconds: too much of :attr:`world` is broken.
        """
        for node in self.nodes:
            _tell(node, "receive_start")
        before = (self._world.leader, self.current_term)
        if not self._world.run_until(lambda world: world.leader is not None, PATIENCE):
            raise UnavailableError(f"nobody was elected within {PATIENCE:.0f} simulated seconds")
        if (self._world.leader, self.current_term) != before:
            self._announce()

    def vote(self, candidate: Any) -> bool:
        """Ask the members to elect ``candidate``.

        It campaigns in a term of its own, and a majority votes for it, or not: members that hear from a working leader
        refuse, so leadership is handed over instead.

        Parameters
        ----------
        candidate : object
            One of :attr:`nodes`.

        Returns
        -------
        bool
            Whether it leads now. An observer is never elected.

        Raises
        ------
        UnknownNodeError
            It is none of the nodes.
        """
        id = self._id(candidate)
        if id not in self._voters:
            return False
        leader = self._world.leader
        if leader == id:
            return True
        if leader is None:
            self._world.request(id, requests.Campaign())
        else:
            self._world.request(leader, requests.Transfer(to=id))
        elected = self._world.run_until(lambda world: world.leader == id, PATIENCE)
        if elected:
            self._announce()
        return elected

    def append(self, value: Any) -> None:
        """Replicate a value; returns when it is committed, and all members that run have it.

        Parameters
        ----------
        value : object
            Anything. It is kept here; the members replicate its number.

        Raises
        ------
        UnknownOutcomeError
            Its leader does not know whether it was, or will be, committed.
        UnavailableError
            Nobody took it within 30 simulated seconds.
        """
        command = str(len(self._commands)).encode()
        self._commands[command] = value
        end = self._world.now + PATIENCE
        while (index := self._propose(command)) is None:
            if self._world.now >= end:
                raise UnavailableError(f"nobody took it within {PATIENCE:.0f} simulated seconds")
            self._world.run(seconds=0.1)
        committed = index
        self._world.run_until(lambda world: _all_have(world, committed), PATIENCE)

    def _propose(self, command: bytes) -> int | None:
        """Where it was committed; None when it was refused, so that nothing happened."""
        if self._world.leader is None:
            self.start()
        leader = self._world.leader
        if leader is None:
            return None
        deadline = self._world.clock(leader) + PATIENCE
        asked = self._world.request(leader, requests.Propose((command,), deadline))
        self._world.run_until(lambda world: world.answer(asked) is not None, PATIENCE)
        answer = self._world.answer(asked)
        if answer is None or isinstance(answer.error, errors.Unknown):
            raise UnknownOutcomeError(str(errors.Unknown()))
        return answer.value.last.index if isinstance(answer.value, answers.Committed) else None

    def _announce(self) -> None:
        elected = self.leader
        for node in self.nodes:
            _tell(node, "receive_vote", elected)

    def _id(self, node: Any) -> int:
        # Nodes may be equal, or not know how to compare themselves.
        for place, known in enumerate(self.nodes, 1):
            if known is node:
                return place
        for place, known in enumerate(self.nodes, 1):
            if known == node:
                return place
        raise UnknownNodeError(f"there is no node {node!r}", node=node)

    def __repr__(self) -> str:
        return (
            f"Raft(nodes={len(self.nodes)}, current_term={self.current_term}, voted_for={self.voted_for!r})"
        )


def raft(nodes: Sequence[Any], value: Any = None, *, seed: int = 0) -> Any:
    """One round: the voters elect a leader, which replicates ``value`` to all, observers included.

    The article's version sends a heartbeat from whichever node says that it is the leader, and counts nothing. Here a
    node's ``role`` only says whether it votes ("leader", "follower") or gets the log alone ("observer"); who leads is
    decided by votes, and each node's ``role`` is set to what came of them.

    Parameters
    ----------
    nodes : sequence
        Objects with an attribute ``role``. Where there is one, ``receive_start()``, ``receive_vote(candidate)`` and
        ``receive_log(log)`` are called.
    value : object, optional
        What is replicated; nothing, if it is None.
    seed : int, default 0
        Time-outs are drawn from it.

    Returns
    -------
    object
        The node that leads.

    Raises
    ------
    ConfigError
        A role is none of the articles', or nobody may vote.

    Examples
    --------
    >>> from types import SimpleNamespace as Node
    >>> from coterie import textbook
    >>> nodes = [
    ...     Node(name="a", role="follower"),
    ...     Node(name="b", role="follower"),
    ...     Node(name="c", role="follower"),
    ... ]
    >>> nodes.append(Node(name="d", role="observer"))
    >>> leader = textbook.raft(nodes, "x = 1")
    >>> leader.role, sorted(node.role for node in nodes)
    ('leader', ['follower', 'follower', 'leader', 'observer'])
    """
    nodes = list(nodes)
    cluster = Raft(nodes, seed=seed)
    cluster.start()
    if value is not None:
        cluster.append(value)
    for node in nodes:
        if _role(node) not in OBSERVERS and hasattr(node, "role"):
            node.role = "leader" if node is cluster.leader else "follower"
        _tell(node, "receive_log", cluster.log_of(node))
    return cluster.leader


def _check_role(node: Any) -> None:
    role = _role(node)
    if role not in VOTERS | OBSERVERS:
        raise ConfigError(f'{node!r} has the role {role!r}; there are "leader", "follower" and "observer"')


def _role(node: Any) -> str:
    return str(getattr(node, "role", "follower"))


def _tell(node: Any, method: str, *arguments: Any) -> None:
    told = getattr(node, method, None)
    if callable(told):
        told(*arguments)


def _all_have(world: sim.World, index: int) -> bool:
    return all(status is None or status.commit >= index for status in world.nodes.values())
