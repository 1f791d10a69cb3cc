"""The pool as an executor: what `concurrent.futures` promises, and what it cannot do."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import coterie
from coterie import Executor, StoppedError, TaskTimeoutError, WorkerDiedError
from coterie._pool import cpus

METHODS = ["fork", "spawn", "forkserver"]
BACKENDS: list[Any] = ["process", "thread"]
PATIENCE = 60


@pytest.fixture(scope="module", params=BACKENDS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with Executor(2, backend=request.param) as executor:
        yield executor


@pytest.fixture
def processes() -> Iterator[Executor]:
    with Executor(2) as executor:
        yield executor


def until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_is_an_executor_of_the_standard_library(executor: Executor) -> None:
    assert isinstance(executor, concurrent.futures.Executor)
    future = executor.submit(lambda *args, **kwds: (args, kwds), 1, fn=2, self=3)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(PATIENCE) == ((1,), {"fn": 2, "self": 3})


def test_calls_are_answered_each_by_its_own_future(executor: Executor) -> None:
    futures = {executor.submit(lambda x: x * x, x): x for x in range(500)}
    assert {futures[future]: future.result() for future in as_completed(futures, PATIENCE)} == {
        x: x * x for x in range(500)
    }
    done, left = wait([executor.submit(abs, -1), executor.submit(abs, -2)], PATIENCE)
    assert (sorted(future.result() for future in done), left) == ([1, 2], set())


def test_an_exception_is_its_futures_and_says_where_it_came_from(executor: Executor) -> None:
    def fails() -> None:
        raise KeyError("told")

    error = executor.submit(fails).exception(PATIENCE)
    assert isinstance(error, KeyError)
    assert error.args == ("told",)
    if not executor._works.pool._threads:
        assert "in fails" in str(error.__cause__)
    assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_callbacks_run_and_one_that_raises_harms_nobody(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    heard = threading.Event()
    future = executor.submit(abs, -1)
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(lambda _: heard.set())
    assert heard.wait(PATIENCE)
    assert executor.submit(abs, -1).result(PATIENCE) == 1
    assert "ZeroDivisionError" in caplog.text


def test_callbacks_may_submit(executor: Executor) -> None:
    second: list[Any] = []
    added = threading.Event()

    def again(future: Any) -> None:
        second.append(executor.submit(abs, future.result()))
        added.set()

    executor.submit(abs, -5).add_done_callback(again)
    assert added.wait(PATIENCE)
    assert second[0].result(PATIENCE) == 5


def test_map_answers_like_the_builtin(executor: Executor) -> None:
    for columns in [([3, 1, 2],), ([1, 2, 3], [4, 5]), ([],), (range(1000), range(5000))]:
        expected = list(map(lambda *row: sum(row), *columns))
        assert list(executor.map(lambda *row: sum(row), *columns, chunksize=7)) == expected


def test_map_ends_with_the_first_exception(executor: Executor) -> None:
    results = executor.map(lambda x: 6 // x, [3, 0, 1])
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_gives_up_when_its_time_is_over(executor: Executor) -> None:
    stop = time.monotonic() + PATIENCE
    results = executor.map(lambda _: time.sleep(1), range(4), timeout=0.2)
    with pytest.raises(TimeoutError):
        list(results)
    assert time.monotonic() < stop
    assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_map_draws_no_more_than_its_buffer(executor: Executor) -> None:
    drawn = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            drawn.append(number)
            yield number

    results = executor.map(lambda x: x, numbers(), buffersize=5)
    assert [next(results) for _ in range(100)] == list(range(100))
    assert len(drawn) <= 100 + 10
    with pytest.raises(ValueError, match="buffersize"):
        executor.map(abs, [1], buffersize=0)
    with pytest.raises(TypeError, match="buffersize"):
        executor.map(abs, [1], buffersize=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(abs, [1], chunksize=0)


def test_a_map_that_nobody_looks_at_is_done_all_the_same(tmp_path: Path) -> None:
    with Executor(2) as executor:
        executor.map(lambda x: (tmp_path / str(x)).touch(), range(20))
    assert len(list(tmp_path.iterdir())) == 20


def test_what_has_not_begun_can_be_cancelled(executor: Executor) -> None:
    blockers = [executor.submit(time.sleep, 0.5) for _ in range(2)]
    until(lambda: all(future.running() for future in blockers))
    waiting = [executor.submit(abs, x) for x in range(10)]
    assert not any(future.running() for future in waiting)
    assert all(future.cancel() for future in waiting[::2])
    assert not blockers[0].cancel()
    assert wait(waiting, PATIENCE).not_done == set()
    assert [future.cancelled() for future in waiting] == [True, False] * 5
    assert [future.result(PATIENCE) for future in waiting[1::2]] == [1, 3, 5, 7, 9]
    with pytest.raises(CancelledError):
        waiting[0].result()
    assert waiting[0].cancel()
    assert not waiting[1].cancel(), "it is finished"


def test_what_runs_is_cancelled_by_force_and_its_worker_replaced(processes: Executor) -> None:
    workers = set(processes._processes)
    futures = [processes.submit(time.sleep, 600) for _ in range(2)]
    until(lambda: all(future.running() for future in futures))
    assert not futures[0].cancel()
    assert futures[0].cancel(force=True)
    assert futures[0].cancelled()
    assert processes.submit(os.getpid).result(PATIENCE) not in workers, "the other worker is busy"
    assert futures[1].running()
    assert futures[1].cancel(force=True)
    until(lambda: not workers & set(processes._processes))
    assert processes.submit(abs, -1).result(PATIENCE) == 1


@pytest.fixture
def held_interpreter() -> Iterator[None]:
    """Other threads get the interpreter only where this one waits: the pool's own do not learn who its workers are."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("held_interpreter")
def test_what_runs_is_ended_though_the_pool_does_not_know_its_worker_yet() -> None:
    with Executor(1) as executor:
        future = executor.submit(time.sleep, 600)
        while not future.running():
            pass
        assert future.cancel(force=True)
        assert executor.submit(abs, -1).result(PATIENCE) == 1
    with Executor(1, task_timeout=0.1) as executor:
        future = executor.submit(time.sleep, 600)
        while not future.running():
            pass
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        assert isinstance(future.exception(PATIENCE), TaskTimeoutError)


def test_a_thread_cannot_be_ended() -> None:
    release = threading.Event()
    with Executor(1, backend="thread") as executor:
        future = executor.submit(release.wait)
        until(future.running)
        assert not future.cancel(force=True)
        release.set()
        assert future.result(PATIENCE)


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_worker_fails_its_own_future_and_no_other(method: str) -> None:
    with Executor(2, multiprocessing.get_context(method)) as executor:
        dead = executor.submit(os.kill, 0, 0)  # nothing: it is only the first call
        assert dead.result(PATIENCE) is None
        futures = [executor.submit(abs, x) for x in range(50)]
        dead = executor.submit(os._exit, 3)
        futures += [executor.submit(abs, x) for x in range(50)]
        error = dead.exception(PATIENCE)
        assert isinstance(error, BrokenProcessPool), "what a user of concurrent.futures catches"
        assert isinstance(error, WorkerDiedError)
        assert error.pid > 0
        assert pickle.loads(pickle.dumps(error)).pid == error.pid
        assert [future.result(PATIENCE) for future in futures] == 2 * list(range(50))


def test_a_call_is_tried_again_when_asked(tmp_path: Path) -> None:
    def dies_once() -> str:
        mark = tmp_path / "mark"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    with Executor(1, retries=1) as executor:
        assert executor.submit(dies_once).result(PATIENCE) == "done"


def test_a_call_that_runs_too_long_is_ended() -> None:
    with Executor(1, task_timeout=0.2) as executor:
        assert isinstance(executor.submit(time.sleep, 60).exception(PATIENCE), TaskTimeoutError)
        assert executor.submit(abs, -1).result(PATIENCE) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_initializer_that_raises_breaks_the_executor(
    backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise LookupError("no such place")

    with Executor(1, initializer=fails, backend=backend) as executor:
        with pytest.raises(BrokenExecutor, match="no such place") as caught:
            executor.submit(abs, 1).result(PATIENCE)
        assert isinstance(caught.value.__cause__, LookupError)
        until(lambda: executor._broken)
        with pytest.raises(BrokenExecutor):
            executor.submit(abs, 1)
        with pytest.raises(BrokenExecutor):
            executor.map(abs, [1])
    assert "Exception in initializer:" in caplog.text, "logged here, though it happened there"


def test_workers_that_only_die_break_the_executor() -> None:
    with Executor(2, retries=1000) as executor:
        futures = [executor.submit(os._exit, 1) for _ in range(4)]
        assert all(isinstance(future.exception(PATIENCE), BrokenProcessPool) for future in futures)
        with pytest.raises(BrokenProcessPool, match="given up"):
            executor.submit(abs, 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_shutdown_waits_for_what_was_submitted(backend: Any) -> None:
    executor = Executor(2, backend=backend)
    futures = [executor.submit(time.sleep, 0.01) for _ in range(20)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(abs, [1])
    executor.shutdown()


@pytest.mark.parametrize("backend", BACKENDS)
def test_shutdown_may_cancel_what_has_not_begun(backend: Any) -> None:
    executor = Executor(2, backend=backend)
    futures = [executor.submit(time.sleep, 0.1) for _ in range(50)]
    results = executor.map(time.sleep, [0.1] * 50)
    executor.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)
    assert sum(future.cancelled() for future in futures) > 20
    with pytest.raises(CancelledError):
        list(results)


def test_an_executor_that_is_dropped_finishes_what_it_was_given() -> None:
    executor = Executor(2)
    futures = [executor.submit(time.sleep, 0.02) for _ in range(20)]
    processes = executor._processes
    del executor
    gc.collect()
    assert wait(futures, PATIENCE).not_done == set()
    assert all(future.exception() is None for future in futures)
    for process in processes.values():
        process.join(PATIENCE)
        assert not process.is_alive()


def test_results_are_kept_by_nobody_else(executor: Executor) -> None:
    class Thing:
        pass

    for thing in executor.map(lambda _: set(), range(3)):
        assert sys.getrefcount(thing) <= 3  # this name, the argument, and on some versions the loop
    del Thing


PROGRAM = """
import time
from coterie import Executor

def say(word):
    time.sleep(0.2)
    print(word, flush=True)

if __name__ == "__main__":
    executor = Executor(2, backend={backend!r})
    executor.submit(say, "apple")
    {last}
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("last", ["", "executor.shutdown(wait=False)", "del executor"])
def test_the_interpreter_ends_when_all_is_done(backend: str, last: str) -> None:
    program = PROGRAM.format(backend=backend, last=last)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "apple\n", "")


def test_a_forked_child_is_told_to_make_its_own(processes: Executor) -> None:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            processes.submit(abs, 1)
        except StoppedError:
            os.write(theirs, b"refused")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(theirs)
    assert os.read(ours, 100) == b"refused"
    os.close(ours)


def test_asyncio_runs_its_calls_on_it(processes: Executor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(processes, abs, -x) for x in range(20)))

    assert asyncio.run(main()) == list(range(20))


def test_many_threads_submit_at_once(executor: Executor) -> None:
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        futures = [executor.submit(pow, number, 2) for _ in range(100)]
        answers[number] = {future.result(PATIENCE) for future in futures}

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert answers == {number: {number * number} for number in range(8)}


def test_workers_are_replaced_after_the_calls_that_they_may_do() -> None:
    with Executor(1, max_tasks_per_child=3) as executor:
        workers = [executor.submit(os.getpid).result(PATIENCE) for _ in range(7)]
    assert [len(set(workers[start : start + 3])) for start in (0, 3, 6)] == [1, 1, 1]
    assert len(set(workers)) == 3


def test_settings_that_are_wrong_are_refused() -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        Executor(0)
    with pytest.raises(TypeError, match="callable"):
        Executor(1, initializer=3)  # type: ignore[arg-type]
    with pytest.raises(coterie.ConfigError, match="cannot be ended"):
        Executor(1, backend="thread", task_timeout=1.0)


def test_nobody_keeps_what_a_thread_has_called() -> None:
    class Thing:
        def method(self) -> None:
            pass

    with Executor(1, backend="thread") as executor:
        for ask in (executor.submit, executor._works.pool.apply_async):
            thing = Thing()
            freed = threading.Event()
            weakref.finalize(thing, freed.set)
            ask(thing.method)
            del thing
            assert freed.wait(PATIENCE), "though nothing was called since"


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (threading.Lock, TypeError),
        (lambda: Unpicklable(SystemExit(3)), SystemExit),
        (lambda: Unpicklable(pickle.PicklingError("no")), pickle.PicklingError),
    ],
    ids=["lock", "exit", "PicklingError"],
)
def test_a_result_that_cannot_be_pickled_fails_with_what_pickle_said(
    make: Any, kind: type[BaseException], processes: Executor
) -> None:
    error = processes.submit(make).exception(PATIENCE)
    assert type(error) is kind
    assert "Error sending result" in str(error.__cause__)
    with pytest.raises(kind):
        list(processes.map(lambda _: make(), [1]))
    assert processes.submit(abs, -1).result(PATIENCE) == 1


class Unpicklable:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize("method", METHODS)
def test_what_a_failing_initializer_put_into_a_queue_arrives(method: str) -> None:
    context = multiprocessing.get_context(method)
    queue = context.Queue()

    def fails(queue: Any) -> None:
        queue.put("seen" * 10_000)
        raise LookupError("no such place")

    with Executor(1, context, fails, (queue,)) as executor:
        with pytest.raises(BrokenExecutor, match="no such place"):
            executor.submit(abs, 1).result(PATIENCE)
        assert queue.get(timeout=0) == "seen" * 10_000, "it came before the error"
    queue.close()
    queue.join_thread()


def test_threads_are_as_many_by_default_as_in_the_standard_library() -> None:
    with concurrent.futures.ThreadPoolExecutor() as theirs, Executor(backend="thread") as ours:
        assert ours._max_workers <= theirs._max_workers
        assert ours._max_workers == min(32, cpus.available() + 4)


def test_a_call_that_runs_can_be_ended_however_young_its_worker_is() -> None:
    for _ in range(30):
        with Executor(1) as executor:
            future = executor.submit(time.sleep, 60)
            while not future.running():
                pass
            assert future.cancel(force=True)
