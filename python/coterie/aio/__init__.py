"""Coterie with async and await. Sync and async differ in waiting, never in meaning.

- `Pool`: work for many processes; what waits is a coroutine.
"""

from __future__ import annotations

from coterie._pool.asynchronous import Pool

__all__ = ["Pool"]
