"""Which engine an address picks."""

from __future__ import annotations

from coterie import _coterie
from coterie.exceptions import ConfigError

__all__ = ["open_core"]


def open_core(url: str, timeout: float, grace: float | None) -> _coterie.ClientCore:
    """The compiled half of a client for `url`."""
    if not timeout > 0:
        raise ConfigError(f"timeout is {timeout!r}; it must be a positive number of seconds")
    if grace is not None and not grace >= 0:
        raise ConfigError(f"grace is {grace!r}; it must be a number of seconds, or None")
    scheme, colon, rest = str(url).partition(":")
    if scheme == "memory" and colon:
        return _coterie.ClientCore.memory(rest or None, grace)
    raise ConfigError(f"{url!r} names no cluster; addresses begin with memory:")
