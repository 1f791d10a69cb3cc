"""What the tests share."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import coterie
from coterie import _options


def public_modules() -> list[ModuleType]:
    """``coterie`` and all modules below it without an underscore, as they are installed."""
    names = [module.name for module in pkgutil.walk_packages(coterie.__path__, "coterie.")]
    public = [name for name in names if not any(part.startswith("_") for part in name.split("."))]
    return [coterie, *(importlib.import_module(name) for name in sorted(public))]


def pytest_report_header() -> list[str]:
    """Say what is tested: the installed package, never the source tree."""
    installed = Path(coterie.__file__)
    if not installed.is_relative_to(sys.prefix):
        pytest.exit(f"coterie comes from {installed}, not from the environment at {sys.prefix}", 1)
    modules = " ".join(module.__name__ for module in public_modules())
    return [f"coterie {coterie.__version__}, modules: {modules}"]


@pytest.fixture
def nothing_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worlds that are meant to fail leave no traces and pictures here."""
    monkeypatch.setattr(_options, "current", replace(_options.current, artefacts=None))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Hand each public module to the tests that ask for ``public_module``."""
    if "public_module" in metafunc.fixturenames:
        modules = public_modules()
        metafunc.parametrize("public_module", modules, ids=[module.__name__ for module in modules])


class Engine(NamedTuple):
    """What clients connect to."""

    url: str
    settings: dict[str, Any]


@pytest.fixture(scope="session")
def cluster() -> Iterator[coterie.Cluster]:
    """Three members on real sockets and disks, for all tests that leave them as they are."""
    with coterie.Cluster(3) as cluster:
        yield cluster


@pytest.fixture(params=["memory", "cluster"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn: what clients promise, they promise over all of them."""
    if request.param == "memory":
        return Engine(f"memory:{uuid.uuid4()}", {})
    cluster: coterie.Cluster = request.getfixturevalue("cluster")
    return Engine(cluster.url, {"secret": cluster.secret})
