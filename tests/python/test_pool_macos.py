"""What a pool does otherwise on macOS, as far as another system can show it.

`make test-portable-pool` runs the rest, and all other tests of pools, on the pipes that macOS has.
"""

from __future__ import annotations

import errno
import logging
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from coterie._pool import relay
from coterie._pool.relay import Relay, _say, _send

PROGRAM = """
import logging, sys
sys.platform = "darwin"
import coterie

def square(x):
    logging.getLogger("tale").warning("heard of %d", x)
    return x * x

class Keep(logging.Handler):
    def emit(self, record):
        heard.append(record.getMessage())

if __name__ == "__main__":
    heard = []
    logging.getLogger().addHandler(Keep())
    with coterie.Pool(2) as pool:
        print(type(pool._starter).__name__, pool._pool[0]._start_method, pool.map(square, range(4)))
        print(pool.map(len, [bytes(1 << 20)] * 3))
        with coterie.Executor(1) as executor:
            print(executor.submit(square, 5).result())
    print(sorted(heard))
"""


def test_workers_are_spawned_and_heard(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=100, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "ByContext spawn [0, 1, 4, 9]",
        "[1048576, 1048576, 1048576]",
        "25",
        "['heard of 0', 'heard of 1', 'heard of 2', 'heard of 3', 'heard of 5']",
    ]


class _Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def emit(self, record: logging.LogRecord) -> None:
        self.gate.wait()
        self.heard.append(record.getMessage())


@pytest.fixture
def keep() -> Iterator[_Keep]:
    keep = _Keep()
    logger = logging.getLogger("datagrams")
    logger.addHandler(keep)
    logger.propagate = False
    yield keep
    keep.gate.set()
    logger.removeHandler(keep)


def record(text: str) -> tuple[str, dict[str, Any]]:
    return ("log", {"name": "datagrams", "levelno": logging.WARNING, "msg": text, "args": None})


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, relay._KIND])
def test_all_that_was_said_before_the_end_is_heard(
    monkeypatch: pytest.MonkeyPatch, keep: _Keep, kind: int
) -> None:
    monkeypatch.setattr(relay, "_KIND", kind)
    ours = Relay()
    ours.listen()

    def speak(name: str) -> None:
        for number in range(100):
            _say(ours.theirs, record(f"{name}{number:03} {'x' * (1 << 14)}"), None)

    speakers = [threading.Thread(target=speak, args=(name,)) for name in "ab"]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join()
    ours.stop()
    assert len(keep.heard) == 200
    for name in "ab":
        assert [text[1:4] for text in keep.heard if text[0] == name] == [
            f"{number:03}" for number in range(100)
        ]


def test_a_handler_that_does_not_return_keeps_no_pool_from_its_end(
    monkeypatch: pytest.MonkeyPatch, keep: _Keep
) -> None:
    monkeypatch.setattr(relay, "_KIND", socket.SOCK_DGRAM)
    monkeypatch.setattr(relay, "_PATIENCE", 0.2)
    keep.gate.clear()
    ours = Relay()
    ours.listen()
    ours.theirs.settimeout(0.05)
    said = pickle.dumps(record("never heard"))
    told = 0
    while _send(ours.theirs, said):
        told += 1  # until there is no room
    assert told > 1
    began = time.monotonic()
    ours.stop()
    assert time.monotonic() - began < 30
    assert keep.heard == []


class _Mouth:
    """A datagram socket of a BSD: it refuses what there is no room for, and does not wait."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals

    def send(self, said: bytes, flags: int) -> int:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOBUFS, "No buffer space available")
        return len(said) + flags


def test_who_finds_no_room_waits_for_it_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _send(cast("socket.socket", _Mouth(5)), b"word")
    monkeypatch.setattr(relay, "_PATIENCE", 0.05)
    assert not _send(cast("socket.socket", _Mouth(1_000_000)), b"word")
