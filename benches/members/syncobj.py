"""PySyncObj: three processes; its client is a thread in its leader's process. It never syncs its journal.

As a command, `python syncobj.py ADDRESS OTHERS SIZE`, one member, which does what the lines on its standard input say.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import quantiles
from typing import IO, Any

# As shipped, and with the fastest settings that it takes and that stay stable on loopback.
PROFILES: dict[str, dict[str, Any]] = {
    "default": {},
    "tuned": {
        "appendEntriesUseBatch": False,
        "autoTickPeriod": 0.005,
        "appendEntriesPeriod": 0.02,
        "raftMinTimeout": 0.15,
        "raftMaxTimeout": 0.3,
        "connectionTimeout": 1.0,
        "connectionRetryTime": 0.1,
        "leaderFallbackTimeout": 1.0,
    },
}


def serve(profile: str, address: str, others: list[str], size: int) -> None:
    """One member's life."""
    from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated  # noqa: PLC0415 - the process beside lacks it

    class Store(SyncObj):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(address, others, SyncObjConf(bindAddress=address, **PROFILES[profile]))
            self._values: dict[str, str] = {}

        @replicated  # type: ignore[untyped-decorator]
        def put(self, key: str, value: str) -> None:
            self._values[key] = value

    store, value = Store(), "x" * size
    for line in sys.stdin:
        verb, *numbers = line.split()
        if verb == "leader":
            leader = store._getLeader()  # noqa: SLF001 - it has no other way to tell
            answer: dict[str, Any] = {"leader": leader and leader.address, "ready": store.isReady()}
        elif verb == "put":
            answer = write(store, value, float(numbers[0]))
        elif verb == "gap":
            answer = write_on(store, value, float(numbers[0]))
        else:
            answer = keep(store, value, int(numbers[0]), float(numbers[1]), FAIL_REASON.SUCCESS)
        print(json.dumps(answer), flush=True)


def write(store: Any, value: str, seconds: float) -> dict[str, float]:
    """One write after the other."""
    took, begun = [], time.perf_counter()
    while time.perf_counter() < begun + seconds:
        one = time.perf_counter()
        store.put(f"key-{len(took) % 1000}", value, sync=True, timeout=5)
        took.append(time.perf_counter() - one)
    return summary(took, time.perf_counter() - begun)


def write_on(store: Any, value: str, seconds: float) -> dict[str, float]:
    """One write after the other, whatever happens; the longest time without one."""
    last = time.perf_counter()
    until, longest = last + seconds, 0.0
    while time.perf_counter() < until:
        try:
            store.put("gap", value, sync=True, timeout=0.5)
        except Exception:  # noqa: BLE001 - of whatever kind: there is no leader
            continue
        longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
    return {"gap_ms": longest * 1e3}


def keep(store: Any, value: str, window: int, seconds: float, success: object) -> dict[str, float]:
    """So many writes in flight."""
    room, took = threading.Semaphore(window), []

    def hear(begun: float) -> Any:
        def heard(_result: object, error: object) -> None:
            if error == success:
                took.append(time.perf_counter() - begun)
            room.release()

        return heard

    begun, number = time.perf_counter(), 0
    while time.perf_counter() < begun + seconds:
        room.acquire()
        store.put(f"key-{number % 1000}", value, callback=hear(time.perf_counter()))
        number += 1
    for _ in range(window):
        room.acquire(timeout=10)
    return summary(took, time.perf_counter() - begun)


def summary(took: list[float], seconds: float) -> dict[str, float]:
    """`rate`, `p50_ms`, `p99_ms`."""
    cuts = quantiles(took, n=100) if len(took) > 1 else [float("nan")] * 99
    return {"rate": len(took) / seconds, "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}


class SyncObjs:
    """Three members."""

    def __init__(self, profile: str, ports: list[int], folder: Path, size: int = 256) -> None:
        folder.mkdir(parents=True)
        self._profile, self._folder, self._size = profile, folder, size
        self._addresses = [f"127.0.0.1:{port}" for port in ports]
        self._processes = [self._start(number) for number in range(len(ports))]
        self.leader()

    def _start(self, number: int) -> subprocess.Popen[str]:
        others = ",".join(address for i, address in enumerate(self._addresses) if i != number)
        command = [sys.executable, __file__, self._profile, self._addresses[number], others, str(self._size)]
        with (self._folder / f"n{number}.log").open("a") as log:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
            )

    def _ask(self, number: int, line: str) -> dict[str, Any]:
        self._say(number, line)
        return self._hear(number)

    def _say(self, number: int, line: str) -> None:
        pipe: IO[str] | None = self._processes[number].stdin
        if pipe is not None:
            pipe.write(line + "\n")
            pipe.flush()

    def _hear(self, number: int) -> dict[str, Any]:
        pipe = self._processes[number].stdout
        told: dict[str, Any] = json.loads(pipe.readline()) if pipe is not None else {}
        return told

    def leader(self) -> int:
        """Who leads, as all say."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            said = [self._ask(number, "leader") for number in range(len(self._processes))]
            leaders = {one["leader"] for one in said}
            if len(leaders) == 1 and None not in leaders and all(one["ready"] for one in said):
                return self._addresses.index(leaders.pop())
            time.sleep(0.05)
        raise TimeoutError("PySyncObj has no leader after 30 s")

    def put(self, seconds: float) -> dict[str, float]:
        """One write after the other, in the leader's process."""
        return self._ask(self.leader(), f"put {seconds}")

    def keep(self, window: int, seconds: float) -> dict[str, float]:
        """So many writes in flight, in the leader's process."""
        return self._ask(self.leader(), f"keep {window} {seconds}")

    def fail_over(self, stop: signal.Signals = signal.SIGKILL) -> float:
        """Milliseconds without a write in another's process, when the leader is stopped."""
        leader = self.leader()
        other = (leader + 1) % len(self._processes)
        self._say(other, "gap 5")
        time.sleep(1)
        self._processes[leader].send_signal(stop)
        gap: float = self._hear(other)["gap_ms"]
        if stop == signal.SIGKILL:
            self._processes[leader].wait()
            self._processes[leader] = self._start(leader)
        else:
            self._processes[leader].send_signal(signal.SIGCONT)
        self.leader()
        return gap

    def close(self) -> None:
        """Ends all three."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()


if __name__ == "__main__":
    chosen, mine, rest, length = sys.argv[1:]
    serve(chosen, mine, rest.split(","), int(length))
