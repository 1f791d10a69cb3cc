"""Our Raft core against tikv/raft-rs, in memory: three members in one thread, no disk, no network.

    python benches/bench_raft_core.py [--seconds 0.5] [--rounds 5]

Builds `benches/raftcore` (raft-rs needs protoc; grpcio-tools brings one when the machine has none) and runs both cores
in turn. The median of the rounds counts, and the ratio is the median of the ratios of neighbours. The targets: 3 times
raft-rs by value, 2.5 times through encoded bytes, twice in elections and transfers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
WORKS = [
    *(
        f"propose {size} {in_flight} {way}"
        for way in ("value", "wire")
        for size in (16, 256)
        for in_flight in (1, 16, 256, 4096)
    ),
    "elections",
    "transfers",
]


def protoc(folder: Path) -> str:
    """The machine's protoc, or a script that stands for the one in grpcio-tools."""
    found = os.environ.get("PROTOC") or shutil.which("protoc")
    if found:
        return found
    script = folder / "protoc"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m grpc_tools.protoc "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def build() -> str:
    manifest = HERE / "raftcore" / "Cargo.toml"
    target = os.environ.get("CARGO_TARGET_DIR") or str(HERE.parent / "target")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                "cargo",
                "build",
                "--quiet",
                "--release",
                "--locked",
                "--manifest-path",
                manifest,
                "--target-dir",
                target,
            ],
            check=True,
            env={**os.environ, "PROTOC": protoc(Path(folder))},
        )
    return str(Path(target) / "release" / "raftcore")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds a measurement")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    program = build()

    def rate(core: str, work: str) -> float:
        command = [program, core, *work.split(), str(chosen.seconds)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    print(f"{'a second':32} {'raft-rs':>12} {'coterie':>12} {'ratio':>6}")
    for work in WORKS:
        pairs = [(rate("raft-rs", work), rate("coterie", work)) for _ in range(chosen.rounds)]
        theirs, ours = (median(side) for side in zip(*pairs, strict=True))
        ratio = median(our / their for their, our in pairs)
        print(f"{work:32} {theirs:12,.0f} {ours:12,.0f} {ratio:6.1f}", flush=True)


if __name__ == "__main__":
    main()
