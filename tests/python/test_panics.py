"""A panic in Rust is an exception like any other."""

from __future__ import annotations

import subprocess
import sys

import pytest

import coterie
from coterie import _coterie


def test_a_panic_becomes_an_internal_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(coterie.InternalError, match="provoked by a test"):
        _coterie.provoke_panic()
    # Rust's own report goes to standard error, and names the line.
    assert "src/bindings" in capfd.readouterr().err


def test_except_exception_catches_it_and_the_process_goes_on() -> None:
    program = """
from coterie import _coterie
for _ in range(3):
    try:
        _coterie.provoke_panic()
    except Exception as error:
        print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["InternalError"] * 3


def test_the_message_asks_for_a_report() -> None:
    with pytest.raises(coterie.InternalError, match="please report it"):
        _coterie.provoke_panic()
