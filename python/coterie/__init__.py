"""The building blocks of distributed systems, inside your own Python processes.

- `ConsistentHash`: keys to nodes; its kin are in `coterie.ring`.
- `coterie.balance`: requests to backends.
- `coterie.check`: whether what a system did can be explained: histories and their judge.
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
    UnavailableError,
    UnknownNodeError,
    UnknownOutcomeError,
)
from coterie.ring import ConsistentHash

if TYPE_CHECKING:
    from coterie import (
        balance as balance,
        check as check,
        protocol as protocol,
        raft as raft,
        ring as ring,
        sim as sim,
        textbook as textbook,
    )

__all__ = [
    "ConfigError",
    "ConsistentHash",
    "CoterieError",
    "EmptyRingError",
    "InternalError",
    "InvariantViolated",
    "NoBackendError",
    "RequestError",
    "StoppedError",
    "UnavailableError",
    "UnknownNodeError",
    "UnknownOutcomeError",
]

# From the compiled module: reading the package's metadata would cost milliseconds at each import.
__version__ = _version()

_MODULES = ("balance", "check", "protocol", "raft", "ring", "sim", "textbook")


def __getattr__(name: str) -> Any:
    # A module is loaded when somebody first names it, so that `import coterie` costs little however much there is.
    if name in _MODULES:
        return import_module(f"coterie.{name}")
    raise AttributeError(f"module 'coterie' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, "__version__", "exceptions"})
