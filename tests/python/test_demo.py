"""The command, as it is typed."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import coterie
from coterie import _demo


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "coterie", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def test_version() -> None:
    assert run("--version").stdout == f"coterie {coterie.__version__}\n"


def test_the_installed_command_is_the_module() -> None:
    command = Path(sys.executable).with_name("coterie")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == run("--version").stdout


def test_without_a_command_it_says_what_there_is() -> None:
    done = run()
    assert done.returncode == 2
    assert "demo" in done.stderr


def test_the_tour_has_all_chapters_and_ends_with_what_to_type_next() -> None:
    done = run("demo")
    assert done.returncode == 0, done.stderr
    for number, chapter in enumerate(_demo.CHAPTERS, 1):
        assert f"\n{number}. {chapter.__doc__}\n" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("Next: ")
    command = shlex.split(last.removeprefix("Next: "))
    assert "ConsistentHash" in subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert "\x1b" not in done.stdout, "escape codes are for terminals"


def test_the_act_with_members_finds_every_acknowledged_write_after_the_kill() -> None:
    *_, table, about_the_lock = _demo.members()
    assert isinstance(table, _demo.Table)
    rows = {row[0]: row[1:] for row in table.rows}
    assert all(isinstance(count, int) and count >= _demo.ENOUGH // 2 for count in rows["acknowledged"])
    assert rows["acknowledged and lost"][-1] == 0
    assert "token" in str(about_the_lock)


def test_on_a_terminal_tables_are_drawn() -> None:
    pytest.importorskip("rich", reason="rich is optional")
    # A terminal of our own: rich looks for one, and for the size of it.
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"}
        command = [sys.executable, "-m", "coterie", "demo"]
        child = subprocess.Popen(command, stdout=theirs, env=environment)
        os.close(theirs)
        shown = b""
        while chunk := read(screen.fileno()):
            shown += chunk
        assert child.wait(timeout=60) == 0
    assert "┃" in shown.decode()


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says EIO where the other end of a terminal is closed
        return b""


def test_plain_tables_stand_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    _demo._print_plainly(_demo.Table(["node", "keys"], [["a", 12345], ["long name", "–"]]))
    assert capsys.readouterr().out.splitlines() == [
        "  node         keys",
        "  a          12,345",
        "  long name       –",
    ]
