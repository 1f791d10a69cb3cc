"""What happens to processes, their network and their disks. Each is a context: it lasts, and then all is well again."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from coterie.client import Client
from coterie.exceptions import CoterieError
from machines import EndedError, Group, Machine
from proxy import CLIENT, Link

# How long a change of the members may take, on a machine that is busy.
CHANGE_PATIENCE = 60.0
# Of a tmpfs for one member, when this may be done: enough for journal and snapshots.
DISK_BYTES = 96 << 20


class Faults:
    """Draws faults from a seed, one or two at a time, and counts them."""

    def __init__(self, group: Group, seed: int, *, small_disk: str | None, only: str = "") -> None:
        self._group, self._random = group, random.Random(seed)
        self._small_disk = small_disk
        self._free: set[str] = set()
        self._deck: list[str] = []
        self.counts: Counter[str] = Counter()
        self.under_way: list[tuple[float, float, str]] = []
        self.kinds: dict[str, Callable[[], contextlib.AbstractContextManager[float]]] = {
            "kill": self.kill,
            "kill the leader": self.kill_the_leader,
            "kill all": self.kill_all,
            "pause": self.pause,
            "end in order": self.end_in_order,
            "fork, then kill": self.fork,
            "transfer": self.transfer,
            "isolate": self.isolate,
            "split": self.split,
            "one way": self.one_way,
            "reset": self.reset,
            "delay": self.delay,
            "dribble": self.dribble,
            "cut clients off": self.cut_clients_off,
            "full disk": self.fill_the_disk,
            "replace": self.replace,
        }
        if small_disk is None:
            del self.kinds["full disk"]
        if only:
            self.kinds = {name: self.kinds[name] for name in only.split(";")}

    def round(self) -> list[str]:
        """One or two faults at once, until they are over. Returns which."""
        self._free = {machine.name for machine in self._group.members}
        names = [self._draw() for _ in range(self._random.choice([1, 1, 2]))]
        if "replace" in names:
            # A change of the members needs a majority that is well, and a client that reaches the leader.
            self._deck += [name for name in names if name != "replace"]
            names = ["replace"]
        begun = time.monotonic()
        with ExitStack() as stack:
            # Those that take a member out of service need one that is free; who finds none does nothing.
            hold = max(stack.enter_context(self.kinds[name]()) for name in names)
            time.sleep(hold)
        self.counts.update(names)
        self.under_way.append((begun, time.monotonic(), " and ".join(names)))
        return names

    def _draw(self) -> str:
        """Each kind comes once before any comes twice."""
        if not self._deck:
            self._deck = list(self.kinds)
            self._random.shuffle(self._deck)
        return self._deck.pop()

    def _victims(self, most: int, *, leader: float = 0.5) -> list[Machine]:
        """Some that no other fault has, the leader among them with that probability."""
        most = min(most, self._minority)
        count = self._random.randint(1, most) if most else 0
        free = [machine for machine in self._group.members if machine.name in self._free]
        self._random.shuffle(free)
        if self._random.random() < leader and (found := self._group.leader()) in free:
            free.remove(found)
            free.insert(0, found)
        victims = free[:count]
        self._free -= {machine.name for machine in victims}
        return victims

    @property
    def _minority(self) -> int:
        """So many of those that are free may be taken, and the rest still acknowledges writes."""
        taken = len(self._group.members) - len(self._free)
        return max(0, (len(self._group.members) - 1) // 2 - taken)

    def _others(self, machines: list[Machine]) -> list[Machine]:
        return [machine for machine in self._group.members if machine not in machines]

    # Processes

    @contextlib.contextmanager
    def kill(self) -> Iterator[float]:
        victims = self._victims(self._minority)
        for machine in victims:
            machine.kill()
        yield self._random.uniform(0, 1.5)
        _start(victims)

    @contextlib.contextmanager
    def kill_the_leader(self) -> Iterator[float]:
        victims = self._victims(1, leader=1.0)
        for machine in victims:
            machine.kill()
        yield self._random.uniform(0, 1.0)
        _start(victims)

    @contextlib.contextmanager
    def kill_all(self) -> Iterator[float]:
        victims = [machine for machine in self._group.members if machine.name in self._free]
        self._free.clear()
        for machine in victims:
            machine.kill()
        yield self._random.uniform(0, 0.3)
        self._random.shuffle(victims)
        _start(victims)

    @contextlib.contextmanager
    def pause(self) -> Iterator[float]:
        """For longer than locks live."""
        victims = self._victims(self._minority)
        for machine in victims:
            machine.pause()
        yield self._group.plan.ttl * self._random.uniform(1.2, 2)
        for machine in victims:
            machine.resume()

    @contextlib.contextmanager
    def end_in_order(self) -> Iterator[float]:
        victims = self._victims(self._minority)
        for machine in victims:
            machine.end()
        yield self._random.uniform(0, 1.0)
        _start(victims)

    @contextlib.contextmanager
    def fork(self) -> Iterator[float]:
        """A child of the member's process lives on: it must keep neither sockets nor the folder."""
        victims = self._victims(1)
        for machine in victims:
            machine.fork()
        time.sleep(self._random.uniform(0, 0.3))
        for machine in victims:
            machine.kill()
        yield self._random.uniform(0, 0.5)
        _start(victims)

    @contextlib.contextmanager
    def transfer(self) -> Iterator[float]:
        leader = self._group.leader()
        if leader is not None and leader.name in self._free:
            other = self._random.choice(self._others([leader]))
            with contextlib.suppress(TimeoutError):
                leader.ask(f"transfer {other.name}")
        yield 0.1

    # The network

    @contextlib.contextmanager
    def isolate(self) -> Iterator[float]:
        """Some from all others, and from clients."""
        victims = self._victims(self._minority)
        names, others = _names(victims), [*_names(self._others(victims)), CLIENT]
        with self._group.proxy.links(_both(names, others), Link(cut=True)):
            yield self._random.uniform(0.3, 2.5)

    @contextlib.contextmanager
    def split(self) -> Iterator[float]:
        """Into two halves; clients reach both."""
        victims = self._victims(self._minority)
        with self._group.proxy.links(_both(_names(victims), _names(self._others(victims))), Link(cut=True)):
            yield self._random.uniform(0.3, 2.5)

    @contextlib.contextmanager
    def one_way(self) -> Iterator[float]:
        """One is not heard by some others, or hears them not."""
        [victim] = self._victims(1) or [self._group.members[0]]
        others = self._others([victim])
        some = self._random.sample(others, self._random.randint(1, len(others)))
        pairs = [(victim.name, other.name) for other in some]
        if self._random.random() < 0.5:
            pairs = [(there, here) for here, there in pairs]
        with self._group.proxy.links(pairs, Link(cut=True)):
            yield self._random.uniform(0.3, 2.5)

    @contextlib.contextmanager
    def reset(self) -> Iterator[float]:
        """All connections of one, or of all."""
        name = self._random.choice([*_names(self._group.members), None])
        for _ in range(self._random.randint(1, 5)):
            self._group.proxy.reset(lambda one, two: name is None or name in {one, two})
            time.sleep(self._random.uniform(0, 0.2))
        yield 0.0

    @contextlib.contextmanager
    def delay(self) -> Iterator[float]:
        names = _names(self._random.sample(self._group.members, 2))
        everybody = [*_names(self._group.members), CLIENT]
        link = Link(delay=self._random.choice([0.005, 0.03, 0.15]))
        with self._group.proxy.links(_both(names, everybody), link):
            yield self._random.uniform(0.5, 2.0)

    @contextlib.contextmanager
    def dribble(self) -> Iterator[float]:
        """What is said arrives in small pieces."""
        names = _names(self._random.sample(self._group.members, 3))
        everybody = [*_names(self._group.members), CLIENT]
        with self._group.proxy.links(_both(names, everybody), Link(dribbles=True)):
            yield self._random.uniform(0.5, 2.0)

    @contextlib.contextmanager
    def cut_clients_off(self) -> Iterator[float]:
        """Silently from some members, or with resets, again and again, from all."""
        if self._random.random() < 0.5:
            some = _names(self._random.sample(self._group.members, self._random.randint(1, 4)))
            with self._group.proxy.links(_both([CLIENT], some), Link(cut=True)):
                yield self._random.uniform(0.3, 2.0)
        else:
            for _ in range(self._random.randint(2, 8)):
                self._group.proxy.reset(lambda one, _: one == CLIENT)
                time.sleep(self._random.uniform(0, 0.15))
            yield 0.0

    # Disks

    @contextlib.contextmanager
    def fill_the_disk(self) -> Iterator[float]:
        """The member must stop with `StorageError`, and come back when there is room."""
        machine = next(each for each in self._group.members if each.name == self._small_disk)
        if machine.name not in self._free or not self._minority:
            yield 0.0
            return
        self._free.discard(machine.name)
        ballast = machine.folder / "ballast"
        _fill(ballast)
        try:
            name, complaint = machine.wait_until_failed(30)
            if name != "StorageError" or "room" not in complaint:
                raise EndedError(f"a full disk ended {machine.name} with {name}: {complaint}")
            yield self._random.uniform(0, 1.0)
        finally:
            ballast.unlink()
        _start([machine])

    # Members

    @contextlib.contextmanager
    def replace(self) -> Iterator[float]:
        """A member is gone for good; it is removed, and added again with an empty folder."""
        victims = self._victims(1, leader=0.3)
        for machine in victims:
            machine.kill()
            with self._group.connect() as client:
                _remove(client, machine)
        yield self._random.uniform(0, 0.5)
        for machine in victims:
            machine.wipe()
            machine.start()
            with self._group.connect() as client:
                _add(client, machine, self._group.address(machine))


def _remove(client: Client, machine: Machine) -> None:
    def is_gone() -> bool:
        return all(member.name != machine.name for member in client.members)

    _change(machine, lambda: client.members.remove(machine.name), is_gone)


def _add(client: Client, machine: Machine, address: str) -> None:
    def is_there(*, votes: bool = False) -> bool:
        found = [member for member in client.members if member.name == machine.name]
        return any(not votes or member.vote is not None for member in found)

    _change(machine, lambda: client.members.add(machine.name, address), is_there)
    _change(machine, lambda: client.members.promote(machine.name), lambda: is_there(votes=True))
    machine.wait_until_up()


def _change(machine: Machine, change: Callable[[], None], is_done: Callable[[], bool]) -> None:
    """Changes the members. Whether that was done may stay unknown when a leader is lost, so it is looked for.

    A member that has not heard yet of a removal refuses who comes under the same name: who is refused starts again.
    """
    until = time.monotonic() + CHANGE_PATIENCE
    while True:
        try:
            if not is_done():
                change()
        except CoterieError as error:
            if time.monotonic() > until:
                error.add_note(f"{machine.name} could not be replaced")
                raise
        else:
            return
        if machine.failed:
            machine.wait_until_failed(CHANGE_PATIENCE)
            machine.start()
        time.sleep(0.1)


def _start(machines: list[Machine]) -> None:
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.wait_until_up()


def _names(machines: list[Machine]) -> list[str]:
    return [machine.name for machine in machines]


def _both(some: list[str], others: list[str]) -> list[tuple[str, str]]:
    pairs = [(one, two) for one in some for two in others if one != two]
    return [*pairs, *((two, one) for one, two in pairs)]


def _fill(ballast: Path) -> None:
    """Takes all room that is left on that disk."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[str]:
    """A disk of its own for a folder. Yields why there is none, if there is none."""
    folder.mkdir(mode=0o700)
    if os.geteuid() != 0:
        yield "only root can mount a small disk"
        return
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        yield f"no small disk can be mounted here: {mounted.stderr.strip()}"
        return
    try:
        yield ""
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
