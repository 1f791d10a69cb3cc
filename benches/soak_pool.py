"""Ten million tasks on one pool: memory, descriptors and shared memory stay what they are.

    python benches/soak_pool.py [--tasks 10000000] [--workers 2]

Maps, lazy maps, single calls, arrays both ways and a worker that dies now and then, in turn. After a tenth of the tasks the
process and its workers have all that they need; from then on nothing may grow. It fails if descriptors do, or memory by
more than 5 % and 16 MiB, or if an answer is wrong.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pool_tasks as tasks

from coterie import Pool, WorkerDiedError

MIB = 1 << 20


def resident(process: int | str) -> float:
    """MiB of private memory: what is shared is counted by the pool."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    kinds = dict(line.split(":", 1) for line in status.splitlines())
    return int(kinds["RssAnon"].split()[0]) / 1024


def descriptors(process: int | str) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


class Figures:
    """What must not grow."""

    def __init__(self, pool: Pool) -> None:
        gc.collect()
        workers = [worker.pid for worker in pool._pool]  # noqa: SLF001 - as multiprocessing's
        self.memory = resident("self")
        self.workers = max(map(resident, workers))
        self.files = descriptors("self")
        self.worker_files = max(map(descriptors, workers))
        self.shared = pool.stats().memory_used

    def __str__(self) -> str:
        return (
            f"{self.memory:7.1f} MiB here, {self.workers:7.1f} in a worker, {self.files} and {self.worker_files} descriptors, "
            f"{self.shared / MIB:.1f} MiB shared"
        )

    def grew(self, since: Figures) -> list[str]:
        problems = []
        for what, now, then in (
            ("memory here", self.memory, since.memory),
            ("memory of a worker", self.workers, since.workers),
        ):
            if now > then * 1.05 + 16:
                problems.append(f"{what}: {then:.1f} → {now:.1f} MiB")
        for what, count, before in (
            ("descriptors here", self.files, since.files),
            ("descriptors of a worker", self.worker_files, since.worker_files),
            ("shared bytes", self.shared, since.shared),
        ):
            if count > before:
                problems.append(f"{what}: {before} → {count}")
        return problems


def turn(pool: Pool, number: int, drawn: random.Random) -> int:
    """Some tasks of one kind; how many."""
    kind = number % 6
    if kind in (0, 1):
        count = drawn.randrange(1, 200_000)
        assert pool.map(tasks.square, range(count))[-1] == (count - 1) ** 2
        return count
    if kind == 2:
        count = drawn.randrange(1, 100_000)
        assert sum(pool.imap_unordered(tasks.square, iter(range(count)))) == sum(n * n for n in range(count))
        return count
    if kind == 3:
        results = [pool.apply_async(tasks.square, (place,)) for place in range(5_000)]
        assert all(result.get() == place**2 for place, result in enumerate(results))
        return len(results)
    if kind == 4:
        arrays: list[Any] = [np.full(drawn.randrange(1, 200_000), 1.0) for _ in range(20)]
        assert all(
            result.sum() == 2 * result.size and result.size == array.size
            for array, result in zip(arrays, pool.map(tasks.plus_one, arrays), strict=True)
        )
        return len(arrays)
    if number % 60 == 5:
        try:
            pool.apply(os._exit, (3,))
        except WorkerDiedError:
            pass
        else:
            raise AssertionError("a worker that exits answers")
        return 1
    return len(pool.map(str, [str(place) * 10 for place in range(20_000)]))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--tasks", type=int, default=10_000_000)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    drawn = random.Random(options.seed)
    start, done, number, told = time.perf_counter(), 0, 0, 0
    settled: Figures | None = None
    with Pool(options.workers) as pool:
        while done < options.tasks:
            done += turn(pool, number, drawn)
            number += 1
            if done * 10 // options.tasks > told:
                told = done * 10 // options.tasks
                now = Figures(pool)
                settled = settled or now
                print(f"{done:>12,} tasks, {time.perf_counter() - start:6.1f} s: {now}", flush=True)
        problems = now.grew(settled) if settled else ["nothing was measured"]
        stats = pool.stats()
    print(f"{stats.deaths} workers died, as they were told to")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
