"""Members: what a program may rely on when processes are killed, stand still, fork, and end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import coterie
import coterie.aio
from coterie import Cluster, ConfigError, Member, QuotaError, StoppedError, UnavailableError

PATIENCE = 20.0


@pytest.fixture(params=[False, True], ids=["threads", "processes"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with Cluster(3, processes=request.param) as cluster:
        yield cluster


def leader_of(cluster: Cluster) -> int:
    return cluster.wait_for_leader(PATIENCE)


def test_what_one_client_writes_another_one_reads(cluster: Cluster) -> None:
    with cluster.connect() as one, cluster.connect() as two:
        one.kv["colour"] = "green"
        assert two.kv["colour"] == b"green"
        assert sorted(member.name for member in two.members) == list(cluster.names)
        assert two.status().leader == next(member.id for member in one.members if member.leads)


def test_a_new_cluster_outlives_its_first_leader_at_once() -> None:
    for _ in range(5):
        with Cluster(3) as cluster:
            cluster.kill(cluster.leader)
            with cluster.connect(timeout=PATIENCE) as client:
                client.kv["x"] = "1"


def test_nothing_that_was_acknowledged_is_lost_when_leaders_are_killed(cluster: Cluster) -> None:
    with cluster.connect(timeout=PATIENCE) as client:
        for number in range(3):
            client.kv[f"before {number}"] = str(number)
            leader = leader_of(cluster)
            cluster.kill(leader)
            client.kv[f"after {number}"] = str(number)
            cluster.restart(leader)
        for number in range(3):
            assert client.kv[f"before {number}"] == client.kv[f"after {number}"] == str(number).encode()


def test_a_cluster_that_is_killed_as_a_whole_comes_back_with_everything(cluster: Cluster) -> None:
    with cluster.connect(timeout=PATIENCE) as client:
        client.kv.put_many({f"key {number}": str(number) for number in range(500)})
        for number in range(3):
            cluster.kill(number)
        for number in range(3):
            cluster.restart(number)
        assert client.kv["key 499"] == b"499"
        assert len(client.kv.range("key ")) == 500


def test_a_minority_acknowledges_nothing(cluster: Cluster) -> None:
    with cluster.connect() as client:
        client.kv["x"] = "1"
        leader = leader_of(cluster)
        for number in range(3):
            if number != leader:
                cluster.kill(number)
        with pytest.raises((UnavailableError, coterie.UnknownOutcomeError)):
            client.kv.put("x", "2", timeout=0.5)
        cluster.restart((leader + 1) % 3)
        client.kv.put("x", "3", timeout=PATIENCE)
        assert client.kv["x"] == b"3"


def test_a_partitioned_leader_is_replaced_and_its_clients_go_on(cluster: Cluster) -> None:
    with cluster.connect(timeout=PATIENCE) as client:
        client.kv["x"] = "1"
        leader = leader_of(cluster)
        cluster.isolate(leader)
        client.kv["x"] = "2"
        cluster.heal()
        assert client.kv["x"] == b"2"


def test_a_lock_is_exclusive_and_free_when_its_holder_dies() -> None:
    with Cluster(3) as cluster, cluster.connect() as client:
        program = f"""
import coterie, time
client = coterie.connect({cluster.url!r}, secret={cluster.secret!r})
lock = client.lock("door")
lock.acquire()
print(lock.token, flush=True)
time.sleep(600)
"""
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            token = int(holder.stdout.readline())
            lock = client.lock("door")
            assert not lock.acquire(timeout=0.1)
            holder.kill()
            begun = time.monotonic()
            assert lock.acquire(timeout=PATIENCE)
            assert time.monotonic() - begun < 5, "long before the time to live is over"
            assert lock.token is not None
            assert lock.token > token
            lock.release()


def test_a_lock_section_is_exclusive_while_leaders_are_killed() -> None:
    inside, seen, problems = [0], [0], []

    def work(client: coterie.client.Client) -> None:
        for _ in range(10):
            with client.lock("door", timeout=PATIENCE):
                inside[0] += 1
                if inside[0] != 1:
                    problems.append("two at once")
                seen[0] += 1
                time.sleep(0.002)
                inside[0] -= 1

    with Cluster(3) as cluster:
        clients = [cluster.connect(timeout=PATIENCE) for _ in range(4)]
        threads = [threading.Thread(target=work, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for _ in range(2):
            time.sleep(0.1)
            leader = leader_of(cluster)
            cluster.kill(leader)
            cluster.restart(leader)
        for thread in threads:
            thread.join(PATIENCE * 2)
        for client in clients:
            client.close()
    assert not problems
    assert seen[0] == 40


def test_a_paused_leader_comes_back_as_a_follower() -> None:
    with Cluster(3, processes=True) as cluster, cluster.connect(timeout=PATIENCE) as client:
        client.kv["x"] = "1"
        leader = leader_of(cluster)
        cluster.pause(leader)
        client.kv["x"] = "2"
        assert leader_of(cluster) != leader
        cluster.resume(leader)
        assert client.kv["x"] == b"2"


def test_a_lock_is_kept_while_a_paused_leader_is_replaced() -> None:
    with (
        Cluster(3, processes=True) as cluster,
        cluster.connect(timeout=PATIENCE) as holder,
        cluster.connect(timeout=PATIENCE) as other,
        holder.lock("door", ttl=5.0) as lock,
    ):
        leader = leader_of(cluster)
        cluster.pause(leader)
        assert not other.lock("door").acquire(timeout=3.0), "it is held"
        assert not lock.lost.is_set()
        cluster.resume(leader)
        assert not other.lock("door").acquire(timeout=3.0), (
            "it is held, though its first time to live is over"
        )
        assert not lock.lost.is_set()


def test_who_says_nothing_for_long_is_still_connected() -> None:
    with Cluster(3) as cluster, cluster.connect() as client:
        client.kv["x"] = "1"
        with client.lock("door", ttl=1.0) as lock, client.watch("w/") as watch:
            time.sleep(21)  # a connection that is silent for 20 s is given up
            assert not lock.lost.is_set()
            assert client.kv.get("x", timeout=0.5) == b"1"
            client.kv["w/1"] = "2"
            assert next(iter(watch)).entry.value == b"2"


def test_who_wants_to_hurt_the_leader_hears_that_there_is_none(cluster: Cluster) -> None:
    cluster.kill(cluster.leader)
    cluster.kill(leader_of(cluster))
    # Nobody leads one of three. What the last one says of itself may be a moment old.
    until = time.monotonic() + PATIENCE
    while cluster.leader is not None and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(UnavailableError, match="wait_for_leader"):
        cluster.kill(cluster.leader)


def test_a_watch_misses_nothing_when_its_member_is_killed() -> None:
    with Cluster(3) as cluster, cluster.connect(timeout=PATIENCE) as client:
        heard: list[bytes] = []
        with client.watch("w/") as watch:
            thread = threading.Thread(target=lambda: heard.extend(e.entry.value for e in take(watch, 30)))
            thread.start()
            for number in range(30):
                client.kv.put(f"w/{number % 3}", str(number))
                if number in {10, 20}:
                    leader = leader_of(cluster)
                    cluster.kill(leader)
                    cluster.restart(leader)
            thread.join(PATIENCE)
        assert heard == [str(number).encode() for number in range(30)]


def take(watch: coterie.client.Watch, count: int) -> list[coterie.client.Event]:
    events: list[coterie.client.Event] = []
    for event in watch:
        events.append(event)
        if len(events) == count:
            break
    return events


def test_reads_under_a_lease_ask_nobody_and_are_never_stale() -> None:
    with Cluster(3, read_lease=0.1) as cluster:
        leader = cluster.member(leader_of(cluster))
        for number in range(200):
            leader.kv["x"] = str(number)
            assert leader.kv["x"] == str(number).encode()
        follower = cluster.member((cluster.leader + 1) % 3)  # type: ignore[operator]
        assert follower.kv["x"] == b"199"


def test_a_member_is_added_promoted_and_removed_while_it_serves(tmp_path: Path) -> None:
    with Cluster(3) as cluster:
        leader = cluster.member(leader_of(cluster))
        follower = cluster.member((cluster.leader + 1) % 3)  # type: ignore[operator]
        leader.kv["x"] = "1"
        known = {member.name: member.address for member in leader.members} | {"late": "127.0.0.1:0"}
        with Member(
            "late", listen="127.0.0.1:0", peers=known, data_dir=tmp_path / "late", secret=cluster.secret
        ) as late:
            follower.add("late", late.address)  # it finds the leader
            leader.promote("late", timeout=PATIENCE)
            assert late.kv["x"] == b"1"
            assert sorted(m.name for m in leader.members if m.vote) == ["late", "n0", "n1", "n2"]
            leader.remove("late")
            assert sorted(member.name for member in leader.members) == ["n0", "n1", "n2"]


def test_a_folder_has_one_member(tmp_path: Path) -> None:
    with (
        Member("a", listen="127.0.0.1:0", data_dir=tmp_path),
        pytest.raises(ConfigError, match=str(os.getpid())),
    ):
        Member("a", listen="127.0.0.1:0", data_dir=tmp_path)
    card = json.loads((tmp_path / "member.json").read_text())
    assert card["name"] == "a"
    assert (tmp_path / "wal").stat().st_mode & 0o077 == 0


def test_a_setting_that_makes_no_sense_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    for settings, complaint in [
        ({"listen": "here"}, "host:port"),
        ({"listen": "0.0.0.0:0"}, "tls"),
        ({"peers": {"b": "127.0.0.1:1"}}, "must name this member"),
        ({"role": "boss"}, "voter"),
        ({"secret": b"short"}, "16 bytes"),
        ({"election_timeout": 0.0}, "positive"),
        ({"client_listen": "127.0.0.1:2379"}, "reserved"),
    ]:
        with pytest.raises(ConfigError, match=complaint):
            Member("a", **{"listen": "127.0.0.1:0", "data_dir": folder, **settings})  # type: ignore[arg-type]
    assert not folder.exists() or not any(folder.rglob("*.wal"))


def test_who_does_not_know_the_secret_is_a_stranger() -> None:
    with Cluster(1) as cluster:
        stranger = coterie.connect(cluster.url, secret=b"quite another secret")
        with stranger, pytest.raises(coterie.AuthError):
            stranger.kv.get("x")
        assert cluster.member(0)._member.status()["network"]["strangers"] >= 1


@pytest.mark.parametrize("end", ["", "os._exit(0)", "sys.exit(3)", "raise RuntimeError"])
def test_an_interpreter_ends_with_a_member_alive(end: str, tmp_path: Path) -> None:
    program = f"""
import os, sys, coterie
member = coterie.Member("a", listen="127.0.0.1:0", data_dir={str(tmp_path)!r})
member.kv["x"] = "1"
lock = member.lock("door"); lock.acquire()
{end}
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=PATIENCE, capture_output=True, check=False)
    assert done.returncode == {"": 0, "os._exit(0)": 0, "sys.exit(3)": 3, "raise RuntimeError": 1}[end]
    assert b"panicked" not in done.stderr
    with Member("a", listen="127.0.0.1:0", data_dir=tmp_path) as member:
        assert member.kv["x"] == b"1"


def test_a_fork_of_the_program_takes_nothing_along() -> None:
    with Cluster(3) as cluster, cluster.connect(timeout=PATIENCE) as client:
        client.kv["x"] = "1"
        member = cluster.member(leader_of(cluster))
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                member.kv.get("x")
                said = "it answered"
            except StoppedError:
                said = "stopped"
            os.write(writes, said.encode())
            time.sleep(600)
        try:
            assert os.read(reads, 100) == b"stopped"
            assert client.kv["x"] == b"1", "and the parent's members serve on"
            # The dead member's sockets are not kept open by the child: others notice its end at once.
            leader = leader_of(cluster)
            cluster.kill(leader)
            begun = time.monotonic()
            client.kv["x"] = "2"
            assert time.monotonic() - begun < 5
            cluster.restart(leader)  # its folder is not locked by the child, nor is its port
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_no_member_outlives_the_program_that_made_the_cluster() -> None:
    program = """
import coterie, os, signal
cluster = coterie.Cluster(3, processes=True)
print(*[cluster.pid(number) for number in range(3)], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=PATIENCE, capture_output=True, text=True, check=False
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3
    until = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < until, "orphans"
        time.sleep(0.01)


def test_the_command_serves_and_tells(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as state:
        environment = dict(os.environ, XDG_STATE_HOME=state)
        command = [sys.executable, "-m", "coterie"]
        served = subprocess.Popen(
            [*command, "member", "a", "--data-dir", str(tmp_path / "a"), "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert served.stdout is not None
        address = served.stdout.readline().split()[-1]
        told = subprocess.run(
            [*command, "status", f"coterie://{address}", "--json"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        [member] = json.loads(told.stdout)["members"]
        assert (member["name"], member["address"], member["leads"]) == ("a", address, True)
        served.send_signal(signal.SIGTERM)
        assert served.wait(PATIENCE) == 0
        wrong = subprocess.run(
            [*command, "status", f"coterie://{address}", "--timeout", "0.2"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        served.stdout.close()
        assert wrong.returncode == 1
        assert "coterie status: " in wrong.stderr


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("follows", [False, True], ids=["asked at the leader", "asked at a follower"])
def test_any_client_changes_who_belongs_to_the_cluster(follows: bool) -> None:
    with Cluster(3) as cluster, cluster.connect(timeout=PATIENCE) as client:
        leader = leader_of(cluster)
        asked = cluster.member((leader + 1) % 3).members if follows else client.members
        gone = cluster.names[(leader + 2) % 3]
        asked.remove(gone)
        eventually(lambda: gone not in {member.name for member in client.members})
        heir = cluster.names[(leader + 1) % 3]
        asked.transfer(heir)
        eventually(lambda: cluster.names[leader_of(cluster)] == heir)
        with pytest.raises(ConfigError, match="no member is named 'nobody'; there are n"):
            asked.promote("nobody")


def test_a_client_for_event_loops_changes_members_as_well() -> None:
    async def change(cluster: Cluster) -> list[int | None]:
        async with coterie.aio.connect(cluster.url, secret=cluster.secret, timeout=PATIENCE) as client:
            other = next(member.name for member in await client.members.list() if not member.leads)
            votes = []
            for act in (client.members.demote, client.members.promote):
                await act(other)
                leader = cluster.member(cluster.wait_for_leader())
                votes += [member.vote for member in leader.members if member.name == other]
            return votes

    with Cluster(3) as cluster:
        assert asyncio.run(change(cluster)) == [None, 1]


def fill(member: Member) -> None:
    for number in range(100):
        member.kv[f"key {number}"] = b"x" * 1000


def test_a_store_that_was_full_takes_more_when_there_is_room_and_somebody_says_so(tmp_path: Path) -> None:
    with Member("a", listen="127.0.0.1:0", data_dir=tmp_path, quota=20_000) as member:
        with pytest.raises(QuotaError):
            fill(member)
        member.kv.delete("key ", prefix=True)
        member.compact(member.status().revision)
        with pytest.raises(QuotaError):
            member.kv["small"] = "still"
        member.disarm()
        member.kv["small"] = "again"
        assert member.kv["small"] == b"again"


def test_the_command_has_the_settings_of_a_member_and_ends_in_order_when_it_is_told_to(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef")
    command = [sys.executable, "-m", "coterie", "member", "a", "--listen", "127.0.0.1:0"]
    command += ["--data-dir", str(tmp_path / "a"), "--secret-file", str(secret)]
    command += ["--quota", "20000", "--grace", "none", "--history", "none", "--heartbeat-interval", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as member:
        assert member.stdout is not None
        address = member.stdout.readline().split()[-1]
        with coterie.connect(f"coterie://{address}", secret=secret, timeout=PATIENCE) as client:
            client.kv["small"] = "fits"
            with pytest.raises(QuotaError):
                client.kv["large"] = b"x" * 20_000
        member.terminate()
        assert member.wait(PATIENCE) == 0
