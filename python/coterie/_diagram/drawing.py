"""A diagram as SVG, written by hand: no script, no font, no link, and no id that another picture could have, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from html import escape
from itertools import groupby
from math import hypot, sqrt
from unicodedata import east_asian_width

from coterie._diagram.axis import Axis
from coterie._diagram.choice import Choice
from coterie._diagram.story import Band, Mark, Message, Moment, name_of, shape_of, short

LEFT, RIGHT, TOP, ROW = 40, 22, 30, 64
#: Half the height of a band.
HALF = 28
WIDTH_MIN, WIDTH_MAX = 620, 1600
#: Colours of terms in turn; they and all others are from Okabe and Ito's set, which everybody can tell apart.
COLOURS = 4

LIGHT = (
    "--c0:#0072b2;--c1:#e69f00;--c2:#009e73;--c3:#cc79a7;--bad:#d55e00;--band:#f0e442;--shade:.3;--halo:#fff"
)
DARK = (
    "--c0:#56b4e9;--c1:#e69f00;--c2:#009e73;--c3:#cc79a7;--bad:#ff7a2f;--band:#f0e442;--shade:.16;--halo:#111"
)
STYLE = (
    f"""
&{{{LIGHT};max-width:none;height:auto;font:11px system-ui,sans-serif}}
@media(prefers-color-scheme:dark){{&{{{DARK}}}}}
[data-jp-theme-light=true] &,[data-theme=light] &,.vscode-light &{{{LIGHT};--halo:var(--jp-layout-color0,#fff)}}
[data-jp-theme-light=false] &,[data-theme=dark] &,.vscode-dark &{{{DARK};--halo:var(--jp-layout-color0,#111)}}
& text{{fill:currentColor;stroke:none}}
& .w{{paint-order:stroke;stroke:var(--halo);stroke-width:3px;stroke-linejoin:round;font-size:10px}}
& .n{{font-weight:600;font-size:12px}}
& .q{{font-size:10px;opacity:.75}}
& .l{{stroke:currentColor;stroke-width:1.5;opacity:.6}}
& .g{{stroke:currentColor;stroke-width:.7;opacity:.18}}
& .p{{stroke-width:3.5;fill:none}}& .k{{stroke-dasharray:5 2.5}}& .f{{stroke-width:9}}
& .c0{{stroke:var(--c0)}}& .c1{{stroke:var(--c1)}}& .c2{{stroke:var(--c2)}}& .c3{{stroke:var(--c3)}}
& .m{{stroke:currentColor;fill:currentColor;stroke-width:1.1;opacity:.8}}
& .m.b{{opacity:.38}}
& .m.x{{stroke:var(--bad);fill:none;stroke-dasharray:4 2.5;opacity:1}}
& .m.u{{stroke-dasharray:1.5 3}}& .m.d{{stroke-dasharray:7 2 2 2}}
& .s,& .y{{stroke-dasharray:none}}& .y{{stroke-width:2}}& .v{{stroke-width:3;opacity:.55}}
& .t{{stroke:transparent;stroke-width:9;fill:none;stroke-dasharray:none}}
& .m:hover,& .a:hover{{opacity:1;stroke-width:2.6}}
& .a{{stroke:currentColor;fill:var(--halo);stroke-width:1.2}}& .a.i{{fill:currentColor}}
& .e{{stroke:var(--bad);stroke-width:3.2;fill:none;stroke-linecap:round}}& .r{{stroke:currentColor;stroke-width:2;fill:var(--halo)}}
& .o{{fill:var(--band);fill-opacity:var(--shade);stroke:currentColor;stroke-opacity:.35;stroke-dasharray:2 2;stroke-width:.8}}
& .z{{stroke:currentColor;stroke-width:13;stroke-dasharray:1.6 2.6;opacity:.55}}
& .h{{stroke:var(--c2);stroke-width:1.5;stroke-dasharray:6 3;fill:none}}
& .j{{stroke:var(--bad);stroke-width:1.6;stroke-dasharray:5 3;fill:none}}
& .j+text,& .b1{{fill:var(--bad);font-weight:600}}
& .1{{fill:currentColor;opacity:.35}}
""".replace("\n", "")
    .replace(".1{", ".bar{")
    .strip()
)
SCOPE = f"coterie-{blake2b(STYLE.encode(), digest_size=4).hexdigest()}"
ALONE = "&{color:#1a1a1a;background:#fff}@media(prefers-color-scheme:dark){&{color:#e8e8e8;background:#111}}"


def draw(choice: Choice, width: int | None, *, linear: bool, alone: bool = False) -> str:
    """The picture; one that stands `alone` brings its own paper."""
    return Drawing(choice, width, linear=linear).all(alone=alone)


def page(body: str) -> str:
    """A page around a picture."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        f"<title>What happened</title></head>\n<body>{body}</body></html>\n"
    )


class Drawing:
    """One picture being drawn."""

    def __init__(self, choice: Choice, width: int | None, *, linear: bool) -> None:
        self.choice = choice
        times = sorted(self.times())
        wanted = LEFT + RIGHT + 13 * len(set(times))
        self.width = width or min(max(wanted, WIDTH_MIN), WIDTH_MAX)
        self.axis = Axis(times, LEFT + 8, self.width - RIGHT, linear=linear)
        self.y = {node: TOP + HALF + place * ROW for place, node in enumerate(choice.nodes)}
        self.bottom = TOP + HALF + max(len(choice.nodes) - 1, 0) * ROW + HALF + 4
        self.boxes: list[tuple[float, float, float, float]] = []
        self.legend: dict[str, str] = {}
        self.marks: dict[int, list[tuple[int, int]]] = {}
        shapes = Counter(shape_of(item) for item in (*choice.drawn, *choice.left_out))
        total = sum(shapes.values())
        #: What comes again and again is drawn lightly.
        self.beats = {
            shape for shape, count in shapes.items() if count >= 12 and total > 60 and count * 8 > total
        }

    def times(self) -> Iterator[float]:
        """When anything happens that is drawn."""
        choice = self.choice
        yield from (choice.start, choice.end)
        for item in choice.drawn:
            yield self.clip(item.at)
            if isinstance(item, Message):
                yield self.clip(item.sent)
                if item.promised is not None:
                    yield self.clip(item.promised)
        yield from (moment.at for moment in choice.moments)
        for part in choice.parts:
            yield from (part.start, part.end)
        for band in choice.bands:
            yield from (band.start, band.end)
        if choice.mark is not None:
            yield choice.mark[1]

    def clip(self, time: float) -> float:
        return min(max(time, self.choice.start), self.choice.end)

    def x(self, time: float) -> float:
        return self.axis.x(time)

    def all(self, *, alone: bool) -> str:
        """The whole of it."""
        behind = [*self.grid(), *self.draw_bands(), *self.draw_lives(), *self.draw_parts()]
        front = [*self.draw_moments(), *self.draw_mark()]
        labels = [*self.label_parts(), *self.label_bands()]
        middle = [part for item in self.choice.drawn for part in self.item(item)]
        names = [*self.label_messages()]
        below = [*self.strip(), *self.explain()]
        height = round(self.bottom + self.below)
        style = (STYLE + ALONE if alone else STYLE).replace("&", f".{SCOPE}")
        count = len(self.choice.nodes)
        said = f"Space-time diagram of {count} process{'' if count == 1 else 'es'}"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{SCOPE}" role="img" aria-label="{said}" '
            f'width="{self.width}" height="{height}" viewBox="0 0 {self.width} {height}"><style>{style}</style>'
        )
        parts = (*behind, *middle, *front, *names, *labels, *below)
        return "\n".join((head, *parts, "</svg>"))

    # --- Time and processes ---

    def grid(self) -> Iterator[str]:
        ticks = self.axis.ticks(66)
        base, labels = self.axis.labels(ticks)
        y = self.bottom
        if not self.choice.nodes:
            yield text(LEFT, TOP + 8, "no process and nothing that happened", "q")
        for tick, label in zip(ticks, labels, strict=True):
            x = self.axis.place(tick)
            yield f'<path class="g" d="M{x:.1f} {TOP - 2}V{y:.1f}"/>'
            yield text(x, y + 12, label, "q", anchor="middle")
        yield text(4, y + 12, base, "q") if base else ""
        for node, row in self.y.items():
            yield text(6, row + 4, f"n{node}", "n")

    def draw_lives(self) -> Iterator[str]:
        for node, spans in self.choice.lives.items():
            for since, till in spans:
                yield f'<path class="l" d="M{self.x(since):.1f} {self.y[node]}H{self.x(till):.1f}"/>'

    def draw_parts(self) -> Iterator[str]:
        for part in self.choice.parts:
            x, to = self.x(part.start), self.x(part.end)
            kind = "f" if part.leads else "k" if "andidate" in part.role else ""
            if part.leads:
                self.legend["leads"] = "leader"
            elif kind:
                self.legend["asks"] = "candidate"
            if part.term:
                self.legend["term"] = "colour: the term"
            title = f"n{part.node}: {part.role} in term {part.term}, {spanned(part.start, part.end)}"
            path = (
                f'<path class="p {kind} c{part.term % COLOURS}" d="M{x:.1f} {self.y[part.node]}H{to:.1f}"/>'
            )
            yield titled("", title, path)

    def label_parts(self) -> Iterator[str]:
        told: dict[int, int] = {}
        for part in sorted(self.choice.parts, key=lambda part: (not part.leads, part.start)):
            leads, stands = part.leads, "andidate" in part.role
            words = f"leads term {part.term}" if leads else f"term {part.term}"
            if stands:
                words = f"{'pre-' if part.role.startswith('Pre') else ''}candidate, term {part.term}"
            elif not leads and (part.role != "Follower" or told.get(part.node) == part.term or not part.term):
                words = f"{part.role}, term {part.term}" if part.role != "Follower" else ""
            told[part.node] = part.term
            room = self.x(part.end) - self.x(part.start)
            if words and (leads or stands or room > measure(words, 10)):
                yield self.put(self.x(part.start) + 2, self.y[part.node] - 7, words, "w")

    # --- What is broken ---

    def draw_bands(self) -> Iterator[str]:
        for band in self.choice.bands:
            x, to = self.x(band.start), max(self.x(band.end), self.x(band.start) + 2)
            title = f"{band.label}, {spanned(band.start, band.end)}"
            if band.kind == "Heal":
                self.legend["heal"] = "healed for good"
                for rows in self.runs(band):
                    path = f'<path class="h" d="M{x:.1f} {rows[0] - HALF}V{rows[-1] + HALF}"/>'
                    yield titled("", title, path)
            elif band.kind == "Pause":
                self.legend["pause"] = "paused"
                for node in sorted(band.nodes):
                    yield titled("", title, f'<path class="z" d="M{x:.1f} {self.y[node]}H{to:.1f}"/>')
            else:
                self.legend["band"] = "something is broken"
                for rows in self.runs(band):
                    path = (
                        f'<rect class="o" x="{x:.1f}" y="{rows[0] - HALF}" width="{to - x:.1f}" '
                        f'height="{rows[-1] - rows[0] + 2 * HALF}"/>'
                    )
                    yield titled("", title, path)

    def runs(self, band: Band) -> list[list[int]]:
        """The lines that it befalls; those that are neighbours together."""
        places = sorted(place for place, node in enumerate(self.choice.nodes) if node in band.nodes)
        runs = groupby(enumerate(places), key=lambda pair: pair[1] - pair[0])
        return [[self.y[self.choice.nodes[place]] for _, place in run] for _, run in runs]

    def label_bands(self) -> Iterator[str]:
        for band in self.choice.bands:
            for rows in self.runs(band):
                x = max(self.x(band.start) + 3, LEFT + 4)
                label = self.put(x, rows[0] - HALF + 9, band.label, "w")
                if label:
                    yield label
                    break

    def draw_moments(self) -> Iterator[str]:
        for moment in self.choice.moments:
            yield self.moment(moment)
            words = {"crash": "crashes", "start": "starts again"}.get(moment.kind, "stays down")
            yield self.put(self.x(moment.at) + 7, self.y[moment.node] + 15, words, "w")

    def moment(self, moment: Moment) -> str:
        x, y = self.x(moment.at), self.y[moment.node]
        if moment.kind == "start":
            self.legend["start"] = "starts again"
            title = f"n{moment.node} starts again at {told(moment.at)} {moment.words}"
            return titled("", title, f'<circle class="r" cx="{x:.1f}" cy="{y}" r="4.5"/>')
        self.legend["crash"] = "crash"
        verb = "crashes" if moment.kind == "crash" else "stays down"
        title = f"n{moment.node} {verb} at {told(moment.at)} {moment.words}"
        path = f'<path class="e {moment.kind.split()[0]}" d="{crossed(x, y, 6)}"/>'
        return titled("", title, path)

    def draw_mark(self) -> Iterator[str]:
        if self.choice.mark is None:
            return
        step, at, node, words = self.choice.mark
        x = self.x(at)
        last = node in self.y
        anchor = "end" if x > self.width / 2 else "start"
        yield "<g>"
        yield f"<title>{clean(f'step {step}, {told(at)}: {words}')}</title>"
        yield f'<path class="j" d="M{x:.1f} 16V{self.bottom}"/>'
        yield text(
            x + (-4 if anchor == "end" else 4), 14, short(words, int(self.width / 7)), "b1", anchor=anchor
        )
        if last:
            yield f'<circle class="j" cx="{x:.1f}" cy="{self.y[node]}" r="11"/>'
        yield "</g>"

    # --- What happens ---

    def item(self, item: Message | Mark) -> Iterator[str]:
        if isinstance(item, Mark):
            yield self.mark(item)
        elif item.sender == item.receiver:
            yield self.own(item)
        else:
            yield self.arrow(item)

    def arrow(self, message: Message) -> str:
        choice = self.choice
        x, y = self.x(self.clip(message.sent)), float(self.y[message.sender])
        to, down = self.x(self.clip(message.arrived)), float(self.y[message.receiver])
        kinds, extra = ["m"], ""
        if message.sent < choice.start and message.arrived > message.sent:
            # It comes from before the picture.
            y += (down - y) * (choice.start - message.sent) / (message.arrived - message.sent)
        cut = message.arrived > choice.end or message.fate == "under way"
        if message.arrived > choice.end and message.arrived > message.sent:
            down = y + (down - y) * (choice.end - message.sent) / (message.arrived - message.sent)
        elif message.fate == "under way":
            down = y + (down - y) * 0.6
        if message.fate == "lost":
            if message.arrived == message.sent:
                to, down = self.nowhere(message)
            kinds.append("x")
            self.legend["lost"] = "lost"
            extra = f'<path class="y" d="{crossed(to, down, 3.5)}"/>'
        elif cut:
            kinds.append("u")
            self.legend["under way"] = "still under way"
        else:
            if message.again:
                kinds.append("d")
                self.legend["again"] = "the same again"
            self.legend["message"] = "message"
            extra = pointed(x, y, to, down)
        if shape_of(message) in self.beats:
            kinds.append("b")
        if message.promised is not None:
            self.legend["promise"] = "promise: waits for the disk"
            since = self.x(self.clip(message.promised))
            extra += f'<path class="v" d="M{since:.1f} {y - 3:.1f}H{x:.1f}"/><path class="s" d="M{x - 2.5:.1f} {y - 2.5:.1f}h5v5h-5z"/>'
        line = f"M{x:.1f} {y:.1f}L{to:.1f} {down:.1f}"
        path = f'<path d="{line}"/>{extra}<path class="t" d="{line}"/>'
        return titled(" ".join(kinds), self.title(message), path)

    def nowhere(self, message: Message) -> tuple[float, float]:
        """Where a message ends that the network lost, nobody knows when: short of the line that it never reaches."""
        y, down = self.y[message.sender], self.y[message.receiver]
        rows = abs(down - y) / ROW
        place = self.x(self.clip(message.sent)) + 5 + 2 * rows
        return min(place, self.width - 6), y + (down - y) * (rows - 0.36) / rows

    @staticmethod
    def title(message: Message) -> str:
        ends = f"n{message.sender} → n{message.receiver}"
        sent = f"sent {told(message.sent)}"
        if message.promised is not None:
            sent = f"promised {told(message.promised)}, {sent}"
        after = f", {lasted(message.arrived - message.sent)} later"
        if message.fate == "received":
            sent += f"{after} received{' again' if message.again else ''}"
        elif message.fate == "lost":
            sent += f"{after if message.arrived > message.sent else ','} lost"
        else:
            sent += ", still under way"
        return f"{ends}: {message.words}\n{sent}" if message.words else f"{ends}\n{sent}"

    def own(self, message: Message) -> str:
        self.legend["own"] = "promise to itself"
        x, y = self.x(self.clip(message.arrived)), self.y[message.receiver]
        title = f"n{message.receiver} to itself: {message.words}\nat {told(message.arrived)}"
        path = f'<path d="M{x - 3:.1f} {y}c-6 -13 12 -13 6 0" style="fill:none"/>'
        return titled("m o1" + (" b" if shape_of(message) in self.beats else ""), title, path)

    def mark(self, mark: Mark) -> str:
        x = self.x(mark.at)
        y = self.y[mark.node] + (self.stacked(mark.node, x) if mark.kind != "expire" else 0)
        path = {
            "request": f"M{x:.1f} {y + 5}l-4 9h8z",
            "answer": f"M{x:.1f} {y + 14}l-4 -9h8z",
            "notify": f"M{x:.1f} {y + 5}l4 4.5l-4 4.5l-4 -4.5z",
            "expire": f"M{x:.1f} {y - 6}a3.6 3.6 0 1 0 .01 0z",
        }[mark.kind]
        words = {"request": "asked", "answer": "answers", "notify": "tells", "expire": "alarm"}[mark.kind]
        self.legend[mark.kind] = {"notify": "event", "expire": "alarm"}.get(mark.kind, mark.kind)
        title = f"n{mark.node} {words}: {mark.words}\nat {told(mark.at)}"
        return titled(f"a {'i' if mark.kind in {'request', 'answer'} else ''}", title, f'<path d="{path}"/>')

    def stacked(self, node: int, x: float) -> int:
        """How far below the others a mark stands that happens when they do."""
        taken = self.marks.setdefault(node, [])
        level = next(level for level in range(4) if level == 3 or (level, round(x / 9)) not in taken)
        taken.append((level, round(x / 9)))
        return 10 * min(level, 2)

    def label_messages(self) -> Iterator[str]:
        """Names beside arrows, the rare ones first, as long as there is room."""
        messages = [item for item in self.choice.drawn if isinstance(item, Message) and item.words]
        messages = [item for item in messages if item.sender != item.receiver]
        counts = Counter(name_of(message.words) for message in messages)
        written = Counter[str]()
        for message in sorted(messages, key=lambda message: counts[name_of(message.words)]):
            name = name_of(message.words)
            # Who has read a name so often knows the arrow by its look.
            if written[name] < (3 if shape_of(message) in self.beats else 16) and (
                label := self.label(message, name)
            ):
                written[name] += 1
                yield label

    def label(self, message: Message, name: str) -> str:
        x, y = self.x(self.clip(message.sent)), self.y[message.sender]
        to, down = self.x(self.clip(message.arrived)), float(self.y[message.receiver])
        if message.fate == "lost" and message.arrived == message.sent:
            to, down = self.nowhere(message)
        parts = max(round(abs(down - y) / ROW), 1)
        for part in sorted(range(parts), key=lambda part: abs(part + 0.5 - parts / 2)):
            share = (part + 0.5) / parts
            at, level = x + (to - x) * share, y + (down - y) * share + 4
            found = self.put(at + 4, level, name, "w") or self.put(
                at - 4 - measure(name, 10), level, name, "w"
            )
            if found:
                return found
        return ""

    # --- Below ---

    def strip(self) -> Iterator[str]:
        """When what is not drawn happened, and how much of it there is."""
        self.below = 24.0
        left_out = self.choice.left_out
        if not left_out:
            return
        base = self.bottom + 46
        size = max((self.axis.right - self.axis.left) / 120, 6.0)
        bars = Counter(int((self.x(self.clip(item.at)) - self.axis.left) / size) for item in left_out)
        for place, count in sorted(bars.items()):
            x, height = self.axis.left + place * size, min(2 + 2.5 * sqrt(count), 22)
            bar = f'<rect class="bar" x="{x:.1f}" y="{base - height:.1f}" width="{size - 1:.1f}" height="{height:.1f}" data-count="{count}"/>'
            yield titled("", f"{count} more here", bar)
        kinds = Counter(kind_of(item) for item in left_out).most_common(5)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds)
        others = len(left_out) - sum(count for _, count in kinds)
        listed += f", {others} other{'' if others == 1 else 's'}" if others else ""
        words = f"… {len(left_out)} more" + (f": {listed}" if listed else "")
        yield text(LEFT + 8, base + 12, short(words, int(self.width / 6)), "q left-out")
        self.below = 64.0

    def explain(self) -> Iterator[str]:
        """A legend of what occurs."""
        words = dict(self.legend)
        if self.axis.is_stretched:
            words["stretched"] = "time is stretched where much happens"
        x, y = float(LEFT + 8), self.bottom + self.below + 8
        for key in [key for key in SAMPLES if key in words]:
            sample, size = SAMPLES[key]
            length = size + 6 + measure(words[key], 10)
            if x + length > self.width - 8 and x > LEFT + 8:
                x, y = LEFT + 8, y + 18
            if sample:
                yield f'<g transform="translate({x:.1f} {y:.1f})">{sample}</g>'
            yield text(x + size + (6 if size else 0), y + 3.5, words[key], "q")
            x += length + 16
        self.below = y + 14 - self.bottom

    def put(self, x: float, y: float, words: str, kind: str) -> str:
        """A label, when nothing is written there yet."""
        x = min(x, self.width - 4 - measure(words, 10))
        box = (x - 2, y - 8, x + measure(words, 10) + 2, y + 1.5)
        if box[0] < LEFT - 6 or any(overlap(box, other) for other in self.boxes):
            return ""
        self.boxes.append(box)
        return text(x, y, words, kind)


#: What each entry of the legend looks like, and how wide that is; in the order in which they stand.
SAMPLES = {
    "message": ('<g class="m"><path d="M0 0H20"/><path d="M24 0l-7 -3v6z"/></g>', 24),
    "lost": ('<g class="m x"><path d="M0 0H18"/><path class="y" d="M15.5 -3l6 6M15.5 3l6 -6"/></g>', 24),
    "again": ('<g class="m d"><path d="M0 0H20"/><path class="s" d="M24 0l-7 -3v6z"/></g>', 24),
    "under way": ('<g class="m u"><path d="M0 0H24"/></g>', 24),
    "promise": (
        '<g class="m"><path class="v" d="M0 0H9"/><path d="M6.5 -2.5h5v5h-5zM9 0H26"/><path d="M30 0l-7 -3v6z"/></g>',
        30,
    ),
    "own": ('<g class="m"><path d="M3 4c-6 -13 12 -13 6 0" style="fill:none"/></g>', 10),
    "leads": ('<path class="p f" stroke="currentColor" d="M0 0H22"/>', 22),
    "asks": ('<path class="p k" stroke="currentColor" d="M0 0H22"/>', 22),
    "term": (
        '<path class="p c0" d="M0 0H8"/><path class="p c1" d="M8 0H16"/><path class="p c2" d="M16 0H24"/>',
        24,
    ),
    "crash": ('<path class="e" d="M2 -5l10 10M2 5l10 -10"/>', 12),
    "start": ('<circle class="r" cx="6" cy="0" r="4.5"/>', 10),
    "pause": ('<path class="z" d="M0 0H20"/>', 20),
    "band": ('<rect class="o" x="0" y="-7" width="20" height="14"/>', 20),
    "heal": ('<path class="h" d="M4 -8V8"/>', 8),
    "request": ('<g class="a i"><path d="M5 -4l-4 9h8z"/></g>', 10),
    "answer": ('<g class="a i"><path d="M5 5l-4 -9h8z"/></g>', 10),
    "notify": ('<g class="a"><path d="M5 -4.5l4 4.5l-4 4.5l-4 -4.5z"/></g>', 10),
    "expire": ('<g class="a"><path d="M5 -3.6a3.6 3.6 0 1 0 .01 0z"/></g>', 10),
    "stretched": ("", 0),
}


def kind_of(item: Message | Mark) -> str:
    if isinstance(item, Mark):
        return {"expire": "alarms", "notify": "events"}.get(item.kind, f"{item.kind}s")
    lost = "lost " if item.fate == "lost" else ""
    return lost + (name_of(item.words) if item.words else "messages")


def titled(kind: str, title: str, inside: str) -> str:
    attribute = f' class="{kind.strip()}"' if kind else ""
    return f"<g{attribute}><title>{clean(title)}</title>{inside}</g>"


def text(x: float, y: float, words: str, kind: str, anchor: str = "") -> str:
    where = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{where}>{clean(words)}</text>'


def clean(words: str) -> str:
    """Words as XML may have them: escaped, and without what no XML can say."""
    words = short(words, 2_000)
    return escape("".join(letter if allowed(letter) else "�" for letter in words))


def allowed(letter: str) -> bool:
    code = ord(letter)
    return (
        letter in "\t\n\r"
        or 0x20 <= code < 0x7F
        or 0xA0 <= code < 0xD800
        or 0xE000 <= code < 0xFFFE
        or code >= 0x10000
    )


def measure(words: str, size: float) -> float:
    """How wide they will be, more or less: nobody knows the font."""
    return size * sum(1.0 if east_asian_width(letter) in "WF" else 0.62 for letter in words)


def overlap(one: Iterable[float], other: Iterable[float]) -> bool:
    left, top, right, bottom = one
    west, north, east, south = other
    return left < east and west < right and top < south and north < bottom


def crossed(x: float, y: float, size: float) -> str:
    return f"M{x - size:.1f} {y - size:.1f}l{2 * size:g} {2 * size:g}M{x - size:.1f} {y + size:.1f}l{2 * size:g} -{2 * size:g}"


def pointed(x: float, y: float, to: float, down: float) -> str:
    """The head of an arrow."""
    length = hypot(to - x, down - y) or 1.0
    east, south = (to - x) / length, (down - y) / length
    back, side = 7.0, 2.9
    left = (to - back * east - side * south, down - back * south + side * east)
    right = (to - back * east + side * south, down - back * south - side * east)
    return f'<path class="s" d="M{to:.1f} {down:.1f}L{left[0]:.1f} {left[1]:.1f} {right[0]:.1f} {right[1]:.1f}z"/>'


def told(at: float) -> str:
    return f"{at:.9f}".rstrip("0").rstrip(".") + " s"


def lasted(seconds: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= unit:
            return f"{seconds / unit:.4g} {name}"
    return f"{seconds * 1e9:.0f} ns"


def spanned(start: float, end: float) -> str:
    return f"{told(start)} to {told(end)}"
