"""The pool: `pool.py` is its face, and the files beside it are what that needs.

- `results.py`, `outcome.py`, `stats.py`, `progress.py`: what the pool answers with, and tells meanwhile.
- `functions.py`: how functions and arguments travel.
- `starters.py`, `template.py`, `worker.py`: how workers come to be, and what they do.
- `relay.py`, `seeds.py`, `limits.py`: what surrounds a task: handlers and streams, random numbers, numeric threads.
- `cpus.py`: how many workers there should be.
- `executor.py`, `asynchronous.py`: the same core behind other faces. `elsewhere.py`: what stands for them on other
  systems than Linux and macOS.
"""

from __future__ import annotations
