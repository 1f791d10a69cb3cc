"""Which engine an address picks."""

from __future__ import annotations

import os
from typing import Literal

from coterie import _coterie
from coterie.exceptions import ConfigError

__all__ = ["open_core"]


File = str | os.PathLike[str] | bytes


def open_core(
    url: str,
    timeout: float,
    grace: float | None,
    cluster: str = "coterie",
    secret: File | Literal[False] | None = None,
    tls: tuple[File, File, File] | None = None,
) -> _coterie.ClientCore:
    """The compiled half of a client for `url`."""
    if not timeout > 0:
        raise ConfigError(f"timeout is {timeout!r}; it must be a positive number of seconds")
    if grace is not None and not grace >= 0:
        raise ConfigError(f"grace is {grace!r}; it must be a number of seconds, or None")
    scheme, colon, rest = str(url).partition(":")
    if scheme == "memory" and colon:
        return _coterie.ClientCore.memory(rest or None, grace)
    if scheme == "coterie" and rest.startswith("//"):
        return _coterie.ClientCore.network(_addresses(url, rest[2:]), cluster, secret, tls, grace)
    raise ConfigError(f"{url!r} names no cluster; addresses begin with coterie:// or memory:")


def _addresses(url: str, rest: str) -> list[str]:
    """``host:port`` of each member; the port is 7433 where none is given."""
    addresses = []
    for each in rest.rstrip("/").split(","):
        host, colon, port = each.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = each, "7433"
        if not host or not port.isdigit():
            raise ConfigError(f"{url!r} has {each!r} where host:port should be: coterie://a:7433,b:7433")
        addresses.append(f"{host}:{port}")
    return addresses
