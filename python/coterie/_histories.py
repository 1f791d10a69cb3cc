"""Histories as text: JSON lines, and Jepsen's logs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coterie.exceptions import ConfigError

COLUMNS = ("process", "operation", "value", "result", "start", "end", "outcome", "key")
DEFAULTS: dict[str, Any] = {"value": None, "result": None, "end": None, "outcome": "ok", "key": None}

Columns = dict[str, list[Any]]


def text_of(source: str | os.PathLike[str]) -> str:
    """The text itself, or that of the file: a text has a line break or a brace, and a path has none."""
    if isinstance(source, str) and (
        "\n" in source or source.lstrip().startswith(("{", "INFO")) or not source
    ):
        return source
    return Path(source).read_text(encoding="utf-8")


def columns_of_rows(rows: Iterable[Any], fields: Callable[[Any], Sequence[Any] | None]) -> Columns:
    """Columns of operations, tuples in the order of the columns, and mappings; ``fields`` knows an operation."""
    columns: Columns = {name: [] for name in COLUMNS}
    appends = [columns[name].append for name in COLUMNS]
    for number, row in enumerate(rows):
        values = fields(row)
        if values is None:
            values = _of_mapping(number, row) if isinstance(row, Mapping) else _of_tuple(number, row)
        for append, value in zip(appends, values, strict=True):
            append(value)
    return columns


def _of_mapping(number: int, row: Mapping[str, Any]) -> list[Any]:
    strange = [name for name in row if name not in COLUMNS]
    missing = [name for name in ("process", "operation", "start") if name not in row]
    if strange or missing:
        what = f"there is no field {strange[0]!r}" if strange else f"the field {missing[0]!r} is missing"
        raise ConfigError(f"record {number}: {what}; the fields are {', '.join(COLUMNS)}")
    return [row[name] if name in row else DEFAULTS[name] for name in COLUMNS]


def _of_tuple(number: int, row: Any) -> list[Any]:
    if not isinstance(row, Sequence) or isinstance(row, str | bytes):
        raise ConfigError(
            f"record {number}: expected an Operation, a tuple or a mapping, not {type(row).__name__}"
        )
    if not 5 <= len(row) <= len(COLUMNS):
        raise ConfigError(
            f"record {number}: a tuple has 5 to {len(COLUMNS)} fields: {', '.join(COLUMNS)}; this has {len(row)}"
        )
    return [*row, *(DEFAULTS[name] for name in COLUMNS[len(row) :])]


def columns_of_table(table: Any) -> Columns:
    """Columns of a mapping of lists, or of a data frame."""
    names = [str(name) for name in (table if isinstance(table, Mapping) else table.columns)]
    strange = [name for name in names if name not in COLUMNS]
    missing = [name for name in ("process", "operation", "start") if name not in names]
    if strange or missing:
        what = f"there is no column {strange[0]!r}" if strange else f"the column {missing[0]!r} is missing"
        raise ConfigError(f"{what}; the columns are {', '.join(COLUMNS)}")
    columns = {name: _column(table[name]) for name in names}
    length = len(columns["process"])
    for name in COLUMNS:
        column = columns.setdefault(name, [DEFAULTS.get(name)] * length)
        if len(column) != length:
            raise ConfigError(f"the column {name!r} has {len(column)} rows, and 'process' has {length}")
    return {name: columns[name] for name in COLUMNS}


def _column(column: Any) -> list[Any]:
    if isinstance(column, list | tuple):
        return list(column)
    # A data frame's column: its scalars become Python's, and what is missing there is not equal to itself.
    values = column.tolist() if hasattr(column, "tolist") else list(column)
    return [None if value != value else value for value in values]  # noqa: PLR0124 - not a number, not a time


def ranked(times: Sequence[Any]) -> Sequence[Any]:
    """Times that are no numbers (datetimes, fractions), by their order."""
    if all(time is None or isinstance(time, int | float) for time in times):
        return times
    try:
        order = {
            time: place for place, time in enumerate(sorted({time for time in times if time is not None}))
        }
    except TypeError as error:
        raise ConfigError(f"the times cannot be compared with each other: {error}") from error
    return [None if time is None else order[time] for time in times]


def to_json(columns: Columns) -> str:
    """One object a line; fields that have their default are left out."""
    lines = []
    for number, row in enumerate(zip(*columns.values(), strict=True)):
        record = {
            name: value
            for name, value in zip(columns, row, strict=True)
            if name not in DEFAULTS or value != DEFAULTS[name]
        }
        try:
            lines.append(json.dumps(record, default=_encoded, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"record {number} has no words in JSON: {error}") from error
    return "".join(f"{line}\n" for line in lines)


def _encoded(value: Any) -> dict[str, Any]:
    if isinstance(value, set | frozenset):
        return {"$set": sorted(value, key=repr)}
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    raise TypeError(f"{type(value).__name__} is none of None, bool, int, float, str, bytes, list, dict, set")


def from_json(text: str) -> Sequence[Mapping[str, Any]]:
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_hook=_decoded)
        except ValueError as error:
            raise ConfigError(f"line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ConfigError(f"line {number} is no object with the fields of an operation")
        records.append(record)
    return records


def _decoded(value: dict[str, Any]) -> Any:
    match value:
        case {"$set": list(members), **rest} if not rest:
            return frozenset(tuple(member) if isinstance(member, list) else member for member in members)
        case {"$bytes": str(digits), **rest} if not rest:
            return bytes.fromhex(digits)
        case _:
            return value


# `INFO  jepsen.util - PROCESS :TYPE :OP VALUE`, or a map `{:process 9, :type :invoke, :f :append, …}`.
_LINE = re.compile(r"^(?:INFO\s+jepsen\.util\s+-\s+)?(\S+)\s+:(invoke|ok|fail|info)\s+:(\S+)\s*(.*)$")
_TOKEN = re.compile(r'[\[\](){}]|"(?:[^"\\]|\\.)*"|[^\s,\[\](){}]+')


def from_jepsen(text: str) -> Sequence[Mapping[str, Any]]:
    """Operations of a log, whose times are the numbers of its lines."""
    records: list[dict[str, Any]] = []
    pending: dict[Any, dict[str, Any]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        process, kind, operation, value, key = _event(number, line)
        if not isinstance(process, int):
            continue  # the nemesis, which is no client
        if kind == "invoke":
            record = {
                "process": process,
                "operation": operation,
                "start": number,
                "outcome": "unknown",
                "key": key,
            }
            record["value"] = value
            if process in pending:
                raise ConfigError(f"line {number}: process {process} has not finished its last operation")
            records.append(record)
            pending[process] = record
            continue
        if process not in pending:
            raise ConfigError(f"line {number}: process {process} is answered and has asked nothing")
        _answer(pending.pop(process), number, kind, value)
    return records


def _answer(record: dict[str, Any], number: int, kind: str, value: Any) -> None:
    if kind == "info":
        return
    record["end"] = number
    if kind == "fail" and record["operation"] != "cas":
        record["outcome"] = "fail"
        return
    record["outcome"] = "ok"
    if record["operation"] == "cas":
        # A swap that failed was answered, too: it saw another value than it expected.
        record["result"] = kind == "ok"
    elif record["operation"] in {"read", "get", "dequeue"}:
        record["result"], record["value"] = value, None


def _event(number: int, line: str) -> tuple[Any, str, str, Any, Any]:
    if line.lstrip().startswith("{"):
        event = _edn(number, line)
        try:
            kind, operation = str(event["type"]).lstrip(":"), str(event["f"]).lstrip(":")
            return event["process"], kind, operation, event.get("value"), event.get("key")
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"line {number} is no event of Jepsen: {error}") from error
    match = _LINE.match(line.strip())
    if match is None:
        raise ConfigError(f"line {number} is no event of Jepsen: {line.strip()[:60]!r}")
    value = _edn(number, match[4]) if match[4] else None
    return _edn(number, match[1]), match[2], match[3], value, None


def _edn(number: int, text: str) -> Any:
    tokens = _TOKEN.findall(text)
    value, rest = _value(number, tokens, 0)
    if rest != len(tokens):
        raise ConfigError(f"line {number}: there is more after {text[:40]!r}")
    return value


def _value(number: int, tokens: list[str], at: int) -> tuple[Any, int]:
    if at >= len(tokens):
        raise ConfigError(f"line {number} ends too early")
    token = tokens[at]
    closing = {"[": "]", "(": ")", "{": "}"}.get(token)
    if closing is not None:
        items, at = [], at + 1
        while at < len(tokens) and tokens[at] != closing:
            item, at = _value(number, tokens, at)
            items.append(item)
        if at >= len(tokens):
            raise ConfigError(f"line {number}: {token!r} is not closed")
        if token == "{":  # noqa: S105 - a bracket
            names = [str(name).lstrip(":") for name in items[::2]]
            return dict(zip(names, items[1::2], strict=False)), at + 1
        return tuple(items), at + 1
    return _atom(token), at + 1


def _atom(token: str) -> Any:
    words = {"nil": None, "true": True, "false": False}
    if token in words:
        return words[token]
    if token.startswith('"'):
        return json.loads(token)
    for kind in (int, float):
        try:
            return kind(token)
        except ValueError:
            continue
    return token
