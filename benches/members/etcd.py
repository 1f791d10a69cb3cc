"""A real etcd: three processes with default settings, and `etcdload` as their client."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from members.ports import free_ports

HERE = Path(__file__).resolve().parent.parent


def build_load() -> Path:
    """Where `etcdload` is, which is built when it is not there."""
    manifest = HERE / "etcdload" / "Cargo.toml"
    subprocess.run(["cargo", "build", "--quiet", "--release", "--manifest-path", str(manifest)], check=True)
    told = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps", "--manifest-path", str(manifest)],
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(json.loads(told.stdout)["target_directory"]) / "release" / "etcdload"


def find_server(folder: Path) -> str:
    """The path of an etcd, from PATH or Debian."""
    found = subprocess.run(
        [HERE.parent / "scripts" / "etcd.sh", folder], check=True, capture_output=True, text=True
    )
    return found.stdout.split()[-1]


class Etcd:
    """Three members; `load` is the path of `etcdload`."""

    def __init__(self, server: str, load: Path, folder: Path) -> None:
        self._server, self._load, self._folder = server, load, folder
        ports = free_ports(6)
        self._clients, self._peers = ports[:3], ports[3:]
        self._processes: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True)
        for number in range(3):
            self._processes.append(self._start(number, "new"))
        self.leader()

    def _start(self, number: int, state: str) -> subprocess.Popen[bytes]:
        names = ",".join(f"n{i}=http://127.0.0.1:{port}" for i, port in enumerate(self._peers))
        client, peer = (f"http://127.0.0.1:{ports[number]}" for ports in (self._clients, self._peers))
        command = [self._server, "--name", f"n{number}", "--data-dir", str(self._folder / f"n{number}")]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", names, "--initial-cluster-state", state]
        command += ["--log-level", "error", "--quota-backend-bytes", str(8 << 30)]
        with (self._folder / f"n{number}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def _ask(self, number: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._clients[number], timeout=2)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            said: dict[str, Any] = json.loads(response.read())
            if response.status != http.HTTPStatus.OK:
                raise OSError(f"etcd says {response.status}: {said}")
            return said
        finally:
            connection.close()

    def leader(self) -> int:
        """Who leads, as all say."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                said = [self._ask(number, "/v3/maintenance/status", {}) for number in range(3)]
            except (OSError, http.client.HTTPException):
                said = []
            leaders = {one.get("leader", "0") for one in said}
            if len(leaders) == 1 and "0" not in leaders:
                return next(i for i, one in enumerate(said) if one["header"]["member_id"] == one["leader"])
            time.sleep(0.05)
        raise TimeoutError("etcd has no leader after 30 s")

    def run(self, work: str, clients: int, seconds: float, size: int = 256) -> dict[str, float]:
        """What `clients` do at the leader for so long: `rate`, `p50_ms`, `p99_ms`."""
        endpoint = f"http://127.0.0.1:{self._clients[self.leader()]}"
        command = [str(self._load), work, endpoint, str(clients), str(seconds), str(size)]
        told: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return told

    def fail_over(self, stop: signal.Signals = signal.SIGKILL) -> float:
        """Milliseconds without a write of a client at the others, when the leader is stopped."""
        leader = self.leader()
        others = ",".join(f"http://127.0.0.1:{port}" for i, port in enumerate(self._clients) if i != leader)
        writing = subprocess.Popen([str(self._load), "gap", others, "1", "5"], stdout=subprocess.PIPE)
        time.sleep(1)
        self._processes[leader].send_signal(stop)
        told, _ = writing.communicate()
        if stop == signal.SIGKILL:
            self._processes[leader].wait()
            self._processes[leader] = self._start(leader, "existing")
        else:
            self._processes[leader].send_signal(signal.SIGCONT)
        self.leader()
        gap: float = json.loads(told)["gap_ms"]
        return gap

    def close(self) -> None:
        """Ends all three."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
