"""The network between members and to them: every connection goes through here, and can be hurt.

::

    n0 ──dials n1's address──► proxy ──► where n1 listens        a link is a direction: what n0 says to n1
                                 │                                goes by the rules of (n0, n1), whoever dialled
                      who dials? the process that owns the socket

A cut link passes nothing and closes nothing: whatever was said waits until the cut is over, as with TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

CLIENT = "client"
_PIECE = 1 << 16
# From linux/netlink.h and linux/sock_diag.h: what inet_diag_msg has before its inode are two bytes twice, the sockets'
# names, and four numbers.
_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _ALL_STATES, _ANY_COOKIE = 4, 20, 0xFFFF_FFFF, (0xFFFF_FFFF, 0xFFFF_FFFF)
_HEADER = 16
_INODE_AT = _HEADER + 4 + 48 + 16
_T = TypeVar("_T")


@dataclass
class Link:
    """What happens to what one says to another."""

    cut: bool = False
    delay: float = 0.0
    dribbles: bool = False


@dataclass(eq=False)
class _Connection:
    source: str
    target: str
    inside: socket.socket
    outside: socket.socket | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Proxy:
    """In a thread of its own; all methods may be called from any other one."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._links: dict[tuple[str, str], Link] = {}
        self._owners: dict[int, str] = {}
        self._connections: set[_Connection] = set()
        self._servers: list[asyncio.Task[None]] = []
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.carried = 0

    def serve(self, name: str, port: int) -> int:
        """A port for what listens at `port`."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        listener.setblocking(False)

        def begin() -> int:
            self._servers.append(self._loop.create_task(self._accept(listener, name, port)))
            taken: int = listener.getsockname()[1]
            return taken

        return self._call(begin)

    def own(self, process: int, name: str) -> None:
        """What this process dials comes from that member."""
        self._call(lambda: self._owners.update({process: name}))

    def disown(self, process: int) -> None:
        """That process is gone."""
        self._call(lambda: self._owners.pop(process, None))

    @contextlib.contextmanager
    def links(self, pairs: list[tuple[str, str]], link: Link) -> Iterator[None]:
        """So go these links, as long as the context lasts."""

        def replace(by: dict[tuple[str, str], Link]) -> None:
            for pair in pairs:
                self._links.pop(pair, None)
            self._links.update(by)
            self._changed.set()
            self._changed = asyncio.Event()

        self._call(lambda: replace(dict.fromkeys(pairs, link)))
        try:
            yield
        finally:
            self._call(lambda: replace({}))

    def reset(self, which: Callable[[str, str], bool]) -> int:
        """Ends all connections between such a dialler and such a member, for both ends. Returns how many."""

        def end() -> int:
            found = [each for each in self._connections if which(each.source, each.target)]
            for connection in found:
                self._end(connection)
            return len(found)

        return self._call(end)

    def close(self) -> None:
        """Ends everything."""

        async def end() -> None:
            tasks = [*self._servers, *(task for each in self._connections for task in each.tasks)]
            for server in self._servers:
                server.cancel()
            for connection in list(self._connections):
                self._end(connection)
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, function: Callable[[], _T]) -> _T:
        async def call() -> _T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    async def _accept(self, listener: socket.socket, name: str, port: int) -> None:
        with listener:
            while True:
                inside, (_, dialler) = await self._loop.sock_accept(listener)
                inside.setblocking(False)
                inside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                source = self._owner(dialler, listener.getsockname()[1])
                connection = _Connection(source, name, inside)
                self._connections.add(connection)
                connection.tasks.append(self._loop.create_task(self._carry(connection, port)))

    def _owner(self, dialler: int, listener: int) -> str:
        """Whose socket that is: the process that has its inode open."""
        inode = f"socket:[{_inode(dialler, listener)}]"
        return next((name for pid, name in self._owners.items() if _has(pid, inode)), CLIENT)

    async def _carry(self, connection: _Connection, port: int) -> None:
        source, target = connection.source, connection.target
        outside = socket.socket()
        connection.outside = outside
        outside.setblocking(False)
        outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            # Neither a greeting nor the answer to it passes a cut link.
            await self._wait(source, target)
            await self._wait(target, source)
            await self._loop.sock_connect(outside, ("127.0.0.1", port))
            there = self._loop.create_task(self._pump(connection.inside, outside, (source, target)))
            back = self._loop.create_task(self._pump(outside, connection.inside, (target, source)))
            connection.tasks += [there, back]
            await asyncio.gather(there, back)
            self._close(connection)
        except OSError:
            self._end(connection)

    async def _pump(self, source: socket.socket, sink: socket.socket, link: tuple[str, str]) -> None:
        while said := await self._loop.sock_recv(source, _PIECE):
            self.carried += len(said)
            await self._wait(*link)
            for piece in self._pieces(said, link):
                await self._loop.sock_sendall(sink, piece)
                if len(piece) < len(said):
                    await asyncio.sleep(0.0005)
        await self._wait(*link)
        sink.shutdown(socket.SHUT_WR)

    def _pieces(self, said: bytes, link: tuple[str, str]) -> Iterator[bytes]:
        rules = self._links.get(link)
        while said:
            # A long one would never arrive, byte by byte.
            size = self._random.randint(1, 64 + len(said) // 16) if rules and rules.dribbles else len(said)
            yield said[:size]
            said = said[size:]

    async def _wait(self, source: str, target: str) -> None:
        while (link := self._links.get((source, target))) is not None and link.cut:
            await self._changed.wait()
        if link is not None and link.delay:
            await asyncio.sleep(link.delay * self._random.uniform(0.5, 1.5))

    def _end(self, connection: _Connection) -> None:
        """With a reset for both ends."""
        for each in (connection.inside, connection.outside):
            if each is not None and each.fileno() >= 0:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        current = asyncio.current_task(self._loop)
        for task in connection.tasks:
            if task is not current:
                task.cancel()
        for each in (connection.inside, connection.outside):
            if each is not None and each.fileno() >= 0:
                self._loop.remove_reader(each)
                self._loop.remove_writer(each)
                each.close()


def _inode(dialler: int, listener: int) -> int:
    """Of the socket that dialled, as sock_diag(7) tells it; 0 when it is gone.

    /proc/net/tcp would tell, too, but the system goes through all connections of the machine for it: when the machine is
    busy, greetings then take longer than members wait for them.
    """
    address = socket.inet_aton("127.0.0.1") + bytes(12)
    wanted = struct.pack(">HH", dialler, listener) + 2 * address + struct.pack("=III", 0, *_ANY_COOKIE)
    asked = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + wanted
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.send(struct.pack("=IHHII", _HEADER + len(asked), _SOCK_DIAG_BY_FAMILY, 1, 0, 0) + asked)
        told = kernel.recv(4096)
    kind: int = struct.unpack_from("=IH", told)[1]
    found: int = struct.unpack_from("=I", told, _INODE_AT)[0] if kind == _SOCK_DIAG_BY_FAMILY else 0
    return found


def _has(process: int, inode: str) -> bool:
    try:
        return any(_target(file) == inode for file in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False  # it has ended


def _target(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:
        return ""  # it was closed meanwhile
