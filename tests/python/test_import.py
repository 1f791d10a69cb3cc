"""What `import coterie` brings along, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Each costs more than Coterie's own import, and none is needed before it is used.
HEAVY = ["asyncio", "concurrent.futures", "importlib.metadata", "multiprocessing", "numpy", "rich", "tqdm"]


def modules_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, env=environment()
    )
    return set(done.stdout.split())


def environment() -> dict[str, str]:
    # -S keeps `.pth` files of other packages from importing things that would be blamed on us.
    return {"PYTHONPATH": ":".join(path for path in sys.path if path)}


@pytest.mark.parametrize("heavy", HEAVY)
def test_import_leaves_heavy_modules_alone(heavy: str) -> None:
    assert heavy not in modules_after("import coterie")


def test_modules_are_loaded_when_they_are_named() -> None:
    ours = {
        "coterie._coterie",
        "coterie.balance",
        "coterie.raft",
        "coterie.ring",
        "coterie.sim",
        "coterie.textbook",
    }
    assert not ours & modules_after("import coterie")
    assert ours <= modules_after("import coterie; coterie.textbook, coterie.balance, coterie.ring")


def test_the_guard_sees_imports() -> None:
    seen = modules_after("import coterie, asyncio; coterie.ConsistentHash")
    assert {"coterie", "coterie._coterie", "asyncio"} <= seen
