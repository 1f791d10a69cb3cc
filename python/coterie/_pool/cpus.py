"""How many processors this process may use."""

from __future__ import annotations

import os
from pathlib import Path


def available() -> int:
    """Processors that this process may use: its affinity, and what its control group allows."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        allowed = os.cpu_count() or 1
    quota = _quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return max(1, allowed if quota is None else min(allowed, int(quota + 0.999)))


def _quota(root: Path, membership: Path) -> float | None:
    """The least quota of this process's control group and those above it, in processors."""
    least: float | None = None
    try:
        lines = membership.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder, read = root, _quota_of_version_2
        elif "cpu" in controllers.split(","):
            folder, read = root / "cpu", _quota_of_version_1
        else:
            continue
        group = folder / path.lstrip("/")
        for place in (group, *group.parents):
            if folder not in (place, *place.parents):
                break
            found = read(place)
            if found is not None:
                least = found if least is None else min(least, found)
    return least


def _quota_of_version_2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_of_version_1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = int((group / "cpu.cfs_period_us").read_text(encoding="ascii"))
        return None if quota <= 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
