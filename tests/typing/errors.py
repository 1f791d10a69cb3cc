"""A user's file: what can be read from an error, with its type."""

from __future__ import annotations

from collections.abc import Hashable
from typing import assert_type

import coterie


def describe(error: coterie.CoterieError) -> str:
    if isinstance(error, coterie.UnknownNodeError):
        assert_type(error.node, Hashable)
        return f"{error.node!r} is not here"
    if isinstance(error, coterie.NoBackendError):
        assert_type(error.reasons, dict[Hashable, str])
        return ", ".join(f"{backend}: {reason}" for backend, reason in error.reasons.items())
    return str(error)


def rebuild() -> list[coterie.RequestError]:
    return [
        coterie.UnknownNodeError("unknown", node=3),
        coterie.NoBackendError("none", reasons={"a": "down"}),
    ]


def refuse() -> None:
    # Strict checkers complain when the line below it turns out to be fine after all.
    coterie.UnknownNodeError("unknown", nod=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


version: str = coterie.__version__
