"""`coterie.raft.Node` by hand, and the words of Raft."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import threading
from math import inf, nan
from types import ModuleType
from typing import Any

import pytest

import coterie
from coterie import protocol, raft
from coterie.raft import answers, errors, events, log, membership, messages, records, requests

FAMILIES = [answers, errors, events, messages, records, requests]


def words(module: ModuleType) -> list[type]:
    classes = [getattr(module, name) for name in module.__all__]
    return [kind for kind in classes if inspect.isclass(kind) and dataclasses.is_dataclass(kind)]


def alone(id: int = 1, **settings: Any) -> raft.Node:
    """A cluster of one, which leads."""
    node = raft.Node(id, **settings)
    effects = node.start(0.0, seed=1) + node.request(0.0, 1, requests.Bootstrap(raft.Membership.of([id])))
    alarms = {effect.timer: effect.at for effect in effects if isinstance(effect, protocol.Set)}
    keep(node, alarms["Election"], node.expire(alarms["Election"], "Election"))
    return node


def keep(node: raft.Node, now: float, effects: list[protocol.Effect]) -> list[protocol.Effect]:
    """A disk that answers at once: promises to oneself come back."""
    done = [*effects, *node.flush(now)]
    for effect in done:
        if isinstance(effect, protocol.Promise) and effect.to == node.id:
            done += keep(node, now, node.receive(now, node.id, effect.message))
    return done


def test_a_cluster_of_one_leads_and_commits() -> None:
    node = alone()
    assert node.status.role == "Leader"
    done = keep(node, 1.0, node.request(1.0, 2, requests.Propose((b"x", b"y"))))
    assert protocol.Answer(2, answers.Committed(raft.Position(1, 4))) in done
    committed = [effect.event for effect in done if isinstance(effect, protocol.Notify)]
    assert events.Committed((raft.Run(1, 3, (b"x", b"y")),)) in committed
    assert [str(run) for run in node.log] == ["0/1 {1}", "1/2 blank", '1/3..4 "x" "y"']


def test_a_follower_says_who_leads() -> None:
    node = raft.Node(2)
    node.start(0.0, seed=1)
    assert node.request(0.0, 9, requests.Propose((b"x",))) == [
        protocol.Answer(9, None, errors.NotLeader(0, None))
    ]


def test_it_prints_itself_truthfully() -> None:
    assert repr(raft.Node(2)) == "RaftNode(id=2, term=0, leader=None)"
    assert repr(alone(7)) == "RaftNode(id=7, term=1, leader=7)"


def test_the_same_inputs_give_the_same_effects() -> None:
    one, two = raft.Node(1), raft.Node(1)
    assert one.start(3.5, seed=4) == two.start(3.5, seed=4)
    assert one.start != two.start


def test_a_machine_starts_from_what_it_persisted() -> None:
    journal = [
        records.Identity(0, 1),
        records.Append((raft.Run(0, 1, raft.Membership.of([1, 2, 3])),)),
        records.HardState(4, 2),
        records.Append((raft.Run(4, 2, (b"x",)),)),
    ]
    node = raft.Node(1)
    node.start(0.0, seed=1, records=journal)
    status = node.status
    assert (status.term, status.vote, status.last) == (4, 2, raft.Position(4, 2))
    assert status.membership == raft.Membership.of([1, 2, 3])


def test_a_foreign_journal_halts_it() -> None:
    node = raft.Node(1)
    (effect,) = node.start(0.0, seed=1, records=[records.Identity(0, 2)])
    assert effect == protocol.Notify(events.Halted("the journal is another member's"))
    (answer,) = node.request(0.0, 1, requests.Campaign())
    assert answer == protocol.Answer(1, None, errors.Halted("the journal is another member's"))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"heartbeat_interval": 0.0}, "heartbeat_interval"),
        ({"heartbeat_interval": -1.0}, "heartbeat_interval"),
        ({"election_timeout": nan}, "election_timeout"),
        ({"election_timeout": 0.05}, "election_timeout"),
        ({"lease": 0.0}, "lease"),
        ({"lease": raft.Lease(0.5)}, "lease"),
        ({"pending_max": 0}, "pending_max"),
        ({"pending_max": -1}, "pending_max"),
        ({"chunk_bytes": 1.5}, "chunk_bytes"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(coterie.ConfigError, match=complaint):
        raft.Node(1, **settings)


@pytest.mark.parametrize("id", [-1, 2**64, "1", True, 1.0])
def test_an_id_is_a_whole_number(id: Any) -> None:
    with pytest.raises(coterie.ConfigError, match="id is"):
        raft.Node(id)


def test_wrong_inputs_are_refused_and_change_nothing() -> None:
    node = raft.Node(1)
    node.start(0.0, seed=1)
    before = node.status
    for wrong, kind in [
        (lambda: node.receive(0.0, 2, "hello"), TypeError),
        (lambda: node.receive(0.0, 2, requests.Campaign()), TypeError),
        (lambda: node.expire(0.0, "Breakfast"), ValueError),
        (lambda: node.link(0.0, 2, "Sideways"), ValueError),
        (lambda: node.flush(-1.0), ValueError),
        (lambda: node.request(0.0, 1, messages.Vote(1, granted=True)), TypeError),
        (lambda: node.start(0.0, 1, ["record"]), TypeError),
    ]:
        with pytest.raises(kind):
            wrong()
    assert node.status == before


def test_a_node_is_neither_copied_nor_pickled() -> None:
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="vote twice"):
            attempt(raft.Node(1))


def test_threads_may_share_a_node() -> None:
    node = alone()
    answered: list[int] = []

    def propose(first: int) -> None:
        for id in range(first, first + 100):
            done = keep(node, 1.0, node.request(1.0, id, requests.Propose((b"x",))))
            answered.extend(effect.id for effect in done if isinstance(effect, protocol.Answer))

    threads = [threading.Thread(target=propose, args=(1000 * place,)) for place in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answered) == [1000 * place + more for place in range(1, 5) for more in range(100)]


# --- Words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", FAMILIES, ids=lambda module: module.__name__)
def test_words_are_frozen_slotted_and_have_one_base(module: ModuleType) -> None:
    found = words(module)
    assert len(found) >= 4
    for kind in found:
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert "__slots__" in vars(kind)
        assert "__dict__" not in dir(kind)


SNAPSHOT = raft.Snapshot(raft.SnapshotId(raft.Position(1, 9), 2), (1, raft.Membership.of([1, 2], [3])), 4)
SAMPLES: dict[str, Any] = {
    "term": 2, "index": 9, "sent": 0.05, "granted": True, "last": raft.Position(1, 3), "previous": raft.Position(1, 3), "commit": 3,
    "matched": 2, "joined": 1, "hint": raft.Position(1, 2), "lease": True, "snapshot": SNAPSHOT, "offset": 0,
    "data": b"abcd", "token": 7, "round": 8, "beat": messages.Beat(7, 0.05), "transfer": (1, 9),
    "entries": (raft.Run(1, 4, (b"x",)), raft.Run(2, 5, None), raft.Run(2, 6, raft.Membership.of([1, 2]))),
    "cluster": 5, "id": 1, "vote": 3, "hard": records.HardState(2, 1), "base": raft.Position(0, 0),
    "membership": (1, raft.Membership.of([1, 2])), "role": "Leader", "leader": 2, "length": 4, "to": 3, "reason": "why",
}  # fmt: skip


@pytest.mark.parametrize("kind", [kind for module in (messages, records, answers) for kind in words(module)])
def test_a_word_s_line_and_its_pickle(kind: type) -> None:
    given = {field.name: SAMPLES[field.name] for field in dataclasses.fields(kind)}
    special: dict[type, dict[str, Any]] = {
        messages.Rejected: {"previous": 3},
        messages.Stored: {"last": 3},
        messages.Installed: {"snapshot": SNAPSHOT.id},
        messages.Superseded: {"snapshot": SNAPSHOT.id},
    }
    word = kind(**given | special.get(kind, {}))
    line = str(word)
    assert "\n" not in line
    assert line.split(" ", maxsplit=1)[0] in {kind.__name__, "8@50ms"}
    assert pickle.loads(pickle.dumps(word)) == word


def test_errors_say_the_same_as_in_rust() -> None:
    node = raft.Node(1, entry_bytes_max=8)
    node.start(0.0, seed=1)
    (answer,) = node.request(0.0, 1, requests.Propose((b"123456789",)))
    assert isinstance(answer, protocol.Answer)
    assert isinstance(answer.error, errors.Error)
    for kind in words(errors):
        given = {
            field.name: {"int": 3, "str": "why", "int | None": 2}[str(field.type)]
            for field in dataclasses.fields(kind)
        }
        assert str(kind(**given))


def test_positions_are_ordered_as_more_up_to_date() -> None:
    assert raft.Position(2, 3) > raft.Position(1, 9)
    assert raft.Position(2, 4) > raft.Position(2, 3)


def test_a_run_has_at_least_one_entry() -> None:
    assert (len(log.Run(1, 5, None)), log.Run(1, 5, (b"a", b"b")).last) == (1, 6)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ((), "nothing"),
        ((membership.Remove(1), membership.Remove(2), membership.Remove(3)), "no voter"),
        ((membership.Remove(9),), "9 is no member"),
        ((membership.AddLearner(1),), "member already"),
        ((membership.Remove(1), membership.Demote(1)), "twice"),
    ],
)
def test_changes_that_make_no_sense_are_refused(changes: Any, complaint: str) -> None:
    with pytest.raises(coterie.ConfigError, match=complaint):
        raft.Membership.of([1, 2, 3]).begin(*changes)


def test_a_change_goes_through_both_sets() -> None:
    joint = raft.Membership.of([1, 2, 3]).begin(raft.AddVoter(4, weight=5), raft.Demote(1))
    assert joint.is_joint
    assert joint.is_voter(1)
    assert str(joint) == "{2 3 4:5}-{1 2 3}+{1}"
    assert str(joint.leave()) == "{2 3 4:5}+{1}"


def test_never_is_infinity() -> None:
    node = alone()
    (answer,) = [
        e
        for e in node.request(0.5, 5, requests.Read(deadline=inf)) + keep(node, 0.5, [])
        if isinstance(e, protocol.Answer)
    ]
    assert isinstance(answer.value, answers.Read)
