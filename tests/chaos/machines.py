"""Programs with members and with clients, each in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import coterie
from coterie._member.certificates import HERE, issue
from proxy import Proxy
from records import Records
from workload import Plan

PROGRAM = Path(__file__).with_name("program.py")
# Until a process answers: the machine may be busy with other things.
PATIENCE = 30.0


class EndedError(Exception):
    """A process has ended that nobody had told to."""


class Machine:
    """One process: a member with clients in it, or clients alone."""

    def __init__(self, group: Group, name: str, environment: Mapping[str, str] | None = None) -> None:
        self._group, self.name = group, name
        self._environment = dict(os.environ) | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._lives = 0
        self._paused = False
        self._children: list[int] = []

    @property
    def is_member(self) -> bool:
        return self.name in self._group.ports

    @property
    def runs(self) -> bool:
        return self._process is not None

    @property
    def folder(self) -> Path:
        return self._group.folder / self.name

    def start(self) -> None:
        """Starts it, and does not wait until it is up."""
        assert self._process is None
        self._lives += 1
        told = self._group.told(self, f"{self.name}.{self._lives}")
        self._failure = Path(told["failure"])
        with (self._group.folder / f"{self.name}.errors").open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
                start_new_session=True,
            )
        if self.is_member:
            self._group.proxy.own(self._process.pid, self.name)
        self._say(json.dumps(told))

    def wait_until_up(self) -> None:
        """Waits until the member has started."""
        self._read(PATIENCE)

    def ask(self, line: str, patience: float = PATIENCE) -> Any:
        """Asks a process for something."""
        self._say(line)
        return self._read(patience)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._leave()

    def end(self) -> None:
        """In order."""
        self.ask("end")
        self._leave()

    def pause(self) -> None:
        """SIGSTOP."""
        self.signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)
        self._paused = False

    def signal(self, number: signal.Signals) -> None:
        """Any other."""
        assert self._process is not None
        self._process.send_signal(number)

    def wipe(self) -> None:
        """All that a member has on its disk is gone."""
        assert self._process is None
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def fork(self) -> None:
        """Its process gets a child, which lives on."""
        self._children.append(self.ask(f"fork {os.getpid()}"))

    def check(self) -> None:
        """Complains when it has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise EndedError(f"{self.name} ended with {self._process.returncode}: {self._complaint()}")

    def wait_until_failed(self, patience: float) -> tuple[str, str]:
        """Waits until it has ended by itself. Returns the error's name, and its words."""
        assert self._process is not None
        self._process.wait(patience)
        name, complaint = json.loads(self._failure.read_text())
        self._leave()
        return name, complaint

    @property
    def failed(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def bury(self) -> None:
        """Ends it and all children of it, whatever they do."""
        if self._process is not None:
            self._process.kill()
            self._leave()
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def _leave(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.wait(PATIENCE)
        self._group.proxy.disown(process.pid)
        self._paused = False
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _say(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _read(self, patience: float) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], patience)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise self._ended() if ready else TimeoutError(f"{self.name} did not answer")
        return json.loads(line)

    def _ended(self) -> EndedError:
        assert self._process is not None
        status = self._process.wait(PATIENCE)
        return EndedError(f"{self.name} ended with {status}: {self._complaint()}")

    def _complaint(self) -> str:
        if self._failure.exists():
            return self._failure.read_text()
        return (self._group.folder / f"{self.name}.errors").read_text()[-2000:]


class Group:
    """Members, clients outside, and the network between them.

    Parameters
    ----------
    folder
        For journals and records.
    members, outside
        How many processes have a member, and how many have clients alone.
    inside, threads
        How many clients a member's process has, and how many one outside.
    settings
        Of members.
    certificates
        Whether they have some, made here: TLS both ways.
    environments
        What the processes of members find in their environment, by name.
    """

    def __init__(
        self,
        folder: Path,
        *,
        members: int,
        seed: int,
        plan: Plan,
        outside: int = 2,
        inside: int = 1,
        threads: int = 3,
        grace: float | None = 0.03,
        settings: Mapping[str, Any] | None = None,
        certificates: bool = False,
        environments: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.folder, self.seed, self.plan, self.grace = folder, seed, plan, grace
        self._inside, self._threads = inside, threads
        self._settings = dict(settings or {})
        self._tls = _certificates(folder / "certificates") if certificates else None
        self.secret = secrets.token_hex(16)
        self.proxy = Proxy(seed)
        self.ports = {f"n{number}": _free_port() for number in range(members)}
        self._addresses = {
            name: f"127.0.0.1:{self.proxy.serve(name, port)}" for name, port in self.ports.items()
        }
        self.members = [Machine(self, name, (environments or {}).get(name)) for name in self.ports]
        self.outside = [Machine(self, f"outside{number}") for number in range(outside)]
        (folder / "records").mkdir()
        self.records = Records(folder / "records" / "test")

    @property
    def machines(self) -> list[Machine]:
        return [*self.members, *self.outside]

    @property
    def url(self) -> str:
        return "coterie://" + ",".join(self._addresses.values())

    def address(self, machine: Machine) -> str:
        """Where it is found."""
        return self._addresses[machine.name]

    def told(self, machine: Machine, life: str) -> dict[str, Any]:
        """What a process is to do."""
        member = None
        if machine.is_member:
            member = {
                "listen": f"127.0.0.1:{self.ports[machine.name]}",
                "advertise": self._addresses[machine.name],
                "peers": self._addresses,
                "data_dir": str(machine.folder),
                **self._settings,
            }
        return {
            "name": machine.name,
            "life": life,
            "member": member,
            "url": self.url,
            "secret": self.secret,
            "tls": self._tls,
            "grace": self.grace,
            "clients": self._inside if machine.is_member else self._threads,
            "watches": not machine.is_member,
            "seed": f"{self.seed}.{life}",
            "plan": dataclasses.asdict(self.plan),
            "records": str(self.folder / "records" / life),
            "failure": str(self.folder / f"{life}.failure"),
        }

    def connect(self, timeout: float = PATIENCE) -> coterie.client.Client:
        """A client in this process."""
        return coterie.connect(
            self.url, secret=self.secret.encode(), tls=self._tls, timeout=timeout, grace=self.grace
        )

    def start(self) -> None:
        """Starts all."""
        for machine in self.members:
            machine.start()
        for machine in self.members:
            machine.wait_until_up()
        for machine in self.outside:
            machine.start()
        for machine in self.outside:
            machine.wait_until_up()

    def leader(self) -> Machine | None:
        """The member that leads, as far as members say so that run and answer."""
        terms: dict[int, Machine] = {}
        for machine in self.members:
            if machine.runs and not machine._paused and not machine.failed:
                try:
                    told = machine.ask("status")
                except EndedError:
                    continue  # a full disk is somebody else's to see
                if told["role"] == "leader":
                    terms[told["term"]] = machine
        return terms[max(terms)] if terms else None

    def kill_members(self) -> None:
        """SIGKILL for all members, as nearly at once as can be."""
        running = [machine for machine in self.members if machine.runs]
        for machine in running:
            machine.signal(signal.SIGKILL)
        for machine in running:
            machine.kill()

    def check(self) -> None:
        """Complains about processes that have ended by themselves."""
        for machine in self.machines:
            machine.check()

    def write(self) -> float:
        """Waits until a write is acknowledged. Returns how many seconds that took."""
        begun = time.monotonic()
        key = f"log/test/{time.monotonic_ns()}"
        with self.connect() as client, self.records.operation("test", "put", key=key, value=key) as recording:
            client.kv.put(key, key)
            recording.ok()
        took = time.monotonic() - begun
        if recording.outcome != "ok":
            raise TimeoutError(f"no write after {took:.1f} s, though all is well again") from recording.error
        return took

    def close(self) -> None:
        """Ends everything."""
        for machine in self.machines:
            machine.bury()
        self.proxy.close()


def _certificates(folder: Path) -> tuple[str, str, str]:
    """One certificate for all members and clients, its key, and the authority."""
    certificate, key, authority = issue(folder, "all", HERE)
    return str(certificate), str(key), str(authority)


def _free_port() -> int:
    """Below those that the system gives to who dials: it must be free when the member comes back."""
    while True:
        port = random.SystemRandom().randrange(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
