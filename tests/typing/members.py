"""A user's members: settings are checked, and what comes back is known."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import coterie
from coterie import aio, client

TLS = (Path("a.pem"), b"-----BEGIN PRIVATE KEY-----", "authority.pem")

with coterie.Member(
    "a",
    listen="127.0.0.1:0",
    peers={"a": "10.0.0.1:7433"},
    data_dir=Path("data"),
    secret=False,
    tls=TLS,
    role="observer",
    read_lease=0.03,
    grace=None,
) as member:
    assert_type(member, coterie.Member)
    assert_type(member.name, str)
    assert_type(member.url, str)
    assert_type(member.role, str)
    assert_type(member.wait_for_leader(timeout=1.0), str)
    assert_type(member.kv.get("k"), bytes | None)
    member.add("b", "10.0.0.2:7433", timeout=1.0)
    member.promote("b")
    user: client.Client = member  # whoever takes a client takes a member

coterie.Member("a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
coterie.Member("a", data_dir="d", role="chief")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
coterie.Member("a", data_dir="d", tls=("a.pem", "a-key.pem"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

with coterie.Cluster(3, processes=True, read_lease=0.03, tls=TLS) as cluster, cluster.connect() as connected:
    assert_type(cluster, coterie.Cluster)
    assert_type(connected, client.Client)
    assert_type(cluster.leader, int | None)
    assert_type(cluster.wait_for_leader(), int)
    assert_type(cluster.member(0), coterie.Member)
    assert_type(cluster.names, tuple[str, ...])
    assert_type(cluster.secret, bytes)
    cluster.kill(cluster.wait_for_leader())
    cluster.kill(cluster.leader)
    connected.members.add("b", "10.0.0.2:7433")
    connected.members.remove("b")
    for each in connected.members:
        assert_type(each, client.MemberInfo)
        assert_type(each.vote, int | None)
    connected.disarm()

coterie.connect("coterie://a:7433,b", secret=Path("secret"), tls=TLS)
aio.connect("coterie://a:7433", secret=b"0123456789abcdef", tls=TLS)
