"""How many threads the numeric libraries of a worker use: together no more than there are processors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

# What OpenMP and the BLAS libraries read when they are loaded. Who has set one of them has decided.
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
# What their files are called.
_LIBRARIES = ("openblas", "mkl_rt", "blis", "flexiblas", "libgomp", "libiomp", "libomp", "vcomp")
# Who brings such a library.
_LOADERS = ("numpy", "scipy", "torch", "sklearn", "numexpr")


# No machine has more processors: another number is something else.
_SANE = 1 << 16
# Whether this is a worker, in which we have set them.
_ours = False


def is_decided() -> bool:
    """Whether the user has said how many threads there shall be."""
    return not _ours and any(name in os.environ for name in _VARIABLES)


def announce(threads: int) -> None:
    """At most `threads` for each library that this process and its children will load; 0 leaves them alone."""
    global _ours  # noqa: PLW0603 - it is the process that has them
    if threads == 0:
        return
    _ours = True
    for name in _VARIABLES:
        os.environ[name] = str(threads)


def limit(threads: int, libraries: Iterable[str] | None) -> None:
    """At most `threads` for each of the `libraries` that this process has loaded; it looks for them itself if need be.

    In each worker, and not before it is forked: some libraries make their threads anew when they are told, and join
    them at each fork.
    """
    if threads == 0:
        return
    paths = set(loaded() if libraries is None else libraries)
    openblas = {path for path in paths if "openblas" in path.rsplit("/", 1)[1]}
    for path in openblas:
        _limit_openblas(path, threads)
    if paths <= openblas:
        return
    try:
        import threadpoolctl  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415 - optional, and seldom needed
    except ImportError:
        return
    threadpoolctl.threadpool_limits(threads)


def loaded() -> tuple[str, ...]:
    """Paths of what this process has loaded and could have threads of its own."""
    global _seen  # noqa: PLW0603 - a process that makes many pools looks once
    if not any(name in sys.modules for name in _LOADERS):
        return ()
    if _seen[0] != len(sys.modules):
        paths = _images() if sys.platform == "darwin" else _mapped()
        found = (path for path in paths if any(name in path.rsplit("/", 1)[1] for name in _LIBRARIES))
        _seen = (len(sys.modules), tuple(found))
    return _seen[1]


def _mapped() -> set[str]:
    """Files that are mapped into this process, on Linux."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123 - pathlib loads slowly
        return {line[line.index("/") :].rstrip() for line in maps if "/" in line}


def _images() -> set[str]:
    """What macOS's linker has loaded into this process."""
    import ctypes  # noqa: PLC0415 - who has loaded such a library has loaded this

    linker = ctypes.CDLL(None)
    name = linker._dyld_get_image_name
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.c_uint32]
    paths = (name(place) for place in range(linker._dyld_image_count()))
    return {path.decode(errors="replace") for path in paths if path and b"/" in path}


# How many modules there were when we looked, and what was found.
_seen: tuple[int, tuple[str, ...]] = (-1, ())


def _limit_openblas(path: str, threads: int) -> None:
    """By its own means: to import threadpoolctl takes ten times as long as to start a worker."""
    import ctypes  # noqa: PLC0415 - who has loaded such a library has loaded this

    try:
        library = ctypes.CDLL(path)
    except OSError:
        return
    try:
        # Its function would start its threads, which a forked process does not have yet, only to let them be idle.
        count = ctypes.c_int.in_dll(library, "blas_cpu_number")
    except ValueError:
        pass
    else:
        if threads <= count.value <= _SANE:
            count.value = threads
            return
    for name in (
        f"{prefix}openblas_set_num_threads{suffix}"
        for prefix in ("scipy_", "")
        for suffix in ("64_", "", "_64")
    ):
        function = getattr(library, name, None)
        if function is not None:
            function(ctypes.c_int(threads))
            return
