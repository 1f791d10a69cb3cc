"""The articles' classes do what their names promise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import coterie
from coterie import textbook


class Node:
    """As in the articles: it is told of the start, and of the vote."""

    def __init__(self, name: str, role: str = "follower") -> None:
        self.name, self.role = name, role
        self.told: list[Any] = []

    def receive_start(self) -> None:
        self.told.append("start")

    def receive_vote(self, candidate: Any) -> None:
        self.told.append(candidate)

    def __repr__(self) -> str:
        return self.name


def test_before_the_first_election_there_is_nothing() -> None:
    raft = textbook.Raft(["a", "b", "c"])
    assert (raft.current_term, raft.voted_for, raft.leader, raft.log) == (0, None, None, [])
    assert raft.nodes == ["a", "b", "c"]


def test_an_election_gives_one_leader_of_a_term_and_all_are_told() -> None:
    nodes = [Node(name) for name in "abcde"]
    raft = textbook.Raft(nodes)
    raft.start()
    assert raft.current_term == 1
    assert raft.voted_for in nodes
    assert all(node.told == ["start", raft.voted_for] for node in nodes)
    statuses = raft.world.nodes.values()
    assert [status.role for status in statuses].count("Leader") == 1
    assert sum(status.vote == raft.world.leader for status in statuses) >= 3, "a majority has voted"


def test_a_second_start_finds_a_leader_and_changes_nothing() -> None:
    raft = textbook.Raft([Node("a"), Node("b"), Node("c")])
    raft.start()
    before = (raft.current_term, raft.leader)
    raft.start()
    assert (raft.current_term, raft.leader) == before


def test_a_vote_opens_a_term() -> None:
    nodes = [Node(name) for name in "abc"]
    raft = textbook.Raft(nodes)
    for place, node in enumerate(nodes, 1):
        assert raft.vote(node)
        assert raft.voted_for is node
        assert raft.current_term >= place
    assert [told for told in nodes[0].told if told != "start"] == nodes
    assert raft.vote(nodes[2]), "who leads already"


def test_the_log_outlives_leaders() -> None:
    raft = textbook.Raft(["a", "b", "c"])
    values = ["x = 1", {"any": ["value"]}, 3]
    for value in values:
        raft.append(value)
    assert raft.log == values
    assert raft.vote("a" if raft.leader != "a" else "b")
    raft.append("later")
    assert raft.log == [*values, "later"]
    assert all(raft.log_of(node) == raft.log for node in raft.nodes)


def test_the_log_survives_the_leader_s_crash() -> None:
    raft = textbook.Raft(["a", "b", "c", "d", "e"], seed=3)
    raft.append("kept")
    first = raft.world.leader
    assert first is not None
    raft.world.crash(first)
    assert raft.world.run_until(lambda world: world.leader not in {None, first}, seconds=10)
    assert raft.log == ["kept"]
    raft.append("more")
    raft.world.restart(first)
    raft.world.run(seconds=2)
    assert raft.log_of(raft.nodes[first - 1]) == ["kept", "more"]


def test_observers_get_the_log_and_are_never_elected() -> None:
    nodes = [Node("a"), Node("b"), Node("c"), Node("watcher", "observer")]
    raft = textbook.Raft(nodes)
    raft.append("x")
    assert raft.log_of(nodes[3]) == ["x"]
    assert not raft.vote(nodes[3])
    assert raft.world.nodes[4].vote is None


def test_one_round_with_the_articles_roles() -> None:
    nodes = [SimpleNamespace(role=role, log=None) for role in ("leader", "follower", "follower", "observer")]
    for node in nodes:
        node.receive_log = lambda log, node=node: setattr(node, "log", log)
    leader = textbook.raft(nodes, "x = 1")
    assert leader.role == "leader"
    assert sorted(node.role for node in nodes) == ["follower", "follower", "leader", "observer"]
    assert all(node.log == ["x = 1"] for node in nodes)


def test_the_same_seed_elects_the_same_node() -> None:
    def elected(seed: int) -> str:
        raft = textbook.Raft("abcde", seed=seed)
        raft.start()
        return str(raft.leader)

    assert [elected(seed) for seed in range(10)] == [elected(seed) for seed in range(10)]
    assert len({elected(seed) for seed in range(10)}) > 1


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(coterie.ConfigError, match="empty"):
        textbook.Raft([])
    with pytest.raises(coterie.ConfigError, match="observers"):
        textbook.Raft([Node("a", "observer")])
    with pytest.raises(coterie.ConfigError, match="king"):
        textbook.raft([Node("a", "king")])
    with pytest.raises(coterie.UnknownNodeError, match="stranger"):
        textbook.Raft(["a"]).vote("stranger")


def test_a_minority_gets_nothing_done() -> None:
    raft = textbook.Raft(["a", "b", "c"])
    raft.append("before")
    for node in (1, 2):
        raft.world.crash(node)
    with pytest.raises((coterie.UnavailableError, coterie.UnknownOutcomeError)):
        raft.append("lost")
    for node in (1, 2):
        raft.world.restart(node)
    raft.append("after")
    assert [value for value in raft.log if value != "lost"] == ["before", "after"]
    raft.world.check()


def test_it_prints_itself() -> None:
    raft = textbook.Raft(["a"])
    raft.start()
    assert repr(raft) == "Raft(nodes=1, current_term=1, voted_for='a')"
