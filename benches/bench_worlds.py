"""How fast simulated worlds go: events a second on one core, with all invariants on.

    python benches/bench_worlds.py [--worlds 300] [--rounds 3]

An event is one call of a verb. The targets: a million a second in the standard world with all invariants; 10,000
standard worlds of 60 simulated seconds within 15 minutes on 2 cores. Known of others, without a protocol, a disk or a
check to run: madsim delivers 0.91 million bare messages a second, turmoil 0.46 million (measured on another machine of
two cores; run them on yours before you compare).
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
KINDS = {
    "the standard world: a replica and its clients": ["--world", "replica"],
    "Raft alone": ["--world", "bare"],
    "Raft alone, through bytes": ["--world", "bare", "--fidelity", "bytes"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    run = ["cargo", "run", "--quiet", "--release", "--locked", "--example", "worlds", "--", "--threads", "1"]

    print(f"{'one core':50} {'M events/s':>10} {'simulated s/s':>14}")
    for name, arguments in KINDS.items():
        rates = []
        for number in range(chosen.rounds):
            seeds = ["--from", str(1_000_000 * number), "--count", str(chosen.worlds)]
            said = subprocess.run(
                [*run, *arguments, *seeds], check=True, capture_output=True, text=True, cwd=HERE.parent
            )
            events = re.search(r"([\d.]+) M a second; (\d+) simulated", said.stdout)
            assert events is not None, said.stdout
            rates.append((float(events[1]), int(events[2])))
        million, simulated = (median(column) for column in zip(*rates, strict=True))
        print(f"{name:50} {million:10.2f} {simulated:14,.0f}", flush=True)


if __name__ == "__main__":
    main()
