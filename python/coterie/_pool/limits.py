"""How many threads the numeric libraries of a worker use: together no more than there are processors."""

from __future__ import annotations

import os
import sys

# What OpenMP and the BLAS libraries read when they are loaded. Who has set one of them has decided.
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
# Who brings such a library.
_LOADERS = ("numpy", "scipy", "torch", "sklearn", "numexpr")


def limit(threads: int) -> None:
    """At most `threads` for each library of this process and its children; 0 leaves them alone."""
    if threads == 0 or any(name in os.environ for name in _VARIABLES):
        return
    for name in _VARIABLES:
        os.environ[name] = str(threads)
    if not any(name in sys.modules for name in _LOADERS):
        return
    try:
        import threadpoolctl  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - optional, and seldom needed
    except ImportError:
        return
    threadpoolctl.threadpool_limits(threads)
