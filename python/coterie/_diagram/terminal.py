"""A diagram for a terminal or a log: a column for each process, a line for each event."""

from __future__ import annotations

from collections.abc import Iterator

from coterie._diagram.choice import Choice
from coterie._diagram.story import Band, Mark, Message, Moment, Part, name_of

UNICODE = {
    "up": "│", "leads": "┃", "down": " ", "paused": "░", "line": "─", "lost": "╌", "right": "▶", "left": "◀",
    "tail": "●", "cross": "✗", "crash": "✗", "start": "◆", "rule": "─", "violated": "═", "more": "…", "own": "↺",
}  # fmt: skip
ASCII = {
    "up": "|", "leads": "#", "down": " ", "paused": ":", "line": "-", "lost": "~", "right": ">", "left": "<",
    "tail": "o", "cross": "x", "crash": "X", "start": "*", "rule": "-", "violated": "=", "more": "...", "own": "@",
}  # fmt: skip

#: As many characters as a time takes, with the gap after it.
TIME = 14
#: A column is at least so wide; where there is no room for that, each event is a line of words.
COLUMN = 8


def write(choice: Choice, width: int, *, ascii: bool) -> str:
    """Write it."""
    column = (width - TIME) // max(len(choice.nodes), 1)
    lines = (
        Lanes(choice, min(column, 24), width, ascii=ascii)
        if column >= COLUMN
        else Words(choice, width, ascii=ascii)
    )
    return "\n".join(line.rstrip() for line in lines.all())


Event = Message | Mark | Moment | Part | Band | tuple[int, float, int, str]


def events(choice: Choice) -> list[tuple[float, int, Event]]:
    """All that is told, by time; what happens at one time in the order of the steps, and what follows from a step after it."""
    told: list[tuple[float, int, int, Event]] = []
    told += [(item.at, item.step, 0, item) for item in choice.drawn]
    told += [(moment.at, moment.step, 2, moment) for moment in choice.moments]
    told += [(part.start, part.step, 1, part) for part in choice.parts if part.start > choice.start]
    told += [(band.start, band.step, 0, band) for band in choice.bands]
    if choice.mark is not None:
        told.append((choice.mark[1], choice.mark[0], 3, choice.mark))
    told.sort(key=lambda one: one[:3])
    return [(at, step, event) for at, step, _, event in told]


class Words:
    """Each event is a line of words."""

    def __init__(self, choice: Choice, width: int, *, ascii: bool) -> None:
        self.choice, self.width, self.signs = choice, width, ASCII if ascii else UNICODE
        self.ascii = ascii

    def all(self) -> Iterator[str]:
        """The lines."""
        yield from self.head()
        for at, _, event in events(self.choice):
            yield self.cut(f"{at:12.6f}  {self.said(event)}")
        yield from self.foot()

    def head(self) -> Iterator[str]:
        yield from ()

    def foot(self) -> Iterator[str]:
        left = len(self.choice.left_out)
        if left:
            yield self.cut(f"{self.signs['more']:>12}  {left} more, not shown")

    def cut(self, line: str) -> str:
        line = "".join(letter if letter.isprintable() else "?" for letter in line)
        if self.ascii:
            line = line.replace("…", "...").replace("↛", "-/>").replace("→", "->")
            line = line.encode("ascii", "backslashreplace").decode("ascii")
        return (
            line
            if len(line) <= self.width
            else line[: self.width - len(self.signs["more"])] + self.signs["more"]
        )

    def said(self, event: Event) -> str:
        match event:
            case Message(sender=sender, receiver=receiver, fate=fate, words=words):
                told = f"n{sender} {self.signs['line']}{self.signs['right']} n{receiver} {words}".rstrip()
                return told if fate == "received" else f"{told} ({fate})"
            case Mark(kind=kind, node=node, words=words):
                return f"n{node} {kind} {words}"
            case Moment(kind=kind, node=node, words=words):
                return f"n{node} {VERBS[kind]} {words}"
            case Part(node=node, role=role, term=term):
                return f"n{node} is {role} in term {term}"
            case Band(label=label):
                return f"{label}"
            case (_, _, node, words):
                return f"{self.signs['violated'] * 2} {words}" + (f" (n{node})" if node else "")


VERBS = {"crash": "crashes", "start": "starts again", "stays down": "stays down"}


class Lanes(Words):
    """A column for each process."""

    def __init__(self, choice: Choice, column: int, width: int, *, ascii: bool) -> None:
        super().__init__(choice, width, ascii=ascii)
        self.column = column
        self.place = {node: TIME + number * column + column // 2 for number, node in enumerate(choice.nodes)}
        self.length = TIME + column * len(choice.nodes)

    def head(self) -> Iterator[str]:
        names = "".join(f"n{node}".center(self.column) for node in self.choice.nodes)
        yield self.cut(f"{'seconds':>12}  {names}")

    def all(self) -> Iterator[str]:
        """The lines."""
        yield from self.head()
        for at, _, event in events(self.choice):
            yield self.cut(f"{at:12.6f}  {''.join(self.line(at, event))[TIME:]}")
        yield from self.foot()

    def lanes(self, at: float) -> list[str]:
        row = [" "] * self.length
        for node, place in self.place.items():
            lives = self.choice.lives.get(node, [])
            sign = "up" if any(since <= at <= till for since, till in lives) else "down"
            if sign == "up":
                own = [
                    part for part in self.choice.parts if part.node == node and part.start <= at <= part.end
                ]
                if own and own[-1].leads:
                    sign = "leads"
                if any(
                    band.kind == "Pause" and node in band.nodes and band.start <= at < band.end
                    for band in self.choice.bands
                ):
                    sign = "paused"
            row[place] = self.signs[sign]
        return row

    def line(self, at: float, event: Event) -> list[str]:
        row = self.lanes(at)
        match event:
            case Message() if event.sender != event.receiver:
                self.arrow(row, event)
            case Message(receiver=node, words=words):
                self.beside(row, node, f"{self.signs['own']} {name_of(words)}")
            case Mark(kind=kind, node=node, words=words):
                self.beside(row, node, f"{kind} {words}" if kind != "notify" else words or kind)
            case Moment(kind=kind, node=node):
                row[self.place[node]] = self.signs["crash" if kind == "crash" else "start"]
                self.beside(row, node, VERBS[kind])
            case Part(node=node, role=role, term=term):
                self.beside(row, node, f"{role} {term}")
            case Band(label=label):
                self.rule(row, self.signs["rule"], label)
            case (_, _, node, words):
                self.rule(row, self.signs["violated"], words)
        return row

    def arrow(self, row: list[str], message: Message) -> None:
        tail, head = self.place[message.sender], self.place[message.receiver]
        right = head > tail
        lost = message.fate == "lost"
        first, last = (tail + 1, head - 1) if right else (head + 1, tail - 1)
        row[first : last + 1] = self.signs["lost" if lost else "line"] * (last + 1 - first)
        room = last - first - 1
        name = name_of(message.words)[: max(room, 0)]
        middle = first + (last + 1 - first - len(name)) // 2
        row[middle : middle + len(name)] = name
        point = last if right else first
        row[point] = self.signs["cross" if lost else "right" if right else "left"]

    def beside(self, row: list[str], node: int, words: str) -> None:
        """Words to the right of a line, as far as the next one; of the last, as far as the width."""
        first = self.place[node] + 2
        others = [place for place in self.place.values() if place > first]
        room = (min(others) if others else self.width) - first - 1
        words = words if len(words) <= room else words[: max(room - 1, 0)] + "…"
        row[first : first + len(words)] = words

    def rule(self, row: list[str], sign: str, words: str) -> None:
        told = f"{sign * 2} {words} "
        row[TIME:] = told + sign * max(self.length - TIME - len(told), 0)
