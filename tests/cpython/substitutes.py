"""Our executors by CPython's names, for CPython's tests and for the scripts that these run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import coterie

__all__ = ["ProcessPoolExecutor", "ThreadPoolExecutor"]


class Joinable:
    """What tests wait for by a private name of CPython's."""

    def __init__(self, join: Callable[[], object]) -> None:
        self.join = self.join_thread = join


class ProcessPoolExecutor(coterie.Executor):
    """Ours, by the name that scripts print, and with the private names whose end some tests wait for."""

    @property
    def _executor_manager_thread(self) -> Joinable:
        return Joinable(self._works.join)

    @property
    def _call_queue(self) -> Joinable:
        return Joinable(lambda: None)


class ThreadPoolExecutor(coterie.Executor):
    """As a user would write it: the same class, with threads."""

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Any = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(
            max_workers,
            initializer=initializer,
            initargs=initargs,
            backend="thread",
            name=thread_name_prefix or None,
        )

    @property
    def _threads(self) -> set[Any]:
        return set(self._works.pool._pool)
