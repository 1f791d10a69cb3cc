"""What `import coterie` costs beyond the interpreter's start.

    python benches/bench_import.py [--rounds 31]

Both are started in turn; the median of the differences counts. Wanted: under 30 ms.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median


def milliseconds(program: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    rounds = parser.parse_args().rounds
    milliseconds("import coterie")  # once, so that both are read from memory
    pairs = [(milliseconds("pass"), milliseconds("import coterie")) for _ in range(rounds)]
    print(f"interpreter {median(bare for bare, _ in pairs):.1f} ms", end=", ")
    print(f"import coterie {median(full - bare for bare, full in pairs):.1f} ms more")


if __name__ == "__main__":
    main()
