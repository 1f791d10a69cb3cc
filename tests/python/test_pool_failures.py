"""What becomes of a pool when something breaks: an answer, for each item, always."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback
from pathlib import Path
from typing import Any

import pytest

import coterie
from coterie import Pool, StoppedError, TaskError, TaskTimeoutError, WorkerDiedError

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("ending", "number"), [("kill", signal.SIGKILL), ("exit", None), ("segfault", signal.SIGSEGV)]
)
def test_a_dead_worker_costs_its_item_and_is_named(method: str, ending: str, number: int | None) -> None:
    def work(x: int) -> int:
        if x == 7:
            if ending == "exit":
                os._exit(3)
            os.kill(os.getpid(), signal.SIGKILL if ending == "kill" else signal.SIGSEGV)
        return x

    with Pool(2, context=multiprocessing.get_context(method)) as pool:
        with pytest.raises(WorkerDiedError) as caught:
            pool.map(work, range(50))
        assert (caught.value.index, caught.value.signal) == (7, number)
        assert caught.value.pid > 0
        outcomes = []
        results = pool.imap(work, range(20))
        for _ in range(20):
            try:
                outcomes.append(next(results))
            except WorkerDiedError as error:
                outcomes.append(-error.index)  # type: ignore[operator]
        assert outcomes == [-7 if x == 7 else x for x in range(20)], "the other items are answered"


def test_a_death_is_noticed_at_once(pool: Pool) -> None:
    began = time.monotonic()
    with pytest.raises(WorkerDiedError):
        pool.apply(os._exit, (1,))
    assert time.monotonic() - began < 1


def test_an_item_is_tried_again_as_often_as_asked(tmp_path: Path) -> None:
    def dies_twice(x: int) -> int:
        for number in range(2):
            if not (tmp_path / f"{x}-{number}").exists():
                (tmp_path / f"{x}-{number}").touch()
                os._exit(1)
        return x

    with Pool(2, retries=2) as pool:
        assert pool.map(dies_twice, range(4)) == [0, 1, 2, 3]
    for mark in tmp_path.iterdir():
        mark.unlink()
    with Pool(2, retries=1) as pool, pytest.raises(WorkerDiedError):
        pool.map(dies_twice, range(4))


def test_an_idle_worker_that_is_killed_is_replaced(pool: Pool) -> None:
    for _ in range(3):
        victims = [worker.pid for worker in pool._pool]
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        assert pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))
        deadline = time.monotonic() + 5
        while {worker.pid for worker in pool._pool} & set(victims):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_workers_that_only_die_make_the_pool_fail_loudly() -> None:
    with Pool(2, retries=1000) as pool:
        with pytest.raises(WorkerDiedError, match="given up") as caught:
            pool.map(os._exit, [1] * 4)
        assert caught.value.index is None
        with pytest.raises(WorkerDiedError, match="given up"):
            pool.apply(abs, (1,))


def test_random_kills_lose_double_and_reorder_nothing() -> None:
    judge_exactly_once(lambda outcomes: outcomes)


@pytest.mark.parametrize(
    "bug",
    [
        lambda outcomes: outcomes[:70] + outcomes[71:],
        lambda outcomes: [*outcomes[:70], outcomes[70], *outcomes[70:]],
        lambda outcomes: [*outcomes[:70], outcomes[71], outcomes[70], *outcomes[72:]],
    ],
    ids=["lost", "doubled", "reordered"],
)
def test_the_judge_sees_a_planted_bug(bug: Callable[[Sequence[Any]], Sequence[Any]]) -> None:
    with pytest.raises(AssertionError):
        judge_exactly_once(bug)


def judge_exactly_once(bug: Callable[[Sequence[Any]], Sequence[Any]]) -> None:
    """Workers are killed while items run; each item must be answered once, in its place, by its value or its error."""
    count = 3_000
    chance = random.Random(7)
    with Pool(3, retries=1) as pool:
        results = pool.imap(lambda x: (time.sleep(0.0002), x)[1], range(count))
        outcomes: list[Any] = []
        for number in range(count):
            if number % 100 == 50:
                with contextlib.suppress(ProcessLookupError):  # its replacement may be on its way
                    os.kill(chance.choice(pool._pool).pid, signal.SIGKILL)
            try:
                outcomes.append(next(results))
            except WorkerDiedError as error:
                outcomes.append(error)
        with pytest.raises(StopIteration):
            next(results)
    outcomes = list(bug(outcomes))
    assert len(outcomes) == count
    for number, outcome in enumerate(outcomes):
        assert (outcome.index if isinstance(outcome, WorkerDiedError) else outcome) == number


def test_exceptions_arrive_as_themselves_with_the_workers_traceback(pool: Pool) -> None:
    def fails(x: int) -> None:
        raise LookupError("seven", x)

    with pytest.raises(LookupError) as caught:
        pool.map(fails, [7])
    assert caught.value.args == ("seven", 7)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    told = "".join(traceback.format_exception(caught.value))
    assert 'raise LookupError("seven", x)' in told


class NeedsTwoError(Exception):
    """Pickles, and cannot be unpickled: the usual mistake."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.second = second


class CannotBePickled:
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


class CannotBeRebuilt:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_what_cannot_be_pickled_or_rebuilt_is_its_items_error(pool: Pool) -> None:
    def awkward(x: Any) -> Any:
        if x == 1:
            return CannotBePickled()
        if x == 2:
            return CannotBeRebuilt()
        if x == 3:
            raise NeedsTwoError("a", "b")
        if x == 4:
            error = ValueError("with a lock")
            error.lock = sys.stdout  # type: ignore[attr-defined]
            raise error
        return x

    results = pool.imap(awkward, [0, 1, 2, 3, 4, CannotBePickled(), CannotBeRebuilt(), 7])
    assert next(results) == 0
    with pytest.raises(MaybeEncodingError, match="not me"):
        next(results)
    with pytest.raises(TaskError, match="item 2 cannot be unpickled") as caught:
        next(results)
    assert caught.value.index == 2
    with pytest.raises(TaskError, match="NeedsTwoError") as caught:
        next(results)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    with pytest.raises(MaybeEncodingError):
        next(results)
    with pytest.raises(RuntimeError, match="not me"):
        next(results)
    with pytest.raises(ValueError, match="not a number"):
        next(results)
    assert next(results) == 7
    with pytest.raises(RuntimeError, match="not me"):
        pool.map(awkward, [CannotBePickled()] * 3)
    with pytest.raises(MaybeEncodingError):
        pool.map(awkward, [0, 1])
    with pytest.raises(TaskError):
        pool.map(awkward, [0, 2])


def test_a_function_that_cannot_travel_is_an_error_at_once(pool: Pool) -> None:
    held = sys.stdout
    with pytest.raises((TypeError, pickle.PicklingError)):
        pool.map(lambda x: held and x, [1])
    with pytest.raises((TypeError, pickle.PicklingError)):
        pool.apply_async(lambda: held).get(5)
    assert pool.map(abs, [-1]) == [1]


def test_exits_and_interrupts_in_a_task_are_its_outcome(pool: Pool) -> None:
    with pytest.raises(SystemExit) as caught:
        pool.apply(sys.exit, (5,))
    assert caught.value.code == 5

    def interrupts() -> None:
        raise KeyboardInterrupt("from a task")

    with pytest.raises(KeyboardInterrupt, match="from a task"):
        pool.apply_async(interrupts).get(5)
    assert pool.map(abs, [-1]) == [1]


@pytest.mark.parametrize("method", METHODS)
def test_an_initializer_that_raises_is_raised_where_results_are_awaited(method: str) -> None:
    def begin() -> None:
        raise LookupError("no beginning")

    with Pool(2, begin, context=multiprocessing.get_context(method)) as pool:
        with pytest.raises(LookupError, match="no beginning") as caught:
            pool.map(abs, [1, 2])
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        with pytest.raises(LookupError):
            pool.apply_async(abs, (1,)).get(10)
        with pytest.raises(LookupError):
            next(pool.imap(abs, [1]))


def test_an_item_that_runs_too_long_is_ended_and_the_others_go_on() -> None:
    with Pool(2, task_timeout=0.3) as pool:
        outcomes: list[Any] = []
        results = pool.imap(lambda seconds: time.sleep(seconds) or seconds, [0.0, 60, 0.01, 0.0])
        for _ in range(4):
            try:
                outcomes.append(next(results))
            except TaskTimeoutError as error:
                outcomes.append(error)
        assert [outcomes[0], *outcomes[2:]] == [0.0, 0.01, 0.0]
        assert isinstance(outcomes[1], TimeoutError)
        assert isinstance(outcomes[1], multiprocessing.TimeoutError)
        assert outcomes[1].index == 1
        assert pickle.loads(pickle.dumps(outcomes[1])).index == 1
        # The time counts from when an item begins: waiting for a worker is free.
        assert pool.map(lambda _: time.sleep(0.1), range(10), 1) == [None] * 10


def test_an_exit_code_before_the_first_task_fails_the_pool_at_once(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import coterie, multiprocessing\n"
        "pool = coterie.Pool(2, context=multiprocessing.get_context('spawn'))\n"
        "print(pool.map(abs, [1]))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "before it could work" in done.stderr
    assert "freeze_support" in done.stderr


PARENT = """
import coterie, os, sys, time
def work(seconds):
    time.sleep(seconds)
    return os.getpid()
if __name__ == "__main__":
    pool = coterie.Pool(2)
    print(*[worker.pid for worker in pool._pool], flush=True)
    {then}
"""


def run_parent(then: str, tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(then=then))
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    line = b""
    while not line.endswith(b"\n"):  # one by one: what a buffer read ahead would be lost to `communicate`
        line += os.read(parent.stdout.fileno(), 1)
    return parent, [int(pid) for pid in line.split()]


def assert_they_end(workers: Sequence[int], within: float) -> None:
    deadline = time.monotonic() + within
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < deadline, f"orphans among {workers}"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("then", ["pool.map(work, [60] * 4)", "time.sleep(60)"], ids=["busy", "idle"])
def test_workers_leave_when_their_parent_is_killed(then: str, tmp_path: Path) -> None:
    parent, workers = run_parent(then, tmp_path)
    time.sleep(0.2)
    parent.kill()
    parent.communicate()
    assert len(workers) == 2
    assert_they_end(workers, 1.0)


@pytest.mark.parametrize(
    "then",
    [
        "pass",
        "pool.map_async(work, [60] * 4); time.sleep(0.1)",
        "sys.exit(0)",
        "iterator = pool.imap(work, [60] * 9)",
    ],
)
def test_an_interpreter_that_ends_with_a_live_pool_ends_it(then: str, tmp_path: Path) -> None:
    parent, workers = run_parent(then, tmp_path)
    _, said = parent.communicate(timeout=20)
    assert parent.returncode == 0, said
    assert said == ""
    assert_they_end(workers, 1.0)


def test_ctrl_c_interrupts_what_runs_and_leaves_no_storm_of_tracebacks(tmp_path: Path) -> None:
    then = "pool.map(work, [30] * 4)"
    parent, workers = run_parent(then, tmp_path)
    time.sleep(0.3)
    began = time.monotonic()
    os.killpg(parent.pid, signal.SIGINT)
    _, said = parent.communicate(timeout=20)
    assert time.monotonic() - began < 3
    assert said.count("Traceback") == 1
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert_they_end(workers, 1.0)


def test_a_pool_works_on_after_ctrl_c(tmp_path: Path) -> None:
    then = """
    try:
        pool.map(work, [30] * 4)
    except KeyboardInterrupt:
        print(pool.map(abs, [-1, -2]), flush=True)
    pool.close()
    pool.join()
"""
    parent, _ = run_parent(then, tmp_path)
    time.sleep(0.3)
    os.kill(parent.pid, signal.SIGINT)
    out, said = parent.communicate(timeout=20)
    assert (out, said, parent.returncode) == ("[1, 2]\n", "", 0)


def test_a_task_that_ignores_the_interrupt_is_ended_after_a_second(tmp_path: Path) -> None:
    then = """
    def stubborn(x):
        while True:
            try:
                time.sleep(30)
            except KeyboardInterrupt:
                pass
    try:
        pool.map(stubborn, [1, 2])
    except KeyboardInterrupt:
        print(pool.map(abs, [-1, -2]), flush=True)
    pool.terminate()
"""
    parent, workers = run_parent(then, tmp_path)
    time.sleep(0.3)
    began = time.monotonic()
    os.kill(parent.pid, signal.SIGINT)
    out, said = parent.communicate(timeout=20)
    assert (out, said) == ("[1, 2]\n", "")
    assert time.monotonic() - began < 4
    assert_they_end(workers, 1.0)


def test_a_child_of_the_users_program_has_no_pool_and_does_not_keep_its_alive(tmp_path: Path) -> None:
    then = """
    child = os.fork()
    if child == 0:
        try:
            pool.map(abs, [1])
        except coterie.StoppedError as error:
            print(f"child: {error}", flush=True)  # in one piece: the parent prints, too
        with coterie.Pool(1) as own:
            print(own.map(abs, [-3]), flush=True)
        os.close(1); os.close(2)
        time.sleep(5)
        os._exit(0)
    print(pool.map(abs, [-1]), flush=True)
    time.sleep(0.5)
    os.kill(os.getpid(), 9)
"""
    parent, workers = run_parent(then, tmp_path)
    out, _ = parent.communicate(timeout=20)
    assert "child: this pool belongs to the parent process" in out
    assert "[1]" in out
    assert "[3]" in out
    assert_they_end(workers, 1.0)
    os.killpg(parent.pid, signal.SIGKILL)


def test_nothing_is_left_of_a_pool() -> None:
    def use() -> None:
        with Pool(2) as pool:
            pool.map(abs, range(10))

    gc.collect()  # what other tests left is not ours
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    for _ in range(3):
        use()
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before
    assert not multiprocessing.active_children()


def test_a_stopped_pool_says_so() -> None:
    with Pool(1) as pool:
        result = pool.apply_async(time.sleep, (60,))
    with pytest.raises(StoppedError):
        result.get(5)
    assert issubclass(StoppedError, coterie.RequestError)


def test_garbage_of_an_earlier_pool_harms_no_worker_of_the_next() -> None:
    def collect(_: int) -> int:
        return gc.collect()

    for _ in range(5):
        earlier = Pool(2)
        earlier.map(abs, range(10))
        earlier.terminate()
        earlier.join()
        earlier.itself = earlier  # type: ignore[attr-defined]
        del earlier
        # Its workers inherit that garbage, and their memory lies where that of the earlier pool lay.
        with Pool(2) as pool:
            pool.map(collect, range(10), 1)
            assert pool.map(abs, range(-1000, 0)) == list(range(1000, 0, -1))
