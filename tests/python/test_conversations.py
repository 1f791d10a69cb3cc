"""The conversations of ``tests/scripts``, which Rust replays too, go the same way on ``coterie.raft.Node``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
SCRIPTS = sorted((HERE.parent / "scripts").glob("*.txt"))


def beside(name: str) -> ModuleType:
    """A module of this folder: the tests are files, not a package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


conversation = beside("conversation")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_it_goes_as_it_is_written(path: Path) -> None:
    script = path.read_text(encoding="utf-8")
    said, commands = conversation.replay(script)
    assert commands > 0
    assert said.rstrip().splitlines() == script.rstrip().splitlines()


def test_the_guard_sees_the_scripts() -> None:
    assert len(SCRIPTS) >= 30


@pytest.mark.parametrize(
    "line",
    [
        "fly 1",
        'propose 9 "x"',
        "members 1 2 colour=red",
        "advance soon",
        "members 1\nexpect-leader 1\n----\n",
    ],
)
def test_nonsense_and_broken_expectations_are_reported(line: str) -> None:
    with pytest.raises(conversation.Broken, match="line"):
        conversation.replay(line)
