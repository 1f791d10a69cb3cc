"""The building blocks of distributed systems, inside your own Python processes.

- `ConsistentHash`: keys to nodes; its kin are in `coterie.ring`.
- `CoterieError` and the rest of the family: what can go wrong.
"""

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
]
