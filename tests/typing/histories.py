"""A user's file: what the checkers must accept, and with which types."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, assert_type

from coterie import check


class Stack:
    def initial(self) -> tuple[Any, ...]:
        return ()

    def step(self, state: tuple[Any, ...], operation: str, value: Any, result: Any) -> Any:
        return (*state, value) if operation == "push" else check.REFUSED


recorder = check.Recorder(failures=(PermissionError,))
with recorder.operation("c1", "put", key="x", value=1) as recording:
    recording.ok()

history = recorder.history()
assert_type(history[0], check.Operation)
assert_type(history[:1], list[check.Operation])
assert_type(check.History.from_json(Path("history.jsonl")), check.History)

verdict = check.linearizable(history, check.Register(initial=0), timeout=5)
assert_type(verdict.outcome, Literal["linearizable", "violation", "unknown"])
assert_type(verdict.conflict, tuple[check.Operation, ...])
assert_type(verdict.raise_for_violation(), check.Verdict)
assert_type(verdict.to_svg(), str)
check.linearizable([("c1", "push", 1, None, 0, 1)], Stack())
check.linearizable({"process": [1], "operation": ["read"], "start": [0], "end": [1]}, "register")
