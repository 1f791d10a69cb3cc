"""How many processors this process may use."""

from __future__ import annotations

import os

from coterie.exceptions import ConfigError

# Paths are plain strings: pathlib, which half of all programs never load, would double the time that a pool takes to start.


# A pool in a worker of a pool in …: how deep this process is, and how many share the processors.
DEPTH_MAX = 3
depth = 0
sharers = 1


def descend(new_depth: int, new_sharers: int) -> None:
    """Say that we are a worker."""
    global depth, sharers
    depth, sharers = new_depth, new_sharers


def check_depth() -> None:
    """Refuse a pool that would be too deep."""
    if depth >= DEPTH_MAX:
        raise ConfigError(
            f"pools in workers of pools, {DEPTH_MAX} deep: each level multiplies processes, and this is one too many"
        )


def available() -> int:
    """Processors that this process may use: its affinity, what its control group allows, its share as a worker."""
    return max(1, _allowed() // sharers)


def _allowed() -> int:
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        allowed = os.cpu_count() or 1
    quota = _quota("/sys/fs/cgroup", "/proc/self/cgroup")
    return max(1, allowed if quota is None else min(allowed, int(quota + 0.999)))


def _quota(root: str, membership: str) -> float | None:
    """The least quota of this process's control group and those above it, in processors."""
    least: float | None = None
    try:
        lines = _read(membership).splitlines()
    except (OSError, ValueError):
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder, read = root, _quota_of_version_2
        elif "cpu" in controllers.split(","):
            folder, read = f"{root}/cpu", _quota_of_version_1
        else:
            continue
        names = [name for name in path.split("/") if name]
        for depth in range(len(names) + 1):
            found = read("/".join([folder, *names[:depth]]))
            if found is not None:
                least = found if least is None else min(least, found)
    return least


def _read(path: str) -> str:
    # The encoding that every interpreter has loaded.
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - see above
        return file.read()


def _quota_of_version_2(group: str) -> float | None:
    try:
        quota, period = _read(f"{group}/cpu.max").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_of_version_1(group: str) -> float | None:
    try:
        quota = int(_read(f"{group}/cpu.cfs_quota_us"))
        period = int(_read(f"{group}/cpu.cfs_period_us"))
        return None if quota <= 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
