"""The building blocks of distributed systems, inside your own Python processes."""

from coterie.exceptions import (
    ConfigError,
    CoterieError,
    EmptyRingError,
    InternalError,
    NoBackendError,
    RequestError,
    UnknownNodeError,
)

__all__ = ["ConfigError", "CoterieError", "EmptyRingError", "InternalError", "NoBackendError", "RequestError", "UnknownNodeError"]
