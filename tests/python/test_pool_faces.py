"""What a pool tells while it works: outcomes, progress, figures, and the voices of its workers."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from coterie import Outcome, Pool, StoppedError, WorkerDiedError
from coterie._pool import stats

METHODS = ["fork", "spawn", "forkserver"]
BACKENDS: list[Any] = ["process", "thread"]


@pytest.fixture(params=BACKENDS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(2, backend=request.param) as pool:
        yield pool


def test_each_item_has_an_outcome(pool: Pool) -> None:
    found = list(pool.imap(lambda x: 6 // x, [3, 0, 1], outcomes=True))
    assert [outcome.index for outcome in found] == [0, 1, 2]
    assert [outcome.ok for outcome in found] == [True, False, True]
    assert [outcome.value for outcome in found] == [2, None, 6]
    assert isinstance(found[1].error, ZeroDivisionError)
    assert found[2].get() == 6
    with pytest.raises(ZeroDivisionError):
        found[1].get()
    with pytest.raises(AttributeError):
        found[0].value = 3  # type: ignore[misc]


def test_outcomes_that_come_as_they_come_say_whose_they_are(pool: Pool) -> None:
    found = list(pool.imap_unordered(lambda x: x * x, range(2000), outcomes=True))
    assert sorted(outcome.index for outcome in found) == list(range(2000))
    assert all(outcome.value == outcome.index**2 for outcome in found)


def test_an_exception_as_a_value_is_no_error(pool: Pool) -> None:
    (found,) = pool.imap(lambda _: ValueError("told"), [0], outcomes=True)
    assert found.ok
    assert isinstance(found.value, ValueError)


def test_a_dead_worker_is_the_outcome_of_its_item() -> None:
    with Pool(2) as pool:
        found = list(pool.imap(lambda x: os._exit(1) if x == 5 else x, range(10), outcomes=True))
    assert [outcome.index for outcome in found if not outcome.ok] == [5]
    assert isinstance(found[5].error, WorkerDiedError)
    assert found[9] == Outcome(9, 9)


def test_an_input_that_fails_fails_the_iteration_and_no_item(pool: Pool) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    results = pool.imap(lambda x: x, numbers(), outcomes=True)
    assert next(results) == Outcome(0, 1)
    with pytest.raises(LookupError):
        next(results)


def test_a_lazy_map_that_was_terminated_does_not_look_finished() -> None:
    pool = Pool(2)
    results = pool.imap(time.sleep, [60] * 2)
    pool.terminate()
    with pytest.raises(StoppedError):
        next(results)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_callable_hears_how_far_a_map_is(backend: Any) -> None:
    heard: list[tuple[int, int | None]] = []
    with Pool(2, backend=backend, progress=lambda *told: heard.append(told)) as pool:
        pool.map(time.sleep, [0.02] * 20)
        assert heard[-1] == (20, 20)
        assert heard == sorted(set(heard))
        heard.clear()
        list(pool.imap(abs, range(100)))
        assert heard[-1] == (100, 100)
        heard.clear()
        list(pool.imap_unordered(abs, (x for x in range(100))))
        assert heard[-1] == (100, None)
        heard.clear()
        pool.starmap_async(pow, [(2, 3)] * 7).get(60)
        assert heard[-1] == (7, 7)
        assert pool.apply(abs, (-1,)) == 1


def test_without_tqdm_a_line_tells_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with Pool(2, progress=True, name="squares") as pool:
        assert pool.map(abs, range(1000)) == list(range(1000))
    assert capsys.readouterr().err.startswith("squares: 1,000/1,000 in ")


@pytest.mark.parametrize("backend", BACKENDS)
def test_with_tqdm_it_draws(backend: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = threading.enumerate()
    with Pool(2, backend=backend, progress=True, name="squares") as pool:
        assert pool.map(abs, range(300)) == list(range(300))
        drawn = capsys.readouterr().err
        assert "squares: 100%" in drawn
        assert "| 300/300 [" in drawn
        assert list(pool.imap(abs, range(200))) == list(range(200))
        assert "| 200/200 [" in capsys.readouterr().err
        assert len(list(pool.imap_unordered(abs, iter(range(100))))) == 100
        assert "squares: 100it [" in capsys.readouterr().err, "nobody knows of how many"
        with pytest.raises(ZeroDivisionError):
            pool.map(lambda x: 1 // x, [0, 1])
        drawn = capsys.readouterr().err
        assert drawn.endswith("\n"), "the bar is closed"
        assert pool.apply(abs, (-1,)) == 1
        assert capsys.readouterr().err == ""
    until = time.monotonic() + 20  # a worker that is a thread may need a moment to go
    while threading.enumerate() != before:
        assert time.monotonic() < until, "a thread of tqdm's would keep the next pool from forking"
        time.sleep(0.01)


@pytest.mark.parametrize("backend", BACKENDS)
def test_figures_are_what_was_done(backend: Any) -> None:
    with Pool(2, backend=backend, name="counted") as pool:
        pool.map(time.sleep, [0.05] * 10)
        pool.map(abs, range(990))
        told = pool.stats()
        assert (told.done, told.waiting, told.started, told.deaths) == (1000, 0, 2, 0)
        assert len(told.workers) == 2
        assert 0.3 < told.user_code < 2 * told.age, "ten sleeps of 50 ms, whatever else"
        assert 0 < told.busy <= 1
        assert all(0 <= worker.busy <= 1 for worker in told.workers)
        assert told.bytes_to_workers >= 1000 * 16
        assert told.bytes_from_workers >= 1000 * 8
        assert told.pickling >= 0
        assert told.transport > 0
        assert repr(told).startswith("<counted: 1,000 items done, 0 waiting\n")
        assert "<caption>counted</caption>" in told._repr_html_()


def test_figures_count_what_runs_and_what_waits() -> None:
    with Pool(1) as pool:
        pool.map_async(time.sleep, [30] * 5)
        deadline = time.monotonic() + 60
        while pool.stats().user_code < 0.2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert (pool.stats().done, pool.stats().waiting) == (0, 5)


def test_figures_count_workers_that_died_and_what_they_had_done() -> None:
    with Pool(1) as pool:
        pool.map(time.sleep, [0.1])
        with pytest.raises(WorkerDiedError):
            pool.apply(os._exit, (1,))
        pool.map(abs, range(10))
        told = pool.stats()
        assert (told.done, told.started, told.deaths) == (12, 2, 1)
        assert told.user_code > 0.09
    assert "none" in repr(stats.read(_nothing(), "idle"))


def _nothing() -> dict[str, Any]:
    return {
        "seconds": 1.0,
        "done": 0,
        "waiting": 0,
        "started": 0,
        "deaths": 0,
        "traffic": [0, 0],
        "memory": [0, 0],
        "spent": [0, 0, 0],
        "pumping": 0,
        "workers": [],
        "encoding": 0,
        "decoding": 0,
    }


def _logs(x: int) -> int:
    logging.getLogger("work.shop").info("item %d", x)
    logging.getLogger("work.shop").debug("too much detail")
    return x


def until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("method", [*METHODS, "fresh"])
def test_what_workers_log_is_handled_here(method: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="work")
    context = None if method == "fresh" else multiprocessing.get_context(method)
    release = threading.Event()
    if method == "fresh":  # with another thread about, workers come from a new interpreter
        threading.Thread(target=release.wait).start()
    try:
        with Pool(2, context=context) as pool:
            pool.map(_logs, range(20))
            until(lambda: len(caplog.records) >= 20)
    finally:
        release.set()
    assert sorted(record.getMessage() for record in caplog.records) == sorted(f"item {x}" for x in range(20))
    assert all(record.process != os.getpid() for record in caplog.records)
    assert {record.name for record in caplog.records} == {"work.shop"}


def test_an_exception_that_is_logged_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        try:
            {}["no such place"]
        except KeyError:
            logging.exception("caught", extra={"hook": lambda: None})  # noqa: LOG015 - as users do

    with Pool(1) as pool:
        pool.apply(fails)
        until(lambda: caplog.records)
    assert "KeyError: 'no such place'" in (caplog.records[0].exc_text or "")
    assert caplog.records[0].getMessage() == "caught"


def test_what_was_said_before_the_end_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    with Pool(1) as pool:
        pool.apply(logging.warning, ("the last words",))
        pool.close()
        pool.join()
    assert caplog.messages == ["the last words"]


def test_warnings_of_workers_are_shown_here() -> None:
    def warns(x: int) -> None:
        warnings.warn(f"item {x}", UserWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as caught, Pool(1) as pool:
        warnings.simplefilter("always")
        pool.apply(warnings.simplefilter, ("always",))
        pool.map(warns, range(3))
        until(lambda: len(caught) >= 3)
    assert sorted(str(warning.message) for warning in caught) == ["item 0", "item 1", "item 2"]
    assert all(warning.filename == __file__ for warning in caught)


PROGRAM = """
import logging, sys
from coterie import Pool

def speak(x):
    print("printed", x)
    print("complained", x, file=sys.stderr)
    logging.warning("logged %d", x)

if __name__ == "__main__":
    logging.basicConfig(format="%(processName)s here: %(message)s")
    with Pool(1, logs={logs}) as pool:
        pool.map(speak, range(2))
        pool.close()
        pool.join()
"""


@pytest.mark.parametrize("logs", [True, False])
def test_what_workers_print_comes_out_line_by_line(logs: bool) -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(logs=logs)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout == "printed 0\nprinted 1\n"
    assert {f"complained {x}" for x in range(2)} <= set(said.stderr.splitlines())
    assert sum("logged" in line for line in said.stderr.splitlines()) == 2, "once, whoever handles it"


LATE = """
import sys
from coterie import Pool

def has_it():
    return "logging" in sys.modules

def speak(x):
    import logging
    logging.getLogger("late").warning("logged %d", x)
    return has_it()

if __name__ == "__main__":
    with Pool(1) as pool:
        assert not has_it() and not pool.apply(has_it), "nobody has asked for it"
        import logging
        logging.basicConfig(format="%(processName)s here: %(message)s")
        assert pool.map(speak, range(2)) == [True, True]
        pool.close()
        pool.join()
"""


def test_a_worker_that_logs_late_is_heard_as_well() -> None:
    said = subprocess.run(
        [sys.executable, "-c", LATE], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [line for line in said.stderr.splitlines() if "logged" in line]
    assert [line.partition(" here: ")[2] for line in lines] == ["logged 0", "logged 1"]


def test_a_notebook_shows_what_workers_print() -> None:
    from nbclient import NotebookClient  # noqa: PLC0415 - slow, and only here
    from nbformat.v4 import new_code_cell, new_notebook  # noqa: PLC0415

    cells = [
        new_code_cell("import coterie, time\ndef speak(x):\n    print('printed', x)\n    return x\n"),
        new_code_cell("with coterie.Pool(1) as pool:\n    pool.map(speak, range(3))"),
    ]
    notebook = new_notebook(cells=cells)
    NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    text = "".join(output.text for cell in notebook.cells for output in cell.outputs)
    assert text == "printed 0\nprinted 1\nprinted 2\n"
