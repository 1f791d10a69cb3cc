"""The pool as a drop-in: what it answers is what the builtin map would, however it is asked."""

from __future__ import annotations

import enum
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import RemoteTraceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import coterie
from coterie import ConfigError, Pool, StoppedError
from coterie._pool import cpus

METHODS = ["fork", "spawn", "forkserver"]
BACKENDS: list[Any] = ["process", "thread"]


@pytest.fixture(scope="module", params=BACKENDS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(2, backend=request.param) as pool:
        yield pool


@pytest.fixture(scope="module")
def processes() -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool


class Colour(enum.IntEnum):
    RED = 1


class Number(int):
    pass


# What goes by its value must come back as what it was, and nothing else may be taken for it.
VALUES = [
    *[0, 1, -1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**200],
    *[True, False, Colour.RED, Number(7), None],
    *[0.0, -0.0, 1.5, float("inf"), 5e-324],
    *["", "abc", "Zürich", "\U0001f600", "\ud800", "nul\0", "x" * 100_000],
    *[b"", b"\0\xff", b"y" * 1_000_000, bytearray(b"z")],
    *[(), (1, "a"), [1, [2]], {"k": {1, 2}}, 1 + 2j, np.int64(3), np.float64(2.5)],
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_come_back_as_themselves(backend: Any) -> None:
    with Pool(2, backend=backend) as pool:
        returned = pool.map(lambda value: value, VALUES)
        assert [type(value) for value in returned] == [type(value) for value in VALUES]
        assert [repr(value) for value in returned] == [repr(value) for value in VALUES]


def test_arrays_come_back_writable(processes: Pool) -> None:
    [array] = processes.map(lambda array: array + 1, [np.zeros(1_000_000)])
    array += 1
    assert array.sum() == 2_000_000


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    items=st.lists(
        st.integers(-(2**70), 2**70) | st.text() | st.binary() | st.floats(allow_nan=False), max_size=300
    ),
    chunksize=st.none() | st.integers(1, 50),
)
def test_every_way_of_mapping_agrees_with_the_builtin(
    pool: Pool, items: list[Any], chunksize: int | None
) -> None:
    expected = list(map(repr, items))
    assert pool.map(repr, items, chunksize) == expected
    assert pool.map_async(repr, items, chunksize).get() == expected
    assert list(pool.imap(repr, items, chunksize or 1)) == expected
    assert sorted(pool.imap_unordered(repr, items, chunksize or 1)) == sorted(expected)
    pairs = [(item, position) for position, item in enumerate(items)]
    assert pool.starmap(lambda item, position: (position, item), pairs, chunksize) == list(enumerate(items))


def test_many_items_arrive_once_each_and_in_order(processes: Pool) -> None:
    count = 200_000
    assert processes.map(lambda x: x + 1, range(count)) == list(range(1, count + 1))
    assert list(processes.imap(lambda x: x + 1, range(count))) == list(range(1, count + 1))
    assert sorted(processes.imap_unordered(lambda x: x + 1, range(count))) == list(range(1, count + 1))


def test_items_larger_than_a_ring_arrive_among_small_ones(processes: Pool) -> None:
    items = [bytes([number]) * (1 << size) for number, size in enumerate([3, 20, 0, 23, 5, 18, 17, 1])]
    assert processes.map(lambda item: item, items) == items
    assert [len(result) for result in processes.imap(lambda item: item * 2, items)] == [
        2 * len(item) for item in items
    ]


def test_functions_larger_than_a_ring_arrive(processes: Pool) -> None:
    table = os.urandom(3_000_000)
    assert processes.map(lambda place: table[place], range(100)) == list(table[:100])


def test_a_function_is_sent_once_a_map(processes: Pool) -> None:
    class Counting:
        pickled = 0

        def __call__(self, x: int) -> int:
            return x

        def __reduce__(self) -> tuple[Any, ...]:
            Counting.pickled += 1
            return abs.__class__, (), None  # never used: what is pickled is replaced below

    def rebuilt() -> Callable[[int], int]:
        return lambda x: x

    Counting.__reduce__ = lambda self: (setattr(Counting, "pickled", Counting.pickled + 1), (rebuilt, ()))[1]  # type: ignore[method-assign,assignment,return-value]
    assert processes.map(Counting(), range(10_000)) == list(range(10_000))
    assert 1 <= Counting.pickled <= 2  # the plain pickler may have tried first


def test_apply_takes_arguments_and_keywords(pool: Pool) -> None:
    assert pool.apply(divmod, (17, 5)) == (3, 2)
    assert pool.apply(dict, (), {"a": 1}) == {"a": 1}
    assert pool.apply(int, ("ff",), {"base": 16}) == 255
    assert pool.apply(list, ((1, 2),)) == [1, 2]
    assert pool.apply(lambda *args, **kwds: (args, kwds)) == ((), {})


def test_many_single_calls_are_answered_each_by_its_own_result(pool: Pool) -> None:
    results = [pool.apply_async(pow, (number, 2)) for number in range(2_000)]
    others = [pool.apply_async(str, (number,)) for number in range(2_000)]
    assert [result.get() for result in reversed(results)] == [number**2 for number in reversed(range(2_000))]
    assert [other.get() for other in others] == [str(number) for number in range(2_000)]


def test_callbacks_are_called_before_the_result_is_ready(pool: Pool) -> None:
    seen: list[Any] = []
    result = pool.apply_async(abs, (-3,), callback=seen.append)
    assert result.get(10) == 3
    assert seen == [3]
    result = pool.map_async(abs, [-1, -2], callback=seen.append)
    result.wait(10)
    assert result.successful()
    assert seen == [3, [1, 2]]
    failed = pool.apply_async(int, ("x",), error_callback=seen.append)
    with pytest.raises(ValueError, match="invalid literal"):
        failed.get(10)
    assert isinstance(seen[-1], ValueError)
    assert not failed.successful()


def test_a_result_that_is_not_there_times_out(pool: Pool) -> None:
    result = pool.apply_async(time.sleep, (0.5,))
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    assert result.get(10) is None


def test_lazy_results_time_out_and_then_arrive(pool: Pool) -> None:
    results = pool.imap(lambda seconds: time.sleep(seconds) or seconds, [0.3])
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(0.01)
    assert results.next(10) == 0.3


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_a_lazy_map_of_an_endless_input_draws_only_what_is_needed(pool: Pool, name: str) -> None:
    drawn = itertools.count()
    results = getattr(pool, name)(lambda x: x, drawn)
    taken = list(itertools.islice(results, 10))
    assert len(taken) == 10
    time.sleep(0.1)
    assert next(drawn) < 200
    for _ in itertools.islice(results, 20_000):
        pass
    assert next(drawn) < 20_010 + 4 * 32_768


def test_a_lazy_map_goes_on_after_an_items_exception(pool: Pool) -> None:
    results = pool.imap(lambda x: 10 // x, [5, 0, 2])
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results) == 5
    with pytest.raises(StopIteration):
        next(results)


def test_an_input_that_raises_half_way_raises_in_its_place(pool: Pool) -> None:
    def numbers() -> Iterator[int]:
        yield from range(7)
        raise LookupError("no more")

    for chunksize, complete in [(1, 7), (2, 6), (4, 4)]:
        results = pool.imap(abs, numbers(), chunksize)
        assert list(itertools.islice(results, complete)) == list(range(complete))
        with pytest.raises(LookupError, match="no more"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
    with pytest.raises(LookupError):
        pool.map(abs, numbers())
    assert pool.map(abs, [-1]) == [1]


def test_join_waits_for_lazy_maps_too() -> None:
    pool = Pool(2)
    results = pool.imap(abs, range(-5_000, 0))
    pool.close()
    pool.join()
    assert list(results) == list(range(5_000, 0, -1))
    with pytest.raises(ValueError, match="not running"):
        pool.map(abs, [1])


def test_a_terminated_pool_answers_with_an_error_and_never_hangs() -> None:
    pool = Pool(2)
    result = pool.map_async(time.sleep, [60] * 10)
    results = pool.imap(time.sleep, [60] * 10)
    began = time.monotonic()
    pool.terminate()
    pool.join()
    with pytest.raises(StoppedError):
        result.get(5)
    with pytest.raises(StoppedError):
        next(results)
    assert time.monotonic() - began < 5


def test_long_items_do_not_hold_up_short_ones(processes: Pool) -> None:
    # Were short items left behind the long one, this would take twice as long.
    began = time.monotonic()
    processes.map(time.sleep, [0.0001] * 50 + [0.6] + [0.01] * 50)
    assert time.monotonic() - began < 1.1


def test_one_pool_serves_many_threads(pool: Pool) -> None:
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        answers[number] = [pool.map(lambda x: x * number, range(500)), pool.apply(abs, (-number,))]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {number: [[x * number for x in range(500)], number] for number in range(8)}


@pytest.mark.parametrize("method", METHODS)
def test_every_start_method_runs_lambdas_and_closures(method: str) -> None:
    offset = 100
    with Pool(2, context=multiprocessing.get_context(method)) as pool:
        assert pool.map(lambda x: x + offset, range(5)) == [100, 101, 102, 103, 104]
        names = {pool.apply(lambda: multiprocessing.current_process().name) for _ in range(20)}
        assert all("PoolWorker" in name for name in names)
        assert pool.apply(lambda: multiprocessing.parent_process().pid) == os.getpid()  # type: ignore[union-attr]
        assert not pool.apply(lambda: multiprocessing.current_process().daemon)


@pytest.mark.parametrize("method", METHODS)
def test_locks_reach_workers_through_initargs(method: str) -> None:
    context = multiprocessing.get_context(method)
    counter = context.Value("i", 0)

    def begin(shared: Any) -> None:
        sys.shared = shared  # type: ignore[attr-defined]

    def count(step: int) -> None:
        with sys.shared.get_lock():  # type: ignore[attr-defined]
            sys.shared.value += step  # type: ignore[attr-defined]

    with Pool(2, begin, (counter,), context=context) as pool:
        pool.map(count, range(100), 1)
    assert counter.value == 4950


def test_a_process_with_threads_gets_workers_from_a_new_interpreter() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with Pool(2) as pool:
            assert pool.map(lambda x: x + 1, range(3)) == [1, 2, 3]
            assert pool.apply(threading.active_count) == 1
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_workers_are_replaced_after_the_tasks_that_they_may_do(seconds: float) -> None:
    with Pool(2, maxtasksperchild=1) as pool:
        workers = pool.map(lambda _: (time.sleep(seconds), os.getpid())[1], range(12), 3)
    assert len(set(workers)) == 4
    assert all(len(set(workers[start : start + 3])) == 1 for start in range(0, 12, 3))


def test_settings_that_are_wrong_are_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Pool(0)
    with pytest.raises(ValueError, match="positive int"):
        Pool(1, maxtasksperchild=0)
    with pytest.raises(TypeError, match="callable"):
        Pool(1, initializer=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="engine"):
        Pool(1, engine="ray://")
    with pytest.raises(ConfigError, match="backend"):
        Pool(1, backend="fiber")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a thread cannot be ended"):
        Pool(1, backend="thread", task_timeout=1)
    for wrong in [{"retries": -1}, {"task_timeout": 0.0}, {"task_timeout": float("nan")}]:
        with pytest.raises(ConfigError):
            Pool(1, **wrong)  # type: ignore[arg-type]


def test_the_default_size_is_what_affinity_and_control_group_allow(tmp_path: Path) -> None:
    with Pool() as pool:
        assert len(pool._pool) == cpus.available() <= len(os.sched_getaffinity(0))
    membership = tmp_path / "cgroup"
    membership.write_text("0::/a/b\n")
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    root = tmp_path / "root"
    assert cpus._quota(str(root), str(membership)) is None
    (root / "a" / "cpu.max").write_text("150000 100000\n")
    (root / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert cpus._quota(str(root), str(membership)) == 1.5


@pytest.mark.parametrize("platform", ["freebsd14", "win32"])
def test_where_there_is_no_pool_it_says_so_when_it_is_called(platform: str) -> None:
    program = f"""
import asyncio, concurrent.futures, multiprocessing, sys
sys.platform = {platform!r}
sys.modules["coterie._coterie"] = None
from coterie import Executor, Outcome, Pool, TaskTimeoutError, aio, ConfigError
for make in (Pool, Executor, aio.Pool, lambda: Pool(2, backend="thread")):
    try:
        make()
    except ConfigError as error:
        print(str(error)[:40])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names = ["Pool", "Executor", "Pool", "Pool"]
    assert done.stdout.splitlines() == [
        f"coterie.{name} needs Linux or macOS, with backend"[:40] for name in names
    ]


def test_importing_the_package_loads_no_pool() -> None:
    program = "import coterie, sys; assert 'coterie._pool' not in sys.modules; coterie.Pool"
    subprocess.run([sys.executable, "-c", program], check=True)


SCRIPT = """
import coterie, multiprocessing, os, sys
FACTOR = 1

def early(x):
    return x * FACTOR

class Thing:
    def __init__(self, x):
        self.x = x

def begin(value):
    global FACTOR
    FACTOR = value

if __name__ == "__main__":
    def late(x):
        return Thing(early(x.x) + 1)
    with coterie.Pool(2, begin, (3,), context={context}) as pool:
        print(pool.map(early, range(4)))
        print([thing.x for thing in pool.map(late, map(Thing, range(4)))])
"""


def leave_a_file(folder: Path) -> None:
    (folder / str(os.getpid())).touch()


def test_a_pool_that_is_closed_at_once_runs_the_initializer_of_each_worker(tmp_path: Path) -> None:
    with Pool(3, leave_a_file, (tmp_path,)) as pool:
        pool.close()
        pool.join()
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("method", METHODS)
def test_functions_of_a_script_share_its_globals_with_the_initializer(method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(context=f"multiprocessing.get_context({method!r})"))
    said = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    assert said[0] == "[0, 3, 6, 9]"
    # What stands under the guard exists in no spawned worker and goes by its value; what it calls is found by name.
    assert said[1] == "[1, 4, 7, 10]"


@pytest.mark.parametrize("method", METHODS)
def test_a_program_from_standard_input_runs(method: str) -> None:
    program = SCRIPT.format(context=f"multiprocessing.get_context({method!r})")
    said = subprocess.run(
        [sys.executable, "-"], input=program, capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    assert len(said) == 2


def test_results_are_dropped_with_their_last_reference(processes: Pool) -> None:
    for _ in range(3):
        processes.map_async(abs, range(1000))
        processes.apply_async(abs, (1,))
        next(processes.imap(abs, range(1000)))
    assert processes.map(abs, [-1]) == [1]


def test_the_pool_prints_itself(processes: Pool) -> None:
    assert repr(processes) == "<coterie._pool.pool.Pool state=RUN pool_size=2>"
    assert coterie.Pool is Pool


@pytest.mark.parametrize(
    "items",
    [
        range(0),
        range(5, -70_000, -3),
        range(2**63 - 3, 2**63 + 3),
        range(-(2**70), -(2**70) + 4),
        tuple(range(10)),
        [0, True, 1.5, None, -(2**63), 2**63, "text", float("inf")],
        {"keys": 1, "of": 2},
    ],
)
def test_maps_take_whatever_has_a_length(items: Any) -> None:
    with Pool(2) as pool:
        found = pool.map(repr, items)
        assert found == [repr(item) for item in items]
        assert pool.map_async(repr, items).get() == found


class Liar:
    """Says that it has another length than it has."""

    def __init__(self, says: int, has: int) -> None:
        self.says, self.has = says, has

    def __len__(self) -> int:
        return self.says

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.has))


@pytest.mark.parametrize(("says", "has"), [(3, 5), (5, 3), (0, 2), (2, 0)])
def test_an_input_need_not_have_the_length_that_it_says(says: int, has: int) -> None:
    with Pool(2) as pool:
        assert pool.map(abs, Liar(says, has)) == list(range(has))


def test_an_input_that_raises_half_way_fails_the_map_and_nothing_else() -> None:
    class Raises(Liar):
        def __iter__(self) -> Iterator[int]:
            yield from range(1000)
            raise ZeroDivisionError("half-way")

    with Pool(2) as pool:
        with pytest.raises(ZeroDivisionError, match="half-way"):
            pool.map(abs, Raises(2000, 0))
        assert pool.map(abs, [-1]) == [1]


def test_the_first_failure_that_comes_is_the_maps() -> None:
    with Pool(1) as pool:
        with pytest.raises(ZeroDivisionError) as caught:
            pool.map(_one_over, [1, 0, 2, "text"])
        assert isinstance(caught.value.__cause__, RemoteTraceback)


def _one_over(x: Any) -> float:
    return 1 / x


def test_many_threads_map_at_the_same_time() -> None:
    with Pool(2) as pool, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda start: pool.map(abs, range(-start, 0)), range(0, 40_000, 2_500)))
    assert [len(values) for values in found] == list(range(0, 40_000, 2_500))
    assert all(values == list(range(len(values), 0, -1)) for values in found)


def test_a_map_that_never_waits_lets_signals_and_threads_in() -> None:
    heard: list[float] = []
    ticked = []

    def tick() -> None:
        while not heard:
            ticked.append(time.monotonic())
            time.sleep(0.01)

    def hear(*_: object) -> None:
        heard.append(time.monotonic())
        raise InterruptedError("enough")

    other = threading.Thread(target=tick)
    before = signal.signal(signal.SIGALRM, hear)
    try:
        with Pool(1) as pool:
            pool.map(abs, range(10))
            other.start()
            start = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            with pytest.raises(InterruptedError, match="enough"):
                pool.map(abs, range(10**9))
            assert heard[0] - start < 10
            assert pool.map(abs, [-1]) == [1], "the pool goes on, and the map does not"
            pool.close()
            pool.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    other.join()
    assert len(ticked) > 3
