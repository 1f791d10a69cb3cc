"""Coterie with async and await. Sync and async differ in waiting, never in meaning.

- `Pool`: work for many processes; what waits is a coroutine.
- `connect`: a client of a cluster: keys and values, watches, locks, elections.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coterie._client.asynchronous import (
        Client as Client,
        Election as Election,
        KeyValue as KeyValue,
        Lock as Lock,
        Lost as Lost,
        Members as Members,
        RLock as RLock,
        Transaction as Transaction,
        Watch as Watch,
        connect as connect,
    )
    from coterie._pool.asynchronous import Pool as Pool

__all__ = [
    "Client",
    "Election",
    "KeyValue",
    "Lock",
    "Lost",
    "Members",
    "Pool",
    "RLock",
    "Transaction",
    "Watch",
    "connect",
]


def __getattr__(name: str) -> Any:
    # Who wants a pool needs no client, and the other way round.
    if name not in __all__:
        raise AttributeError(f"module 'coterie.aio' has no attribute {name!r}")
    if name == "Pool" and sys.platform not in ("linux", "darwin"):
        from coterie._pool import elsewhere as home  # noqa: PLC0415
    elif name == "Pool":
        from coterie._pool import asynchronous as home  # noqa: PLC0415
    else:
        from coterie._client import asynchronous as home  # type: ignore[no-redef]  # noqa: PLC0415
    globals()[name] = found = getattr(home, name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
