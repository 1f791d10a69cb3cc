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


# Whether this is a worker, in which we have set them.
_ours = False


def is_decided() -> bool:
    """Whether the user has said how many threads there shall be."""
    return not _ours and any(name in os.environ for name in _VARIABLES)


def limit(threads: int) -> None:
    """At most `threads` for each library of this process and its children; 0 leaves them alone."""
    global _ours  # noqa: PLW0603 - it is the process that has them
    if threads == 0:
        return
    _ours = True
    for name in _VARIABLES:
        os.environ[name] = str(threads)
    if not any(name in sys.modules for name in _LOADERS):
        return
    try:
        import threadpoolctl  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - optional, and seldom needed
    except ImportError:
        return
    threadpoolctl.threadpool_limits(threads)
