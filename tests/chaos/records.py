"""What clients asked and were answered, line by line in a file: a SIGKILL takes no line back."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from coterie.exceptions import RequestError, UnavailableError, UnknownOutcomeError

# They say that nothing has happened and nothing will.
REFUSALS = (RequestError, UnavailableError)


class Row(NamedTuple):
    """An operation, with the fields of `coterie.check.Operation`."""

    process: str
    operation: str
    value: Any
    result: Any
    start: int
    end: int | None
    outcome: str
    key: str | None


class Records:
    """Where the clients of one process write. Times are of the machine's one monotonic clock, in nanoseconds."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._numbers = itertools.count()

    def operation(self, process: str, operation: str, *, key: str, value: Any = None) -> Recording:
        """What is to be asked: a context in which it is asked and answered."""
        return Recording(self, next(self._numbers), (process, operation, value, key))

    def note(self, kind: str, *what: Any) -> None:
        """Anything else: a line that begins with its kind."""
        self._write([kind, time.monotonic_ns(), *what])

    def _write(self, line: list[Any]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


class Recording:
    """An operation that is under way. What refuses it is written down and goes no further."""

    def __init__(self, records: Records, number: int, asked: tuple[Any, ...]) -> None:
        self._records, self._number, self._asked = records, number, asked
        self._result: Any = None
        self.outcome = "unknown"
        self.error: BaseException | None = None

    def ok(self, result: Any = None) -> None:
        """What was answered."""
        self._result = result

    def __enter__(self) -> Self:
        # The line is there before anything is asked: whatever comes of that, it may have happened.
        self._records.note("begin", self._number, *self._asked)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        expected = error is None or isinstance(error, (*REFUSALS, UnknownOutcomeError))
        self.outcome = "ok" if error is None else "fail" if isinstance(error, REFUSALS) else "unknown"
        self.error = error
        self._records.note("end", self._number, self.outcome, self._result)
        if error is not None:
            self._records.note("error", self._asked[0], self._asked[1], repr(error))
        if not expected:
            self._records.note("problem", self._asked, repr(error))
        return expected


class Read(NamedTuple):
    """What all files say."""

    rows: list[Row]
    notes: list[tuple[str, list[Any]]]


def read(paths: Iterable[Path]) -> Read:
    """Everything that was written down. A last line without an end is that of a process that was killed in it."""
    rows: list[Row] = []
    notes: list[tuple[str, list[Any]]] = []
    for path in paths:
        open_rows: dict[int, Row] = {}
        for kind, time_, *rest in _lines(path):
            if kind == "begin":
                number, process, operation, value, key = rest
                open_rows[number] = Row(process, operation, value, None, time_, None, "unknown", key)
            elif kind == "end":
                number, outcome, result = rest
                row = open_rows.pop(number)
                end = None if outcome == "unknown" else time_
                rows.append(row._replace(result=result, outcome=outcome, end=end))
            else:
                notes.append((kind, [time_, *rest]))
        rows += open_rows.values()
    rows.sort(key=lambda row: row.start)
    return Read(rows, notes)


def _lines(path: Path) -> Iterator[list[Any]]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
