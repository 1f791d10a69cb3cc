"""Pools against multiprocessing, loky and (if it is installed) Ray; the executor against concurrent.futures.

    python benches/bench_pool.py [--rounds 3] [--only WORD] [--workers 2]

Each measurement is a process of its own, and contestants take turns, so that what else the machine does meets all of them.
Medians over the rounds; rates per second of wall time. A share says how much of what the machine can do at all is reached:
two serial loops, one round trip between two processes, a copy into memory that is in the cache, or into new memory.

Targets (2 workers): map 2.5 times multiprocessing or 65 % of the limit, single items 20 times, a call at most 20 µs, arrays 10
times and 2 times Ray, kept ones 2 times, skewed work 0.95 (one long item at the end: 0.72, and 0.75 is the bound), start and
stop no slower than multiprocessing, lazy input in constant memory.

Needs: pip install loky numpy
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pool_tasks as tasks

MIB = 1 << 20


class Contestant:
    """One face for all."""

    def __init__(self, name: str, workers: int) -> None:
        self.is_executor = name in ("loky", "futures", "executor")
        self.pool: Any = _open(name, workers)

    def map(self, function: Any, items: Any, chunk: int | None = None) -> list[Any]:
        if self.is_executor:
            return list(self.pool.map(function, items, chunksize=chunk or 1))
        return list(self.pool.map(function, items, chunk))

    def imap(self, function: Any, items: Iterable[Any], ordered: bool = True) -> Iterator[Any]:
        if not self.is_executor:
            return iter((self.pool.imap if ordered else self.pool.imap_unordered)(function, items, 1))
        if ordered:
            return iter(self.pool.map(function, items))
        from concurrent.futures import as_completed  # noqa: PLC0415

        return (
            future.result() for future in as_completed([self.pool.submit(function, item) for item in items])
        )

    def call(self, function: Any, item: Any) -> Any:
        if self.is_executor:
            return self.pool.submit(function, item).result()
        return self.pool.apply(function, (item,))

    def submit_all(self, function: Any, items: Iterable[Any]) -> int:
        if self.is_executor:
            return len([future.result() for future in [self.pool.submit(function, item) for item in items]])
        return len([result.get() for result in [self.pool.apply_async(function, (item,)) for item in items]])

    def close(self) -> None:
        if self.is_executor:
            self.pool.shutdown()
        else:
            self.pool.close()
            self.pool.join()


def _open(name: str, workers: int) -> Any:
    if name == "coterie":
        from coterie import Pool  # noqa: PLC0415

        return Pool(workers)
    if name == "executor":
        from coterie import Executor  # noqa: PLC0415

        return Executor(workers)
    if name == "multiprocessing":
        return get_context("fork").Pool(workers)
    if name == "futures":
        from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415

        return ProcessPoolExecutor(workers, mp_context=get_context("fork"))
    if name == "loky":
        import loky  # noqa: PLC0415

        return loky.ProcessPoolExecutor(workers)
    import ray.util.multiprocessing  # noqa: PLC0415

    return ray.util.multiprocessing.Pool(workers)


def timed(body: Callable[..., object], *arguments: object) -> float:
    gc.collect()
    start = time.perf_counter()
    body(*arguments)
    return time.perf_counter() - start


def rate(run: Callable[[int], object], most: int, budget: float = 1.0) -> float:
    """Items a second: best of three at a count that takes about `budget` seconds."""
    count = 300
    run(count)
    while count < most:
        spent = timed(run, count)
        if spent > budget / 3:
            break
        count = min(most, max(2 * count, int(count * budget / max(spent, 1e-6) / 4)))
    return max(count / timed(run, count) for _ in range(3))


def read(array: Any) -> None:
    assert float(array[::512].sum()) > 0  # a page that nobody touches was not delivered


# Workloads: a figure for one contestant.


def map_default(pool: Contestant) -> float:
    return rate(lambda count: pool.map(tasks.square, range(count)), 1_000_000)


def map_single(pool: Contestant) -> float:
    return rate(lambda count: pool.map(tasks.square, range(count), 1), 1_000_000)


def unordered(pool: Contestant) -> float:
    return rate(lambda count: sum(1 for _ in pool.imap(tasks.square, range(count), ordered=False)), 1_000_000)


def submitted(pool: Contestant) -> float:
    return rate(lambda count: pool.submit_all(tasks.square, range(count)), 200_000)


def call(pool: Contestant) -> float:
    """Microseconds, the median."""
    times = []
    end = time.perf_counter() + 3
    for _ in range(50):
        pool.call(tasks.square, 3)
    while len(times) < 3000 and time.perf_counter() < end:
        start = time.perf_counter()
        pool.call(tasks.square, 3)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def arrays(function: Any, mebibytes: int, ways: int, sends: bool) -> Callable[[Contestant], float]:
    """Gigabytes a second, both ways counted; each result is dropped before the next."""

    def run(pool: Contestant) -> float:
        length = mebibytes * MIB
        items: list[Any] = [np.ones(length // 8) for _ in range(8)] if sends else [length] * 8

        def through(count: int) -> None:
            for result in pool.imap(function, (items[place % 8] for place in range(count))):
                if function is not tasks.first:
                    read(result)

        count = max(16, 256 // mebibytes)
        through(8)
        return max(ways * count * length / timed(lambda: through(count)) / 1e9 for _ in range(3))

    return run


def kept(pool: Contestant) -> float:
    length = 16 * MIB
    pool.map(tasks.fresh, [length] * 4, 1)

    def through() -> None:
        for result in pool.map(tasks.fresh, [length] * 16, 1):
            read(result)

    return max(16 * length / timed(through) / 1e9 for _ in range(3))


def skew(lengths: list[float]) -> Callable[[Contestant], float]:
    """The shortest time that two workers could need, in what they need."""

    def run(pool: Contestant) -> float:
        ideal = max(sum(lengths) / 2, *lengths)
        pool.map(tasks.square, range(4))
        return max(ideal / timed(lambda: pool.map(tasks.sleep, lengths)) for _ in range(3))

    return run


def lazily(pool: Contestant) -> float:
    """MiB that the peak of this process grows by, for a million items of a generator."""
    for _ in pool.imap(tasks.square, iter(range(10_000))):
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 1_000_000 if not pool.is_executor else 100_000
    for _ in pool.imap(tasks.square, (number for number in range(count))):
        pass
    return max(0.1, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 * 1_000_000 / count)


START = """
import time; start = time.perf_counter()
import sys; sys.path.insert(0, {folder!r})
import pool_tasks, bench_pool
began = time.perf_counter()
if __name__ == "__main__":
    pool = bench_pool.Contestant({name!r}, {workers})
    assert pool.map(pool_tasks.square, range(2), 1) == [0, 1]
    pool.close()
    print((time.perf_counter() - began) * 1e3)
"""


def start_and_stop(name: str, workers: int) -> float:
    """Milliseconds to import, to start, for a first result and to stop, in an interpreter that has loaded NumPy."""
    folder = str(Path(__file__).resolve().parent)
    code = START.format(folder=folder, name=name, workers=workers)
    # What is installed is compiled; a folder of sources would be compiled at each start if it may not be written down.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def once() -> float:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return float(done.stdout)

    once()
    return statistics.median(once() for _ in range(7))


# What the machine can do.


def two_loops() -> float:
    return max(2 * 1_000_000 / timed(lambda: list(map(tasks.square, range(1_000_000)))) for _ in range(3))


def round_trip() -> float:
    """Microseconds between two processes that sleep on pipes: what waking up costs, twice."""
    there, back = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        while os.read(there[0], 1) != b"x":
            os.write(back[1], b"y")
        os._exit(0)
    times = []
    for _ in range(3000):
        start = time.perf_counter()
        os.write(there[1], b"y")
        os.read(back[0], 1)
        times.append(time.perf_counter() - start)
    os.write(there[1], b"x")
    os.waitpid(child, 0)
    return statistics.median(times) * 1e6


def warm_copy(mebibytes: int) -> Callable[[], float]:
    def run() -> float:
        source, target = np.ones(mebibytes * MIB // 8), np.ones(mebibytes * MIB // 8)
        return max(mebibytes * MIB / timed(lambda: np.copyto(target, source)) / 1e9 for _ in range(30))

    return run


def new_copy() -> float:
    source = np.ones(16 * MIB // 8)
    return max(16 * 16 * MIB / timed(lambda: [source.copy() for _ in range(16)]) / 1e9 for _ in range(5))


LIMITS: dict[str, Callable[[], float]] = {
    "two serial loops": two_loops,
    "a round trip": round_trip,
    "warm copy 1 MB": warm_copy(1),
    "warm copy 16 MB": warm_copy(16),
    "new memory": new_copy,
}

POOLS = ("coterie", "multiprocessing", "loky", "ray")
EXECUTORS = ("executor", "futures", "loky")
# The workload, its unit, whether less is better, its limit, who takes part.
WORK: dict[str, tuple[Callable[[Contestant], float] | None, str, bool, str | None, tuple[str, ...]]] = {
    "map, default chunks": (map_default, "/s", False, "two serial loops", POOLS),
    "map, chunksize=1": (map_single, "/s", False, "two serial loops", POOLS),
    "imap_unordered": (unordered, "/s", False, "two serial loops", POOLS),
    "apply, p50": (call, "µs", True, "a round trip", POOLS),
    "1 MB in": (arrays(tasks.first, 1, 1, True), "GB/s", False, "warm copy 1 MB", POOLS),
    "1 MB in and out": (arrays(tasks.plus_one, 1, 2, True), "GB/s", False, "warm copy 1 MB", POOLS),
    "1 MB out": (arrays(tasks.same, 1, 1, False), "GB/s", False, "warm copy 1 MB", POOLS),
    "16 MB in": (arrays(tasks.first, 16, 1, True), "GB/s", False, "warm copy 16 MB", POOLS),
    "16 MB in and out": (arrays(tasks.plus_one, 16, 2, True), "GB/s", False, "warm copy 16 MB", POOLS),
    "16 MB out, new each time": (arrays(tasks.fresh, 16, 1, False), "GB/s", False, "warm copy 16 MB", POOLS),
    "16 MB out, all kept": (kept, "GB/s", False, "new memory", POOLS),
    "skew_block": (skew([0.04] * 40 + [0.002] * 360), "", False, None, POOLS),
    "skew_tail": (skew([0.002] * 360 + [0.04] * 40), "", False, None, POOLS),
    "skew_one": (skew([0.001] * 999 + [0.5]), "", False, None, POOLS),
    "start, first result, stop": (None, "ms", True, None, POOLS),
    "lazy input of 10⁶ items": (lazily, "MiB", True, None, POOLS),
    "Executor: submit, p50": (call, "µs", True, "a round trip", EXECUTORS),
    "Executor: submit all, then all results": (submitted, "/s", False, "two serial loops", EXECUTORS),
    "Executor: map": (map_single, "/s", False, "two serial loops", EXECUTORS),
}


def measure(work: str, name: str, workers: int) -> float:
    body = WORK[work][0]
    if body is None:
        return start_and_stop(name, workers)
    pool = Contestant(name, workers)
    figure = body(pool)
    pool.close()
    return figure


def apart(*words: str) -> float | None:
    """One measurement, in a process of its own."""
    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        print(f"  {' '.join(words)}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return float(json.loads(done.stdout.splitlines()[-1]))


def is_there(name: str) -> bool:
    return name in ("coterie", "executor", "multiprocessing", "futures") or bool(
        importlib.util.find_spec(name)
    )


def show(figure: float, unit: str) -> str:
    if figure >= 1e5:
        return f"{figure / 1e6:.2f} M{unit}"
    if figure >= 1000:
        return f"{figure / 1e3:.1f} k{unit}"
    return f"{figure:.3g} {unit}".strip()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--only", default="", help="only workloads with this in their name")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments.add_argument("--limit", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure, options.workers)))
        return
    if options.limit:
        print(json.dumps(LIMITS[options.limit]()))
        return
    print(f"{options.workers} workers, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
    for work in WORK:
        if options.only in work:
            print(line(work, contest(work, options.rounds, options.workers)), flush=True)
    print(f"load {os.getloadavg()[0]:.1f}")


def contest(work: str, rounds: int, workers: int) -> dict[str, float]:
    """Medians of the contestants, which take turns, and of what the machine can do."""
    figures: dict[str, list[float]] = {}
    *_, limit, names = WORK[work]
    for _ in range(rounds):
        for name in filter(is_there, names):
            found = apart("--measure", work, name, "--workers", str(workers))
            figures.setdefault(name, []).extend([] if found is None else [found])
        if limit:
            found = apart("--limit", limit)
            figures.setdefault("limit", []).extend([] if found is None else [found])
    return {name: statistics.median(found) for name, found in figures.items() if found}


def line(work: str, medians: dict[str, float]) -> str:
    _, unit, less, limit, names = WORK[work]
    ours = medians[names[0]]
    parts = [f"{work:40} {show(ours, unit):>12}"]
    for name, figure in medians.items():
        ratio = figure / ours if less else ours / figure
        if name == "limit":
            parts.append(f"{ratio:.0%} of {limit} ({show(figure, unit)})")
        elif name != names[0]:
            parts.append(f"{ratio:.2f}× {name} ({show(figure, unit)})")
    return " · ".join(parts)


if __name__ == "__main__":
    main()
