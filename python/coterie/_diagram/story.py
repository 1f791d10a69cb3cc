"""What the rows of a trace tell: who lived when and as what, which message came from where, what was broken for how long.

Rows are read once, in order. What they leave open at the end of the trace (a pause, a term) lasts until there.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coterie.sim import Row, Trace


@dataclass(slots=True)
class Message:
    """From one process to another, or to itself."""

    sender: int
    receiver: int
    sent: float
    #: When it arrived, or was lost; or, of one that was still under way, when the trace ended.
    arrived: float
    #: "received", "lost" or "under way".
    fate: str
    words: str
    #: Which row it is from, counted from the first.
    place: int
    #: It waited for the disk from then on.
    promised: float | None = None
    #: The same had arrived before.
    again: bool = False

    @property
    def at(self) -> float:
        """When it is noticed."""
        return self.arrived


@dataclass(slots=True)
class Mark:
    """Something small at a process: "request", "answer", "notify" or "expire"."""

    kind: str
    node: int
    at: float
    words: str
    #: Which row it is from, counted from the first.
    place: int
    fingerprint: str = ""


@dataclass(slots=True)
class Moment:
    """A turn of a process's life: "start", "crash", or "stays down"."""

    kind: str
    node: int
    at: float
    words: str
    #: Which row it is from, counted from the first.
    place: int


@dataclass(slots=True)
class Part:
    """What a process plays, from when until when."""

    node: int
    start: float
    role: str
    term: int
    #: Which row it is from, counted from the first.
    place: int
    end: float = inf

    @property
    def leads(self) -> bool:
        """Whether it is the one whom the others follow."""
        return self.role in {"Leader", "Primary"}


@dataclass(slots=True)
class Band:
    """A fault, from when until when, at whom."""

    kind: str
    label: str
    words: str
    nodes: frozenset[int]
    start: float
    #: Which row it is from, counted from the first.
    place: int
    end: float = inf
    #: The row of its end.
    last: int = 0
    #: It is about links, and not about a process.
    of_links: bool = False


@dataclass(slots=True)
class Story:
    """All that happened between the first and the last row."""

    nodes: list[int]
    start: float = 0.0
    end: float = 0.0
    messages: list[Message] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    #: By process: from when until when it was up.
    lives: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    recorded: bool = False


#: What is a mark where it happens; a role is told by the line.
MARKS = frozenset({"request", "answer", "notify", "expire"})
ROLE = re.compile(r"Role\b")
#: What no picture shows.
UNTOLD = frozenset({"synced", "persist", "checkpoint", "set", "cancel", "link"})


def read(trace: Trace) -> Story:
    """Read the rows, after those that came before and tell what was still so."""
    before, columns = trace.before, trace.columns()
    # Who is down for good is known by its crash alone, so that all rows tell how many there are.
    others = before.columns()
    ends = {end for table in (columns, others) for name in ("node", "peer") for end in table[name]} - {None}
    reader = Reader(list(range(1, max(ends, default=0) + 1)))
    if len(trace):
        reader.story.start, reader.story.end = columns["at"][0], columns["at"][-1]
    for row in before:
        reader.state(row)
    # Most rows of a recording are of no picture, and a row takes longer to make than to look at its verb.
    for place, verb in enumerate(columns["verb"]):
        if verb not in UNTOLD:
            reader.row(trace[place], place)
    return reader.finish()


class Reader:
    """Goes through the rows and remembers what is open."""

    def __init__(self, nodes: list[int]) -> None:
        self.story = Story(nodes)
        self.place = 0
        self.up: dict[int, float] = {}
        #: By process: which life this is, or the last was.
        self.life: dict[int, int] = {}
        self.part: dict[int, Part] = {}
        self.bands: list[Band] = []
        self.healed: set[int] = set()
        #: What was sent, by sender, receiver and words: when, and whether as a promise.
        self.sent: defaultdict[tuple[int, int, str], deque[tuple[float, bool, int]]] = defaultdict(deque)
        self.arrived: set[tuple[int, int, float, str]] = set()

    def row(self, row: Row, place: int) -> None:
        """Take the one at this place."""
        self.place = place
        verb = row.verb
        if verb == "receive":
            self.receive(row)
        elif verb == "lost":
            self.lose(row)
        elif verb in {"send", "promise"} and row.node is not None and row.peer is not None:
            self.story.recorded = True
            self.sent[row.node, row.peer, row.text].append((row.at, verb == "promise", self.place))
        elif verb in MARKS and row.node is not None:
            # A process's own application asks it with itself as peer: nobody outside does.
            if row.peer is None and not (verb == "notify" and ROLE.match(row.text)):
                self.story.marks.append(Mark(verb, row.node, row.at, row.text, self.place, row.fingerprint))
        else:
            self.state(row, told=True)

    def state(self, row: Row, *, told: bool = False) -> None:
        """Take one that lasts; one that is `told` is an event of this trace."""
        node, at = row.node, max(row.at, self.story.start)
        if row.verb == "become" and node is not None:
            self.ends(node, at)
            self.part[node] = Part(node, at, row.role or "", row.term or 0, self.place)
        elif row.verb == "start" and node is not None:
            self.start(row, node, at, told=told)
        elif row.verb == "crash" and node is not None:
            self.crash(row, node, at, told=told)
        elif row.verb == "begin":
            self.begin(row, at)
        elif row.verb == "end":
            open_ = next((band for band in self.bands if band.words == row.text), None)
            if open_ is not None:
                self.close(open_, at)

    def start(self, row: Row, node: int, at: float, *, told: bool) -> None:
        life = int(row.fingerprint, 16)
        # Who cannot read its journal begins no life.
        begins = life > self.life.get(node, 0)
        self.life[node] = life
        if begins:
            self.up[node] = at
        if told and (life > 1 or not begins):
            kind = "start" if begins else "stays down"
            self.story.moments.append(Moment(kind, node, row.at, row.text, self.place))

    def crash(self, row: Row, node: int, at: float, *, told: bool) -> None:
        self.ends(node, at)
        lives = self.story.lives
        since = self.up.pop(node, self.story.start if node not in lives else None)
        self.life[node] = int(row.fingerprint, 16)
        lives.setdefault(node, [])
        if told:
            if since is not None:
                lives[node].append((since, at))
            self.story.moments.append(Moment("crash", node, row.at, row.text, self.place))

    def ends(self, node: int, at: float) -> None:
        if (part := self.part.pop(node, None)) is not None:
            part.end = at
            self.story.parts.append(part)

    def receive(self, row: Row) -> None:
        node, peer = row.node, row.peer
        if node is None or peer is None:
            return
        sent = row.at if row.sent is None else row.sent
        message = Message(peer, node, sent, row.at, "received", row.text, self.place)
        found, message.promised = self.left(peer, node, row.text, sent)
        key = (peer, node, sent, row.text or row.fingerprint)
        # Somebody may say the same twice; who records knows how often it was said.
        message.again = node != peer and key in self.arrived and not found
        self.arrived.add(key)
        self.story.messages.append(message)

    def lose(self, row: Row) -> None:
        node, peer = row.node, row.peer
        if node is None or peer is None:
            return
        sender, receiver, sent = (node, peer, row.at) if row.sent is None else (peer, node, row.sent)
        said = re.sub(r"^(damaged|nobody there): ", "", row.text)
        _, promised = self.left(sender, receiver, said, sent)
        message = Message(sender, receiver, sent, row.at, "lost", row.text, self.place, promised)
        message.again = (sender, receiver, sent, said) in self.arrived
        self.story.messages.append(message)

    def left(self, sender: int, receiver: int, words: str, sent: float) -> tuple[bool, float | None]:
        """Find what was sent: whether it is known, and since when it waited for the disk, if it did."""
        waiting = self.sent[sender, receiver, words]
        fitting = (
            place for place, (at, promise, _) in enumerate(waiting) if at == sent or (promise and at < sent)
        )
        place = next(fitting, None)
        if place is None:
            return False, None
        at, promise, _ = waiting[place]
        del waiting[place]
        return True, at if promise else None

    def begin(self, row: Row, at: float) -> None:
        band = fault(row.text, self.story.nodes)
        band.start, band.place = at, self.place
        if band.kind == "Heal":
            self.heal(band.nodes, at)
            self.story.bands.append(band)
            band.end = at
            return
        if band.kind == "Crash":
            return  # the crash itself tells
        band.nodes -= self.healed
        if band.nodes:
            self.bands.append(band)

    def heal(self, core: frozenset[int], at: float) -> None:
        self.healed |= core
        for band in list(self.bands):
            left = (frozenset(self.story.nodes) if band.of_links else band.nodes) - core
            if left == band.nodes:
                continue
            self.close(band, at)
            if left:
                rest = Band(band.kind, band.label, band.words, left, at, band.place, of_links=band.of_links)
                self.bands.append(rest)

    def close(self, band: Band, at: float) -> None:
        self.bands.remove(band)
        band.end, band.last = at, self.place
        self.story.bands.append(band)

    def finish(self) -> Story:
        """What is open lasts to the end; what was sent and is nowhere is under way."""
        story = self.story
        for node in story.nodes:
            self.ends(node, inf)
            # Of whom nothing is known, it was up.
            since = self.up.get(node, story.start if node not in story.lives else None)
            if since is not None:
                story.lives.setdefault(node, []).append((since, inf))
        for band in list(self.bands):
            self.close(band, inf)
        for (sender, receiver, words), waiting in self.sent.items():
            for at, promise, step in waiting:
                if not promise and receiver in story.lives and sender != receiver:
                    message = Message(sender, receiver, at, story.end, "under way", words, step)
                    story.messages.append(message)
        story.messages.sort(key=lambda message: (message.arrived, message.place))
        story.parts.sort(key=lambda part: (part.start, part.node))
        story.bands.sort(key=lambda band: (band.start, band.place))
        return story


FIELD = re.compile(r"(\w+): (\[[^\]]*\]|Links \{[^}]*\}|[^,{}]+)")


def fault(words: str, everybody: list[int]) -> Band:
    """Read a fault from its words, such as ``Partition { side: [n1, n2] }``."""
    kind = words.split(" ", 1)[0]
    fields = dict(FIELD.findall(words))
    named = {name: tuple(map(int, re.findall(r"n(\d+)", value))) for name, value in fields.items()}
    everyone = frozenset(everybody)
    nodes = frozenset(node for ids in named.values() for node in ids) & everyone or everyone
    label, of_links = kind, False
    if kind == "Partition":
        side = frozenset(named.get("side", ()))
        rest, of_links = everyone - side, True
        nodes = side if len(side) <= len(rest) else rest
        label = f"cut: {listed(side)} | {listed(rest)}"
    elif kind == "OneWay":
        label, of_links = f"one way: {listed(named.get('from', ()))} ↛ {listed(named.get('to', ()))}", True
    elif kind == "Bridge":
        label, of_links = f"cut: {listed(named.get('left', ()))} | {listed(named.get('right', ()))}", True
    elif "on" in fields:
        label, of_links = f"{LINK_FAULTS.get(kind, kind)}{measured(fields)}{linked(fields['on'])}", True
    elif kind in NODE_FAULTS:
        label = NODE_FAULTS[kind] + measured(fields)
    if kind == "Heal":
        core = frozenset(named.get("core", ())) or everyone
        nodes, label = core, f"healed: {'all' if core == everyone else listed(core)}"
    return Band(kind, label, words, nodes, 0.0, 0, of_links=of_links)


LINK_FAULTS = {
    "Drop": "drops",
    "Duplicate": "duplicates",
    "Reorder": "reorders",
    "Corrupt": "damages",
    "SlowLink": "slow link",
}
NODE_FAULTS = {
    "FalseEvidence": "said to be gone",
    "Pause": "paused",
    "Jump": "clock leaps",
    "Drift": "clock drifts",
    "SlowDisk": "slow disk",
    "FailSync": "sync fails",
    "FullDisk": "full disk",
    "StalledDisk": "disk stalls",
    "Rot": "bit rots",
}


def measured(fields: dict[str, str]) -> str:
    words = ""
    if "rate" in fields:
        words += f" {float(fields['rate']):.0%}"
    if "by" in fields:
        number, unit = re.findall(r"([\d.]+)(.*)", fields["by"].strip())[0]
        words += f" +{float(number):.3g} {unit}"
    if "ppm" in fields:
        words += f" {int(fields['ppm']):+d} ppm"
    return words


def linked(on: str) -> str:
    ends = dict(re.findall(r"(from|to): Some\(n(\d+)\)", on))
    if not ends:
        return ""
    return (
        f" {'n' + ends['from'] if 'from' in ends else 'all'} → {'n' + ends['to'] if 'to' in ends else 'all'}"
    )


def listed(nodes: Iterable[int]) -> str:
    return " ".join(f"n{node}" for node in sorted(nodes)) or "all"


def name_of(words: str) -> str:
    """What a message is called for short: ``Vote`` of ``Vote term=2 granted``."""
    words = re.sub(r"^(damaged|nobody there): ", "", words[:200])
    if quoted := re.match(r"b?(['\"])(.*?)\1", words):
        return short(quoted[2], 14)
    if inner := re.match(r"(?:Raft\()?([A-Za-z_]\w*)", words):
        return short(inner[1], 20) + answered(words)
    if in_tuple := re.match(r"[(\[{](['\"])(.*?)\1", words):
        return short(in_tuple[2], 14)
    return short(words, 14)


def answered(words: str) -> str:
    """What a vote says: the one thing that its name alone leaves open."""
    if said := re.search(r"granted[:=] ?(true|false)|\b(granted|refused)$", words, flags=re.IGNORECASE):
        return " yes" if said[0].lower().endswith(("true", "granted")) else " no"
    return ""


def short(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


def shape_of(item: Message | Mark) -> str:
    """What makes it like others: its words without numbers, so that beats are all alike."""
    words = item.words[:120].translate(DIGITS)
    if isinstance(item, Mark):
        return f"{item.kind} {words or item.fingerprint}"
    return f"{item.fate} {words}"


DIGITS = str.maketrans("", "", "0123456789")


def ordered(story: Story) -> Iterator[Message | Mark]:
    """Messages and marks, by time."""
    items: list[Message | Mark] = [*story.messages, *story.marks]
    return iter(sorted(items, key=lambda item: (item.at, item.place)))
