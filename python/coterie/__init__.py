"""The building blocks of distributed systems, inside your own Python processes.

- `ConsistentHash`: keys to nodes; its kin are in `coterie.ring`.
- `coterie.balance`: requests to backends.
- `Pool`: work for many processes, a drop-in for `multiprocessing.Pool`.
- `coterie.raft`: consensus, as a machine that can be driven by hand; `coterie.protocol`: the shape of such machines.
- `coterie.sim`: deterministic worlds in which protocols, ours and yours, meet failures.
- `coterie.textbook`: the classes of the articles that Coterie grew from, on real protocols.
- `CoterieError` and the rest of the family: what can go wrong.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from coterie._coterie import version as _version
from coterie.exceptions import (
    ConfigError,
    CoterieError,
    EmptyRingError,
    InternalError,
    InvariantViolated,
    NoBackendError,
    RequestError,
    StoppedError,
    TaskError,
    UnavailableError,
    UnknownNodeError,
    UnknownOutcomeError,
    WorkerDiedError,
)
from coterie.ring import ConsistentHash

if TYPE_CHECKING:
    from coterie import (
        balance as balance,
        protocol as protocol,
        raft as raft,
        ring as ring,
        sim as sim,
        textbook as textbook,
    )
    from coterie._pool.pool import Pool as Pool
    from coterie._pool.timeouts import TaskTimeoutError as TaskTimeoutError

__all__ = [
    "ConfigError",
    "ConsistentHash",
    "CoterieError",
    "EmptyRingError",
    "InternalError",
    "InvariantViolated",
    "NoBackendError",
    "Pool",
    "RequestError",
    "StoppedError",
    "TaskError",
    "TaskTimeoutError",
    "UnavailableError",
    "UnknownNodeError",
    "UnknownOutcomeError",
    "WorkerDiedError",
]

# From the compiled module: reading the package's metadata would cost milliseconds at each import.
__version__ = _version()

# Names that are loaded when somebody first asks for them, and where they are.
_LATER = {"Pool": "coterie._pool.pool", "TaskTimeoutError": "coterie._pool.timeouts"}
_MODULES = ("balance", "protocol", "raft", "ring", "sim", "textbook")


def __getattr__(name: str) -> Any:
    # A module is loaded when somebody first names it, so that `import coterie` costs little however much there is.
    if name in _MODULES:
        return import_module(f"coterie.{name}")
    if name in _LATER:
        thing = globals()[name] = getattr(import_module(_LATER[name]), name)
        return thing
    raise AttributeError(f"module 'coterie' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, "__version__", "exceptions"})
