"""Real processes, and everything that happens to them: what members promise holds all the same.

The seed is printed; ``COTERIE_CHAOS_SEED`` takes one, ``COTERIE_CHAOS_SECONDS`` says for how long, and
``COTERIE_CHAOS_FAULTS`` which kinds (``kill;pause``), and ``COTERIE_CHAOS_FEATURES`` with what (``tls;read lease;grace``, or
``none``). A seed draws the same features, and the same faults in the same order; when exactly they hit is the machine's to
say. What a failed run leaves behind is kept.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults import Faults, small_disk
from judgement import Judgement, await_watches, judge, kept_below_log
from machines import Group
from workload import Plan

SECONDS = float(os.environ.get("COTERIE_CHAOS_SECONDS", "40"))
SEED = int(os.environ.get("COTERIE_CHAOS_SEED") or secrets.randbelow(1 << 32))
# What a run may have besides, each or not.
FEATURES = ("grace", "read lease", "tls")
READ_LEASE = 0.03
# The journal begins anew every few seconds, so that crashes meet snapshots and new files, too.
SETTINGS = {"segment_bytes": 1 << 20, "snapshot_entries": 500, "history": 60.0}


@pytest.mark.timeout(SECONDS * 2 + 300)
def test_nothing_is_lost_stale_or_held_twice_whatever_happens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = drawn_features(SEED)
    # Locks of who is gone are given back at once, or after their time alone: both are promised something.
    grace = 0.03 if "grace" in features else None
    settings: dict[str, Any] = SETTINGS | ({"read_lease": READ_LEASE} if "read lease" in features else {})
    with capsys.disabled():
        print(
            f"\nchaos: {SECONDS:g} s, COTERIE_CHAOS_SEED={SEED}, with {' and '.join(features) or 'nothing else'}"
        )
    with small_disk(tmp_path / "n4") as why_not, kept_on_failure(tmp_path):
        group = Group(
            tmp_path,
            members=5,
            seed=SEED,
            plan=Plan(),
            grace=grace,
            settings=settings,
            certificates="tls" in features,
        )
        try:
            faults, judgement = run(group, SECONDS, None if why_not else "n4", strict=grace is None)
        finally:
            group.close()
        with capsys.disabled():
            report(faults, judgement, why_not)
        assert not judgement.problems, f"COTERIE_CHAOS_SEED={SEED}: " + "\n".join(judgement.problems[:20])


def test_what_a_failed_run_leaves_behind_is_kept_and_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = tmp_path / "run", tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(kept))
    (folder / "n0").mkdir(parents=True)
    (folder / "n0" / "journal").write_bytes(b"what it had written")
    with kept_on_failure(folder):
        pass
    assert not list(kept.iterdir())
    with pytest.raises(ZeroDivisionError) as failure, kept_on_failure(folder):
        raise ZeroDivisionError
    shutil.rmtree(folder)
    [note] = failure.value.__notes__
    [where] = kept.iterdir()
    assert str(where) in note
    assert (where / "n0" / "journal").read_bytes() == b"what it had written"


def test_a_client_that_calls_refused_writes_acknowledged_is_caught(tmp_path: Path) -> None:
    plan = Plan(lies=True, patience=0.1)
    group = Group(tmp_path, members=3, seed=1, plan=plan, outside=1, inside=0)
    try:
        group.start()
        group.write()
        for machine in group.members[:2]:
            machine.kill()
        time.sleep(2)
        for machine in group.members[:2]:
            machine.start()
            machine.wait_until_up()
        judgement = end(group, strict=False)
    finally:
        group.close()
    assert any("lost, though it was acknowledged" in problem for problem in judgement.problems)


def drawn_features(seed: int) -> list[str]:
    """Which of the features a run has."""
    if chosen := os.environ.get("COTERIE_CHAOS_FEATURES"):
        features = [] if chosen == "none" else chosen.split(";")
        assert set(features) <= set(FEATURES), f"features are {', '.join(FEATURES)}"
        return features
    drawn = random.Random(f"features of {seed}")
    return [feature for feature in FEATURES if drawn.random() < 0.5]


@contextlib.contextmanager
def kept_on_failure(folder: Path) -> Iterator[None]:
    """Copies a folder to where nobody clears up, when what is done in it fails, and says where."""
    try:
        yield
    except BaseException as error:
        kept = tempfile.mkdtemp(prefix="coterie-chaos-")
        shutil.copytree(folder, kept, dirs_exist_ok=True, symlinks=True)
        error.add_note(f"what the run left behind, journals and records, is kept in {kept}")
        raise


def run(group: Group, seconds: float, disk: str | None, *, strict: bool) -> tuple[Faults, Judgement]:
    """Faults, one after the other; each time, a write must be acknowledged when all is well again."""
    only = os.environ.get("COTERIE_CHAOS_FAULTS", "")
    faults = Faults(group, group.seed, small_disk=disk, only=only)
    group.start()
    group.write()
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            faults.round()
            group.check()
            group.write()
    except Exception as error:
        error.add_note(f"COTERIE_CHAOS_SEED={group.seed}, after {dict(faults.counts)}")
        raise
    return faults, end(group, strict=strict)


def end(group: Group, *, strict: bool) -> Judgement:
    """Lets clients finish, and judges."""
    for machine in group.machines:
        machine.ask("stop")
    with group.connect() as client:
        kept = kept_below_log(client)
        for number in range(group.plan.locks):
            # Whoever held it is gone, or has given it back.
            assert client.lock(f"door{number}", ttl=1.0).acquire(timeout=10), "a lock that nobody can have"
    await_watches(group.folder / "records", kept)
    return judge(group.folder / "records", kept, strict=strict)


def report(faults: Faults, judgement: Judgement, why_not: str) -> None:
    """What happened, for people."""
    print(f"  load {os.getloadavg()[0]:.1f}")
    print("  faults: " + ", ".join(f"{name} {count}" for name, count in sorted(faults.counts.items())))
    if why_not:
        print(f"  no full disk: {why_not}")
    print("  operations: " + ", ".join(f"{name} {n}" for name, n in sorted(judgement.operations.items())))
    for error, count in judgement.errors.most_common(8):
        print(f"    {count} × {error[:150]}")
    print(
        f"  {judgement.writes} acknowledged writes, {judgement.sections} lock sections, of which "
        f"{judgement.overlaps} were told too late that they were over; {judgement.events} events"
    )
    for length, begun in judgement.gaps[:3]:
        during = next(
            (
                what
                for start, end, what in faults.under_way
                if start <= begun / 1e9 + length and begun / 1e9 <= end
            ),
            "nothing",
        )
        print(f"  {length:.2f} s without an acknowledged write, during: {during}")
