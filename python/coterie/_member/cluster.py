"""A whole cluster on one machine."""

from __future__ import annotations

import contextlib
import html
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from coterie import exceptions
from coterie._client.client import Client, connect
from coterie._member.member import Member
from coterie.exceptions import ConfigError, CoterieError, StoppedError, UnavailableError

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Cluster"]

# Of a child that was asked to end: a member needs two seconds at most.
_PATIENCE = 5.0
# Until a child has started: an interpreter on a machine that is busy.
_START = 30.0


class Cluster:
    """Members on this machine, each with a journal and a port of its own.

    Parameters
    ----------
    members : int, default 3
        How many there are. They are named ``n0``, ``n1`` and so on.
    data_dir : path-like, optional
        The folder in which each member has one. Without it there is a temporary one, which is deleted at the end.
    processes : bool, default False
        Whether each member is a process of its own (an interpreter that runs ``coterie member``, and ends with this
        process), or they are threads of this process.
    timeout : float, default 10.0
        Seconds until a leader must be elected.
    **settings
        For each member; see `Member`.

    Attributes
    ----------
    url : str
        For `connect`: all members' addresses.
    names : tuple of str
        The members' names.
    secret : bytes
        What members and clients of this cluster prove to know.

    Raises
    ------
    ConfigError
        A setting is wrong; nothing was started.
    UnavailableError
        No leader was elected in time; all members were ended.

    Notes
    -----
    Members are numbered from 0 here. What `kill`, `pause` and `partition` do to them is what machines and networks do
    to members: they are how to see that a program survives it.

    Examples
    --------
    >>> import coterie
    >>> with coterie.Cluster(3) as cluster, cluster.connect() as client:
    ...     client.kv["motto"] = "no server to operate"
    ...     cluster.kill(cluster.leader)
    ...     client.kv["motto"]
    b'no server to operate'
    """

    def __init__(
        self,
        members: int = 3,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        processes: bool = False,
        timeout: float = 10.0,
        **settings: Any,
    ) -> None:
        if members < 1:
            raise ConfigError(f"a cluster has at least 1 member, not {members}")
        for own in ("name", "listen", "peers", "data_dir", "secret"):
            if own in settings:
                raise ConfigError(
                    f"each member of a Cluster has a {own} of its own; start a coterie.Member instead"
                )
        self._folder = Path(tempfile.mkdtemp(prefix="coterie-") if data_dir is None else data_dir)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._owner = os.getpid()
        self._temporary = data_dir is None
        self.secret = _keep_secret(self._folder)
        self._settings = settings
        self.names = tuple(f"n{number}" for number in range(members))
        self._addresses = _keep_addresses(self._folder, self.names)
        host: type[_Host] = _Child if processes else _Thread
        self._members: list[_Host | None] = [None] * members
        self._host = host
        self._paused: set[int] = set()
        self._end = weakref.finalize(self, _end, self._members, self._folder, self._temporary, self._owner)
        try:
            for number in range(members):
                self._members[number] = self._start(number)
            self._wait_until_formed(timeout)
        except BaseException:
            self.close()
            raise

    def _start(self, number: int) -> _Host:
        name = self.names[number]
        peers = dict(zip(self.names, self._addresses, strict=True))
        return self._host(
            name,
            {
                "listen": self._addresses[number],
                "peers": peers,
                "data_dir": self._folder / name,
                "secret": self.secret,
                **self._settings,
            },
        )

    # What there is

    @property
    def url(self) -> str:
        """All members' addresses, for `connect`."""
        return "coterie://" + ",".join(self._addresses)

    @property
    def leader(self) -> int | None:
        """The number of the member that leads; None while none does."""
        terms = {
            told["term"]: number
            for number, told in enumerate(self._statuses())
            if told is not None and told["role"] == "leader"
        }
        return terms[max(terms)] if terms else None

    def wait_for_leader(self, timeout: float = 10.0) -> int:
        """The number of the member that leads, once one does.

        Parameters
        ----------
        timeout : float, default 10.0
            Seconds to wait.

        Returns
        -------
        int
            The member's number.

        Raises
        ------
        UnavailableError
            There is none after that time: too few members live, or they cannot reach each other.
        """
        until = time.monotonic() + timeout
        while (leader := self.leader) is None:
            for member in self._members:
                if member is not None:
                    member.check()
            if time.monotonic() > until:
                raise UnavailableError(f"no member leads after {timeout:g} s: {self!r}")
            time.sleep(0.002)
        return leader

    def connect(self, *, timeout: float = 5.0) -> Client:
        """A client of this cluster; see `connect`."""
        shared = {
            name: self._settings[name] for name in ("cluster", "grace", "tls") if name in self._settings
        }
        return connect(self.url, timeout=timeout, secret=self.secret, **shared)

    def member(self, number: int) -> Member:
        """The member itself, when it is a thread of this process.

        Raises
        ------
        ConfigError
            The members are processes.
        StoppedError
            It was killed.
        """
        member = self._running(number)
        if not isinstance(member, _Thread):
            raise ConfigError("members that are processes can be asked by a client alone: use connect()")
        return member.member

    def pid(self, number: int) -> int:
        """The process that a member runs in."""
        return self._running(number).pid

    # What happens to members

    def kill(self, number: int | None) -> None:
        """Ends a member without any warning: SIGKILL, or in threads what comes to the same.

        What it had not made durable is lost, and nobody is told.

        Parameters
        ----------
        number : int or None
            Which one. `leader` may be handed in as it is.

        Raises
        ------
        UnavailableError
            It is None: no member leads.
        StoppedError
            It does not run.
        """
        number = _known(number)
        self._running(number).kill()
        self._members[number] = None
        self._paused.discard(number)

    def stop(self, number: int | None) -> None:
        """Ends a member in order: it hands leadership over and tells everybody."""
        number = _known(number)
        self._running(number).close()
        self._members[number] = None
        self._paused.discard(number)

    def restart(self, number: int) -> None:
        """Starts a member again that was killed or stopped, with the data that it has."""
        if self._members[number] is not None:
            raise ConfigError(f"member {number} runs; kill(), stop() or resume() it first")
        self._members[number] = self._start(number)

    def pause(self, number: int | None) -> None:
        """Lets a member's process stand still (SIGSTOP): it hears nothing, says nothing, and knows nothing of that.

        Raises
        ------
        ConfigError
            The members are threads of this process.
        """
        number = _known(number)
        self._running(number).signal(signal.SIGSTOP)
        self._paused.add(number)

    def resume(self, number: int) -> None:
        """Lets a paused member go on."""
        self._running(number).signal(signal.SIGCONT)
        self._paused.discard(number)

    def partition(self, one: int, other: int) -> None:
        """Cuts two members off from each other: what they say arrives nowhere, and no connection is closed."""
        self._running(one).partition(self.names[other])
        self._running(other).partition(self.names[one])

    def isolate(self, number: int | None) -> None:
        """Cuts a member off from all others."""
        number = _known(number)
        for other, member in enumerate(self._members):
            if other != number and member is not None:
                self.partition(number, other)

    def heal(self) -> None:
        """Ends all partitions."""
        for member in self._members:
            if member is not None:
                member.heal()

    def close(self) -> None:
        """Ends all members in order, and deletes the folder if it is a temporary one."""
        for number in tuple(self._paused):
            self.resume(number)
        self._end()

    # The rest

    def _wait_until_formed(self, timeout: float) -> None:
        # Who leads a cluster that is just being formed leads one in which the others do not know yet that they belong.
        # Were it killed now, nobody could be elected until it is back.
        until = time.monotonic() + timeout
        self.wait_for_leader(timeout)
        while any(told is None or told["role"] == "waiting" for told in self._statuses()):
            if time.monotonic() > until:
                raise UnavailableError(f"not all members know the cluster after {timeout:g} s: {self!r}")
            time.sleep(0.002)

    def _running(self, number: int) -> _Host:
        member = self._members[number]
        if member is None:
            raise StoppedError(f"member {number} does not run; restart({number}) starts it")
        return member

    def _statuses(self) -> list[dict[str, Any] | None]:
        return [
            None if member is None or number in self._paused else member.status()
            for number, member in enumerate(self._members)
        ]

    def _rows(self) -> list[tuple[str, str, str, str]]:
        rows = []
        for number, told in enumerate(self._statuses()):
            if self._members[number] is None:
                state = "stopped"
            elif number in self._paused:
                state = "paused"
            else:
                state = "starting" if told is None else told["role"]
            term = "" if told is None else f"term {told['term']}"
            rows.append((str(number), self._addresses[number], state, term))
        return rows

    def __repr__(self) -> str:
        each = ", ".join(f"{number}: {' '.join(filter(None, rest))}" for number, _, *rest in self._rows())
        return f"<Cluster of {len(self.names)}: {each}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{title}</th>" for title in ("member", "address", "role", "term"))
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        return f"<table><caption>{html.escape(self.url)}</caption><tr>{head}</tr>{rows}</table>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _known(number: int | None) -> int:
    """The number of a member that may have been asked for as the leader."""
    if number is None:
        raise UnavailableError("no member leads now; wait_for_leader() waits for one")
    return number


class _Host(Protocol):
    """What a cluster asks of a member, wherever that runs."""

    pid: int

    def __init__(self, name: str, settings: dict[str, Any]) -> None: ...
    def status(self) -> dict[str, Any] | None: ...
    def check(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...
    def signal(self, number: signal.Signals) -> None: ...
    def partition(self, name: str) -> None: ...
    def heal(self) -> None: ...


class _Thread:
    """A member in this process."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.pid = os.getpid()
        self.member = Member(name, **settings)

    def status(self) -> dict[str, Any] | None:
        return self.member._member.status()

    def check(self) -> None:
        self.member._raise_if_failed()

    def kill(self) -> None:
        self.member._member.kill()

    def close(self) -> None:
        self.member.close()

    def signal(self, number: signal.Signals) -> None:  # noqa: ARG002 - a process could
        raise ConfigError("members that are threads cannot be paused; make the cluster with processes=True")

    def partition(self, name: str) -> None:
        self.member._member.partition(name)

    def heal(self) -> None:
        self.member._member.heal()


class _Child:
    """A member in a process of its own. It does what the lines on its standard input say, and ends with them."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        command = [sys.executable, "-m", "coterie", "member", name, "--from-parent"]
        # Its errors come with an answer, not on the screen of who cannot do anything about them.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.pid = self._process.pid
        self._say(json.dumps(settings, default=_plain))

    def status(self) -> dict[str, Any] | None:
        return self._ask("status")

    def check(self) -> None:
        if self._process.poll() is not None:
            raise StoppedError(f"the process of a member ended with status {self._process.returncode}")

    def kill(self) -> None:
        self._process.kill()
        self._leave()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._leave()

    def _leave(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def partition(self, name: str) -> None:
        self._ask(f"partition {name}")

    def heal(self) -> None:
        self._ask("heal")

    def _say(self, line: str) -> None:
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - it was asked for
        try:
            pipe.write(line.encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            self.check()

    def _ask(self, line: str) -> dict[str, Any] | None:
        self._say(line)
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101 - it was asked for
        ready, _, _ = select.select([pipe], [], [], _START)
        answer = pipe.readline() if ready else b""
        if not answer:
            self.check()
            raise UnavailableError(f"a member's process gave no answer within {_START:g} s")
        told: dict[str, Any] | None = json.loads(answer)
        if told is not None and "error" in told:
            raise getattr(exceptions, told["error"], CoterieError)(told["complaint"])
        return told


def _plain(value: object) -> Any:
    """What JSON does not know."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bytes):
        return value.decode("ascii")
    raise TypeError(f"{value!r} cannot be handed to a member's process")


def _keep_secret(folder: Path) -> bytes:
    """The cluster's secret, which only this user can read."""
    file = folder / "secret"
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as out:  # noqa: PTH123 - a descriptor
            out.write(secrets.token_hex(32))
    return file.read_bytes()


def _keep_addresses(folder: Path, names: tuple[str, ...]) -> list[str]:
    """Where members listen: the same ports whenever the cluster is started again."""
    file = folder / "addresses.json"
    if file.exists():
        known: dict[str, str] = json.loads(file.read_text())
        if list(known) != list(names):
            raise ConfigError(
                f"{folder} has a cluster of {len(known)} members; start it with members={len(known)}"
            )
        return list(known.values())
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    file.write_text(json.dumps(dict(zip(names, addresses, strict=True))))
    return addresses


def _end(members: list[_Host | None], folder: Path, temporary: bool, owner: int) -> None:
    """Ends all members, whoever still needs them."""
    if os.getpid() != owner:
        return
    for number, member in enumerate(members):
        if member is not None:
            # One that failed has ended; the others must end, too.
            with contextlib.suppress(CoterieError, OSError):
                member.close()
            members[number] = None
    if temporary:
        shutil.rmtree(folder, ignore_errors=True)
