"""How small failing worlds become, and how long that takes.

    python benches/bench_shrink.py [--ranges 4] [--patience 30] [--world replica|store|all]

Plants each bug in turn (Raft's in worlds of a replica, the replica's and the store's in worlds of a store), takes the
first world of each range of seeds in which it is seen, and shrinks it on one core. Printed is what `examples/worlds.rs`
says: faults and seconds before and after, the seconds that it took, and the medians.
The targets: the median failure to at most 10 faults and 10 % of the run within 30 s, and always the same failure. No
other simulator that we know of shrinks worlds, so there is nobody to compare with.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranges", type=int, default=4, help="failures of each planted bug")
    parser.add_argument("--patience", type=int, default=30, help="seconds for each failure at most")
    parser.add_argument("--world", choices=["replica", "store", "all"], default="all", help="whose bugs")
    chosen = parser.parse_args()
    run = [
        "cargo",
        "run",
        "--quiet",
        "--release",
        "--locked",
        "--example",
        "worlds",
        "--features",
        "mutants",
        "--",
    ]
    what = [
        "--mutants",
        "all",
        "--threads",
        "1",
        "--ranges",
        str(chosen.ranges),
        "--shrink",
        str(chosen.patience),
    ]
    worlds = ["replica", "store"] if chosen.world == "all" else [chosen.world]
    for world in worlds:
        print(f"bugs seen in worlds of a {world}", flush=True)
        subprocess.run([*run, *what, "--world", world], check=True, cwd=HERE.parent)


if __name__ == "__main__":
    main()
