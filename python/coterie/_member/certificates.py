"""The files of a test authority."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from coterie import _coterie
from coterie.exceptions import ConfigError

__all__ = ["HERE", "issue"]

#: The hosts of a certificate that was asked for without any.
HERE = ("localhost", "127.0.0.1", "::1")
_AUTHORITY = "authority"


def issue(folder: Path, name: str, hosts: Sequence[str] = HERE) -> tuple[Path, Path, Path]:
    """A certificate for `name` at `hosts`, by the folder's authority, which is made if there is none.

    Parameters
    ----------
    folder : path
        Where all files are. It is made if need be.
    name : str
        Whose it is: the files are ``NAME.pem`` and ``NAME-key.pem``, and what they were is replaced.
    hosts : sequence of str
        Names and addresses where it may listen; who only connects needs none in particular.

    Returns
    -------
    tuple of three paths
        Certificate, key and authority, as `Member` and `connect` take them.

    Raises
    ------
    ConfigError
        The name or a host makes no sense, or the folder's authority is not one that this has made.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or name == _AUTHORITY:
        raise ConfigError(
            f"{name!r} cannot name a certificate: letters, digits, and . _ - within it, and not {_AUTHORITY!r}"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority, signs = _kept_authority(folder)
    certificate, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    public, secret = _coterie.make_certificate(authority.read_text(), signs.read_text(), list(hosts))
    _write(key, secret, 0o600)
    _write(certificate, public, 0o644)
    return certificate, key, authority


def _kept_authority(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / f"{_AUTHORITY}.pem", folder / f"{_AUTHORITY}-key.pem"
    if certificate.exists() != key.exists():
        there, missing = (certificate, key) if certificate.exists() else (key, certificate)
        raise ConfigError(
            f"{there} is there and {missing.name} is not: bring it back, or take another folder"
        )
    if not certificate.exists():
        public, secret = _coterie.make_authority()
        _write(key, secret, 0o600)
        _write(certificate, public, 0o644)
    return certificate, key


def _write(path: Path, text: str, mode: int) -> None:
    """The whole text or none of it, and with this mode from the beginning."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
        file.write(text)
    beside.replace(path)
