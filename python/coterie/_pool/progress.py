"""How far a map is, for who watches."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, Protocol

# How often the bar looks, in seconds.
INTERVAL = 0.1

Watcher = Callable[[int, "int | None"], object]


class Bar(Protocol):
    """What is told of a map while somebody waits for it."""

    def to(self, done: int) -> None:
        """So many items are finished."""

    def close(self) -> None:
        """No more will be told."""


def bar(wish: bool | Watcher, total: int | None, name: str | None) -> Bar | None:
    """What the user wished for: a callable is told, True draws a bar (tqdm's when it is there)."""
    if callable(wish):
        return _Told(wish, total)
    if not wish:
        return None
    try:
        with warnings.catch_warnings():
            # In a notebook without widgets it draws with characters, and need not say why.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - optional

            class Quiet(tqdm):  # type: ignore[misc,unused-ignore]
                """Without the thread that tqdm starts to look after bars: a process with threads is not forked."""

                monitor_interval = 0

            return _Drawn(Quiet(total=total, desc=name))
    except ImportError:
        return _Line(total, name)


class _Told:
    def __init__(self, watcher: Watcher, total: int | None) -> None:
        self._watcher, self._total = watcher, total
        self._done = -1

    def to(self, done: int) -> None:
        if done > self._done:
            self._done = done
            self._watcher(done, self._total)

    def close(self) -> None:
        pass


class _Drawn:
    def __init__(self, drawn: Any) -> None:
        self._drawn = drawn

    def to(self, done: int) -> None:
        self._drawn.update(done - self._drawn.n)

    def close(self) -> None:
        self._drawn.close()


class _Line:
    """A line on the standard error that is written over; where that is no terminal, only at the end."""

    def __init__(self, total: int | None, name: str | None) -> None:
        self._total, self._name = total, name or "pool"
        self._began = time.monotonic()
        self._done = 0
        self._closed = False

    def to(self, done: int) -> None:
        self._done = done
        if sys.stderr.isatty():
            sys.stderr.write("\r" + self._text())
            sys.stderr.flush()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        start = "\r" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{start}{self._text()}\n")
        sys.stderr.flush()

    def _text(self) -> str:
        of = "" if self._total is None else f"/{self._total:,}"
        return f"{self._name}: {self._done:,}{of} in {time.monotonic() - self._began:.1f} s"
