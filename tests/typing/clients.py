"""A user's clients: what comes back is known."""

from __future__ import annotations

from typing import assert_type

import coterie
from coterie import aio, client

with coterie.connect("memory:", timeout=2.0) as cluster:
    assert_type(cluster, client.Client)
    assert_type(cluster.kv.put("k", b"v"), int)
    assert_type(cluster.kv.get(b"k"), bytes | None)
    assert_type(cluster.kv["k"], bytes)
    assert_type(cluster.kv.entry("k"), client.Entry | None)
    assert_type(cluster.kv.range("k", limit=3), list[client.Entry])
    assert_type(cluster.kv.put_many({"a": "1", "b": "2"}), int)
    assert_type(cluster.kv.put_many([("a", "1")]), int)
    assert_type(cluster.kv.compare_and_swap("k", cluster.kv.entry("k"), None), bool)
    result = cluster.kv.transaction().require("k", exists=True).put("k", "v").get("k").commit()
    assert_type(result.results, list[client.Entry | int | None])
    cluster.kv.put("k", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with cluster.watch("k") as watch:
        assert_type(watch.next_batch(timeout=0.1), list[client.Event])
        for event in watch:
            assert_type(event.value, bytes | None)
            assert_type(event.previous, client.Entry | None)
    with cluster.lock("door", ttl=5.0, timeout=1.0) as lock:
        assert_type(lock, client.Lock)
        assert_type(lock.token, int)
        assert_type(lock.lost.wait(1.0), bool)
        coterie.Fence().check(lock.token)
    assert_type(cluster.rlock("door").acquire(timeout=1.0), bool)
    election = cluster.election("primary")
    assert_type(election.campaign("me", timeout=1.0), int | None)
    for leader in election.observe():
        assert_type(leader, client.Leader | None)
    assert_type(cluster.members.leader(), client.MemberInfo | None)
    assert_type(cluster.status().revision, int)


async def main() -> None:
    async with aio.connect("memory:") as cluster:
        assert_type(await cluster.kv.get("k"), bytes | None)
        async with cluster.lock("door") as lock:
            assert_type(lock, aio.Lock)
            assert_type(await lock.lost.wait(), bool)
        async for event in cluster.watch("k"):
            assert_type(event, client.Event)
        async for leader in cluster.election("primary").observe():
            assert_type(leader, client.Leader | None)
        assert_type(await cluster.kv.transaction().put("a", "1").commit(), client.TransactionResult)
