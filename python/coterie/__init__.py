"""The building blocks of distributed systems, inside your own Python processes."""

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

__all__ = [
    "ConfigError",
    "CoterieError",
    "EmptyRingError",
    "InternalError",
    "NoBackendError",
    "RequestError",
    "UnknownNodeError",
]

# From the compiled module: reading the package's metadata would cost milliseconds at each import.
__version__ = _version()
