"""Clients: what they promise, over every engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import coterie
from coterie.client import Client, Entry

Connect = Callable[[], Client]
Engine = Any  # conftest's: no test can import it


@pytest.fixture
def prefix() -> str:
    """Keys and names that no other test uses."""
    return f"test-{uuid.uuid4()}/"


@pytest.fixture
def connect(engine: Engine) -> Iterator[Connect]:
    """Clients of one cluster, which end with the test."""
    clients: list[Client] = []

    def connect() -> Client:
        clients.append(coterie.connect(engine.url, **engine.settings))
        return clients[-1]

    connect()  # a cluster in memory lives as long as somebody is connected to it
    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Connect) -> Client:
    return connect()


# ── Keys and values ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_one_client_puts_another_one_gets(connect: Connect, prefix: str) -> None:
    one, other = connect(), connect()
    first = one.kv.put(prefix + "k", "grün")
    assert other.kv.get(prefix + "k") == "grün".encode()
    assert other.kv.put((prefix + "k").encode(), b"\x00\xff") > first
    assert one.kv.get(prefix + "k") == b"\x00\xff"
    assert one.kv.get(prefix + "nothing") is None


@pytest.mark.parametrize("value", [b"abc", "abc", bytearray(b"abc"), memoryview(b"abc")])
def test_values_are_bytes_of_any_kind(client: Client, prefix: str, value: bytes) -> None:
    client.kv.put(prefix, value)
    assert client.kv.get(prefix) == b"abc"


@pytest.mark.parametrize("wrong", [1, None, ["a"], 1.5])
def test_what_is_no_key_or_value_is_refused_before_anything_is_sent(
    client: Client, prefix: str, wrong: object
) -> None:
    with pytest.raises(TypeError, match="must be"):
        client.kv.put(wrong, "v")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be"):
        client.kv.put(prefix, wrong)  # type: ignore[arg-type]
    assert client.kv.get(prefix) is None


def test_an_empty_key_is_refused(client: Client) -> None:
    with pytest.raises(coterie.RequestError, match="must not be empty"):
        client.kv.put("", "v")


def test_an_entry_knows_its_revisions_now_and_then(client: Client, prefix: str) -> None:
    first = client.kv.put(prefix, "1")
    second = client.kv.put(prefix, "2")
    assert client.kv.entry(prefix) == Entry(prefix.encode(), b"2", first, second, 2, 0)
    assert client.kv.entry(prefix, revision=first) == Entry(prefix.encode(), b"1", first, first, 1, 0)
    assert client.kv.delete(prefix) == 1
    assert client.kv.delete(prefix) == 0
    assert client.kv.entry(prefix) is None
    third = client.kv.put(prefix, "3")
    assert client.kv.entry(prefix) == Entry(prefix.encode(), b"3", third, third, 1, 0)


def test_a_range_is_in_order_and_bounded_as_asked(client: Client, prefix: str) -> None:
    for n in (3, 1, 4, 0, 2):
        client.kv.put(f"{prefix}{n}", f"v{n}")
    client.kv.put(prefix[:-1] + "0", "not below")

    def names(**arguments: object) -> str:
        return "".join(entry.key.decode()[-1] for entry in client.kv.range(**arguments))  # type: ignore[arg-type]

    assert names(prefix=prefix) == "01234"
    assert names(prefix=prefix, descending=True) == "43210"
    assert names(prefix=prefix, limit=2) == "01"
    assert names(prefix=prefix, limit=2, descending=True) == "43"
    assert names(prefix=prefix, limit=0) == ""
    assert names(start=prefix + "1", end=prefix + "3") == "12"
    assert [entry.value for entry in client.kv.range(prefix, keys_only=True)] == [b""] * 5
    assert client.kv.count(prefix) == 5
    assert client.kv.delete(prefix, prefix=True) == 5
    assert client.kv.range(prefix) == []


def test_a_range_that_no_answer_holds_comes_whole_and_as_of_one_revision(client: Client, prefix: str) -> None:
    client.kv.put_many({f"{prefix}{n:03}": bytes([n % 256]) * 100_000 for n in range(100)})
    for descending in (False, True):
        entries = client.kv.range(prefix, descending=descending)
        assert [int(entry.key[-3:]) for entry in entries] == sorted(range(100), reverse=descending)
        assert all(entry.value == bytes([int(entry.key[-3:])]) * 100_000 for entry in entries)
    assert [int(entry.key[-3:]) for entry in client.kv.range(prefix, limit=90)] == list(range(90))


def test_it_is_a_mapping(client: Client, prefix: str) -> None:
    kv = client.kv
    kv[prefix] = "v"
    assert kv[prefix] == b"v"
    assert prefix in kv
    assert prefix.encode() in list(kv)
    assert len(kv) >= 1
    del kv[prefix]
    assert prefix not in kv
    with pytest.raises(KeyError, match=prefix):
        kv[prefix]
    with pytest.raises(KeyError, match=prefix):
        del kv[prefix]
    assert bool(kv)


def test_compare_and_swap_sets_only_what_is_as_expected(client: Client, prefix: str) -> None:
    swap = client.kv.compare_and_swap
    assert not swap(prefix, "old", "new")
    assert swap(prefix, None, "1")
    assert not swap(prefix, None, "2")
    assert swap(prefix, "1", "2")
    seen = client.kv.entry(prefix)
    client.kv.put(prefix, "3")
    client.kv.put(prefix, "2")
    assert not swap(prefix, seen, "4"), "it was set since, though to what it was before"
    assert swap(prefix, client.kv.entry(prefix), None)
    assert client.kv.get(prefix) is None


def test_threads_that_swap_lose_no_update(client: Client, prefix: str) -> None:
    client.kv.put(prefix, "0")

    def count() -> None:
        for _ in range(25):
            while True:
                entry = client.kv.entry(prefix)
                assert entry is not None
                if client.kv.compare_and_swap(prefix, entry, str(int(entry.value) + 1)):
                    break

    in_threads(4, count)
    assert client.kv.get(prefix) == b"100"


def test_put_many_puts_all_and_takes_any_pairs(client: Client, prefix: str) -> None:
    last = client.kv.put_many({f"{prefix}{n}": str(n) for n in range(5000)})
    assert client.kv.count(prefix) == 5000
    assert max(entry.mod_revision for entry in client.kv.range(prefix)) == last
    assert client.kv.put_many((prefix + key, "v") for key in "ab") == last + 2
    assert client.kv.put_many({}) == 0
    with pytest.raises(coterie.RequestError):
        client.kv.put_many({"": "v"})


# ── Transactions ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_transaction_does_all_or_nothing_in_one_revision(client: Client, prefix: str) -> None:
    a, b, c = prefix + "a", prefix + "b", prefix + "c"
    client.kv.put(a, "1")
    move = client.kv.transaction().require(a, value="1").delete(a).put(b, "1").get(b).get(c)
    move.otherwise.get(b).put(c, "2")
    moved = move.commit()
    assert moved.succeeded
    assert moved
    assert moved.results[:2] == [1, None]
    entry = client.kv.entry(b)
    assert moved.results[2:] == [entry, None]
    assert entry is not None
    assert entry.mod_revision == moved.revision
    again = move.commit()
    assert not again
    assert again.results == [entry, None]
    assert client.kv.get(c) == b"2"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"exists": True}, True),
        ({"exists": False}, False),
        ({"value": "v"}, True),
        ({"value": "v", "comparison": "!="}, False),
        ({"value": "w", "comparison": "<"}, True),
        ({"version": 2}, True),
        ({"version": 2, "comparison": ">"}, False),
        ({"mod_revision": 0, "comparison": ">"}, True),
        ({"create_revision": 0}, False),
    ],
)
def test_conditions(client: Client, prefix: str, condition: dict[str, object], holds: bool) -> None:
    client.kv.put(prefix, "u")
    client.kv.put(prefix, "v")
    transaction = client.kv.transaction().require(prefix, **condition).put(prefix, "w")  # type: ignore[arg-type]
    assert transaction.commit().succeeded is holds


def test_a_transaction_that_makes_no_sense_changes_nothing(client: Client, prefix: str) -> None:
    with pytest.raises(coterie.RequestError, match="same key"):
        client.kv.transaction().put(prefix, "1").put(prefix, "2").commit()
    many = client.kv.transaction()
    for n in range(129):
        many.put(f"{prefix}{n}", "v")
    with pytest.raises(coterie.RequestError, match="128"):
        many.commit()
    assert client.kv.count(prefix) == 0
    for wrong in ({}, {"value": "v", "version": 1}, {"exists": True, "version": 1}):
        with pytest.raises(coterie.ConfigError):
            client.kv.transaction().require(prefix, **wrong)  # type: ignore[arg-type]


# ── Watches ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_watch_sees_all_that_happens_and_nothing_else(connect: Connect, prefix: str) -> None:
    one, other = connect(), connect()
    with one.watch(prefix) as watch:
        for n in range(100):
            other.kv.put(f"{prefix}{n}", str(n))
            other.kv.put(f"x{prefix}{n}", str(n))
        other.kv.delete(prefix, prefix=True)
        events = [next(watch) for _ in range(200)]
    assert [event.value for event in events[:100]] == [str(n).encode() for n in range(100)]
    assert {event.kind for event in events[100:]} == {"delete"}
    assert {event.revision for event in events[100:]} == {events[-1].revision}
    assert list(watch) == [], "it is closed"


def test_a_watch_goes_on_where_another_one_stopped(client: Client, prefix: str) -> None:
    start = client.kv.put(prefix, "0")
    with client.watch(prefix, start) as watch:
        for n in range(1, 10):
            client.kv.put(prefix, str(n))
        seen = [next(watch).value for _ in range(4)]
        place = watch.next_revision
    with client.watch(prefix, place) as watch:
        seen += [next(watch).value for _ in range(6)]
    assert seen == [str(n).encode() for n in range(10)]


def test_a_watch_of_one_key_tells_what_was_before(client: Client, prefix: str) -> None:
    client.kv.put(prefix, "1")
    with client.watch(prefix, exact=True, previous=True) as watch:
        client.kv.put(prefix + "below", "v")
        client.kv.put(prefix, "2")
        event = next(watch)
    assert event.previous is not None
    assert (event.previous.value, event.value) == (b"1", b"2")


def test_waiting_for_events_ends_in_time_and_by_closing(client: Client, prefix: str) -> None:
    watch = client.watch(prefix)
    assert watch.next_batch(timeout=0.05) == []
    revision = client.kv.put(prefix, "v")
    assert [event.revision for event in watch.next_batch(timeout=5)] == [revision]
    waiting = threading.Thread(target=list, args=[watch])
    waiting.start()
    time.sleep(0.05)
    watch.close()
    waiting.join(5)
    assert not waiting.is_alive()


def test_who_is_too_late_is_told_where_history_begins(client: Client, prefix: str) -> None:
    first = client.kv.put(prefix, "1")
    client.kv.put(prefix, "2")
    last = client.kv.put(prefix, "3")
    client.compact(last)
    for late in (
        lambda: next(client.watch(prefix, first)),
        lambda: client.kv.entry(prefix, revision=first),
        lambda: client.kv.range(prefix, revision=first),
        lambda: client.compact(first),
    ):
        with pytest.raises(coterie.CompactedError) as caught:
            late()
        assert caught.value.revision == last
    assert next(client.watch(prefix, last)).value == b"3"


# ── Locks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lock_excludes_threads_and_clients_and_its_tokens_grow(connect: Connect, prefix: str) -> None:
    clients = [connect(), connect()]
    inside: list[int] = []
    tokens: list[int] = []

    def enter(which: int) -> None:
        for _ in range(20):
            with clients[which % 2].lock(prefix) as lock:
                inside.append(which)
                tokens.append(lock.token)
                time.sleep(0.0005)
                assert inside.pop() == which
                assert not inside

    in_threads(6, enter, numbered=True)
    assert len(tokens) == 120
    assert tokens == sorted(set(tokens))


def test_who_asks_first_gets_it_first(client: Client, prefix: str) -> None:
    order: list[int] = []
    first = client.lock(prefix)
    first.acquire()

    def wait(which: int) -> None:
        with client.lock(prefix):
            order.append(which)

    threads = []
    for which in range(10):
        threads.append(threading.Thread(target=wait, args=[which]))
        threads[-1].start()
        until(lambda: client.kv.count(f"{prefix}/") == which + 2)  # noqa: B023 - it is called at once
    first.release()
    for thread in threads:
        thread.join(10)
    assert order == list(range(10))


def test_acquire_is_that_of_threading(client: Client, prefix: str) -> None:
    lock, other = client.lock(prefix), client.lock(prefix)
    assert lock.acquire()
    assert lock.locked()
    assert not other.acquire(blocking=False)
    began = time.monotonic()
    assert not other.acquire(timeout=0.1)
    assert 0.1 <= time.monotonic() - began < 5
    assert not other.locked()
    until(lambda: client.kv.count(f"{prefix}/") == 1)
    lock.release()
    assert other.acquire(timeout=0.1)
    other.release()
    for wrong in (lambda: lock.acquire(blocking=False, timeout=1), lambda: lock.acquire(timeout=-2)):
        with pytest.raises(ValueError, match="timeout"):
            wrong()
    with pytest.raises(RuntimeError, match="unlocked"):
        lock.release()
    with pytest.raises(coterie.ConfigError, match="ttl"):
        client.lock(prefix, ttl=0)


def test_with_a_time_out_raises(client: Client, prefix: str) -> None:
    in_vain = pytest.raises(coterie.LockTimeoutError, match=r"held by another for 0\.05 seconds")
    with client.lock(prefix), in_vain, client.lock(prefix, timeout=0.05):
        pytest.fail("it is another's")
    with client.lock(prefix, timeout=0.05):
        pass


def test_a_lock_outlives_its_time_to_live_as_long_as_its_process_does(client: Client, prefix: str) -> None:
    with client.lock(prefix, ttl=0.3) as lock:
        assert not lock.lost.wait(1.0)
        assert not client.lock(prefix).acquire(blocking=False)


def test_holding_the_interpreter_loses_no_lock(client: Client, prefix: str) -> None:
    with client.lock(prefix, ttl=0.3) as lock:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            sum(range(2_000_000))  # no other thread runs Python meanwhile
        assert not lock.lost.is_set()


def test_a_lost_lock_says_so_and_the_next_one_has_it(connect: Connect, prefix: str) -> None:
    one, other = connect(), connect()
    lock = one.lock(prefix)
    lock.acquire()
    heard: list[bool] = []
    listening = threading.Thread(target=lambda: heard.append(lock.lost.wait(10)))
    listening.start()
    other._core.revoke(lock._hold.lease, 5.0)  # type: ignore[union-attr]
    listening.join(10)
    assert heard == [True]
    assert lock.lost.is_set()
    assert not lock.locked()
    later = other.lock(prefix)
    assert later.acquire(timeout=5)
    assert later.token > lock.token
    with pytest.raises(coterie.LockLostError, match="lost") as caught:
        lock.release()
    assert caught.value.token == lock.token
    assert not one.lock(prefix).acquire(blocking=False)


def test_what_fails_in_a_lost_lock_is_told_first(client: Client, prefix: str) -> None:
    def fail() -> None:
        with client.lock(prefix):
            client.kv.delete(f"{prefix}/", prefix=True)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    assert "was lost" in str(caught.value.__notes__)


def test_locks_of_a_client_that_is_gone_are_free_soon(connect: Connect, prefix: str) -> None:
    gone, other = connect(), connect()
    gone.lock(prefix).acquire()
    gone.close()
    assert other.lock(prefix).acquire(timeout=5)


def test_rlock_is_reentrant_for_its_thread_alone(client: Client, prefix: str) -> None:
    outer, inner = client.rlock(prefix), client.rlock(prefix)
    with outer, inner, outer:
        assert outer.token == inner.token
        got: list[bool] = []
        in_threads(1, lambda: got.append(client.rlock(prefix).acquire(blocking=False)))
        assert got == [False]
        in_threads(1, lambda: got.append(raises_runtime_error(client.rlock(prefix).release)))
        assert got == [False, True]
    with pytest.raises(RuntimeError):
        outer.release()
    assert client.lock(prefix).acquire(timeout=5)


def test_a_fence_refuses_who_held_before(client: Client, prefix: str) -> None:
    fence = coterie.Fence(client.kv, prefix)
    fence.check(7)
    fence.check(7)
    assert not coterie.Fence(client.kv, prefix).admits(6), "the token is kept for all"
    assert coterie.Fence(client.kv, prefix).admits(9)
    with pytest.raises(coterie.LockLostError) as caught:
        fence.check(8)
    assert caught.value.token == 8
    assert fence.latest == 9
    local = coterie.Fence()
    assert [local.admits(token) for token in (3, 2, 3, 4, 3)] == [True, False, True, True, False]
    with pytest.raises(TypeError):
        coterie.Fence(client.kv)


# ── Elections ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_election_has_one_leader_and_terms_grow(connect: Connect, prefix: str) -> None:
    one, other = connect().election(prefix), connect().election(prefix)
    assert one.leader() is None
    first = one.campaign("one")
    assert first is not None
    assert one.term == first
    assert other.campaign("other", timeout=0.05) is None
    leader = other.leader()
    assert leader is not None
    assert (leader.value, leader.term) == (b"one", first)
    terms: list[int | None] = []
    campaigning = threading.Thread(target=lambda: terms.append(other.campaign("other")))
    campaigning.start()
    one.resign()
    campaigning.join(10)
    assert terms[0] is not None
    assert terms[0] > first
    assert other.leader() == one.leader()
    with pytest.raises(RuntimeError, match="already"):
        other.campaign()
    with pytest.raises(RuntimeError, match="does not lead"):
        one.resign()


def test_observers_see_leaders_come_and_go(connect: Connect, prefix: str) -> None:
    one, other = connect().election(prefix), connect().election(prefix)
    observing = other.observe()
    assert next(observing) is None
    for value in ("a", "b"):
        term = one.campaign(value)
        leader = next(observing)
        assert leader is not None
        assert (leader.value.decode(), leader.term) == (value, term)
        one.resign()
        assert next(observing) is None


# ── The client as a whole ───────────────────────────────────────────────────────────────────────────────────────────


def test_status_and_members_say_who_leads(client: Client, prefix: str) -> None:
    client.kv.put(prefix, "v")
    leader = client.members.leader()
    assert leader is not None
    assert client.status().leader == leader.id
    assert leader in client.members.list()
    status = client.status()
    assert status.keys >= 1
    assert status.applied <= status.committed <= status.last
    assert not status.alarm


def test_what_is_closed_says_so(connect: Connect, prefix: str) -> None:
    client = connect()
    waiting: list[BaseException] = []
    lock = connect().lock(prefix)
    lock.acquire()

    def wait() -> None:
        try:
            client.lock(prefix).acquire()
        except coterie.CoterieError as error:
            waiting.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: connect().kv.count(f"{prefix}/") == 2)
    client.close()
    client.close()
    thread.join(10)
    assert [type(error) for error in waiting] == [coterie.StoppedError]
    with pytest.raises(coterie.StoppedError, match="closed"):
        client.kv.get(prefix)
    assert "closed" in repr(client)


def test_addresses_that_name_nothing_are_refused() -> None:
    for wrong in ("", "memory", "http://localhost", "nonsense:"):
        with pytest.raises(coterie.ConfigError, match="names no cluster"):
            coterie.connect(wrong)
    with pytest.raises(coterie.ConfigError, match="timeout"):
        coterie.connect("memory:", timeout=0)


def test_memories_are_their_own_unless_they_are_named() -> None:
    with coterie.connect("memory:") as one, coterie.connect("memory:") as other:
        one.kv.put("k", "v")
        assert other.kv.get("k") is None


def test_ctrl_c_ends_waiting_and_leaves_the_queue() -> None:
    program = """
        import _thread, signal, threading, time
        import coterie

        client = coterie.connect("memory:ctrl-c")
        other = coterie.connect("memory:ctrl-c")
        other.lock("door").acquire()
        for wait in (
            lambda: client.lock("door").acquire(),
            lambda: client.lock("door").acquire(timeout=60),
            lambda: client.election("door").campaign(),
            lambda: next(client.watch("nothing")),
            lambda: other.lock("door2").__enter__().lost.wait(60),
        ):
            threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
            began = time.monotonic()
            try:
                wait()
            except KeyboardInterrupt:
                assert time.monotonic() - began < 10
            else:
                raise AssertionError("not interrupted")
        end = time.monotonic() + 10
        while client.kv.count("door/") != 1:
            assert time.monotonic() < end, "it queues still"
        print("done")
    """
    assert run(program) == "done\n"


def test_sigint_from_outside_reaches_a_blocked_acquire() -> None:
    program = """
        import coterie
        client = coterie.connect("memory:")
        client.lock("door").acquire()
        print("waiting", flush=True)
        try:
            client.lock("door").acquire()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(10) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_is_told_to_connect_anew_and_harms_nobody() -> None:
    program = """
        import os
        import coterie

        client = coterie.connect("memory:forked")
        lock = client.lock("door")
        lock.acquire()
        watch = client.watch("k")
        child = os.fork()
        if not child:
            for use in (
                lambda: client.kv.get("k"), lock.release, lambda: next(watch),
                lambda: client.lock("door").acquire(), client.status,
            ):
                try:
                    use()
                except coterie.StoppedError as error:
                    assert "connect again" in str(error)
                else:
                    os._exit(1)
            assert lock.lost.is_set()
            client.close()
            del client, lock, watch, use
            with coterie.connect("memory:forked") as own:
                assert own.lock("door").acquire(timeout=5), "its memory is another one"
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert not client.lock("door").acquire(blocking=False)
        lock.release()
        print("done")
    """
    assert run(program) == "done\n"


def test_the_interpreter_ends_whatever_is_open() -> None:
    program = """
        import threading
        import coterie

        client = coterie.connect("memory:")
        client.lock("door").acquire()
        threading.Thread(target=client.lock("door").acquire, daemon=True).start()
        threading.Thread(target=list, args=[client.watch("k")], daemon=True).start()
        print("done")
    """
    assert run(program) == "done\n"


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def raises_runtime_error(call: Callable[[], object]) -> bool:
    try:
        call()
    except RuntimeError:
        return True
    return False


def until(holds: Callable[[], bool]) -> None:
    """Waits until something holds that must, soon."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "it should hold by now"


def in_threads(count: int, work: Callable[..., object], *, numbered: bool = False) -> None:
    """Runs `work` in threads, and raises what one of them raised."""
    failures: list[BaseException] = []

    def run(*which: int) -> None:
        try:
            work(*which)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=[n] if numbered else []) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    for failure in failures:
        raise failure
