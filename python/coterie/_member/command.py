"""`coterie member`, `coterie status` and `coterie certs`."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coterie.exceptions import ConfigError, CoterieError

if TYPE_CHECKING:
    from coterie._client.values import MemberInfo
    from coterie._member.member import Member

# How often a waiting main thread looks whether its member still lives.
_LOOK = 0.5


def add(commands: Any) -> None:
    """Adds the commands to the parser of `coterie`."""
    member = commands.add_parser(
        "member", help="one member of a cluster", description="Runs one member until SIGTERM or Ctrl-C."
    )
    member.add_argument("name", help="which no other member of the cluster has")
    member.add_argument("--data-dir", help="its folder, of which it is the only owner")
    member.add_argument("--listen", default="127.0.0.1:7433", help="host:port (default %(default)s)")
    member.add_argument("--advertise", help="where others find it, if not there")
    member.add_argument(
        "--peers", default="", help="all first members, itself too: a=host:port,b=host:port,…"
    )
    member.add_argument("--cluster", default="coterie", help="the cluster's name (default %(default)s)")
    member.add_argument("--role", choices=("voter", "observer"), default="voter")
    member.add_argument("--read-lease", type=float, help="seconds; the same for all members")
    member.add_argument("--election-timeout", type=float, default=0.3, help="seconds (default %(default)s)")
    member.add_argument(
        "--heartbeat-interval", type=float, help="seconds (default 0.05, or a third of a read lease)"
    )
    member.add_argument("--grace", type=_seconds, default=0.03, help="seconds, or none (default %(default)s)")
    member.add_argument(
        "--history", type=_seconds, default=3600.0, help="seconds, or none (default %(default)s)"
    )
    member.add_argument(
        "--quota", type=int, default=2 << 30, help="bytes; the same for all (default %(default)s)"
    )
    member.add_argument(
        "--format-version",
        type=int,
        help="that of the release before keeps the way back open (default: this release's)",
    )
    _add_trust(member)
    member.add_argument("--insecure", action="store_true", help="listen off loopback without certificates")
    member.add_argument("--from-parent", action="store_true", help=argparse.SUPPRESS)
    member.set_defaults(run=run_member)

    status = commands.add_parser("status", help="who leads, and how all members are")
    status.add_argument("url", nargs="?", default="coterie://127.0.0.1:7433", help="(default %(default)s)")
    status.add_argument("--cluster", default="coterie", help="the cluster's name (default %(default)s)")
    status.add_argument("--json", action="store_true", help="for programs")
    status.add_argument("--timeout", type=float, default=5.0, help="seconds (default %(default)s)")
    _add_trust(status)
    status.set_defaults(run=run_status)

    certs = commands.add_parser(
        "certs",
        help="certificates by a test authority",
        description="Makes a certificate and a key for each name, signed by the folder's authority: it is made if there is "
        "none, and kept otherwise. Members and clients may share one; each had better have its own.",
    )
    certs.add_argument("folder", help="where they all lie; authority-key.pem is to be kept safe")
    certs.add_argument(
        "names",
        nargs="+",
        metavar="NAME[=HOST,HOST]",
        help="hosts and addresses where it may listen (default localhost,127.0.0.1,::1)",
    )
    certs.set_defaults(run=run_certs)


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--secret-file", help="what members and clients prove to know")
    parser.add_argument("--tls-certificate", help="PEM file; with --tls-key and --tls-authority")
    parser.add_argument("--tls-key", help="PEM file")
    parser.add_argument("--tls-authority", help="PEM file of the authority that signed all certificates")


def _trust(chosen: argparse.Namespace) -> dict[str, Any]:
    files = (chosen.tls_certificate, chosen.tls_key, chosen.tls_authority)
    if any(files) and not all(files):
        raise ConfigError("--tls-certificate, --tls-key and --tls-authority belong together")
    return {"secret": chosen.secret_file, "tls": files if all(files) else None}


def run_member(chosen: argparse.Namespace) -> int:
    """`coterie member`: until it is told to end, or fails."""
    from coterie._member.member import Member  # noqa: PLC0415 - other commands do without

    if chosen.from_parent:
        return _serve_parent(chosen.name)
    if chosen.data_dir is None:
        raise ConfigError("--data-dir is needed: the folder of this member")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    peers = dict(_pair(peer) for peer in chosen.peers.split(",") if peer)
    with Member(
        chosen.name,
        listen=chosen.listen,
        advertise=chosen.advertise,
        peers=peers,
        data_dir=chosen.data_dir,
        cluster=chosen.cluster,
        role=chosen.role,
        read_lease=chosen.read_lease,
        election_timeout=chosen.election_timeout,
        heartbeat_interval=chosen.heartbeat_interval,
        grace=chosen.grace,
        history=chosen.history,
        quota=chosen.quota,
        format_version=chosen.format_version,
        insecure=chosen.insecure,
        **_trust(chosen),
    ) as member:
        print(f"{member.name} listens on {member.address}", flush=True)
        told = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: told.set())
        try:
            while not told.wait(_LOOK):
                member._raise_if_failed()
        except KeyboardInterrupt:
            pass
    return 0


def _seconds(text: str) -> float | None:
    return None if text == "none" else float(text)


def _pair(peer: str) -> tuple[str, str]:
    name, separator, address = peer.partition("=")
    if not separator:
        raise ConfigError(f"--peers has {peer!r}, which is not name=host:port")
    return name, address


def _serve_parent(name: str) -> int:
    """A child of a `Cluster`: settings come first, then lines; the end of the input is the end."""
    # Ctrl-C in the parent's terminal is the parent's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from coterie._member.member import Member  # noqa: PLC0415 - see above

    settings = json.loads(sys.stdin.readline())
    settings["secret"] = settings["secret"].encode()
    try:
        member = Member(name, **settings)
    except CoterieError as error:
        sys.stdin.readline()
        print(json.dumps({"error": type(error).__name__, "complaint": str(error)}), flush=True)
        return 1
    with member:
        for line in sys.stdin:
            print(json.dumps(_obey(member, line.split())), flush=True)
    return 0


def _obey(member: Member, words: list[str]) -> dict[str, Any]:
    try:
        match words:
            case ["partition", name]:
                member._member.partition(name)
            case ["heal"]:
                member._member.heal()
            case _:
                pass  # it only asks
        member._raise_if_failed()
        told: dict[str, Any] = member._member.status()
    except CoterieError as error:
        return {"error": type(error).__name__, "complaint": str(error)}
    return told


def run_status(chosen: argparse.Namespace) -> int:
    """`coterie status`: a table, or JSON."""
    from coterie._client.client import connect  # noqa: PLC0415 - see above

    with connect(chosen.url, timeout=chosen.timeout, cluster=chosen.cluster, **_trust(chosen)) as client:
        members, status = list(client.members), client.status()
    if chosen.json:
        found = {"status": status._asdict(), "members": [member._asdict() for member in members]}
        print(json.dumps(found))
        return 0
    rows = [("name", "address", "role", "id")]
    rows += [(member.name, member.address, _part(member), f"{member.id:x}") for member in members]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"term {status.term}, revision {status.revision}: {status.keys:,} keys, {status.bytes:,} bytes")
    return 0


def _part(member: MemberInfo) -> str:
    if member.leads:
        return "leader"
    return "observer" if member.vote is None else "voter"


def run_certs(chosen: argparse.Namespace) -> int:
    """`coterie certs`: files, and how to give them to a member."""
    from coterie._member.certificates import HERE, issue  # noqa: PLC0415 - see above

    for each in chosen.names:
        name, _, listed = each.partition("=")
        hosts = tuple(listed.split(",")) if listed else HERE
        certificate, key, authority = issue(Path(chosen.folder), name, hosts)
        print(f"{name}, at {', '.join(hosts)}:")
        print(f"  --tls-certificate {certificate} --tls-key {key} --tls-authority {authority}")
    return 0
