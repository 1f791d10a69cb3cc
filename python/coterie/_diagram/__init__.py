"""Space-time diagrams: what happened in a world, as SVG and for a terminal.

::

    rows ──► story.py: who lived, as what; messages, faults
               └──► choice.py: the most telling ones, and how many others
                      ├──► drawing.py: SVG
                      └──► terminal.py: text
"""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coterie._diagram import drawing, story, terminal
from coterie._diagram.choice import Choice, choose
from coterie.exceptions import ConfigError, UnknownNodeError

if TYPE_CHECKING:
    from coterie.sim import Trace

__all__ = ["Diagram"]


class Diagram:
    """A space-time diagram: processes as lines, time from left to right, messages as arrows.

    The colour of a line is its term, and whoever leads has a thick one. A line ends where its process crashes, and is
    hatched where it is paused. What is broken is a shaded band over the processes that it befalls. Messages that are
    lost end in a cross. What a message says stands beside it where there is room, and in its hover text.

    :meth:`World.plot` and :meth:`Trace.plot` make it. A notebook shows it; in light and in dark, and to people who see
    colours differently. ``print`` writes it for a terminal.

    Parameters
    ----------
    trace : Trace
        What happened.
    start, end, nodes, events, width, scale, step
        As in :meth:`Trace.plot`.

    Raises
    ------
    ConfigError
        A setting cannot work.
    UnknownNodeError
        One of the nodes is not in the trace.

    Notes
    -----
    Equal worlds give equal pictures, byte by byte. What has no place is counted: a strip under the lines shows when, and
    its caption how many. Never drawn are writes to the disk, hints about connections, and alarms that are set or
    forgotten.

    Examples
    --------
    >>> from coterie import raft, sim
    >>> world = sim.World(raft.Node, members=3, seed=7, record=True)
    >>> world.run(seconds=0.3)
    >>> diagram = world.plot(events=8)
    >>> diagram.svg[:4]
    '<svg'
    >>> print(diagram.text(width=64, ascii=True))
         seconds        n1            n2            n3
        0.002319         |             |             | PreCandida...
        0.002449         |<-----RequestPreVote-------|
        0.002482         |             |<RequestPreV-|
        0.002598         |--------PreVote yes------->|
        0.002598         |             |             | Candidate 1
        0.002614         |             |-PreVote yes>|
        0.002974         |<-------RequestVote--------|
        0.002974         | Follower 1  |             |
        0.003022         |             |<RequestVote-|
        0.003022         |             | Follower 1  |
        0.003171         |---------Vote yes--------->#
        0.003171         |             |             # Leader 1
        0.003450         |             |             # @ Stored
             ...  55 more, not shown
    """

    __module__ = "coterie.sim"

    def __init__(
        self,
        trace: Trace,
        *,
        start: float | None = None,
        end: float | None = None,
        nodes: Iterable[int] | None = None,
        events: int = 200,
        width: int | None = None,
        scale: Literal["events", "time"] = "events",
        step: int | None = None,
    ) -> None:
        if isinstance(events, bool) or not isinstance(events, int) or not 0 <= events <= 100_000:
            raise ConfigError(f"events is {events!r}; it must be an int from 0 to 100,000")
        if width is not None and (
            isinstance(width, bool) or not isinstance(width, int) or not 200 <= width <= 100_000
        ):
            raise ConfigError(f"width is {width!r}; it must be an int from 200 to 100,000")
        if scale not in ("events", "time"):
            raise ConfigError(f'scale is {scale!r}; it must be "events" or "time"')
        told = story.read(trace)
        shown = told.nodes if nodes is None else list(dict.fromkeys(node.__index__() for node in nodes))
        for node in shown:
            if node not in told.nodes:
                raise UnknownNodeError(f"there is no process {node} in this trace", node=node)
        start = told.start if start is None else float(start)
        mark = trace._violation  # noqa: SLF001 - users need not see in which form it is kept
        if end is None:
            # What is looked at now and then may be seen to be wrong after the last row.
            end = told.end if mark is None else max(told.end, mark[1])
        end = float(end)
        if not start <= end:
            raise ConfigError(f"start is {start!r} and end is {end!r}; nothing is between them")
        if step is not None:
            row = next((row for row in trace if row.step >= step), None)
            mark = None if row is None else (step, row.at, row.node or 0, f"step {step}")
        self._choice = choose(told, shown, start, end, events, mark)
        self._width, self._linear = width, scale == "time"

    @property
    def drawn(self) -> int:
        """How many messages, requests, answers, events and alarms are drawn."""
        return len(self._choice.drawn)

    @property
    def left_out(self) -> int:
        """How many more there are between the start and the end, which are only counted."""
        return len(self._choice.left_out)

    @property
    def svg(self) -> str:
        """The picture as a document of its own: valid XML, without scripts, fonts or links."""
        return drawing.draw(self._choice, self._width, linear=self._linear)

    def text(self, *, width: int = 100, ascii: bool = False) -> str:  # noqa: A002 - what it is
        """The terminal form: a column for each process, a line for each event.

        Parameters
        ----------
        width : int, default 100
            How many characters a line has at most; 40 or more.
        ascii : bool, default False
            Use no character that an old log could not show.

        Returns
        -------
        str
            Lines, without a line break at the end.
        """
        if isinstance(width, bool) or not isinstance(width, int) or not 40 <= width <= 10_000:
            raise ConfigError(f"width is {width!r}; it must be an int from 40 to 10,000")
        return terminal.write(self._choice, width, in_ascii=ascii)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the picture to a file.

        Parameters
        ----------
        path : path
            Ends in ``.svg``, ``.html`` or ``.txt``, which says as what.

        Returns
        -------
        pathlib.Path
            Where it is.

        Raises
        ------
        ConfigError
            The name ends otherwise.
        """
        path = Path(path)
        kind = path.suffix.lower()
        if kind == ".svg":
            text = drawing.draw(self._choice, self._width, linear=self._linear, alone=True)
        elif kind in {".html", ".htm"}:
            text = drawing.page(self._repr_html_())
        elif kind == ".txt":
            text = f"{self}\n"
        else:
            raise ConfigError(f"{path}: a picture is saved as .svg, .html or .txt")
        path.write_text(text, encoding="utf-8", newline="\n")
        return path

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x:auto">{self.svg}</div>'

    def _repr_svg_(self) -> str:
        return drawing.draw(self._choice, self._width, linear=self._linear, alone=True)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        choice: Choice = self._choice
        count = len(choice.nodes)
        processes = f"{count} process{'' if count == 1 else 'es'}"
        span = f"{choice.start:.6g} s to {choice.end:.6g} s"
        return f"<Diagram of {processes}, {span}: {self.drawn} of {self.drawn + self.left_out} events>"
