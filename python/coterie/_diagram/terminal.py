"""A diagram for a terminal or a log: a column for each process, a line for each event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from coterie._diagram.choice import Choice
from coterie._diagram.story import Band, Mark, Message, Moment, Part, name_of

SIGNS = {
    "up": "│", "leads": "┃", "down": " ", "paused": "░", "line": "─", "lost": "╌", "right": "▶", "left": "◀",
    "cross": "✗", "crash": "✗", "start": "◆", "rule": "─", "violated": "═", "more": "…", "own": "↺",
}  # fmt: skip
ASCII_SIGNS = {
    "up": "|", "leads": "#", "down": " ", "paused": ":", "line": "-", "lost": ".", "right": ">", "left": "<",
    "cross": "x", "crash": "X", "start": "*", "rule": "-", "violated": "=", "more": "...", "own": "@",
}  # fmt: skip
VERBS = {"crash": "crashes", "start": "starts again", "stays down": "stays down"}
MARKS = {"expire": "alarm"}

#: As many characters as a time takes, with the gap after it.
TIME = 14
#: A column is at least so wide; where there is no room for that, each event is a line of words.
COLUMN_MIN, COLUMN_MAX = 8, 24


def write(choice: Choice, width: int, *, in_ascii: bool) -> str:
    """Write it."""
    column = (width - TIME - 6) // max(len(choice.nodes), 1)
    form: Words = Words(choice, width, in_ascii=in_ascii)
    if choice.nodes and column >= COLUMN_MIN:
        form = Lanes(choice, min(column, COLUMN_MAX), width, in_ascii=in_ascii)
    return "\n".join(line.rstrip() for line in form.all())


@dataclass(frozen=True, slots=True)
class Ended:
    """A fault is over."""

    band: Band


@dataclass(frozen=True, slots=True)
class Marked:
    """A step that is to be seen, such as the one that violated something."""

    words: str


Event = Message | Mark | Moment | Part | Band | Ended | Marked


def events(choice: Choice) -> list[tuple[float, Event]]:
    """All that is told, in order."""
    told: list[tuple[float, float, Event]] = []
    told += [(item.at, item.place, item) for item in choice.drawn]
    told += [(moment.at, moment.place, moment) for moment in choice.moments]
    told += [(part.start, part.place, part) for part in choice.parts if part.start > choice.start]
    told += [(band.start, band.place, band) for band in choice.bands]
    ended = [band for band in choice.bands if band.end < choice.end and band.kind != "Heal"]
    told += [(band.end, band.last, Ended(band)) for band in ended]
    if choice.mark is not None:
        _, at, _, words = choice.mark
        told.append((at, inf, Marked(words)))
    told.sort(key=lambda one: one[:2])
    return [(at, event) for at, _, event in told]


class Words:
    """Each event is a line of words."""

    def __init__(self, choice: Choice, width: int, *, in_ascii: bool) -> None:
        self.choice, self.width, self.in_ascii = choice, width, in_ascii
        self.signs = ASCII_SIGNS if in_ascii else SIGNS

    def all(self) -> Iterator[str]:
        """The lines."""
        for at, event in events(self.choice):
            yield self.cut(f"{at:12.6f}  {self.plain(self.said(event))}")
        yield from self.foot()

    def foot(self) -> Iterator[str]:
        """How much is missing."""
        left = len(self.choice.left_out)
        if left:
            yield self.cut(f"{self.signs['more']:>12}  {left} more, not shown")

    def plain(self, words: str) -> str:
        """Words as a terminal can show them."""
        words = "".join(letter if letter.isprintable() else "?" for letter in words)
        if self.in_ascii:
            words = words.replace("↛", "-/>").replace("→", "->")
            words = words.encode("ascii", "backslashreplace").decode("ascii")
        return words

    def cut(self, line: str, room: int | None = None) -> str:
        """As much of it as there is room for."""
        room = self.width if room is None else max(room, 0)
        more = self.signs["more"]
        return line if len(line) <= room else line[: max(room - len(more), 0)] + more[:room]

    def said(self, event: Event) -> str:
        """An event in words."""
        told: str
        match event:
            case Message(sender=sender, receiver=receiver, fate=fate, words=words):
                told = f"n{sender} {self.signs['line']}{self.signs['right']} n{receiver} {words}".rstrip()
                told += "" if fate == "received" else f" ({fate})"
            case Mark(kind=kind, node=node, words=words):
                told = f"n{node} {MARKS.get(kind, kind)} {words}"
            case Moment(kind=kind, node=node, words=words):
                told = f"n{node} {VERBS[kind]} {words}"
            case Part(node=node, role=role, term=term):
                told = f"n{node} {role} {term}"
            case Band(label=label):
                told = label
            case Ended(band):
                told = f"{band.label}: over"
            case Marked(words=words):
                told = f"{self.signs['violated'] * 2} {words}"
        return told


class Lanes(Words):
    """A column for each process, with arrows from one to another."""

    def __init__(self, choice: Choice, column: int, width: int, *, in_ascii: bool) -> None:
        super().__init__(choice, width, in_ascii=in_ascii)
        self.column = column
        self.place = {node: TIME + number * column + column // 2 for number, node in enumerate(choice.nodes)}
        self.length = TIME + column * len(choice.nodes)

    def all(self) -> Iterator[str]:
        """The lines."""
        names = "".join(f"n{node}".center(self.column) for node in self.choice.nodes)
        yield self.cut(f"{'seconds':>12}  {names}")
        for at, event in events(self.choice):
            yield self.cut(f"{at:12.6f}  {''.join(self.line(at, event))[TIME:]}")
        yield from self.foot()

    def line(self, at: float, event: Event) -> list[str]:
        """An event across the lines of the processes."""
        row = self.lanes(at)
        match event:
            case Message(sender=sender, receiver=receiver) if sender != receiver:
                self.arrow(row, event)
            case Message(receiver=node, words=words):
                self.beside(row, node, f"{self.signs['own']} {name_of(words)}")
            case Mark(kind=kind, node=node, words=words):
                # What a process tells needs no verb before it.
                self.beside(
                    row, node, words if kind == "notify" and words else f"{MARKS.get(kind, kind)} {words}"
                )
            case Moment(kind=kind, node=node):
                row[self.place[node]] = self.signs["start" if kind == "start" else "crash"]
                self.beside(row, node, VERBS[kind])
            case Part(node=node, role=role, term=term):
                self.beside(row, node, f"{role} {term}")
            case Band(label=label):
                self.rule(row, "rule", label)
            case Ended(band):
                self.rule(row, "rule", f"{band.label}: over")
            case Marked(words=words):
                self.rule(row, "violated", words)
        return row

    def lanes(self, at: float) -> list[str]:
        """The lines of the processes at a time."""
        row = [" "] * self.length
        for node, place in self.place.items():
            row[place] = self.signs[self.state(node, at)]
        return row

    def state(self, node: int, at: float) -> str:
        """How a process's line looks."""
        choice = self.choice
        if not any(since <= at <= till for since, till in choice.lives.get(node, ())):
            return "down"
        pauses = (band for band in choice.bands if band.kind == "Pause" and node in band.nodes)
        if any(band.start <= at < band.end for band in pauses):
            return "paused"
        parts = [part for part in choice.parts if part.node == node and part.start <= at <= part.end]
        return "leads" if parts and parts[-1].leads else "up"

    def arrow(self, row: list[str], message: Message) -> None:
        """A message, from line to line."""
        tail, head = self.place[message.sender], self.place[message.receiver]
        right, lost = head > tail, message.fate == "lost"
        first, last = (tail + 1, head - 1) if right else (head + 1, tail - 1)
        length = last + 1 - first
        row[first : last + 1] = self.signs["lost" if lost else "line"] * length
        name = self.plain(name_of(message.words))[: max(length - 2, 0)]
        middle = first + (length - len(name)) // 2
        row[middle : middle + len(name)] = name
        row[last if right else first] = self.signs["cross" if lost else "right" if right else "left"]

    def beside(self, row: list[str], node: int, words: str) -> None:
        """Words to the right of a line, as far as the next one; of the last, as far as the width."""
        first = self.place[node] + 2
        others = [place for place in self.place.values() if place > first]
        room = min(others) - first - 1 if others else self.width - first
        words = self.cut(self.plain(words), room)
        row[first : first + len(words)] = words

    def rule(self, row: list[str], sign: str, words: str) -> None:
        """Words about everybody."""
        told = f"{self.signs[sign] * 2} {self.plain(words)} "
        row[TIME:] = told + self.signs[sign] * max(self.length - TIME - len(told), 0)
