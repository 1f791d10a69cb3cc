"""`coterie certs`: a cluster with TLS on what it makes, and strangers who are told so at once."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import coterie
import coterie.aio
from coterie import AuthError, Cluster, ConfigError, Member
from coterie.__main__ import main

# Less than a client's time-out: who is refused need not wait for it.
AT_ONCE = 4.0

Files = tuple[Path, Path, Path]


def certs(folder: Path, *names: str) -> None:
    assert main(["certs", str(folder), *names]) == 0


def files(folder: Path, name: str) -> Files:
    return folder / f"{name}.pem", folder / f"{name}-key.pem", folder / "authority.pem"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    certs(folder, "member", "client", "elsewhere=elsewhere.example,192.0.2.1")
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["threads", "processes"])
def cluster(folder: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with Cluster(3, processes=request.param, tls=files(folder, "member")) as cluster:
        yield cluster


def test_members_and_clients_with_certificates_of_one_authority_work_together(
    cluster: Cluster, folder: Path
) -> None:
    with coterie.connect(cluster.url, tls=files(folder, "client"), secret=cluster.secret) as client:
        client.kv["colour"] = "green"
        assert client.kv["colour"] == b"green"
    with cluster.connect() as client:
        assert client.kv["colour"] == b"green"


def test_certificates_are_files_or_bytes(cluster: Cluster, folder: Path) -> None:
    certificate, key, authority = (path.read_bytes() for path in files(folder, "client"))
    with coterie.connect(cluster.url, tls=(certificate, key, authority), secret=cluster.secret) as client:
        assert client.members.leader() is not None


def test_a_client_for_event_loops_shows_its_certificate_too(cluster: Cluster, folder: Path) -> None:
    async def ask() -> bytes | None:
        tls = files(folder, "client")
        async with coterie.aio.connect(cluster.url, tls=tls, secret=cluster.secret) as client:
            await client.kv.put("shape", "round")
            return await client.kv.get("shape")

    assert asyncio.run(ask()) == b"round"


def refused(url: str, tls: Files | None, secret: bytes) -> AuthError:
    begun = time.monotonic()
    with coterie.connect(url, tls=tls, secret=secret) as client, pytest.raises(AuthError) as refusal:
        client.kv.get("colour")
    assert time.monotonic() - begun < AT_ONCE
    return refusal.value


def test_a_client_without_a_certificate_is_refused_at_once(cluster: Cluster) -> None:
    refused(cluster.url, None, cluster.secret)


def test_a_client_of_another_authority_is_refused_at_once(cluster: Cluster, tmp_path: Path) -> None:
    certs(tmp_path, "client")
    refused(cluster.url, files(tmp_path, "client"), cluster.secret)


def test_a_client_does_not_believe_a_member_whose_certificate_is_for_another_host(
    folder: Path, tmp_path: Path
) -> None:
    wrong = files(folder, "elsewhere")
    with Member("a", listen="127.0.0.1:0", data_dir=tmp_path, tls=wrong, secret=False) as member:
        begun = time.monotonic()
        with (
            coterie.connect(member.url, tls=files(folder, "client"), secret=False) as client,
            pytest.raises(AuthError),
        ):
            client.kv.get("colour")
        assert time.monotonic() - begun < AT_ONCE


def test_the_authority_is_kept_and_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    certs(folder, "a")
    authority = (folder / "authority.pem").read_bytes()
    first = (folder / "a.pem").read_bytes()
    certs(folder, "a", "b=localhost")
    assert (folder / "authority.pem").read_bytes() == authority
    assert (folder / "a.pem").read_bytes() != first, "made anew"
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(found) == {f"{name}{end}" for name in ("authority", "a", "b") for end in (".pem", "-key.pem")}
    assert {mode for name, mode in found.items() if name.endswith("-key.pem")} == {0o600}


def test_the_command_says_what_to_hand_to_a_member(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certs(tmp_path, "a=10.0.0.1,a.example")
    title, options = capsys.readouterr().out.splitlines()
    assert title == "a, at 10.0.0.1, a.example:"
    assert options.split() == [
        "--tls-certificate", f"{tmp_path}/a.pem", "--tls-key", f"{tmp_path}/a-key.pem",
        "--tls-authority", f"{tmp_path}/authority.pem",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "word"), [("../a", "cannot name"), ("authority", "cannot name"), ("a=no host", "no host")]
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, word: str
) -> None:
    assert main(["certs", str(tmp_path), name]) == 1
    assert word in capsys.readouterr().err


def test_files_of_two_authorities_are_not_mixed(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    certs(one, "a")
    certs(other, "a")
    (one / "authority.pem").write_bytes((other / "authority.pem").read_bytes())
    assert main(["certs", str(one), "b"]) == 1
    assert not (one / "b.pem").exists()


def test_half_an_authority_is_not_replaced(tmp_path: Path) -> None:
    certs(tmp_path, "a")
    (tmp_path / "authority-key.pem").unlink()
    assert main(["certs", str(tmp_path), "b"]) == 1


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    certs(tmp_path, "a")
    (tmp_path / "a-key.pem").write_text("nothing")
    with pytest.raises(ConfigError, match=r"a-key\.pem"):
        coterie.connect("coterie://127.0.0.1:1", tls=files(tmp_path, "a"))
