"""What workers log and warn of reaches the handlers of the process that made the pool; what they print, its screen.

A record is one datagram, so a worker that dies in the middle of one leaves nothing half said, and no lock taken.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import pickle
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from multiprocessing import reduction
from types import ModuleType
from typing import TYPE_CHECKING, Any

from coterie._coterie import PoolListener

if TYPE_CHECKING:
    # Loaded when somebody logs: that takes longer than to start a worker.
    import logging

# Longer than this a text is cut: a datagram has an end.
_TEXT_MAX = 1 << 14
_DATAGRAM_MAX = 1 << 17
# What keeps records apart. macOS has no packets in order, but its datagrams stay in order between two sockets of a machine.
_KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
# How long a worker waits for a reader that does not read, and the end of a pool for a handler that does not return.
_PATIENCE = 1.0


class Relay:
    """The pool's side."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, _KIND)
        self._ours.setblocking(False)
        if _KIND == socket.SOCK_DGRAM:
            # macOS would take no datagram longer than two kilobytes.
            self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _DATAGRAM_MAX)
            self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _DATAGRAM_MAX)
        self._lock = threading.Lock()
        self._listener: PoolListener | None = None
        self._heard = 0

    def listen(self) -> None:
        """Hear from now on."""
        self._listener = PoolListener(self._ours.fileno(), self._hear)

    def stop(self) -> None:
        """Hear what was said to the end, and no more."""
        heard, is_told = -1, False
        while self._listener is not None:
            is_told = is_told or self._say_goodbye()
            # A handler that takes long is waited for as long as it gets on; one whose lock is taken, not for ever.
            if self._listener.join(_PATIENCE) or heard == self._heard:
                break
            heard = self._heard
        self.leave()

    def _say_goodbye(self) -> bool:
        """The last that is heard. Datagrams have no end of file; there it is nothing, which nobody else says."""
        if _KIND == socket.SOCK_DGRAM and not _send(self.theirs, b"", socket.MSG_DONTWAIT):
            return False
        with contextlib.suppress(OSError):
            self.theirs.shutdown(socket.SHUT_RDWR)
        return True

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
    import logging  # noqa: PLC0415 - see TYPE_CHECKING

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
        self._levels = _levels()

    @property
    def is_bare(self) -> bool:
        """Whether there is no initializer of the user's."""
        return self._initializer is None

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
        _once_loaded("logging", lambda: _log_by(mouth, self._levels))

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


def _levels() -> list[tuple[str, int]]:
    """Of the loggers of this process, by name."""
    logging = sys.modules.get("logging")
    if logging is None:
        return []
    named = logging.root.manager.loggerDict.values()
    levels = [
        (logger.name, logger.level) for logger in named if isinstance(logger, logging.Logger) and logger.level
    ]
    return [*levels, ("", logging.root.level)]


def _log_by(mouth: socket.socket, levels: list[tuple[str, int]]) -> None:
    import logging  # noqa: PLC0415 - it is loaded

    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger) and (logger.handlers or logger is logging.root):
            # A fork brought them along; they are the other process's, and are called there.
            logger.handlers[:] = [_handler(mouth)] if logger is logging.root or not logger.propagate else []
    for name, level in levels:
        logging.getLogger(name or None).setLevel(level)


def _once_loaded(name: str, act: Callable[[], None]) -> None:
    """Acts now, or as soon as somebody has loaded the module."""
    if name in sys.modules:
        act()
    else:
        sys.meta_path.insert(0, _Watch(name, act))


class _Watch:
    """Finds one module, as others would find it, and acts when it is loaded."""

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self._name, self._act = name, act

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002 - a finder's shape
        if name != self._name:
            return None
        with contextlib.suppress(ValueError):  # another thread was here first
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def execute_and_act(module: ModuleType) -> None:
                del loader.exec_module  # the loader is as it was
                execute(module)
                self._act()

            loader.exec_module = execute_and_act
        return spec


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


def _handler(mouth: socket.socket) -> logging.Handler:
    import logging  # noqa: PLC0415 - it is loaded

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                text = record.getMessage()
                fields = dict(record.__dict__, msg=text[:_TEXT_MAX], message=text[:_TEXT_MAX], args=None)
                if record.exc_info:
                    fields["exc_text"] = logging.Formatter().formatException(record.exc_info)[-_TEXT_MAX:]
                fields["exc_info"] = None
                _say(mouth, ("log", fields), None)
            except Exception:  # noqa: BLE001 - as all handlers do
                self.handleError(record)

    return Handler()


def _say(mouth: socket.socket, what: tuple[Any, ...], plain: str | None) -> None:
    try:
        said = pickle.dumps(what)
    except Exception:  # noqa: BLE001 - whatever users hang on records and warnings
        if plain is None:
            fields = {key: value for key, value in what[1].items() if isinstance(value, (str, int, float))}
            said = pickle.dumps(("log", fields))
        else:
            said = pickle.dumps((what[0], plain, UserWarning, *what[3:]))
    _send(mouth, said)


def _send(mouth: socket.socket, said: bytes, flags: int = 0) -> bool:
    """Waits for room, where a datagram itself does not; says whether there was some."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            mouth.send(said, flags)
        except OSError as error:
            if error.errno not in (errno.ENOBUFS, errno.EAGAIN) or time.monotonic() > end:
                return False  # nobody hears: the pool is about to end
            time.sleep(0.001)
        else:
            return True
