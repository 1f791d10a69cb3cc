"""What stands for the pools where there are none yet: it can be imported, and says so when it is called."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from typing import Any, NoReturn

from coterie.exceptions import ConfigError

__all__ = ["Executor", "Future", "Pool"]


class Pool:
    """Refuses to be made."""

    def __new__(cls, *args: Any, **settings: Any) -> NoReturn:  # noqa: ARG004 - whatever a pool would take
        """Say what to do instead."""
        raise ConfigError(
            f"coterie.{cls.__name__} needs Linux or macOS, with backend='thread' too: it is not there for {sys.platform}. "
            "Use multiprocessing or concurrent.futures here; the rest of the package works."
        )


class Executor(Pool):
    """The same."""
