"""What workers log and warn of reaches the handlers of the process that made the pool; what they print, its screen.

A record is one datagram, so a worker that dies in the middle of one leaves nothing half said, and no lock taken.
"""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any

from coterie._coterie import PoolListener

# Longer than this a text is cut: a datagram has an end.
_TEXT_MAX = 1 << 14
_DATAGRAM_MAX = 1 << 17
# How long a worker waits for a reader that does not read, and the end of a pool for a handler that does not return.
_PATIENCE = 1.0


class Relay:
    """The pool's side."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._lock = threading.Lock()
        self._listener: PoolListener | None = None
        self._heard = 0

    def listen(self) -> None:
        """Hear from now on."""
        self._listener = PoolListener(self._ours.fileno(), self._hear)

    def stop(self) -> None:
        """Hear what was said to the end, and no more."""
        with contextlib.suppress(OSError):
            self.theirs.shutdown(socket.SHUT_RDWR)
        if self._listener is not None:
            heard = -1
            # A handler that takes long is waited for as long as it gets on; one whose lock is taken, not for ever.
            while not self._listener.join(_PATIENCE) and heard != self._heard:
                heard = self._heard
        self.leave()

    def leave(self) -> None:
        """Let go of the sockets."""
        self._ours.close()
        self.theirs.close()

    def _hear(self) -> bool:
        while True:
            try:
                said = self._ours.recv(_DATAGRAM_MAX)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not said:
                return False
            self._heard += 1
            try:
                kind, *rest = pickle.loads(said)
                if kind == "log":
                    _handle(*rest)
                elif kind == "print":
                    _print(*rest)
                else:
                    warnings.showwarning(*rest)
            except Exception:  # noqa: BLE001 - a handler's error is its author's, as in a thread
                sys.excepthook(*sys.exc_info())


def _handle(fields: dict[str, Any]) -> None:
    record = logging.makeLogRecord(fields)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def _print(name: str, text: str) -> None:
    stream = getattr(sys, name)
    if stream is not None:
        stream.write(text)
        stream.flush()


class Begin:
    """What a worker does before the user's initializer: it lends its voice to the pool's process."""

    def __init__(self, relay: Relay | None, initializer: Callable[..., object] | None) -> None:
        self._socket = None if relay is None else relay.theirs
        self._initializer = initializer
        # A notebook, or who else put something of its own in their places, has no descriptor that workers could share.
        self._streams = [
            name for name in ("stdout", "stderr") if getattr(sys, name) is not getattr(sys, f"__{name}__")
        ]
        manager = logging.root.manager
        named = [logger for logger in manager.loggerDict.values() if isinstance(logger, logging.Logger)]
        self._levels = [(logger.name, logger.level) for logger in named if logger.level]
        self._levels.append(("", logging.root.level))

    def __reduce__(self) -> tuple[Any, ...]:
        duplicate = None if self._socket is None else reduction.DupFd(self._socket.fileno())
        return _begun, (duplicate, self._initializer, self._levels, self._streams)

    def __call__(self, *arguments: Any) -> None:
        if self._socket is not None:
            for name in self._streams:
                setattr(sys, name, _Voice(self._socket, name))
        for stream in (sys.stdout, sys.stderr):
            # Where it is no terminal, what is printed would wait for the end of a worker that may be ended before.
            if isinstance(stream, io.TextIOWrapper) and not stream.line_buffering:
                stream.reconfigure(line_buffering=True)
        if self._socket is not None:
            self._speak(self._socket)
        if self._initializer is not None:
            self._initializer(*arguments)

    def _speak(self, mouth: socket.socket) -> None:
        mouth.settimeout(_PATIENCE)
        loggers = [logging.root, *logging.root.manager.loggerDict.values()]
        for logger in loggers:
            if isinstance(logger, logging.Logger) and (logger.handlers or logger is logging.root):
                # A fork brought them along; they are the other process's, and are called there.
                logger.handlers[:] = (
                    [_Handler(mouth)] if logger is logging.root or not logger.propagate else []
                )
        for name, level in self._levels:
            logging.getLogger(name or None).setLevel(level)

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: Any = None,  # noqa: ARG001 - the shape of showwarning
            line: str | None = None,  # noqa: ARG001
        ) -> None:
            _say(mouth, ("warning", message, category, filename, lineno), str(message))

        warnings.showwarning = show


def _begun(
    duplicate: Any,
    initializer: Callable[..., object] | None,
    levels: list[tuple[str, int]],
    streams: list[str],
) -> Begin:
    begin = Begin(None, initializer)
    begin._levels, begin._streams = levels, streams
    if duplicate is not None:
        begin._socket = socket.socket(fileno=duplicate.detach())
    return begin


class _Voice(io.TextIOBase):
    """What a worker prints, line by line."""

    encoding = "utf-8"
    errors = "strict"

    def __init__(self, mouth: socket.socket, name: str) -> None:
        self._mouth, self._name = mouth, name
        self._begun = ""

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle the standard {self._name!r}")

    @property
    def buffer(self) -> _Bytes:
        return _Bytes(self)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1 if self._name == "stdout" else 2

    def write(self, text: str) -> int:
        self._begun += text
        if "\n" in text or len(self._begun) > _TEXT_MAX:
            self.flush()
        return len(text)

    def flush(self) -> None:
        said, self._begun = self._begun, ""
        for start in range(0, len(said), _TEXT_MAX):
            _say(self._mouth, ("print", self._name, said[start : start + _TEXT_MAX]), None)


class _Bytes(io.RawIOBase):
    """For who writes bytes to the standard output."""

    def __init__(self, voice: _Voice) -> None:
        self._voice = voice

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        text = bytes(data)
        self._voice.write(text.decode("utf-8", "replace"))
        return len(text)


class _Handler(logging.Handler):
    def __init__(self, mouth: socket.socket) -> None:
        super().__init__()
        self._mouth = mouth

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            fields = dict(record.__dict__, msg=text[:_TEXT_MAX], message=text[:_TEXT_MAX], args=None)
            if record.exc_info:
                fields["exc_text"] = logging.Formatter().formatException(record.exc_info)[-_TEXT_MAX:]
            fields["exc_info"] = None
            _say(self._mouth, ("log", fields), None)
        except Exception:  # noqa: BLE001 - as all handlers do
            self.handleError(record)


def _say(mouth: socket.socket, what: tuple[Any, ...], plain: str | None) -> None:
    try:
        said = pickle.dumps(what)
    except Exception:  # noqa: BLE001 - whatever users hang on records and warnings
        if plain is None:
            fields = {key: value for key, value in what[1].items() if isinstance(value, (str, int, float))}
            said = pickle.dumps(("log", fields))
        else:
            said = pickle.dumps((what[0], plain, UserWarning, *what[3:]))
    with contextlib.suppress(OSError):  # nobody hears: the pool is about to end
        mouth.send(said)
