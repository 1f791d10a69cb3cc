"""A conflict as a picture: who did what when, as SVG and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol


class Shown(Protocol):
    """An operation, as far as it is drawn."""

    @property
    def process(self) -> Any: ...
    @property
    def operation(self) -> str: ...
    @property
    def value(self) -> Any: ...
    @property
    def result(self) -> Any: ...
    @property
    def start(self) -> Any: ...
    @property
    def end(self) -> Any: ...
    @property
    def outcome(self) -> str: ...
    @property
    def key(self) -> Any: ...


@dataclass(frozen=True)
class Bar:
    """An operation in its lane: columns are the order of all that begins and ends."""

    operation: Shown
    role: str
    lane: int
    first: int
    last: int | None
    """None when the end is unknown, or of no account."""


READS = {"read", "get", "dequeue", "contains", "pop"}
WORDS_MAX = 28


def describe(operation: Shown) -> str:
    """What was asked and answered, in few words."""
    words = [operation.operation]
    if operation.value is not None:
        words.append(_short(operation.value))
    if operation.outcome == "unknown":
        words.append("→ ?")
    elif operation.outcome == "fail":
        words.append("✗")
    elif operation.result is not None or operation.operation in READS:
        words.append(f"→ {_short(operation.result)}")
    return " ".join(words)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= WORDS_MAX else f"{text[: WORDS_MAX - 1]}…"


def bars(operations: Sequence[Shown], roles: Sequence[str], times: Sequence[tuple[Any, Any]]) -> list[Bar]:
    """Lanes and columns for operations in the order of their starts; ``times`` are numbers to compare."""
    marks = sorted(
        {(start, 0) for start, _ in times} | {(end, 1) for _, end in times if end is not None},
    )
    column = {mark: place for place, mark in enumerate(marks)}
    lanes: list[tuple[Any, int]] = []
    """By lane: whose it is, and the column up to which it is taken."""
    made = []
    processes: list[Any] = []
    for operation in operations:
        if operation.process not in processes:
            processes.append(operation.process)
    taken: dict[Any, list[int]] = {process: [] for process in processes}
    for operation, role, (start, end) in zip(operations, roles, times, strict=True):
        first = column[start, 0]
        last = None if end is None or role == "perhaps" else column[end, 1]
        own = taken[operation.process]
        until = len(marks) if last is None else last
        row = next((row for row, busy in enumerate(own) if busy < first), len(own))
        if row == len(own):
            own.append(until)
        own[row] = until
        made.append((operation, role, row, first, last))
    base, lane_of = 0, {}
    for process in processes:
        lane_of[process] = base
        base += len(taken[process])
        lanes.extend((process, 0) for _ in taken[process])
    return [
        Bar(operation, role, lane_of[operation.process] + row, first, last)
        for operation, role, row, first, last in made
    ]


# Okabe and Ito's colours, which are told apart by all eyes; on light and on dark ground.
STYLE = """\
.coterie-timeline{max-width:100%;height:auto;color:#222;font:12px system-ui,sans-serif}
.coterie-timeline text{fill:currentColor}
.coterie-timeline .lane{stroke:currentColor;stroke-opacity:.25}
.coterie-timeline .time{opacity:.65;font-size:10px}
.coterie-timeline .answered{fill:#0072b2;stroke:#0072b2}
.coterie-timeline .last{fill:#d55e00;stroke:#d55e00}
.coterie-timeline .perhaps{fill:none;stroke:#009e73;stroke-dasharray:5 3}
.coterie-timeline rect{stroke-width:2;fill-opacity:.3}
@media (prefers-color-scheme:dark){.coterie-timeline{color:#ddd}
.coterie-timeline .answered{fill:#56b4e9;stroke:#56b4e9}.coterie-timeline .last{fill:#e69f00;stroke:#e69f00}}
"""

LEFT_MIN, TOP, LANE, BAR, CHARACTER = 60, 14, 44, 20, 6.6
COLUMN_MIN, COLUMN_MAX = 34.0, 220.0


def svg(made: Sequence[Bar], *, title: str, origin: Any = None) -> str:
    """The picture, which stands alone: no script, no font, no reference to anything outside."""
    lanes = max((bar.lane for bar in made), default=-1) + 1
    columns = max((max(bar.first, bar.last or 0) for bar in made), default=0) + 2
    names = {bar.lane: str(bar.operation.process) for bar in made}
    left = max(LEFT_MIN, 20 + int(CHARACTER * max((len(name) for name in names.values()), default=0)))
    step = _step(made, columns)
    width, height = int(left + step * columns + 10), TOP + LANE * lanes + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="coterie-timeline" role="img" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
    ]
    for lane in range(lanes):
        y = TOP + LANE * lane + 28
        parts.append(f'<text x="8" y="{y + 4}">{escape(names[lane])}</text>')
        parts.append(f'<line class="lane" x1="{left}" y1="{y}" x2="{width - 8}" y2="{y}"/>')
    ticks: dict[float, str] = {}
    for bar in made:
        x, y = left + step * bar.first, TOP + LANE * bar.lane
        is_open = bar.last is None
        end = width - 10.0 if bar.last is None else left + step * bar.last
        # An operation whose end does not count fades out to the right instead of ending.
        parts.append(
            f"<g><title>{escape(hover(bar.operation, bar.role))}</title>"
            f'<rect class="{bar.role}" x="{x:.1f}" y="{y + 18}" width="{max(end - x, 4):.1f}" height="{BAR}" '
            f'rx="{0 if is_open else 4}"/>'
            f'<text x="{x + 2:.1f}" y="{y + 13}">{escape(_label(bar))}</text></g>'
        )
        ticks[x] = _time(bar.operation.start, origin)
        if bar.last is not None and bar.operation.end is not None:
            ticks[end] = _time(bar.operation.end, origin)
    y = TOP + LANE * lanes + 14
    free = 0.0
    for x, text in sorted(ticks.items()):
        if x >= free:
            parts.append(f'<text class="time" x="{x:.1f}" y="{y}">{escape(text)}</text>')
            free = x + CHARACTER * len(text) + 8
    return "\n".join([*parts, "</svg>", ""])


def _label(bar: Bar) -> str:
    mark = {"last": "✗ ", "perhaps": "? "}.get(bar.role, "")
    key = "" if bar.operation.key is None else f"{_short(bar.operation.key)}: "
    return f"{mark}{key}{describe(bar.operation)}"


def _step(made: Sequence[Bar], columns: int) -> float:
    """A width of columns at which each label has room until the next one in its lane."""
    step = COLUMN_MIN
    for bar in made:
        later = [other.first for other in made if other.lane == bar.lane and other.first > bar.first]
        room = min(later, default=columns) - bar.first
        step = max(step, (CHARACTER * len(_label(bar)) + 10) / room)
    return min(step, COLUMN_MAX)


def hover(operation: Shown, role: str) -> str:
    """All that there is to say of one."""
    until = "?" if operation.end is None else operation.end
    meaning = {
        "answered": "it stands in the way",
        "perhaps": "it may have taken effect at any time after it began, or never",
        "last": "no order explains this answer",
    }[role]
    key = "" if operation.key is None else f", key {operation.key!r}"
    return (
        f"{operation.process}: {describe(operation)}{key}\nfrom {operation.start} to {until}, "
        f"outcome {operation.outcome}\n{meaning}"
    )


def _time(time: Any, origin: Any) -> str:
    if origin is None or not isinstance(time, int | float) or not isinstance(origin, int | float):
        return str(time)
    return f"+{time - origin:g}" if time != origin else f"{time:g}" if isinstance(time, float) else str(time)


def text(made: Sequence[Bar]) -> str:
    """The same for a terminal: a line a lane, in which bars hold their words."""
    lanes = max((bar.lane for bar in made), default=-1) + 1
    names = {bar.lane: str(bar.operation.process) for bar in made}
    # A column is as wide as the words in it need.
    columns = max((max(bar.first, bar.last or 0) for bar in made), default=0) + 2
    widths = [3] * columns
    for bar in made:
        last = columns - 1 if bar.last is None else bar.last
        lacks = len(_label(bar)) + 6 - sum(widths[bar.first : last])
        if lacks > 0:
            widths[bar.first] += lacks
    places = [sum(widths[:column]) for column in range(columns + 1)]
    rows = [[" "] * (places[-1] + 2) for _ in range(lanes)]
    for bar in made:
        start = places[bar.first]
        end = places[-1] if bar.last is None else places[bar.last]
        words = f" {_label(bar)} "
        fill = "┄" if bar.role == "perhaps" else "─"
        drawn = f"├{fill}{words}".ljust(end - start, fill) + ("┄" if bar.last is None else "┤")
        rows[bar.lane][start : start + len(drawn)] = drawn
    margin = max((len(name) for name in names.values()), default=0) + 2
    return "\n".join(f"{names[lane]:<{margin}}{''.join(rows[lane])}".rstrip() for lane in range(lanes))
