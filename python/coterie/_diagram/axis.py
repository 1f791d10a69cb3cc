"""Where a time stands, and which times are written under the lines.

Messages take microseconds and elections are a second apart, so an axis on which an inch is always the same time shows
one of them alone. Here each wait between two things that happen gets a width that grows with its logarithm: order is
kept, what happens at once stands together, and the labels tell the truth about how long it took.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, pairwise
from math import log1p
from statistics import median

NANOSECOND = 1e-9
#: Times that are round, in nanoseconds, the roundest first.
ROUND: list[int] = [
    *(hours * 3600 * 10**9 for hours in (10_000, 1_000, 100, 24, 10, 1)),
    *(seconds * 10**9 for seconds in (1800, 600, 300, 60, 30, 10, 5, 1)),
    *(factor * 10**power for power in range(8, -1, -1) for factor in (5, 1)),
]


class Axis:
    """Places times between two borders."""

    def __init__(self, times: Iterable[float], left: float, right: float, *, linear: bool) -> None:
        self.times = sorted({round(time / NANOSECOND) for time in times})
        self.left, self.right = left, right
        gaps = [after - before for before, after in pairwise(self.times)]
        typical = median(gaps) if gaps else 1
        widths = [float(gap) if linear else 0.7 + log1p(gap / typical) for gap in gaps]
        scale = (right - left) / sum(widths) if widths else 0.0
        self.places = list(accumulate((width * scale for width in widths), initial=left))
        longest = max((gap / width for gap, width in zip(gaps, widths, strict=True)), default=1.0)
        shortest = min((gap / width for gap, width in zip(gaps, widths, strict=True)), default=1.0)
        self.is_stretched = not linear and longest > 3 * shortest

    def x(self, time: float) -> float:
        """Where a time stands."""
        return self.place(time / NANOSECOND)

    def place(self, at: float) -> float:
        """The same for nanoseconds."""
        if len(self.times) < 2:
            return (self.left + self.right) / 2
        number = min(max(bisect_right(self.times, at), 1), len(self.times) - 1)
        before, after = self.times[number - 1], self.times[number]
        share = min(max((at - before) / (after - before), 0.0), 1.0)
        return self.places[number - 1] + share * (self.places[number] - self.places[number - 1])

    def time(self, x: float) -> float:
        """Which nanosecond stands there."""
        if len(self.times) < 2:
            return float(self.times[0])
        number = min(max(bisect_right(self.places, x), 1), len(self.places) - 1)
        before, after = self.places[number - 1], self.places[number]
        share = min(max((x - before) / (after - before), 0.0), 1.0) if after > before else 0.0
        return self.times[number - 1] + share * (self.times[number] - self.times[number - 1])

    def ticks(self, distance: float) -> list[int]:
        """Round times that are at least so far from each other: the roundest first, finer ones where there is room."""
        if len(self.times) < 2:
            return list(self.times)
        found: list[int] = []
        # A label reaches to both sides of its place.
        spaces = [(self.left - distance, self.right + distance * 0.6)]
        while spaces:
            left, right = spaces.pop()
            if right - left < 2 * distance:
                continue
            tick = roundest(
                self.time(left + distance), self.time(right - distance), self.time((left + right) / 2)
            )
            place = self.place(tick)
            # Where a nanosecond is wider than two labels, none is between them.
            if not left + distance - 1 <= place <= right - distance + 1:
                continue
            found.append(tick)
            spaces += [(left, place), (place, right)]
        return sorted(found)

    def labels(self, ticks: list[int]) -> tuple[str, list[str]]:
        """What is written at them, and what is to be added to each of them, if anything."""
        first, last = (self.times[0], self.times[-1]) if self.times else (0, 0)
        span = max(last - first, 1)
        if first < 1_000 * span or len(self.times) < 2:
            return "", [clock(tick, last) for tick in ticks]
        # A short time late in a long run is told from a round time before it.
        step = next((step for step in reversed(ROUND) if step >= span), ROUND[0])
        base = first // step * step
        return f"{clock(base, first)} +", [clock(tick - base, span) for tick in ticks]


def roundest(low: float, high: float, middle: float) -> int:
    """The roundest nanosecond between two, near the middle."""
    for step in ROUND:
        nearest = round(middle / step) * step
        if low <= nearest <= high:
            return nearest
        above = -(-int(low) // step) * step
        if low <= above <= high:
            return above
    return round(middle)


def clock(nanoseconds: int, span: int) -> str:
    """A time in a unit that suits times up to `span`."""
    if span >= 600 * 10**9:
        seconds = nanoseconds / 10**9
        hours, rest = divmod(seconds, 3600)
        return f"{hours:.0f}:{rest // 60:02.0f}:{rest % 60:02.0f}"
    for unit, name in ((10**9, "s"), (10**6, "ms"), (10**3, "µs")):
        if span >= 0.4 * unit:
            return f"{decimal(nanoseconds, unit)} {name}"
    return f"{nanoseconds} ns"


def decimal(nanoseconds: int, unit: int) -> str:
    whole, rest = divmod(nanoseconds, unit)
    if not rest:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0")
