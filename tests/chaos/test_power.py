"""The power of all members fails at once, again and again: what was acknowledged is on their disks.

A SIGKILL alone loses nothing, as the page cache outlives it. So members run under the shim of ``tests/preload``, and after
they were killed all or some of what they had not synced is undone, as a seed has it. ``make test-power`` builds the shim.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import subprocess
import time
from pathlib import Path

import pytest

from judgement import Judgement, await_watches, judge, kept_below_log
from machines import Group, Machine
from workload import Plan

SECONDS = float(os.environ.get("COTERIE_POWER_SECONDS", "15"))
SEED = int(os.environ.get("COTERIE_CHAOS_SEED") or secrets.randbelow(1 << 32))
SHIM = Path(os.environ.get("COTERIE_PRELOAD", Path(__file__).parents[2] / "target" / "preload" / "release"))
# New files and snapshots all the time: those are the moments at which names can be lost.
SETTINGS = {"segment_bytes": 1 << 16, "snapshot_entries": 60, "history": 60.0}
PLAN = Plan(pace=0.004)

pytestmark = pytest.mark.skipif(
    not (SHIM / "libpreload.so").exists(), reason=f"{SHIM} has no shim: make test-power builds it"
)


@pytest.mark.timeout(SECONDS * 2 + 200)
def test_what_was_acknowledged_outlives_the_power(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = random.Random(SEED)
    group = grouped(tmp_path)
    rounds = writes = 0
    try:
        group.start()
        group.write()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            time.sleep(drawn.uniform(0.05, 0.6))
            writes += fail_power(group, 0 if rounds == 0 else drawn.randrange(1, 1 << 32))
            rounds += 1
            if drawn.random() < 0.3:
                # Once more, wherever they have come to.
                start(group)
                time.sleep(drawn.uniform(0, 0.4))
                writes += fail_power(group, drawn.randrange(1, 1 << 32))
                rounds += 1
            start(group)
            for machine in group.members:
                machine.wait_until_up()
            group.write()
        judgement = end(group)
    except Exception as error:
        error.add_note(f"COTERIE_CHAOS_SEED={SEED}, in round {rounds}")
        raise
    finally:
        group.close()
    with capsys.disabled():
        print(
            f"\npower: COTERIE_CHAOS_SEED={SEED}; lost {rounds} times, with {writes} changes of files and names, which "
            f"nobody had been promised; {judgement.writes} acknowledged writes; load {os.getloadavg()[0]:.1f}"
        )
    assert writes > 0, "nothing was ever lost: the shim does not work"
    assert not judgement.problems, f"COTERIE_CHAOS_SEED={SEED}: " + "\n".join(judgement.problems[:20])


@pytest.mark.timeout(100)
def test_disks_that_only_say_that_they_have_synced_are_caught(tmp_path: Path) -> None:
    group = grouped(tmp_path, lies=True)
    try:
        group.start()
        group.write()
        time.sleep(0.5)
        fail_power(group, 0)
        start(group)
        for machine in group.members:
            machine.wait_until_up()
        # Sessions from before are strangers' now, and may have a new one's number.
        while True:
            with contextlib.suppress(TimeoutError):
                group.write()
                break
        judgement = end(group)
    finally:
        group.close()
    assert any("lost, though it was acknowledged" in problem for problem in judgement.problems)


def grouped(folder: Path, *, lies: bool = False) -> Group:
    names = [f"n{number}" for number in range(3)]
    environments = {
        name: {
            "LD_PRELOAD": str(SHIM / "libpreload.so"),
            "PRELOAD_FOLDER": str(folder / name),
            "PRELOAD_LOG": str(folder / f"{name}.undo"),
            "PRELOAD_LIES": "1" if lies else "0",
        }
        for name in names
    }
    return Group(
        folder,
        members=3,
        seed=SEED,
        plan=PLAN,
        outside=1,
        inside=0,
        threads=4,
        settings=SETTINGS,
        environments=environments,
    )


def start(group: Group) -> None:
    for machine in group.members:
        machine.start()


def fail_power(group: Group, seed: int) -> int:
    """All at once. Returns how many changes of files and names were lost."""
    group.kill_members()
    return sum(lose(machine, seed + number if seed else 0) for number, machine in enumerate(group.members))


def lose(machine: Machine, seed: int) -> int:
    log = machine.folder.with_name(f"{machine.name}.undo")
    said = subprocess.run(
        [str(SHIM / "lose-power"), str(machine.folder), str(log), str(seed)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    writes, _, _, _, _, names, *_ = said.split()  # 3 writes lost, 1 kept, 2 names lost
    return int(writes) + int(names)


def end(group: Group) -> Judgement:
    for machine in group.outside:
        machine.ask("stop")
    with group.connect() as client:
        kept = kept_below_log(client)
    await_watches(group.folder / "records", kept)
    return judge(group.folder / "records", kept, strict=False)
