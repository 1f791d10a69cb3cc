"""What a pool has done, and is doing."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SECOND = 1e9


@dataclass(frozen=True)
class WorkerStats:
    """One worker: its process, and the share of the pool's life in which it worked."""

    pid: int
    busy: float


@dataclass(frozen=True)
class PoolStats:
    """What `Pool.stats` tells: counts, and where time went, in seconds.

    Times of workers are theirs together, so with two workers they grow by up to two seconds a second. Items are not
    looked at one by one when they are short; then their time is parted as in those that were. Bytes to and from workers
    are those of messages: large buffers, which are not sent, are in the shared memory, if somebody still looks at them.
    """

    name: str
    age: float
    done: int
    waiting: int
    workers: tuple[WorkerStats, ...]
    started: int
    deaths: int
    bytes_to_workers: int
    bytes_from_workers: int
    memory_limit: int
    memory_used: int
    user_code: float
    pickling: float
    transport: float

    @property
    def busy(self) -> float:
        """The share of the pool's life in which its workers worked, on average."""
        if not self.workers:
            return 0.0
        return sum(worker.busy for worker in self.workers) / len(self.workers)

    def __repr__(self) -> str:
        rows = "".join(f"\n  {title}: {text}" for title, text in self._rows())
        return f"<{self.name}: {self.done:,} items done, {self.waiting:,} waiting{rows}>"

    def _repr_html_(self) -> str:
        rows = [("done", f"{self.done:,} items"), ("waiting", f"{self.waiting:,} items"), *self._rows()]
        cells = "".join(
            f"<tr><th>{html.escape(title)}</th><td>{html.escape(text)}</td></tr>" for title, text in rows
        )
        return f"<table><caption>{html.escape(self.name)}</caption>{cells}</table>"

    def _rows(self) -> list[tuple[str, str]]:
        each = ", ".join(f"{worker.pid or 'thread'} {worker.busy:.0%}" for worker in self.workers)
        return [
            ("age", f"{self.age:.1f} s"),
            ("workers", f"{len(self.workers)}, busy: {each or 'none'}"),
            ("started", f"{self.started}, of which {self.deaths} died"),
            ("user code", f"{self.user_code:.3f} s"),
            ("pickling", f"{self.pickling:.3f} s"),
            ("transport", f"{self.transport:.3f} s"),
            ("shared memory", f"{self.memory_used:,} of {self.memory_limit:,} bytes"),
            ("bytes", f"{self.bytes_to_workers:,} to workers, {self.bytes_from_workers:,} back"),
        ]


def read(told: Mapping[str, Any], name: str) -> PoolStats:
    """From what the pool's core tells, which counts nanoseconds."""
    age = max(told["seconds"], 1e-9)
    load, call, dump = told["spent"]
    workers = tuple(WorkerStats(pid, min(1.0, sum(spent) / _SECOND / age)) for pid, spent in told["workers"])
    return PoolStats(
        name=name,
        age=told["seconds"],
        done=told["done"],
        waiting=told["waiting"],
        workers=workers,
        started=told["started"],
        deaths=told["deaths"],
        bytes_to_workers=told["traffic"][0],
        bytes_from_workers=told["traffic"][1],
        memory_limit=told["memory"][0],
        memory_used=told["memory"][1],
        user_code=call / _SECOND,
        pickling=(load + dump + told["encoding"] + told["decoding"]) / _SECOND,
        transport=told["pumping"] / _SECOND,
    )
