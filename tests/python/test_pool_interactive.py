"""The pool as people use it by hand: at a prompt in a terminal, in a notebook's kernel, and with Ctrl-C in both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BACKENDS = ["process", "thread"]
PATIENCE = 60.0


# At a prompt


@pytest.fixture
def prompt() -> Iterator[Any]:
    import pexpect  # noqa: PLC0415 - only here

    shell = pexpect.spawn(
        sys.executable,
        ["-q"],
        encoding="utf-8",
        timeout=PATIENCE,
        env=dict(os.environ, TERM="dumb", PYTHON_BASIC_REPL="1"),
        dimensions=(24, 200),
    )
    shell.expect(">>> ")
    yield shell
    shell.close(force=True)


def tell(shell: Any, *lines: str) -> str:
    """What the interpreter says to these lines."""
    for line in lines[:-1]:
        shell.sendline(line)
        shell.expect(r"\.\.\. ")
    shell.sendline(lines[-1])
    shell.expect(">>> ")
    said: str = shell.before
    return said.split("\n", 1)[1].replace("\r\n", "\n")


@pytest.mark.parametrize("backend", BACKENDS)
def test_at_a_prompt_what_is_defined_there_goes_to_workers_made_before(backend: str, prompt: Any) -> None:
    tell(prompt, "import coterie, time")
    tell(prompt, f"pool = coterie.Pool(2, backend={backend!r})")
    assert tell(prompt, "pool.map(lambda x: x * x, range(5))") == "[0, 1, 4, 9, 16]\n"
    tell(prompt, "class Thing:", "    def __init__(self, x): self.x = x", "")
    tell(prompt, "def make(x):", "    return Thing(x + offset)", "")
    tell(prompt, "offset = 10")
    assert tell(prompt, "[thing.x for thing in pool.map(make, [1, 2])]") == "[11, 12]\n"
    assert tell(prompt, "isinstance(pool.apply(make, (1,)), Thing)") == "True\n"
    tell(prompt, "offset = 20")
    assert tell(prompt, "next(pool.imap(make, [1])).x") == "21\n", "as it is now"
    assert tell(prompt, "pool.apply(print, ('from a worker',))") == "from a worker\n"
    assert "ZeroDivisionError" in tell(prompt, "pool.map(lambda x: 1 // x, [0])")


@pytest.mark.parametrize(
    "line",
    [
        "pool.map(time.sleep, [60] * 4)",
        "pool.apply(time.sleep, (60,))",
        "for result in pool.imap(time.sleep, [60] * 4): pass",
        "next(pool.imap_unordered(lambda x: time.sleep(60), range(4)))",
        "with coterie.Executor(2) as executor: executor.submit(time.sleep, 60).result()",
    ],
)
def test_ctrl_c_at_a_prompt_ends_what_was_asked_and_nothing_else(line: str, prompt: Any) -> None:
    tell(prompt, "import coterie, time")
    tell(prompt, "pool = coterie.Pool(2)")
    assert tell(prompt, "pool.map(abs, [-1])") == "[1]\n"
    # A statement with a colon is ended by an empty line.
    prompt.sendline(line)
    if not line.startswith("pool") and not line.startswith("next"):
        prompt.expect(r"\.\.\. ")
        prompt.sendline("")
    time.sleep(0.7)
    began = time.monotonic()
    prompt.sendintr()  # the terminal tells all processes of the foreground
    prompt.expect(">>> ")
    said = prompt.before
    assert said.count("Traceback") == 1
    assert "KeyboardInterrupt" in said
    assert tell(prompt, "pool.map(lambda x: x + 1, [1, 2])") == "[2, 3]\n", "nobody is busy with it any more"
    assert time.monotonic() - began < 15
    prompt.sendline("exit()")
    prompt.expect_exact("exit()")
    prompt.wait()
    assert prompt.exitstatus == 0


# Programs

PROGRAM = """
import coterie, signal, sys, time

def stubborn(x):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(60)

if __name__ == "__main__":
    executor = coterie.Executor(2)
    print(*executor._processes, flush=True)
    {last}
"""


@pytest.mark.parametrize(
    "last",
    [
        "[executor.submit(time.sleep, 60) for _ in range(10)][0].result()",
        "list(executor.map(time.sleep, [60] * 10))",
        "executor.submit(stubborn, 0).result()",
        "with executor: executor.submit(time.sleep, 60).result()",
    ],
    ids=["submit", "map", "stubborn", "with"],
)
def test_ctrl_c_ends_a_program_whose_executor_is_busy(last: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(last=last))
    program = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    workers = program.stdout.readline().split()
    time.sleep(0.7)
    began = time.monotonic()
    os.killpg(program.pid, signal.SIGINT)
    _, said = program.communicate(timeout=PATIENCE)
    assert time.monotonic() - began < 15
    assert said.count("Traceback") == 1
    assert said.endswith("KeyboardInterrupt\n")
    assert not any(Path("/proc", worker).exists() for worker in workers)


# In a notebook


class Kernel:
    """A real kernel, to which cells are sent."""

    def __init__(self) -> None:
        from jupyter_client.manager import KernelManager  # noqa: PLC0415 - slow, and only here

        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def begin(self, code: str) -> str:
        return str(self.client.execute(code))

    def end(self, asked: str) -> list[dict[str, Any]]:
        """All that the cell showed, in the order in which it came."""
        shown = []
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                return shown
            if message["msg_type"] in {"stream", "execute_result", "display_data", "error"}:
                shown.append(content)

    def run(self, code: str) -> str:
        """The text of what a cell shows; an error is its name."""
        return "".join(
            content.get("text") or content.get("ename") or content["data"]["text/plain"]
            for content in self.end(self.begin(code))
        )

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    kernel.run("import asyncio, coterie, os, time\nfrom coterie import aio")
    yield kernel
    kernel.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_a_notebook_cells_are_known_to_workers(backend: str, kernel: Kernel) -> None:
    kernel.run(f"pool = coterie.Pool(2, backend={backend!r})")
    assert kernel.run("pool.map(lambda x: x * x, range(5))") == "[0, 1, 4, 9, 16]"
    kernel.run(
        "class Thing:\n    def __init__(self, x): self.x = x\ndef make(x):\n    return Thing(x + offset)"
    )
    kernel.run("offset = 10")
    assert kernel.run("[thing.x for thing in pool.imap(make, [1, 2])]") == "[11, 12]"
    assert kernel.run("isinstance(pool.apply(make, (1,)), Thing)") == "True"
    assert kernel.run("pool.map(lambda x: 1 // x, [0])") == "ZeroDivisionError"
    assert "<table>" in kernel.end(kernel.begin("pool.stats()"))[0]["data"]["text/html"]
    # Who joins has heard all that was said.
    assert kernel.run("pool.apply(print, ('from a worker',)); pool.close(); pool.join()") == "from a worker\n"


def test_in_a_notebook_an_executor_and_coroutines_work(kernel: Kernel) -> None:
    assert (
        kernel.run("with coterie.Executor(2) as executor:\n    print(executor.submit(lambda: 7).result())")
        == "7\n"
    )
    cell = "async with aio.Pool(2) as pool:\n    print(await pool.map(lambda x: x + 1, [1, 2]))"
    assert kernel.run(cell) == "[2, 3]\n"


@pytest.mark.parametrize(
    "cell",
    [
        "pool.map(lambda x: time.sleep(60), range(8))",
        "for result in pool.imap(time.sleep, [60] * 8):\n    print(result)",
        "executor = coterie.Executor(2)\nwith executor:\n    executor.submit(time.sleep, 60).result()",
    ],
    ids=["map", "imap", "executor"],
)
def test_in_a_notebook_the_kernel_is_interrupted_and_its_pool_works_on(cell: str, kernel: Kernel) -> None:
    kernel.run("pool = coterie.Pool(2); pool.map(abs, [1])")
    asked = kernel.begin(cell)
    time.sleep(1)
    began = time.monotonic()
    kernel.manager.interrupt_kernel()
    shown = kernel.end(asked)
    assert [content.get("ename") for content in shown] == ["KeyboardInterrupt"]
    assert kernel.run("pool.map(lambda x: x * x, range(4))") == "[0, 1, 4, 9]"
    assert time.monotonic() - began < 15
    kernel.run("pool.terminate(); pool.join()")


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_a_notebook_progress_is_drawn(backend: str, kernel: Kernel) -> None:
    code = f"with coterie.Pool(2, backend={backend!r}, progress=True, name='cells') as pool:\n"
    shown = kernel.run(code + "    print(sum(pool.map(lambda x: x, range(300))))")
    assert "44850" in shown
    assert "cells: 100%" in shown
    assert "300/300" in shown


def test_a_kernel_that_is_killed_leaves_no_workers() -> None:
    kernel = Kernel()
    try:
        pids = kernel.run(
            "import coterie\npool = coterie.Pool(2)\nprint(*[worker.pid for worker in pool._pool])"
        )
        assert all(Path("/proc", pid).exists() for pid in pids.split())
    finally:
        kernel.close()
    deadline = time.monotonic() + 10
    while any(Path("/proc", pid).exists() for pid in pids.split()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
