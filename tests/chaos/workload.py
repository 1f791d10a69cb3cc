"""What clients do all the time: they write, read, swap, lock and watch, and write down what they were told."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Any

from coterie import Fence
from coterie.client import Client
from coterie.exceptions import CompactedError, CoterieError, LockLostError, StoppedError
from records import Recording, Records


@dataclass(frozen=True)
class Plan:
    """How clients behave.

    pace: seconds between two operations of one client, on average. patience: seconds for each. registers: keys that are
    written and read. swaps: keys that are swapped, too; they have other names after each `epoch` seconds, as histories
    with swaps are hard to judge. ttl: of locks. lies: a client calls done what was refused (a planted bug).
    """

    pace: float = 0.015
    patience: float = 2.0
    registers: int = 3
    swaps: int = 2
    epoch: float = 5.0
    locks: int = 2
    ttl: float = 1.5
    lies: bool = False


class Clients:
    """Threads that use one client, until they are told to stop."""

    def __init__(
        self, client: Client, records: Records, name: str, count: int, seed: str, plan: Plan
    ) -> None:
        self._client = client
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=_Thread(client, records, f"{name}/{n}", f"{seed}.{n}", plan, self._stop).run
            )
            for n in range(count)
        ]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def stop(self) -> None:
        """Lets them finish what they have begun."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


class _Thread:
    def __init__(
        self, client: Client, records: Records, name: str, seed: str, plan: Plan, stop: threading.Event
    ) -> None:
        self._client, self._records, self._name, self._plan, self._stop = client, records, name, plan, stop
        self._random = random.Random(seed)
        self._written = 0
        self._logged = 0
        self._seen: dict[str, str | None] = {}

    def run(self) -> None:
        acts = [
            (self._put, 24),
            (self._get, 30),
            (self._swap, 20),
            (self._delete, 2),
            (self._log, 16),
            (self._lock, 8),
        ]
        kinds, weights = zip(*acts, strict=True)
        while not self._stop.wait(self._random.expovariate(1 / self._plan.pace)):
            [act] = self._random.choices(kinds, weights)
            try:
                act()
            except StoppedError:
                return  # the member of this process has ended
            except Exception as error:
                self._records.note("problem", self._name, repr(error))
                raise

    # Keys and values

    def _put(self) -> None:
        key, value = self._any_key(), self._value()
        with self._ask("put", key, value) as recording:
            try:
                self._client.kv.put(key, value, timeout=self._plan.patience)
            except CoterieError:
                if not self._plan.lies:
                    raise
            recording.ok()

    def _get(self) -> None:
        self._read(self._any_key())

    def _read(self, key: str) -> None:
        with self._ask("get", key) as recording:
            found = self._client.kv.get(key, timeout=self._plan.patience)
            self._seen[key] = None if found is None else found.decode()
            recording.ok(self._seen[key])

    def _swap(self) -> None:
        key, value = self._swap_key(), self._value()
        if key not in self._seen or self._random.random() < 0.3:
            self._read(key)
        expected = self._seen.get(key)
        with self._ask("cas", key, [expected, value]) as recording:
            done = self._client.kv.compare_and_swap(key, expected, value, timeout=self._plan.patience)
            recording.ok(done)
        if recording.outcome == "ok" and done:
            self._seen[key] = value

    def _delete(self) -> None:
        key = self._swap_key()
        with self._ask("delete", key) as recording:
            self._client.kv.delete(key, timeout=self._plan.patience)
            recording.ok()

    def _log(self) -> None:
        """A key of its own for each write, so that all that was acknowledged must be there at the end."""
        key, self._logged = f"log/{self._name}/{self._logged:06}", self._logged + 1
        with self._ask("put", key, key) as recording:
            try:
                self._client.kv.put(key, key, timeout=self._plan.patience)
            except CoterieError:
                if not self._plan.lies:
                    raise
            recording.ok()

    # Locks

    def _lock(self) -> None:
        name = f"door{self._random.randrange(self._plan.locks)}"
        lock = self._client.lock(name, ttl=self._plan.ttl)
        with self._ask("acquire", name) as recording:
            held = lock.acquire(timeout=self._plan.patience)
            recording.ok(lock.token if held else False)
        if recording.outcome != "ok" or not held:
            return
        fence = Fence(self._client.kv, f"fence/{name}")
        for _ in range(self._random.randint(1, 3)):
            with self._ask("holds", name, lock.token) as recording:
                recording.ok(not lock.lost.is_set())
            with self._ask("admit", name, lock.token) as recording:
                recording.ok(fence.admits(lock.token))
            self._stop.wait(self._random.random() * 0.02)
        with self._ask("release", name, lock.token) as recording:
            try:
                lock.release()
                recording.ok(True)
            except LockLostError:
                recording.ok(False)

    # The rest

    def _ask(self, operation: str, key: str, value: Any = None) -> Recording:
        return self._records.operation(self._name, operation, key=key, value=value)

    def _any_key(self) -> str:
        if self._random.random() < 0.6:
            return f"r{self._random.randrange(self._plan.registers)}"
        return self._swap_key()

    def _swap_key(self) -> str:
        epoch = int(time.monotonic() / self._plan.epoch)
        return f"s{self._random.randrange(self._plan.swaps)}@{epoch}"

    def _value(self) -> str:
        self._written += 1
        return f"{self._name}:{self._written}"


def watch(client: Client, records: Records, name: str) -> None:
    """Writes down all that happens below ``log/``, from now on and in a thread of its own."""

    def look() -> None:
        try:
            with client.watch("log/") as events:
                for event in events:
                    records.note("event", name, event.revision, event.key.decode())
            records.note("problem", name, "a watch ended by itself")
        except CompactedError:
            records.note("compacted", name)  # it was cut off for longer than history is kept
        except Exception as error:
            records.note("problem", name, repr(error))

    threading.Thread(target=look, daemon=True).start()
