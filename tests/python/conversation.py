"""The cluster that a conversation of ``tests/scripts`` is about, on ``coterie.raft.Node``: the Python half of
``tests/rust/conversations``. The language is the same, word for word.
"""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any, get_args

from coterie import protocol, raft
from coterie.raft import answers, errors, events, messages, records, requests
from coterie.raft.log import TimerName

# The ids of requests that no script has asked: the application's, and the first membership.
OWN = 1 << 32
# Nobody talks that long to settle something.
SETTLED = 20_000
ALL, OUTCOMES, NOTHING = "all", "outcomes", "nothing"
WORD = (1 << 64) - 1


class Broken(Exception):  # noqa: N818 - what is broken is a script
    """An expectation or an invariant did not hold, or a command made no sense."""


def mix(word: int) -> int:
    """As ``coterie::random::mix``: members of a conversation draw the same time-outs in both languages."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & WORD
    return word ^ (word >> 31)


def rotated(word: int, by: int) -> int:
    return (word << by | word >> (64 - by)) & WORD


@dataclass(frozen=True)
class Entry:
    index: int
    term: int
    payload: Any


@dataclass
class Log:
    """A log entry by entry, as the naive twin keeps it."""

    base: raft.Position = field(default_factory=lambda: raft.Position(0, 0))
    entries: list[Entry] = field(default_factory=list)

    def append(self, entries: tuple[raft.Run, ...]) -> None:
        if entries:
            self.entries = [entry for entry in self.entries if entry.index < entries[0].first]
        self.entries.extend(one_by_one(entries))

    def at(self, index: int) -> Entry | None:
        place = index - self.base.index - 1
        return self.entries[place] if 0 <= place < len(self.entries) else None

    @property
    def last(self) -> raft.Position:
        return raft.Position(self.entries[-1].term, self.entries[-1].index) if self.entries else self.base


def one_by_one(entries: Iterable[raft.Run]) -> Iterator[Entry]:
    for run in entries:
        if isinstance(run.payload, tuple):
            for place, command in enumerate(run.payload):
                yield Entry(run.first + place, run.term, (command,))
        else:
            yield Entry(run.first, run.term, run.payload)


@dataclass
class Disk:
    """A journal whose end may not be durable yet, and the promises that wait for it."""

    durable: list[records.Record] = field(default_factory=list)
    queued: list[records.Record] = field(default_factory=list)
    promises: list[tuple[int, messages.Message]] = field(default_factory=list)
    written: list[requests.Request] = field(default_factory=list)
    held: bool = False

    def sync(self) -> list[tuple[int, messages.Message]]:
        self.keep(len(self.queued))
        promises, self.promises = self.promises, []
        return promises

    def crash(self, keep: int) -> None:
        self.keep(keep)
        self.queued, self.promises, self.written = [], [], []

    def keep(self, count: int) -> None:
        for record in self.queued[:count]:
            if isinstance(record, records.Checkpoint):
                self.durable.clear()
            self.durable.append(record)
        del self.queued[:count]

    @property
    def durable_term(self) -> int:
        terms = [
            record.term if isinstance(record, records.HardState) else record.hard.term
            for record in self.durable
            if isinstance(record, records.HardState | records.Checkpoint)
        ]
        return terms[-1] if terms else 0

    @property
    def log(self) -> Log:
        log = Log()
        for record in [*self.durable, *self.queued]:
            if isinstance(record, records.Append):
                log.append(record.entries)
            elif isinstance(record, records.Checkpoint):
                log = Log(record.base)
                log.append(record.entries)
        return log


class Application:
    """Keeps the commands in their order; its snapshots are these, one a line."""

    def __init__(self) -> None:
        self.snapshots: dict[raft.SnapshotId, bytes] = {}
        self.forget()

    def forget(self) -> None:
        """A new life begins without state; the snapshots are still there."""
        self.state: list[tuple[int, str]] = []
        self.applied = raft.Position(0, 0)
        self.terms: dict[int, int] = {}

    def hear(self, event: events.Event) -> requests.Request | None:
        match event:
            case events.Committed(entries):
                self.apply(entries)
            case events.Restore(snapshot) | events.Install(snapshot):
                self.install(snapshot)
            case events.Read(snapshot, offset, length, to):
                data = self.snapshots.get(snapshot, b"")[offset : offset + length]
                return requests.Chunk(snapshot, offset, to, data if len(data) == length else None)
            case events.Write(snapshot, offset, data):
                kept = self.snapshots.get(snapshot.id, b"")
                # A gap cannot be filled; what is there is told, and the leader goes on from there.
                if offset <= len(kept):
                    kept = self.snapshots[snapshot.id] = kept[:offset] + data
                return requests.Written(snapshot.id, len(kept))
            case events.Discard(snapshot):
                self.snapshots.pop(snapshot, None)
        return None

    def apply(self, entries: tuple[raft.Run, ...]) -> None:
        for entry in one_by_one(entries):
            if entry.index != self.applied.index + 1:
                raise Broken(f"entry {entry.term}/{entry.index} was committed after {self.applied}")
            self.applied = raft.Position(entry.term, entry.index)
            self.terms[entry.index] = entry.term
            if isinstance(entry.payload, tuple):
                self.state.append((entry.index, entry.payload[0].decode()))

    def install(self, snapshot: raft.Snapshot) -> None:
        data = self.snapshots.get(snapshot.id)
        if data is None or len(data) != snapshot.length:
            raise Broken(f"snapshot {snapshot} is not whole here")
        self.applied = snapshot.id.last
        self.state = [(self.applied.index, command) for command in data.decode().splitlines()]

    def snapshot(self, by: int, last: int) -> int:
        data = "".join(f"{command}\n" for index, command in self.state if index <= last).encode()
        self.snapshots[raft.SnapshotId(raft.Position(self.terms.get(last, 0), last), by)] = data
        return len(data)

    @property
    def commands(self) -> str:
        return " ".join(command for _, command in self.state)


@dataclass
class Member:
    disk: Disk
    machine: raft.Node | None = None
    paused: bool = False
    lives: int = 0
    alarms: dict[str, float] = field(default_factory=dict)
    application: Application = field(default_factory=Application)

    @property
    def awake(self) -> bool:
        return self.machine is not None and not self.paused


@dataclass(frozen=True)
class Letter:
    sender: int
    to: int
    message: messages.Message

    def __str__(self) -> str:
        return f"{self.sender}→{self.to} {self.message}"


class Invariants:
    """What must hold after each command, whatever a script expects (thesis figure 3.2)."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, Entry] = {}
        self.terms: dict[int, int] = {}

    def commits(self, member: int, entries: tuple[raft.Run, ...]) -> None:
        for entry in one_by_one(entries):
            known = self.committed.setdefault(entry.index, entry)
            if known != entry:
                raise Broken(f"{member} commits {entry}, another has committed {known}")

    def check(self, members: dict[int, Member]) -> None:
        for name, member in members.items():
            if member.machine is not None:
                self.check_member(name, member, member.machine.status)
        logs = [(name, member.disk.log) for name, member in members.items()]
        for place, one in enumerate(logs):
            for other in logs[place + 1 :]:
                logs_match(one, other)

    def check_member(self, name: int, member: Member, status: raft.Status) -> None:
        before = self.terms.get(name, 0)
        self.terms[name] = status.term
        if status.term < before:
            raise Broken(f"{name} goes back from term {before} to {status.term}")
        if status.commit > status.last.index:
            raise Broken(f"{name} has committed {status.commit} of {status.last}")
        if status.role != "Leader":
            return
        leader = self.leaders.setdefault(status.term, name)
        if leader != name:
            raise Broken(f"both {leader} and {name} lead term {status.term}")
        # A leader of an earlier term than the last commit may well lack it, and will find out.
        if self.committed and self.committed[max(self.committed)].term > status.term:
            return
        log = member.disk.log
        for index, entry in self.committed.items():
            if index > log.base.index and log.at(index) != entry:
                raise Broken(f"{name} leads term {status.term} without the committed {entry}")


def logs_match(one: tuple[int, Log], other: tuple[int, Log]) -> None:
    """Where two logs have an entry of the same index and term, they are equal up to there (§3.5)."""
    (name, log), (twin_name, twin) = one, other
    alike = (e.index for e in reversed(log.entries) if (t := twin.at(e.index)) and t.term == e.term)
    common = next(alike, 0)
    for entry in log.entries:
        if entry.index <= common and twin.at(entry.index) not in {None, entry}:
            raise Broken(f"{name} and {twin_name} agree on {common} but not on {entry.index}")


class Cluster:
    """Members, what is in flight between them, and one clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.settings: dict[str, Any] = {}
        self.seed = 0
        self.members: dict[int, Member] = {}
        self.flying: deque[Letter] = deque()
        self.late: deque[Letter] = deque()
        self.cuts: set[tuple[int, int]] = set()
        self.answers: dict[int, answers.Answer | errors.Error] = {}
        self.asked = 0
        self.own = 0
        self.done = 0
        self.said: list[str] = []
        self.detail = ALL
        self.invariants = Invariants()

    def member(self, name: int) -> Member:
        if name not in self.members:
            raise Broken(f"{name} is nobody here")
        return self.members[name]

    def awake(self, name: int) -> Member:
        member = self.member(name)
        if not member.awake:
            raise Broken(f"{name} is down or paused")
        return member

    def machine(self, name: int) -> raft.Node:
        machine = self.member(name).machine
        if machine is None:
            raise Broken(f"{name} is down")
        return machine

    def join(self, name: int, journal: list[records.Record]) -> None:
        if name in self.members:
            raise Broken(f"{name} is here already")
        self.members[name] = Member(Disk(durable=journal))
        self.members = dict(sorted(self.members.items()))
        self.start(name)

    def start(self, name: int) -> None:
        member = self.member(name)
        if member.machine is not None:
            raise Broken(f"{name} runs")
        member.lives += 1
        member.machine = raft.Node(name, **self.settings)
        seed = mix(self.seed ^ mix(name) ^ rotated(member.lives, 32))
        effects = member.machine.start(self.now, seed, member.disk.durable)
        self.act(name, effects + member.machine.flush(self.now))

    def crash(self, name: int, keep: int) -> None:
        member = self.member(name)
        member.machine, member.paused = None, False
        member.alarms.clear()
        member.application.forget()
        member.disk.crash(keep)
        self.invariants.terms[name] = member.disk.durable_term

    def wipe(self, name: int) -> None:
        if self.member(name).machine is not None:
            raise Broken(f"{name} runs")
        self.members[name] = Member(Disk())
        self.invariants.terms[name] = 0

    def ask(self, name: int, request: requests.Request) -> None:
        self.awake(name)
        self.asked += 1
        asked = self.asked
        self.give(name, lambda node: node.request(self.now, asked, request))

    def ask_silently(self, name: int, request: requests.Request) -> None:
        self.own += 1
        own = OWN + self.own
        self.give(name, lambda node: node.request(self.now, own, request))

    def give(self, name: int, verb: Callable[[raft.Node], list[protocol.Effect]]) -> None:
        """One input, which is a batch of its own."""
        machine = self.awake(name).machine
        assert machine is not None
        self.act(name, verb(machine) + machine.flush(self.now))

    def act(self, name: int, effects: list[protocol.Effect]) -> None:  # noqa: C901 - one case for each effect
        member = self.members[name]
        for effect in effects:
            self.done += not isinstance(effect, protocol.Set | protocol.Cancel)
            match effect:
                case protocol.Send(to, message):
                    letter = Letter(name, to, message)
                    self.say(ALL, str(letter))
                    self.flying.append(letter)
                case protocol.Persist(record):
                    self.say(ALL, f"{name} Persist {record}")
                    member.disk.queued.append(record)
                case protocol.Checkpoint(record):
                    self.say(ALL, f"{name} {record}")
                    member.disk.queued.append(record)
                case protocol.Promise(to, message):
                    self.say(ALL, f"{name}⇒{to} {message}{' waits' if member.disk.held else ''}")
                    member.disk.promises.append((to, message))
                case protocol.Set(timer, at):
                    member.alarms[timer] = at
                case protocol.Cancel(timer):
                    member.alarms.pop(timer, None)
                case protocol.Answer(asked, value, error):
                    self.answer(name, asked, value if error is None else error)
                case protocol.Notify(event):
                    self.notify(name, event)
        if not member.disk.held:
            self.sync(name)

    def answer(self, name: int, asked: int, answer: answers.Answer | errors.Error) -> None:
        if asked > OWN:
            return
        self.say(OUTCOMES, f"{name} Answer r{asked} {told(answer)}")
        if asked in self.answers:
            raise Broken(f"r{asked} was answered twice")
        self.answers[asked] = answer

    def notify(self, name: int, event: events.Event) -> None:
        self.say(
            ALL if isinstance(event, events.Read | events.Write | events.Discard) else OUTCOMES,
            f"{name} {event}",
        )
        if isinstance(event, events.Committed):
            self.invariants.commits(name, event.entries)
        asks = self.members[name].application.hear(event)
        if asks is not None:
            self.members[name].disk.written.append(asks)

    def sync(self, name: int) -> None:
        """The disk answers: promises leave; those to itself, and what the application asks, come back."""
        disk = self.member(name).disk
        promises, asks, held = disk.sync(), disk.written, disk.held
        disk.written = []
        for to, message in promises:
            if held:
                self.say(ALL, f"{name}⇒{to} {message}")
            if to == name:
                self.give(name, lambda node, message=message: node.receive(self.now, name, message))
            else:
                self.flying.append(Letter(name, to, message))
        for request in asks:
            self.ask_silently(name, request)

    def pick(self, wanted: Callable[[Letter], bool], count: float) -> list[Letter]:
        """Take out of the air what is wanted."""
        picked: list[Letter] = []
        rest: deque[Letter] = deque()
        for letter in self.flying:
            (picked if len(picked) < count and wanted(letter) else rest).append(letter)
        self.flying = rest
        return picked

    def arrive(self, letter: Letter) -> None:
        there = letter.to in self.members and self.members[letter.to].machine is not None
        if not there or (letter.sender, letter.to) in self.cuts:
            self.say(ALL, f"✗ {letter}")
            return
        self.say(ALL, f"> {letter}")
        self.give(letter.to, lambda node: node.receive(self.now, letter.sender, letter.message))

    def sleeps(self, name: int) -> bool:
        return name in self.members and self.members[name].machine is not None and self.members[name].paused

    def settle(self) -> None:
        for _ in range(SETTLED):
            letter = next((letter for letter in self.flying if not self.sleeps(letter.to)), None)
            if letter is None:
                return
            self.flying.remove(letter)
            self.arrive(letter)
        raise Broken("they talk for ever")

    def expire(self, name: int, timer: str) -> None:
        """A machine may put an alarm off when it rings: then it rings again."""
        before = self.done
        self.ring(name, timer)
        if before == self.done and timer in self.members[name].alarms:
            self.ring(name, timer)

    def ring(self, name: int, timer: str) -> None:
        at = self.awake(name).alarms.pop(timer, None)
        if at is None:
            raise Broken(f"{name} has set no alarm {timer}")
        self.now = max(self.now, at)
        self.give(name, lambda node: node.expire(self.now, timer))  # type: ignore[arg-type]

    def advance(self, span: float, *, deliver: bool) -> None:
        end = later(self.now, span)
        order = get_args(TimerName)
        for _ in range(SETTLED):
            if deliver:
                self.settle()
            alarms = [
                (at, name, order.index(timer))
                for name, member in self.members.items()
                if member.awake
                for timer, at in member.alarms.items()
            ]
            at, name, timer = min(alarms, default=(inf, 0, 0))
            if at > end:
                self.now = end
                return
            self.ring(name, order[timer])
        raise Broken("alarms ring for ever")

    def check(self) -> None:
        self.invariants.check(self.members)

    def say(self, detail: str, line: str) -> None:
        if self.detail in {ALL, detail}:
            self.said.append(line)


def told(answer: answers.Answer | errors.Error) -> str:
    return f"error: {answer}" if isinstance(answer, errors.Error) else str(answer)


def later(now: float, span: float) -> float:
    """The sum in whole nanoseconds, as Rust computes it."""
    return (round(now * 1e9) + round(span * 1e9)) / 1e9


class Words:
    """A line: a name, plain words and strings, and pairs."""

    def __init__(self, line: str) -> None:
        self.plain: list[str] = []
        self.named: list[tuple[str, str]] = []
        lexer = shlex.shlex(line, posix=False)
        lexer.whitespace_split, lexer.commenters, lexer.quotes = True, "", '"'
        for word in lexer:
            key, equals, value = word.partition("=")
            if word.startswith('"'):
                self.plain.append(word.strip('"'))
            elif equals:
                self.named.append((key, value))
            else:
                self.plain.append(word)
        self.name = self.plain.pop(0) if self.plain else ""

    def at(self, place: int) -> str:
        if place >= len(self.plain):
            raise Broken(f"{self.name} needs more")
        return self.plain[place]

    def integer(self, place: int) -> int:
        return number(self.at(place))

    def ids(self, first: int) -> list[int]:
        return [number(word) for word in self.plain[first:]]

    def list(self, key: str) -> list[str]:
        return [part for name, value in self.named if name == key for part in value.split(",")]

    def number(self, key: str) -> int | None:
        return next((number(value) for value in self.list(key)), None)

    def deadline(self, cluster: Cluster) -> float:
        return next((later(cluster.now, duration(value)) for value in self.list("within")), inf)


def number(word: str) -> int:
    if not word.isdigit():
        raise Broken(f"{word} is no number")
    return int(word)


def weighted(word: str) -> tuple[int, int]:
    name, _, weight = word.partition(":")
    return number(name), number(weight or "1")


def duration(word: str) -> float:
    if word.endswith("ms"):
        return number(word[:-2]) / 1000
    if word.endswith("s"):
        return float(number(word[:-1]))
    raise Broken(f"{word} is no duration")


def on(word: str) -> bool:
    if word not in {"on", "off"}:
        raise Broken(f"{word} is neither on nor off")
    return word == "on"


SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "election": ("election_timeout", duration),
    "heartbeat": ("heartbeat_interval", duration),
    "pre-vote": ("pre_vote", on),
    "check-quorum": ("check_quorum", on),
    "lease": ("lease", lambda word: raft.Lease(length=duration(word))),
    "entry-bytes": ("entry_bytes_max", number),
    "message-bytes": ("message_bytes_max", number),
    "in-flight": ("in_flight_messages_max", number),
    "in-flight-bytes": ("in_flight_bytes_max", number),
    "uncommitted-bytes": ("uncommitted_bytes_max", number),
    "log-bytes": ("log_bytes_max", number),
    "snapshot-entries": ("snapshot_log_entries", number),
    "retained": ("retained_entries", number),
    "chunk": ("chunk_bytes", number),
    "pending": ("pending_max", number),
}


def obey(cluster: Cluster, line: str) -> None:
    """Do what a line says; then all invariants must hold."""
    rest, _, last = line.rstrip().rpartition(" ")
    said = {"quietly": NOTHING, "all": ALL}.get(last)
    words = Words(rest if said else line)
    usual = dict.fromkeys(("members", "given"), NOTHING) | dict.fromkeys(
        ("settle", "advance", "elect"), OUTCOMES
    )
    cluster.detail = said or usual.get(words.name, ALL)
    command = COMMANDS.get(words.name)
    if command is None:
        raise Broken(f"no command is called {words.name}")
    command(cluster, words)
    cluster.check()


def settings(cluster: Cluster, words: Words) -> None:
    for key, value in words.named:
        if key == "seed":
            cluster.seed = number(value)
        elif key in SETTINGS:
            name, parse = SETTINGS[key]
            cluster.settings[name] = parse(value)
        else:
            raise Broken(f"no setting is called {key}")


def members(cluster: Cluster, words: Words) -> None:
    voters, learners = words.ids(0), [number(word) for word in words.list("learner")]
    weights = dict(weighted(word) for word in words.list("weight"))
    membership = raft.Membership(
        tuple((voter, weights.get(voter, 1)) for voter in sorted(voters)), tuple(sorted(learners))
    )
    words.named = [(key, value) for key, value in words.named if key not in {"learner", "weight"}]
    settings(cluster, words)
    for name in [*voters, *learners]:
        cluster.join(name, [])
        cluster.ask_silently(name, requests.Bootstrap(membership))


def given(cluster: Cluster, words: Words) -> None:
    """A member with a past: a journal that says so."""
    name = words.integer(0)
    terms = [number(term) for term in words.list("log")]
    entries = tuple(
        raft.Run(term, index, (f"{term}/{index}".encode(),)) for index, term in enumerate(terms, 1)
    )
    vote = next((number(word) for word in words.list("vote")), None)
    membership = raft.Membership.of([number(word) for word in words.list("members")])
    hard = records.HardState(words.number("term") or 0, vote)
    base = raft.Position(0, 0)
    cluster.join(name, [records.Checkpoint(0, name, hard, None, base, (0, membership), entries)])


def change(cluster: Cluster, words: Words) -> None:
    kinds: dict[str, Callable[[str], Any]] = {
        "add-learner": lambda word: raft.AddLearner(number(word)),
        "add-voter": lambda word: raft.AddVoter(*weighted(word)),
        "demote": lambda word: raft.Demote(number(word)),
        "remove": lambda word: raft.Remove(number(word)),
    }
    named = [(key, part) for key, value in words.named if key != "within" for part in value.split(",")]
    changes = tuple(kinds[key](part) for key, part in named)
    cluster.ask(words.integer(0), requests.Change(changes, words.deadline(cluster)))


def propose(cluster: Cluster, words: Words) -> None:
    commands = tuple(command.encode() for command in words.plain[1:])
    cluster.ask(words.integer(0), requests.Propose(commands, words.deadline(cluster)))


def read(cluster: Cluster, words: Words) -> None:
    cluster.ask(words.integer(0), requests.Read("lease" in words.plain, words.deadline(cluster)))


def elect(cluster: Cluster, words: Words) -> None:
    cluster.ask(words.integer(0), requests.Campaign())
    cluster.settle()


def snapshot(cluster: Cluster, words: Words) -> None:
    name, last = words.integer(0), words.number("through")
    if last is None:
        raise Broken("through=INDEX is missing")
    length = cluster.member(name).application.snapshot(name, last)
    cluster.ask(name, requests.Snapshotted(last, length))


def link(cluster: Cluster, words: Words) -> None:
    state = words.at(2).capitalize()
    cluster.give(words.integer(0), lambda node: node.link(cluster.now, words.integer(1), state))  # type: ignore[arg-type]


def picked(cluster: Cluster, words: Words) -> list[Letter]:
    sender, to, count = words.number("from"), words.number("to"), words.number("count")
    kind = next(iter(words.list("kind")), None)
    delivers = words.name == "deliver"
    found = cluster.pick(
        lambda letter: (
            sender in {None, letter.sender}
            and to in {None, letter.to}
            and kind in {None, type(letter.message).__name__}
            and not (delivers and cluster.sleeps(letter.to))
        ),
        inf if count is None else count,
    )
    if not found:
        raise Broken("no such message is in flight")
    return found


def deliver(cluster: Cluster, words: Words) -> None:
    for letter in picked(cluster, words):
        cluster.arrive(letter)


def duplicate(cluster: Cluster, words: Words) -> None:
    before = cluster.flying.copy()
    copies = picked(cluster, words)
    cluster.flying = before + deque(copies)


def late(cluster: Cluster, _: Words) -> None:
    cluster.flying.extend(cluster.late)
    cluster.late.clear()


def cut(cluster: Cluster, words: Words) -> None:
    one, arrow, other = words.at(0).partition(">")
    if arrow:
        cluster.cuts.add((number(one), number(other)))
        return
    name = number(one)
    others = words.ids(1) if len(words.plain) > 1 else [other for other in cluster.members if other != name]
    cluster.cuts |= {pair for other in others for pair in ((name, other), (other, name))}


def pause(cluster: Cluster, words: Words) -> None:
    cluster.member(words.integer(0)).paused = words.name == "pause"


def hold_disk(cluster: Cluster, words: Words) -> None:
    cluster.member(words.integer(0)).disk.held = True


def release_disk(cluster: Cluster, words: Words) -> None:
    cluster.sync(words.integer(0))
    cluster.member(words.integer(0)).disk.held = False


def status(cluster: Cluster, _: Words) -> None:
    for name, member in cluster.members.items():
        if member.machine is None:
            cluster.said.append(f"{name} down")
            continue
        known = member.machine.status
        leader = "" if known.leader is None else f" leader={known.leader}"
        cluster.said.append(
            f"{name} {known.role} term={known.term}{leader} commit={known.commit} last={known.last}"
            f"{' paused' if member.paused else ''}"
        )


def log(cluster: Cluster, words: Words) -> None:
    found = cluster.member(words.integer(0)).disk.log
    if found.base.index > 0:
        cluster.said.append(f"after {found.base}")
    cluster.said += [str(raft.Run(entry.term, entry.index, entry.payload)) for entry in found.entries]


def journal(cluster: Cluster, words: Words) -> None:
    disk = cluster.member(words.integer(0)).disk
    cluster.said += [str(record) for record in disk.durable]
    cluster.said += [f"{record} (not durable)" for record in disk.queued]


def equal(what: str, found: object, expected: object) -> None:
    if str(found) != str(expected):
        raise Broken(f"{what} is {found}, not {expected}")


def expect_leader(cluster: Cluster, words: Words) -> None:
    found, term = cluster.machine(words.integer(0)).status, words.number("term")
    if term is not None:
        equal("the term", found.term, term)
    equal("the role", found.role, "Leader")


def expect_no_leader(cluster: Cluster, _: Words) -> None:
    for name, member in cluster.members.items():
        if member.machine is not None and member.machine.status.role == "Leader":
            raise Broken(f"{name} leads")


def expect_log(cluster: Cluster, words: Words) -> None:
    terms = ",".join(str(entry.term) for entry in cluster.member(words.integer(0)).disk.log.entries)
    equal("the terms of the log", terms, words.plain[1] if len(words.plain) > 1 else "")


def expect_same_logs(cluster: Cluster, words: Words) -> None:
    names = words.ids(0) or list(cluster.members)
    first = cluster.member(names[0])
    for name in names:
        member = cluster.member(name)
        equal("the end of the log", member.disk.log.last, first.disk.log.last)
        for entry in first.disk.log.entries:
            if member.disk.log.at(entry.index) not in {None, entry}:
                raise Broken(f"{names[0]} and {name} differ at {entry.index}")
        equal("the state", member.application.commands, first.application.commands)


def expect_answer(cluster: Cluster, words: Words) -> None:
    asked = words.at(0)
    if not asked.startswith("r"):
        raise Broken("requests are called r1, r2, …")
    answer = cluster.answers.get(number(asked[1:]))
    said = "none" if answer is None else told(answer)
    if words.at(1) not in said:
        raise Broken(f"the answer is {said}")


COMMANDS: dict[str, Callable[[Cluster, Words], Any]] = {
    "settings": settings,
    "members": members,
    "given": given,
    "start": lambda cluster, words: cluster.join(words.integer(0), []),
    "campaign": lambda cluster, words: cluster.ask(words.integer(0), requests.Campaign()),
    "elect": elect,
    "propose": propose,
    "read": read,
    "change": change,
    "transfer": lambda cluster, words: cluster.ask(words.integer(0), requests.Transfer(words.integer(1))),
    "snapshot": snapshot,
    "link": link,
    "expire": lambda cluster, words: cluster.expire(words.integer(0), words.at(1)),
    "advance": lambda cluster, words: cluster.advance(
        duration(words.at(0)), deliver="undelivered" not in words.plain
    ),
    "settle": lambda cluster, words: cluster.settle(),
    "deliver": deliver,
    "drop": picked,
    "delay": lambda cluster, words: cluster.late.extend(picked(cluster, words)),
    "late": late,
    "duplicate": duplicate,
    "cut": cut,
    "heal": lambda cluster, words: cluster.cuts.clear(),
    "crash": lambda cluster, words: cluster.crash(words.integer(0), words.number("keep") or 0),
    "restart": lambda cluster, words: cluster.start(words.integer(0)),
    "wipe": lambda cluster, words: cluster.wipe(words.integer(0)),
    "pause": pause,
    "resume": pause,
    "hold-disk": hold_disk,
    "sync": lambda cluster, words: cluster.sync(words.integer(0)),
    "release-disk": release_disk,
    "status": status,
    "log": log,
    "journal": journal,
    "flying": lambda cluster, words: cluster.said.extend(map(str, cluster.flying)),
    "expect-leader": expect_leader,
    "expect-no-leader": expect_no_leader,
    "expect-role": lambda cluster, words: equal(
        "the role", cluster.machine(words.integer(0)).status.role, words.at(1)
    ),
    "expect-term": lambda cluster, words: equal(
        "the term", cluster.machine(words.integer(0)).status.term, words.integer(1)
    ),
    "expect-commit": lambda cluster, words: equal(
        "the commit index", cluster.machine(words.integer(0)).status.commit, words.integer(1)
    ),
    "expect-no-lease": lambda cluster, words: equal(
        "the lease", cluster.machine(words.integer(0)).holds_lease, expected=False
    ),
    "expect-log": expect_log,
    "expect-state": lambda cluster, words: equal(
        "the state", cluster.member(words.integer(0)).application.commands, " ".join(words.plain[1:])
    ),
    "expect-same-logs": expect_same_logs,
    "expect-answer": expect_answer,
    "expect-quiet": lambda cluster, words: equal("in flight", len(cluster.flying), 0),
}


def replay(script: str) -> tuple[str, int]:
    """The script with what was said now, and how many commands it has."""
    cluster = Cluster()
    lines: list[str] = []
    commands, expected = 0, False
    for place, line in enumerate(script.splitlines(), 1):
        if expected:
            # Output reaches to the next blank line; it was written anew already.
            expected = bool(line)
            continue
        lines.append(line)
        if line == "----":
            expected = True
            lines += [*cluster.said, ""]
            cluster.said.clear()
        elif line and not line.startswith("#"):
            commands += 1
            try:
                obey(cluster, line)
            except Broken as problem:
                said = "\n    ".join(cluster.said)
                raise Broken(
                    f"line {place}: `{line}`: {problem}\n  said since the last ----:\n    {said}"
                ) from problem
    if cluster.said:
        raise Broken(f"something was said after the last ----: {cluster.said}")
    return "\n".join(lines), commands
