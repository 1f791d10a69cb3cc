"""The building blocks of distributed systems, inside your own Python processes.

- `ConsistentHash`: keys to nodes; its kin are in `coterie.ring`.
- `coterie.balance`: requests to backends.
- `CoterieError` and the rest of the family: what can go wrong.
"""

from coterie import balance, ring
from coterie._coterie import version as _version
from coterie.exceptions import (
    ConfigError,
    CoterieError,
    EmptyRingError,
    InternalError,
    NoBackendError,
    RequestError,
    UnknownNodeError,
)
from coterie.ring import ConsistentHash

__all__ = [
    "ConfigError",
    "ConsistentHash",
    "CoterieError",
    "EmptyRingError",
    "InternalError",
    "NoBackendError",
    "RequestError",
    "UnknownNodeError",
    "balance",
    "ring",
]

# From the compiled module: reading the package's metadata would cost milliseconds at each import.
__version__ = _version()
