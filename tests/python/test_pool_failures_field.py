"""The scenarios in which process pools are known to hang, each with the answer that may be relied on.

The rest of them is in test_pool_failures.py: dead workers, bad pickles, exits in tasks, Ctrl-C, orphans, forks.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coterie import ConfigError, Pool, StoppedError, TaskError, WorkerDiedError
from coterie._pool import cpus

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool


def until(condition: Callable[[], bool], within: float = 20) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def state_of(pid: int) -> str:
    """As /proc says it: R, S, T, Z; or nothing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def is_running(pid: int) -> bool:
    return state_of(pid) not in ("", "Z")


def run(program: str, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        input=program,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


# Start


@pytest.mark.parametrize("method", [None, *METHODS])
def test_pools_are_made_while_another_works(method: str | None) -> None:
    context = multiprocessing.get_context(method) if method else None
    lock, heard = threading.Lock(), []

    def hear(value: int) -> None:
        with lock:  # a child that was forked now would find it taken for ever
            heard.append(value)

    # What was pickled is another lock, or none; what was forked is this one.
    takes_it = method in (None, "fork")
    begin = (lambda: lock.acquire(timeout=30) and lock.release()) if takes_it else None
    with Pool(2) as busy:
        results = [busy.apply_async(abs, (-n,), callback=hear) for n in range(2000)]
        for _ in range(3):
            with Pool(1, begin, context=context) as other:
                assert other.map(lambda x: x + 1, range(3)) == [1, 2, 3]
        assert [result.get(60) for result in results] == list(range(2000))
    assert set(heard) == set(range(2000))


def test_threads_of_pools_are_no_reason_to_start_a_new_interpreter() -> None:
    with Pool(2) as busy:
        results = [busy.apply_async(abs, (-n,), callback=str) for n in range(3000)]
        kinds = set()
        for _ in range(10):
            with Pool(1) as other:
                kinds.add(type(other._starter).__name__)
                assert other.apply(os.getppid) != os.getpid(), "it was forked from a template"
        for result in results:
            result.get(60)
    assert kinds == {"ForkedTemplate"}


def test_a_lock_of_multiprocessing_is_no_wish_for_a_start_method() -> None:
    # It fixes the default, which up to Python 3.13 is a fork of this process, whatever threads it has.
    program = """
import coterie, multiprocessing, threading
multiprocessing.Lock()
print(multiprocessing.get_start_method(allow_none=True) is not None)
with coterie.Pool(1) as pool:
    print(type(pool._starter).__name__)
threading.Thread(target=threading.Event().wait, daemon=True).start()
with coterie.Pool(1) as pool:
    print(type(pool._starter).__name__, pool.map(lambda x: x + 1, [1]))
"""
    assert run(program, "-").stdout.splitlines() == ["True", "ForkedTemplate", "FreshTemplate [2]"]


LOCKED = """
import coterie, logging, sys, threading, types
held, release = threading.Event(), threading.Event()
hooks = sys.modules["slow_hooks"] = types.ModuleType("slow_hooks")
hooks.wait = lambda: (held.set(), release.wait(60))
handler = logging.StreamHandler()
logging.root.addHandler(handler)

def hold_handler():
    with handler.lock:
        hooks.wait()

def need_handler(x):
    logging.getLogger("a").warning("from a worker")
    return x

def hold_module():
    import slow_module

def need_module(x):
    sys.modules.setdefault("slow_hooks", types.SimpleNamespace(wait=lambda: None))
    import slow_module
    return slow_module.answer

thread = threading.Thread(target={hold}, daemon=True)
thread.start()
held.wait(30)
with coterie.Pool(2) as pool:
    print(pool.map_async({need}, range(4)).get(30))
release.set()
"""


@pytest.mark.parametrize("lock", ["handler", "module"])
def test_a_lock_that_a_thread_holds_at_the_start_does_not_reach_the_workers(
    lock: str, tmp_path: Path
) -> None:
    (tmp_path / "slow_module.py").write_text("import slow_hooks; slow_hooks.wait()\nanswer = 7\n")
    script = tmp_path / "locked.py"
    script.write_text(LOCKED.format(hold=f"hold_{lock}", need=f"need_{lock}"))
    done = run("", str(script))
    assert done.stdout == ("[0, 1, 2, 3]\n" if lock == "handler" else "[7, 7, 7, 7]\n"), done.stderr


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", ["LookupError", "SystemExit"])
def test_an_initializer_that_raises_is_no_storm(method: str, error: str, tmp_path: Path) -> None:
    def begin(name: str) -> None:
        (tmp_path / str(os.getpid())).touch()
        raise {"LookupError": LookupError, "SystemExit": SystemExit}[name](3)

    with Pool(2, begin, (error,), context=multiprocessing.get_context(method)) as pool:
        with pytest.raises((LookupError, SystemExit)) as caught:
            pool.map(abs, [1, 2])
        assert type(caught.value).__name__ == error
        time.sleep(0.2)
    assert 1 <= len(list(tmp_path.iterdir())) <= 2, "each worker began once"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_missing_main_guard_is_one_error_and_no_fork_bomb(method: str, tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import coterie, multiprocessing, os, pathlib\n"
        f"(pathlib.Path({str(tmp_path)!r}) / f'ran-{{os.getpid()}}').touch()\n"
        f"pool = coterie.Pool(2, context=multiprocessing.get_context({method!r}))\n"
        "print(pool.map(abs, [-1]))\n"
    )
    done = run("", str(script))
    assert done.returncode == 1
    assert "before it could work" in done.stderr
    assert len(list(tmp_path.glob("ran-*"))) <= 1 + 2 + 1, "the script, its workers, and no more"


# Ends


def test_the_end_of_the_process_that_forks_workers_is_told_and_not_waited_for(pool: Pool) -> None:
    template = pool._starter._pid  # type: ignore[attr-defined]
    assert len(pool._pool) == 2, "all workers are there"
    os.kill(template, signal.SIGKILL)
    until(lambda: not is_running(template))
    assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1)), "workers that live work on"
    with pytest.raises(WorkerDiedError):
        pool.apply(os._exit, (1,))
    # Nobody can take its place: a pool that would shrink in silence says so instead.
    until(lambda: pool._core.failure() is not None)
    for _ in range(2):
        with pytest.raises(TaskError, match="the process from which workers are forked has ended"):
            pool.map(abs, [-1])


@pytest.mark.parametrize("seconds", [0.001, 30])
def test_no_worker_outlives_a_parent_that_is_killed(seconds: float, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import coterie, time\n"
        "if __name__ == '__main__':\n"
        "    pool = coterie.Pool(2)\n"
        "    print(pool._starter._pid, *[worker.pid for worker in pool._pool], flush=True)\n"
        f"    pool.map(time.sleep, [{seconds}] * 100_000)\n"
    )
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    processes = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(processes) == 3
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not any(map(is_running, processes)), 1.0 if os.getloadavg()[0] < 4 else 5.0)


def test_a_worker_that_is_stopped_holds_up_its_item_alone_and_goes_on(pool: Pool) -> None:
    pids = [worker.pid for worker in pool._pool]
    assert pool.map(abs, [-1, -2]) == [1, 2]
    os.kill(pids[0], signal.SIGSTOP)
    until(lambda: state_of(pids[0]) == "T")
    results = pool.imap_unordered(lambda x: (time.sleep(0.001), x)[1], range(200))
    others = [next(results) for _ in range(198)]
    os.kill(pids[0], signal.SIGCONT)
    assert sorted([*others, *results]) == list(range(200))
    assert [worker.pid for worker in pool._pool] == pids


def test_a_worker_that_is_stopped_over_its_time_is_replaced() -> None:
    with Pool(1, task_timeout=0.5) as pool:
        [worker] = pool._pool
        result = pool.apply_async(time.sleep, (60,))
        time.sleep(0.1)
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError, match="longer than it may"):
            result.get(60)
        assert pool.apply_async(abs, (-1,)).get(30) == 1


def test_memory_that_runs_out_is_the_items_error() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))

    with Pool(2, limit) as pool:
        with pytest.raises(MemoryError):
            pool.map(lambda size: len(bytearray(size)), [10, 1 << 34])
        assert pool.map(len, [b"1"]) == [1]


def test_the_killer_of_processes_costs_one_item_and_is_named(pool: Pool, tmp_path: Path) -> None:
    # What the kernel does when memory runs out: SIGKILL, from outside, to whoever is largest.
    def work(x: int) -> int:
        if x == 1:
            (tmp_path / f"pid-{os.getpid()}").touch()
            time.sleep(60)
        return x

    result = pool.imap(work, range(20))
    until(lambda: any(tmp_path.iterdir()))
    victim = int(next(tmp_path.iterdir()).name.removeprefix("pid-"))
    os.kill(victim, signal.SIGKILL)
    assert next(result) == 0
    with pytest.raises(WorkerDiedError) as caught:
        next(result)
    assert (caught.value.pid, caught.value.signal, caught.value.index) == (victim, signal.SIGKILL, 1)
    assert list(result) == list(range(2, 20))


def test_a_terminated_pool_is_refused_by_every_call_at_once() -> None:
    pool = Pool(2)
    running = pool.map_async(time.sleep, [60] * 4)
    time.sleep(0.1)
    began = time.monotonic()
    pool.terminate()
    pool.terminate()
    pool.join()
    assert time.monotonic() - began < 10
    with pytest.raises(StoppedError):
        running.get(5)
    calls: list[Callable[[], Any]] = [
        lambda: pool.map(abs, [1]),
        lambda: pool.map_async(abs, [1]),
        lambda: pool.imap(abs, [1]),
        lambda: pool.imap_unordered(abs, [1]),
        lambda: pool.starmap(pow, [(1, 2)]),
        lambda: pool.apply(abs, (1,)),
        lambda: pool.apply_async(abs, (1,)),
        pool.__enter__,
    ]
    for call in calls:
        with pytest.raises(ValueError, match="not running"):
            call()


def test_a_callback_that_raises_is_shown_and_the_pool_goes_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: shown.append(error))

    def raises(value: Any) -> None:
        raise LookupError(value)

    assert pool.apply_async(abs, (-5,), callback=raises).get(30) == 5
    with pytest.raises(ZeroDivisionError):
        pool.apply_async(divmod, (1, 0), error_callback=raises).get(30)
    assert pool.map_async(abs, [-1], callback=raises).get(30) == [1]
    heard: list[int] = []
    assert pool.apply_async(abs, (-7,), callback=heard.append).get(30) == 7
    assert (heard, len(shown)) == ([7], 3)


def test_huge_results_wait_for_nobody_who_does_not_read(pool: Pool) -> None:
    results = [pool.apply_async(bytes, (20_000_000,)) for _ in range(6)]
    assert pool.apply_async(abs, (-1,)).get(60) == 1, "it comes through behind them"
    assert [len(result.get(60)) for result in results] == [20_000_000] * 6


@pytest.mark.parametrize("kind", ["generator", "unhashable", "function"])
def test_an_input_that_is_bad_half_way_costs_what_came_before_nothing(kind: str, pool: Pool) -> None:
    def numbers() -> Iterator[Any]:
        yield from range(100)
        if kind == "generator":
            raise LookupError("half-way")
        yield threading.Lock() if kind == "unhashable" else (lambda: sys.stdout.write)
        yield from range(100, 200)

    results = pool.imap(lambda x: x if isinstance(x, int) else -1, numbers())
    assert [next(results) for _ in range(100)] == list(range(100))
    if kind == "function":
        assert next(results) == -1
    else:
        with pytest.raises((LookupError, TypeError)):
            next(results)
    assert list(results) == ([] if kind == "generator" else list(range(100, 200)))


def test_many_threads_share_a_pool_whose_workers_die(pool: Pool) -> None:
    answers: dict[int, list[int]] = {}

    def ask(number: int) -> None:
        mine: list[int] = []
        for value in range(30):
            try:
                mine.append(pool.apply(lambda x: os._exit(1) if x % 97 == 13 else x, (number * 30 + value,)))
            except WorkerDiedError:
                mine.append(-1)
        answers[number] = mine

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    expected = {n: [-1 if x % 97 == 13 else x for x in range(n * 30, n * 30 + 30)] for n in range(6)}
    assert answers == expected


@pytest.mark.parametrize("method", [None, *METHODS])
@pytest.mark.parametrize("end", ["close", "terminate"])
def test_what_workers_started_ends_with_the_pool(end: str, method: str | None) -> None:
    context = multiprocessing.get_context(method) if method else None
    pool = Pool(1, context=context)
    pid = pool.apply(lambda: subprocess.Popen(["sleep", "600"]).pid)
    assert is_running(pid)
    getattr(pool, end)()
    pool.join()
    until(lambda: not is_running(pid), 5)


ENDLESS = """
import coterie, itertools, resource, sys

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

with coterie.Pool(2, backend=sys.argv[1]) as pool:
    results = getattr(pool, sys.argv[2])(abs, itertools.count())
    for _ in itertools.islice(results, 50_000):
        pass
    before = peak()
    for _ in itertools.islice(results, 500_000):
        pass
    print(peak() - before)
"""


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
@pytest.mark.parametrize("backend", ["process", "thread"])
def test_an_endless_input_needs_no_more_memory_the_longer_it_is_read(backend: str, name: str) -> None:
    grown = int(run(ENDLESS, "-", backend, name).stdout)
    assert grown < 50, "MiB for half a million items, of which one that is kept takes some hundred bytes"


# Ctrl-C

STUBBORN = """
import coterie, os, signal, sys, time
def stubborn(x):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(60)
if __name__ == "__main__":
    pool = coterie.Pool(2)
    print(pool._starter._pid, *[worker.pid for worker in pool._pool], flush=True)
    pool.map(stubborn, range(4))
"""


@pytest.mark.parametrize("times", [1, 2, 3])
def test_ctrl_c_as_often_as_it_may_come_ends_everything(times: int, tmp_path: Path) -> None:
    script = tmp_path / "stubborn.py"
    script.write_text(STUBBORN)
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    processes = [int(pid) for pid in parent.stdout.readline().split()]
    time.sleep(0.5)
    began = time.monotonic()
    for _ in range(times):
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: all in the foreground group
        time.sleep(0.2)
    _, said = parent.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert "KeyboardInterrupt" in said
    assert parent.returncode in (1, 130, -signal.SIGINT)
    until(lambda: not any(map(is_running, processes)), 5)


def test_in_a_notebook_only_the_kernel_is_interrupted_and_the_pool_stays() -> None:
    # A kernel has a thread for its heartbeat, and gets SIGINT alone; the next cell uses the same pool.
    program = """
import coterie, os, signal, threading, time
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
pool = coterie.Pool(2)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
began = time.monotonic()
try:
    pool.map(lambda x: time.sleep(60), range(8))
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - began < 20)
print(pool.map(lambda x: x * x, range(4)))
pool.close()
pool.join()
"""
    done = run(program, "-")
    assert done.stdout.splitlines() == ["interrupted True", "[0, 1, 4, 9]"]
    assert done.stderr == ""


# A pool in a worker


def nested(depth: int) -> list[int]:
    """How many workers each level has by default."""
    if depth == 0:
        return []
    with Pool() as pool:
        return [len(pool._pool), *pool.apply(nested, (depth - 1,))]


@pytest.mark.parametrize("method", [None, *METHODS])
def test_a_worker_may_make_a_pool_which_has_its_share_of_the_processors(method: str | None) -> None:
    context = multiprocessing.get_context(method) if method else None
    available = cpus.available()
    with Pool(2, context=context) as pool:
        first, second = pool.apply(nested, (2,))
    assert first == max(1, available // 2)
    assert second == max(1, available // (2 * first))


def test_pools_in_workers_go_three_deep_and_no_deeper() -> None:
    with Pool(1) as pool:
        assert len(pool.apply(nested, (2,))) == 2
        with pytest.raises(ConfigError, match="3 deep"):
            pool.apply(nested, (3,))


def test_the_pool_of_a_worker_that_is_killed_leaves_nobody(tmp_path: Path) -> None:
    def holds(folder: Path) -> None:
        inner = Pool(2)
        (folder / "pids").write_text(" ".join(str(worker.pid) for worker in inner._pool))
        (folder / "pids").rename(folder / "known")
        inner.map(time.sleep, [60] * 4)

    with Pool(1) as pool:
        result = pool.apply_async(holds, (tmp_path,))
        until((tmp_path / "known").exists)
        inner = [int(pid) for pid in (tmp_path / "known").read_text().split()]
        assert all(map(is_running, inner))
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError):
            result.get(30)
        until(lambda: not any(map(is_running, inner)), 5)
