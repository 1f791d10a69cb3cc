"""Workers are killed at random while tasks run: each result arrives once, in its place, or its error does.

``COTERIE_SOAK_SECONDS=60`` (``make soak-pool``) lets it run for a minute, which is a million tasks; by default it is short.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any, Self

import pytest

from coterie import Pool, WorkerDiedError
from coterie._pool.results import AsyncResult

SECONDS = float(os.environ.get("COTERIE_SOAK_SECONDS", "8"))


def work(x: int) -> int:
    """Most items take microseconds; some take so long that others must not wait behind them."""
    if x % 5_000 == 17:
        time.sleep(0.005)
    return 3 * x


class Killer:
    """Kills a worker now and then, whatever it does at that moment."""

    def __init__(self, pool: Pool, seed: int) -> None:
        self._pool, self._chance = pool, random.Random(seed)
        self._stop = threading.Event()
        self.killed = 0
        self._thread = threading.Thread(target=self._kill)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _kill(self) -> None:
        while not self._stop.wait(self._chance.uniform(0.01, 0.2)):
            worker = self._chance.choice(self._pool._pool)
            if worker.is_alive():
                worker.kill()
                self.killed += 1


def outcomes(results: Iterator[int]) -> Iterator[int | WorkerDiedError]:
    """All that a lazy map answers; an item's error is an answer."""
    while True:
        try:
            yield next(results)
        except StopIteration:
            return
        except WorkerDiedError as error:
            yield error


def judge_ordered(answers: list[Any], size: int) -> int:
    assert len(answers) == size
    died = 0
    for index, answer in enumerate(answers):
        if isinstance(answer, WorkerDiedError):
            died += 1
            assert (answer.index, answer.signal) == (index, signal.SIGKILL)
        else:
            assert answer == 3 * index
    return died


def judge_unordered(answers: list[Any], size: int) -> int:
    indices = [
        answer.index if isinstance(answer, WorkerDiedError) else divmod(answer, 3)[0] for answer in answers
    ]
    doubled = [index for index, times in Counter(indices).items() if times > 1]
    assert not doubled
    assert sorted(indices) == list(range(size))
    return sum(isinstance(answer, WorkerDiedError) for answer in answers)


def judge_calls(calls: list[AsyncResult]) -> int:
    died = 0
    for x, call in enumerate(calls):
        try:
            assert call.get(60) == 3 * x
        except WorkerDiedError:  # its index counts all calls of the pool
            died += 1
    return died


@pytest.mark.timeout(120 + 2 * SECONDS)
@pytest.mark.parametrize("retries", [0, 1])
def test_each_result_arrives_once_in_its_place_while_workers_are_killed(retries: int) -> None:
    end = time.monotonic() + SECONDS / 2
    tasks = errors = 0
    with Pool(3, retries=retries) as pool, Killer(pool, seed=7) as killer:
        for number in count():
            size = 20_000
            if number % 3 == 0:
                errors += judge_ordered(list(outcomes(pool.imap(work, range(size)))), size)
            elif number % 3 == 1:
                errors += judge_unordered(list(outcomes(pool.imap_unordered(work, range(size)))), size)
            else:
                size = 2_000
                calls = [pool.apply_async(work, (x,)) for x in range(size)]
                errors += judge_calls(calls)
            tasks += size
            if time.monotonic() > end and number > 3:
                break
    print(f"{tasks:,} tasks, {killer.killed} workers killed, {errors} items failed")  # noqa: T201 - pytest -s shows it
    assert killer.killed > 0
    assert errors <= killer.killed / (retries + 1), "a death costs the item that ran, and no other"
