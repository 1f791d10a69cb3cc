"""The pool: `pool.py` is its face, and the files beside it are what that needs.

- `results.py`: what the pool answers with.
- `functions.py`: how functions and arguments travel.
- `starters.py`, `template.py`, `worker.py`: how workers come to be, and what they do.
- `cpus.py`: how many there should be.
"""

from __future__ import annotations
