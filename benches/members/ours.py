"""Ours: three processes, as the others are, and their client in this one; and the same in threads of this process."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import coterie
from coterie import aio
from members.syncobj import summary


class Ours:
    """Three members; `inside` makes them threads of this process, and its client the leader itself."""

    def __init__(self, folder: Path, *, inside: bool = False, read_lease: float | None = None) -> None:
        self.cluster = coterie.Cluster(3, folder, processes=not inside, read_lease=read_lease)
        self._inside = inside
        self._client = self.cluster.connect(timeout=30)
        self._client.kv["first"] = "x"
        # By then it has found the leader.
        time.sleep(0.5)

    def client(self) -> coterie.client.Client:
        """Whom to ask."""
        return self.cluster.member(self.cluster.wait_for_leader()) if self._inside else self._client

    def syncs(self) -> int:
        """How many syncs of the leader's journal there were."""
        leader = self.cluster.wait_for_leader()
        told = self.cluster._statuses()[leader]  # noqa: SLF001 - users have no need to know
        return 0 if told is None else int(told["syncs"])

    def _repeat(self, seconds: float, work: Callable[[int], object]) -> dict[str, float]:
        took: list[float] = []
        begun = time.perf_counter()
        while (one := time.perf_counter()) < begun + seconds:
            work(len(took))
            took.append(time.perf_counter() - one)
        return summary(took, time.perf_counter() - begun)

    def put(self, seconds: float, size: int = 256) -> dict[str, float]:
        """One write after the other."""
        put, value = self.client().kv.put, b"x" * size
        return self._repeat(seconds, lambda number: put(f"key-{number % 1000}", value))

    def get(self, seconds: float) -> dict[str, float]:
        """One linearizable read after the other."""
        get = self.client().kv.get
        return self._repeat(seconds, lambda _: get("first"))

    def get_at_follower(self, seconds: float) -> dict[str, float]:
        """The same in a follower's process: it asks the leader up to where to read."""
        leader = self.cluster.wait_for_leader()
        get = self.cluster.member((leader + 1) % 3).kv.get
        return self._repeat(seconds, lambda _: get("first"))

    def put_many(self, batch: int, seconds: float, size: int = 256) -> dict[str, float]:
        """So many writes with each call."""
        client, value = self.client(), b"x" * size
        items = {f"key-{number}": value for number in range(batch)}
        told = self._repeat(seconds, lambda _: client.kv.put_many(items))
        return {**told, "rate": told["rate"] * batch}

    def lock(self, seconds: float) -> dict[str, float]:
        """Takes and leaves a lock."""
        lock = self.client().lock("bench")

        def once(_: int) -> None:
            lock.acquire()
            lock.release()

        return self._repeat(seconds, once)

    def handover(self, waiters: int, seconds: float) -> dict[str, float]:
        """So many clients take turns with one lock."""
        clients = [self.cluster.connect(timeout=30) for _ in range(waiters)]
        took: list[float] = []
        until = time.perf_counter() + seconds

        def work(client: coterie.client.Client) -> None:
            lock = client.lock("contended")
            while (one := time.perf_counter()) < until:
                lock.acquire()
                lock.release()
                took.append(time.perf_counter() - one)

        threads = [threading.Thread(target=work, args=(client,)) for client in clients]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = summary(took, time.perf_counter() - begun)
        for client in clients:
            client.close()
        return told

    def keep(self, window: int, seconds: float, *, reads: bool = False, size: int = 256) -> dict[str, float]:
        """So many awaited calls in flight, in one event loop."""
        return asyncio.run(self._keep(window, seconds, reads, b"x" * size))

    async def _keep(self, window: int, seconds: float, reads: bool, value: bytes) -> dict[str, float]:
        took: list[float] = []
        async with aio.connect(self.cluster.url, timeout=30, secret=self.cluster.secret) as client:
            await client.kv.put("first", b"x")
            await asyncio.sleep(0.5)
            begun = time.perf_counter()
            until = begun + seconds

            async def work(name: int) -> None:
                number = 0
                while (one := time.perf_counter()) < until:
                    call: Awaitable[Any]
                    call = (
                        client.kv.get("first")
                        if reads
                        else client.kv.put(f"key-{name}-{number % 100}", value)
                    )
                    await call
                    took.append(time.perf_counter() - one)
                    number += 1

            await asyncio.gather(*(work(name) for name in range(window)))
            return summary(took, time.perf_counter() - begun)

    def fail_over(self, stop: signal.Signals = signal.SIGKILL) -> float:
        """Milliseconds without a write of this process, when the leader is stopped."""
        leader = self.cluster.wait_for_leader()
        kills = stop == signal.SIGKILL
        gap = self._gap(lambda: self.cluster.kill(leader) if kills else self.cluster.pause(leader), 2.0)
        if kills:
            self.cluster.restart(leader)
        else:
            self.cluster.resume(leader)
        time.sleep(0.5)
        self.cluster.wait_for_leader()
        return gap

    def transfer(self) -> float:
        """Milliseconds without a write of this process, when leadership is handed over."""
        leader = self.cluster.wait_for_leader()
        heir = self.cluster.names[(leader + 1) % 3]
        return self._gap(lambda: self.cluster.member(leader).members.transfer(heir), 0.1)

    def _gap(self, happens: Callable[[], object], seconds: float) -> float:
        """The longest time without a write, in milliseconds, from when something happens on."""
        ended, longest, last = threading.Event(), [0.0], [time.perf_counter()]

        def write() -> None:
            while not ended.is_set():
                self._client.kv.put("gap", b"x" * 16)
                now = time.perf_counter()
                longest[0], last[0] = max(longest[0], now - last[0]), now

        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(0.3)
        longest[0] = 0.0
        happens()
        time.sleep(seconds)
        ended.set()
        thread.join()
        return longest[0] * 1e3

    def close(self) -> None:
        """Ends all of it."""
        self._client.close()
        self.cluster.close()
