"""Members against etcd and PySyncObj, at the same work on the same disk: three processes on loopback, and a client.

    python benches/bench_members.py [--seconds 2] [--rounds 3] [--only put,lock] [--folder FOLDER] [--etcd PATH]

The contestants take turns, so that what else the machine does meets all of them; the medians of the rounds count. All
three live at once, and those that are not asked do next to nothing. FOLDER should not be in memory: members and etcd sync
each write (PySyncObj never does). etcd's client is `etcdload`, in Rust; ours is Python, in a process beside the members
("outside") or in the leader's process ("inside"), and PySyncObj's is in its leader's process. etcd is taken from PATH or
from Debian.

The targets, against etcd: a put 3 times, 256 in flight 10 times, lock and unlock 3 times, hand-overs 10 times; against
PySyncObj: batches of 4,096 10 times; after SIGKILL of the leader a write within 50 ms (at most 250 ms), after it went
silent within 450 ms; the write gap of a transfer at most 5 ms (p99); a read under a lease at most 5 µs, at a follower
0.15 ms.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from members.etcd import Etcd, build_load, find_server
from members.ours import Ours
from members.ports import free_ports
from members.syncobj import SyncObjs

Told = dict[str, float]
Contest = dict[str, Callable[[], Told]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=5, help="how often each leader is killed")
    parser.add_argument("--only", default="", help="parts of the names of contests, with commas")
    parser.add_argument("--folder", type=Path, help="where all data go; a temporary one if not given")
    parser.add_argument("--etcd", help="the path of an etcd")
    chosen = parser.parse_args()
    if chosen.folder:
        chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        load = build_load()
        server = chosen.etcd or find_server(folder / "debian")
        alive = {
            "etcd": Etcd(server, load, folder / "etcd"),
            "outside": Ours(folder / "outside"),
            "inside": Ours(folder / "inside", inside=True),
            "lease": Ours(folder / "lease", inside=True, read_lease=0.1),
            "PySyncObj": SyncObjs("default", free_ports(3), folder / "syncobj"),
            "PySyncObj tuned": SyncObjs("tuned", free_ports(3), folder / "tuned"),
        }
        try:
            compete(alive, chosen)
        finally:
            for each in alive.values():
                each.close()


def compete(alive: dict[str, object], chosen: argparse.Namespace) -> None:
    seconds = chosen.seconds
    etcd, outside, inside, lease = (alive[name] for name in ("etcd", "outside", "inside", "lease"))
    plain, tuned = alive["PySyncObj"], alive["PySyncObj tuned"]
    assert isinstance(etcd, Etcd) and isinstance(outside, Ours) and isinstance(inside, Ours)  # noqa: PT018
    assert isinstance(lease, Ours) and isinstance(plain, SyncObjs) and isinstance(tuned, SyncObjs)  # noqa: PT018
    contests: dict[str, Contest] = {
        "put, one after the other": {
            "etcd": lambda: etcd.run("put", 1, seconds),
            "PySyncObj": lambda: plain.put(seconds),
            "PySyncObj tuned": lambda: tuned.put(seconds),
            "outside": lambda: outside.put(seconds),
            "inside": lambda: inside.put(seconds),
        },
        "put, 16 in flight": {
            "etcd": lambda: etcd.run("put", 16, seconds),
            "PySyncObj tuned": lambda: tuned.keep(16, seconds),
            "outside": lambda: outside.keep(16, seconds),
        },
        "put, 256 in flight": {
            "etcd": lambda: etcd.run("put", 256, seconds),
            "PySyncObj tuned": lambda: tuned.keep(256, seconds),
            "outside": lambda: outside.keep(256, seconds),
        },
        "put, 4,096 at a time": {
            "PySyncObj": lambda: plain.keep(4096, seconds),
            "outside": lambda: outside.put_many(4096, seconds),
            "inside": lambda: inside.put_many(4096, seconds),
        },
        "get, one after the other": {
            "etcd": lambda: etcd.run("get", 1, seconds),
            "outside": lambda: outside.get(seconds),
            "inside": lambda: inside.get(seconds),
            "at a follower": lambda: inside.get_at_follower(seconds),
            "under a lease": lambda: lease.get(seconds),
        },
        "get, 256 in flight": {
            "etcd": lambda: etcd.run("get", 256, seconds),
            "outside": lambda: outside.keep(256, seconds, reads=True),
        },
        "lock and unlock": {
            "etcd": lambda: etcd.run("lock", 1, seconds),
            "outside": lambda: outside.lock(seconds),
            "inside": lambda: inside.lock(seconds),
        },
        "one lock, 8 clients": {
            "etcd": lambda: etcd.run("handover", 8, seconds),
            "outside": lambda: outside.handover(8, seconds),
        },
    }
    wanted = [part for part in chosen.only.split(",") if part]
    for title, contest in contests.items():
        if wanted and not any(part in title for part in wanted):
            continue
        before = outside.syncs()
        rounds = [{name: run() for name, run in contest.items()} for _ in range(chosen.rounds)]
        report(title, rounds, outside.syncs() - before, chosen.seconds)
    gaps: dict[str, dict[str, Callable[[], float]]] = {
        "leader killed: ms without a write": {
            "etcd": etcd.fail_over,
            "PySyncObj tuned": tuned.fail_over,
            "outside": outside.fail_over,
        },
        "leader silent: ms without a write": {
            "etcd": lambda: etcd.fail_over(signal.SIGSTOP),
            "outside": lambda: outside.fail_over(signal.SIGSTOP),
        },
        "leadership handed over: ms without a write": {"inside": inside.transfer},
    }
    for title, each in gaps.items():
        if wanted and not any(part in title for part in wanted):
            continue
        print(f"\n{title}")
        for name, run in each.items():
            found = sorted(run() for _ in range(chosen.kills))
            print(f"  {name:18} median {median(found):8.1f}   most {found[-1]:8.1f}")


def report(title: str, rounds: list[dict[str, Told]], syncs: int, seconds: float) -> None:
    """One line for each contestant, and its ratio to the first."""
    print(f"\n{title}")
    first = next(iter(rounds[0]))
    for name in rounds[0]:
        rate, half, most = (
            median(told[name][key] for told in rounds) for key in ("rate", "p50_ms", "p99_ms")
        )
        ratio = median(told[name]["rate"] / told[first]["rate"] for told in rounds)
        print(
            f"  {name:18} {rate:12,.0f}/s   p50 {half:9.4f} ms   p99 {most:9.4f} ms   {ratio:8.2f} x {first}"
        )
    if title.startswith("put") and "outside" in rounds[0]:
        done = sum(told["outside"]["rate"] for told in rounds) * seconds
        print(f"  outside: {syncs:,} syncs of the leader's journal for {done:,.0f} puts")


if __name__ == "__main__":
    main()
