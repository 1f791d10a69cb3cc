"""What the command line of pytest says to `coterie.testing`. Imports nothing of ours, so that pytest starts quickly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coterie.sim import Faults


@dataclass
class Replay:
    """One world that is wanted again, and how it failed when it was."""

    seed: int
    faults: Faults | None
    seconds: float
    failure: BaseException | None = None


@dataclass
class Options:
    """Settings of one pytest session; these are those of a call without pytest."""

    seed: int | None = None
    seeds: int | None = None
    shrink: float | None = None
    artefacts: Path | None = None
    replay: Replay | None = None
    # What failures have left, for the summary.
    saved: list[Path] = field(default_factory=list)


current = Options()


def shown(folder: Path) -> str:
    """A path as somebody in the present folder would type it."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
