"""The tour behind ``coterie demo``: one chapter for each capability, on real work.

A chapter is a function that yields what it has to say, a `str` for a sentence and a `Table` for figures. Add it
to `CHAPTERS`; how it looks on the screen is not its business.
"""

from __future__ import annotations

import heapq
import logging
import os
import random
import shlex
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import coterie
from coterie import balance, raft, sim
from coterie.raft import requests

if TYPE_CHECKING:
    from typing import Self

__all__ = ["CHAPTERS", "Table", "run"]


@dataclass(frozen=True)
class Table:
    """Figures in rows: numbers stand to the right, words to the left."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


Chapter = Callable[[], Iterator[str | Table]]


def ring() -> Iterator[str | Table]:
    """100,000 keys on a ring: a node comes, a node goes."""
    keys = [f"user:{number}" for number in range(100_000)]
    nodes = [f"cache-{number}" for number in range(1, 6)]
    placed = coterie.ConsistentHash(nodes)

    started = time.perf_counter()
    first = placed.get_many(keys)
    seconds = time.perf_counter() - started
    placed.add_node("cache-6")
    second = placed.get_many(keys)
    placed.remove_node("cache-2")
    third = placed.get_many(keys)

    yield f"{len(keys):,} keys found their nodes in {seconds * 1e3:.1f} ms, {seconds / len(keys) * 1e9:.0f} ns each."
    counts = [Counter(owners) for owners in (first, second, third)]
    rows = [[node, *(count.get(node, "–") for count in counts)] for node in [*nodes, "cache-6"]]
    yield Table(["node", "at first", "cache-6 added", "cache-2 removed"], rows)

    arrived = [new for old, new in zip(first, second, strict=True) if old != new]
    left = [old for old, new in zip(second, third, strict=True) if old != new]
    yield (
        f"Adding cache-6 moved {len(arrived):,} keys, {arrived.count('cache-6'):,} of them to cache-6; "
        f"a fair share is {len(keys) // 6:,}. "
        f"Removing cache-2 moved {len(left):,}, {left.count('cache-2'):,} of them its own."
    )
    # The naive way, `hash(key) % nodes`, for comparison: a key stays when both remainders agree.
    stay = sum(number % 5 == number % 6 for number in range(len(keys)))
    yield f"With `hash(key) % len(nodes)`, {1 - stay / len(keys):.0%} would have moved when a sixth node came."


class SimulatedClock:
    """Seconds since the simulation's start, which only the simulation moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Picker(Protocol):
    """What the simulation asks of a balancer."""

    def pick(self, key: Any = None) -> Any: ...

    def done(self, backend: Any, latency: float, ok: bool = True) -> None: ...


# Seconds that each backend needs for a request; the third is an old machine.
SERVICE = {"green": 0.010, "blue": 0.010, "old": 0.040}
REQUESTS_PER_SECOND = 66
# Users who take turns, and the seconds after which one of them gives up on an answer.
USERS = 100
PATIENCE = 0.2
LABELS = {"green": {"tls": True}, "blue": {"tls": True}, "old": {"tls": False}}


def pickers() -> Iterator[str | Table]:
    """A simulated minute of requests through each picker."""
    rows = []
    for title, build in PICKERS:
        clock = SimulatedClock()
        picked, waits = simulate(build(clock), clock, seconds=60)
        waits.sort()
        shares = [f"{picked[backend] / len(waits):.0%}" for backend in SERVICE]
        rows.append(
            [
                title,
                *shares,
                f"{waits[len(waits) // 2] * 1e3:.0f} ms",
                f"{waits[len(waits) * 99 // 100] * 1e3:.0f} ms",
            ]
        )
    yield (
        f"{REQUESTS_PER_SECOND} requests a second on average, three backends that need "
        f"{', '.join(f'{seconds * 1e3:.0f}' for seconds in SERVICE.values())} ms a request, one request at a time each."
    )
    yield Table(["picker", *SERVICE, "median", "99 %"], rows)
    yield "Who looks at load or latency spares the old machine; who does not lets its queue decide the slowest answers."


PICKERS: list[tuple[str, Callable[[SimulatedClock], Picker]]] = [
    ("RoundRobin", lambda _: balance.RoundRobin(list(SERVICE))),
    ("WeightedRoundRobin 4:4:1", lambda _: balance.WeightedRoundRobin({"green": 4, "blue": 4, "old": 1})),
    ("Random", lambda _: balance.Random(list(SERVICE), seed=1)),
    ("WeightedRandom 4:4:1", lambda _: balance.WeightedRandom({"green": 4, "blue": 4, "old": 1}, seed=1)),
    ("LeastConnections", lambda _: balance.LeastConnections(list(SERVICE))),
    ("PowerOfTwoChoices", lambda _: balance.PowerOfTwoChoices(list(SERVICE), seed=1)),
    ("PeakEwma", lambda clock: balance.PeakEwma(list(SERVICE), seed=1, clock=clock)),
    ("Hashed by user", lambda _: balance.Hashed(coterie.ConsistentHash(list(SERVICE)))),
    (
        "Healthy(RoundRobin)",
        lambda clock: balance.Healthy(balance.RoundRobin(list(SERVICE)), seed=1, clock=clock),
    ),
    (
        "Trusted(RoundRobin), TLS",
        lambda _: balance.Trusted(balance.RoundRobin(list(SERVICE)), require={"tls": True}, labels=LABELS),
    ),
]


def simulate(picker: Picker, clock: SimulatedClock, *, seconds: int) -> tuple[Counter[str], list[float]]:
    """Requests at random distances, a queue before each backend: how often each was picked, how long each waited."""
    free_at = dict.fromkeys(SERVICE, 0.0)
    running: list[tuple[float, str, float]] = []
    picked: Counter[str] = Counter()
    waits: list[float] = []
    gaps = random.Random(7)  # noqa: S311 - seeded, so that the tour is the same each time
    arrival = 0.0
    for _ in range(seconds * REQUESTS_PER_SECOND):
        arrival += gaps.expovariate(REQUESTS_PER_SECOND)
        while running and running[0][0] <= arrival:
            clock.now, backend, latency = heapq.heappop(running)
            picker.done(backend, latency, latency < PATIENCE)
        clock.now = arrival
        backend = picker.pick(f"user:{len(waits) % USERS}")
        picked[backend] += 1
        free_at[backend] = max(arrival, free_at[backend]) + SERVICE[backend]
        waits.append(free_at[backend] - arrival)
        heapq.heappush(running, (free_at[backend], backend, waits[-1]))
    return picked, waits


MEMBERS = 5
CHARACTERS = 32  # for each act


def consensus() -> Iterator[str | Table]:
    """An election, a partition, a healed log: five members of a Raft in a simulated world."""
    started = time.perf_counter()
    world = sim.World(raft.Node, members=MEMBERS, seed=11)
    told: dict[str, int] = {}

    yield "Time goes to the right. A digit: the member leads that term; · follows; ? asks for votes."
    yield from _act(world, "election", 0.0002)
    first = world.leader
    if first is None:
        return
    told["kept"] = world.request(first, requests.Propose((b"kept",)))
    world.run(seconds=0.1)

    away = [first, first % MEMBERS + 1]
    world.partition(away)
    told["lost"] = world.request(first, requests.Propose((b"lost",), deadline=world.clock(first) + 1.0))
    yield f"Members {away[0]} and {away[1]} are cut off, the leader among them. Who leads a minority commits nothing:"
    yield from _act(world, "partition", 0.05)
    second = world.leader
    if second is None:
        return
    told["new"] = world.request(second, requests.Propose((b"new",)))
    world.run(seconds=0.1)
    cut = [_log(world, node) for node in range(1, MEMBERS + 1)]

    world.heal()
    yield f"Member {second} was elected by the other three. Now the network is whole again:"
    yield from _act(world, "healed", 0.05)
    healed = [_log(world, node) for node in range(1, MEMBERS + 1)]

    rows = [[f"member {place}", *logs] for place, logs in enumerate(zip(cut, healed, strict=True), 1)]
    yield Table(["log", "during the partition", "healed"], rows)
    answers = {word: world.answer(asked) for word, asked in told.items()}
    said = ", ".join(f"{word!r}: {_outcome(answer)}" for word, answer in answers.items())
    world.check()
    yield (
        f"What the clients were told: {said}. {world.steps:,} inputs and {world.now:.1f} simulated seconds took "
        f"{(time.perf_counter() - started) * 1e3:.0f} ms; seed {world.seed} tells this story on every machine."
    )


def _act(world: sim.World, name: str, seconds: float) -> Iterator[Table]:
    """What members are, one character each so many seconds."""
    lines = ["|"] * MEMBERS
    for _ in range(CHARACTERS):
        world.run(seconds=seconds)
        for place, status in enumerate(world.nodes.values()):
            signs = {"Leader": str(status.term % 10), "Follower": "·"}
            lines[place] += signs.get(status.role, "?")
    rows = [[f"member {place}", line] for place, line in enumerate(lines, 1)]
    yield Table([name, f"{seconds * 1e3:g} ms a character"], rows)


def _log(world: sim.World, node: int) -> str:
    commands = [run.payload for run in world.log(node) if isinstance(run.payload, tuple)]
    return " ".join(command.decode() for payload in commands for command in payload)


def _outcome(answer: Any) -> str:
    if answer is None:
        return "no answer yet"
    return str(answer.value) if answer.error is None else str(answer.error)


# The picture: characters, and how deep each point is looked into.
WIDTH, HEIGHT, DEPTH = 72, 24, 6000
SHADES = " .:-=+*#%@"
WORKERS = 2


def pool() -> Iterator[str | Table]:
    """A picture by a pool of processes, of which one is killed half-way."""
    started = time.perf_counter()
    lines = [_line(y) for y in range(HEIGHT)]
    alone = time.perf_counter() - started

    started = time.perf_counter()
    with coterie.Pool(WORKERS, retries=1, name="painters") as painters:
        painted = []
        killed = 0
        for y, line in enumerate(painters.imap(_line, range(HEIGHT))):
            painted.append(line)
            if y == HEIGHT // 2:
                killed = painters.stats().workers[0].pid
                os.kill(killed, signal.SIGKILL)
        stats = painters.stats()
    together = time.perf_counter() - started

    yield f"{HEIGHT} lines of a Mandelbrot set, one task each; worker {killed} gets SIGKILL after line {HEIGHT // 2}."
    yield Table(["", ""], [["", line] for line in painted])
    same = "the same picture" if painted == lines else "ANOTHER PICTURE"
    yield Table(
        ["", "seconds"],
        [
            ["one after another", f"{alone:.2f}"],
            [f"a pool of {WORKERS}, its start and the death included", f"{together:.2f}"],
        ],
    )
    yield (
        f"It is {same}: the line that died was painted again, by one of {stats.started} workers "
        f"({stats.deaths} died, {stats.busy:.0%} busy). With `multiprocessing.Pool` the loop would never end."
    )


def _line(y: int) -> str:
    return "".join(SHADES[_depth(x, y) * (len(SHADES) - 1) // DEPTH] for x in range(WIDTH))


def _depth(x: int, y: int) -> int:
    point = complex(-2.1 + 2.7 * x / WIDTH, 1.15 - 2.3 * y / HEIGHT)
    z = 0j
    for depth in range(DEPTH):
        z = z * z + point
        if z.real * z.real + z.imag * z.imag > 4:
            # Most points leave soon: what is near the edge shall be seen.
            return min(DEPTH - 1, depth * DEPTH // 40)
    return DEPTH


WRITERS = 4
ENOUGH = 400  # writes before the leader is killed, and as many after it
CALM = 30.0  # seconds that a write may take: this machine may be busy


def members() -> Iterator[str | Table]:
    """A cluster of three processes, whose leader is killed while clients write."""
    with coterie.Cluster(3, processes=True, grace=1.0) as cluster, cluster.connect(timeout=CALM) as client:
        lock = client.lock("printer")
        with lock, _Writers(cluster) as writers:
            writers.wait_for(ENOUGH)
            leader = cluster.wait_for_leader()
            pid, killed = cluster.pid(leader), time.perf_counter()
            cluster.kill(leader)
            heir = cluster.wait_for_leader(CALM)
            elected = time.perf_counter()
            writers.wait_for(len(writers.waits) + ENOUGH)
            token, held = lock.token, not lock.lost.is_set()
        with client.lock("printer") as other:
            later_token = other.token
        kept = {entry.key.decode() for entry in client.kv.range("writer ", keys_only=True)}

    yield (
        f"{WRITERS} clients write one key after another; a key counts when two of three disks have it. "
        f"Member n{leader} led, in process {pid}, and got SIGKILL. "
        f"After {(elected - killed) * 1e3:.0f} ms n{heir} led."
    )
    spans = [
        [took for began, took in writers.waits.values() if (began + took < killed) is before]
        for before in (True, False)
    ]
    rows: list[list[object]] = [
        ["acknowledged", *(len(span) for span in spans)],
        ["median wait", *(f"{sorted(span)[len(span) // 2] * 1e3:.1f} ms" for span in spans)],
        ["longest wait", *(f"{max(span) * 1e3:.1f} ms" for span in spans)],
        ["acknowledged and lost", "", len(writers.waits.keys() - kept)],
    ]
    yield Table(["writes", "before", "from then on"], rows)
    yield (
        f"A lock was {'held all the time' if held else 'lost, and its holder was told'}, with token {token}; "
        f"the next holder's is {later_token}. What a lock guards refuses lower ones (`coterie.Fence`)."
    )


class _Writers:
    """Clients in threads that write until they are told to stop."""

    def __init__(self, cluster: coterie.Cluster) -> None:
        self.waits: dict[str, tuple[float, float]] = {}  # of each key: when it was asked, how long that took
        self._cluster, self._stop = cluster, threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(WRITERS)]

    def _write(self, writer: int) -> None:
        with self._cluster.connect(timeout=CALM) as client:
            number = 0
            while not self._stop.is_set():
                key, began = f"writer {writer}, key {number}", time.perf_counter()
                client.kv[key] = "written"
                self.waits[key] = began, time.perf_counter() - began
                number += 1

    def wait_for(self, count: int) -> None:
        """Until so many writes were acknowledged."""
        while len(self.waits) < count and any(thread.is_alive() for thread in self._threads):
            time.sleep(0.005)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


CHAPTERS: list[Chapter] = [ring, pickers, consensus, members, pool]


def run(*, plain: bool = False) -> None:
    """Take the tour; tables are drawn by rich when it is there and somebody is watching."""
    # A balancer that ejects a backend says so in the log; here the tables tell.
    logging.getLogger("coterie").setLevel(logging.ERROR)
    show = _rich_printer() if sys.stdout.isatty() and not plain else None
    show = show or _print_plainly
    for number, chapter in enumerate(CHAPTERS, 1):
        show(f"\n{number}. {(chapter.__doc__ or '').splitlines()[0]}\n")
        for said in chapter():
            show(said)
    show(f'\nNext: {_this_python()} -c "import coterie; help(coterie.ConsistentHash)"')


def _this_python() -> str:
    """The interpreter that runs the tour, as one would type it here: Coterie may live in no other."""
    here = os.path.relpath(sys.executable)
    return shlex.quote(here if len(here) < len(sys.executable) else sys.executable)


def _print_plainly(said: str | Table) -> None:
    if isinstance(said, str):
        print(said)
        return
    lines = [said.columns, *([_text(cell) for cell in row] for row in said.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        numbers = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  " + "  ".join([first.ljust(widths[0]), *numbers]).rstrip())


def _rich_printer() -> Callable[[str | Table], None] | None:
    try:
        from rich.console import Console  # noqa: PLC0415 - optional
        from rich.table import Table as RichTable  # noqa: PLC0415 - optional
    except ImportError:
        return None
    console = Console(highlight=False)

    def show(said: str | Table) -> None:
        if isinstance(said, str):
            console.print(said, markup=False)
            return
        table = RichTable()
        for column, title in enumerate(said.columns):
            table.add_column(title, justify="right" if column else "left")
        for row in said.rows:
            table.add_row(*(_text(cell) for cell in row))
        console.print(table)

    return show


def _text(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
