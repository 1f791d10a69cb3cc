"""What a task finds around it: random numbers, context variables, how many threads a numeric library may use."""

from __future__ import annotations

import contextvars
import multiprocessing
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from coterie import ConfigError, Pool

METHODS = ["fork", "spawn", "forkserver"]


def draw(_: int) -> tuple[float, float]:
    return random.random(), float(np.random.random())  # noqa: NPY002 - the global one is meant


def draws(workers: int, seed: int | None, method: str | None = None) -> list[list[Any]]:
    context = multiprocessing.get_context(method) if method else None
    with Pool(workers, seed=seed, context=context) as pool:
        return [
            pool.map(draw, range(20)),
            list(pool.imap(draw, range(20))),
            pool.starmap(lambda *_: draw(0), [(1, 2)] * 5),
            [pool.apply(draw, (0,)) for _ in range(3)],
            [pool.apply_async(lambda a, b: draw(a + b), (1,), {"b": 2}).get(60)],
        ]


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_gives_the_same_numbers_whoever_works(method: str) -> None:
    first = draws(1, 7)
    assert draws(3, 7, method) == first
    assert draws(2, 8) != first
    every = [pair for part in first for pair in part]
    assert len(set(every)) == len(every), "each item of each call has numbers of its own"


def test_a_seed_survives_the_deaths_of_workers(tmp_path: Path) -> None:
    def dies_once(x: int) -> float:
        number = random.random()
        mark = tmp_path / str(x)
        if x % 5 == 2 and not mark.exists():
            mark.touch()
            os._exit(1)
        return number

    with Pool(2, seed=3) as calm:
        expected = calm.map(lambda _: random.random(), range(20))
    with Pool(2, seed=3, retries=1) as pool:
        assert pool.map(dies_once, range(20)) == expected


def test_without_a_seed_workers_draw_different_numbers() -> None:
    np.random.seed(5)  # noqa: NPY002 - forked workers would all go on from here
    random.seed(5)
    with Pool(4) as pool:
        every = pool.map(lambda x: (draw(x), os.getpid()), range(400), 1)
    first: dict[int, Any] = {}
    for pair, pid in every:
        first.setdefault(pid, pair)
    assert len({pair for pair, _ in every}) == 400
    assert len(set(first.values())) == len(first)


def test_a_seed_is_refused_where_it_could_not_hold() -> None:
    with pytest.raises(ConfigError, match="threads share"):
        Pool(1, backend="thread", seed=1)


def blas_threads(_: int) -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.parametrize("method", METHODS)
def test_numeric_libraries_share_the_processors_among_the_workers(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.endswith(("_NUM_THREADS", "_MAXIMUM_THREADS"))]:
        monkeypatch.delenv(name)
    before = blas_threads(0)
    assert before
    context = multiprocessing.get_context(method)
    with Pool(2, context=context) as pool:
        assert pool.apply(os.getenv, ("OMP_NUM_THREADS",)) is not None
        assert pool.apply(blas_threads, (0,)) == {max(1, len(os.sched_getaffinity(0)) // 2)}
    with Pool(2, context=context, blas_threads=3) as pool:
        assert pool.apply(os.getenv, ("OMP_NUM_THREADS",)) == "3"
    with Pool(2, context=context, blas_threads=0) as pool:
        assert pool.apply(os.getenv, ("OMP_NUM_THREADS",)) is None
        assert pool.apply(blas_threads, (0,)) == before
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    with Pool(2, context=context) as pool:
        assert pool.apply(os.getenv, ("OMP_NUM_THREADS",)) is None, "who has set one has decided"
    assert blas_threads(0) == before, "this process is left alone"
    with pytest.raises(ConfigError, match="blas_threads"):
        Pool(1, blas_threads=-1)


def test_threads_see_the_context_of_the_caller_and_change_only_a_copy() -> None:
    language = contextvars.ContextVar("language", default="none")

    def speak(word: str) -> str:
        before = language.get()
        language.set(word)
        return before

    with Pool(2, backend="thread") as pool:
        language.set("German")
        assert pool.map(speak, ["a", "b", "c"] * 50) == ["German"] * 150
        assert list(pool.imap(speak, "abc")) == ["German"] * 3
        language.set("Latin")
        assert pool.apply(speak, ("x",)) == "Latin"
        assert pool.apply_async(speak, ("x",)).get(10) == "Latin"
        assert pool.starmap(lambda *words: language.get(), [("a", "b")]) == ["Latin"]
    assert language.get() == "Latin"


def test_what_a_pool_may_never_need_is_not_imported_to_start_one() -> None:
    program = """
import sys
import coterie
with coterie.Pool(2) as pool:
    assert pool.map(abs, [-1, -2]) == [1, 2]
slow = {"cloudpickle", "multiprocessing.pool", "multiprocessing.spawn", "pathlib", "dataclasses", "hashlib", "numpy", "asyncio"}
print(sorted(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", done.stderr
