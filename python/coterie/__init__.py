"""The building blocks of distributed systems, inside your own Python processes.

- `ConsistentHash`: keys to nodes; its kin are in `coterie.ring`.
- `coterie.balance`: requests to backends.
- `coterie.check`: whether what a system did can be explained: histories and their judge.
- `Pool`: work for many processes, a drop-in for `multiprocessing.Pool`; `Executor`: the same for
  `concurrent.futures`; `coterie.aio`: the same with `await`.
- `connect`: keys and values, watches, locks and elections of a cluster; their types are in `coterie.client`. `Fence` is
  for what a lock guards.
- `coterie.raft`: consensus, as a machine that can be driven by hand; `coterie.protocol`: the shape of such machines.
- `coterie.sim`: deterministic worlds in which protocols, ours and yours, meet failures.
- `coterie.testing`: those worlds as pytest tests, whose failures shrink and explain themselves.
- `coterie.textbook`: the classes of the articles that Coterie grew from, on real protocols.
- `CoterieError` and the rest of the family: what can go wrong.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from coterie.exceptions import (
    AuthError,
    CompactedError,
    ConfigError,
    CoterieError,
    EmptyRingError,
    InternalError,
    InvariantViolated,
    LockLostError,
    LockTimeoutError,
    NoBackendError,
    NotLeaderError,
    OverloadedError,
    QuotaError,
    RequestError,
    StoppedError,
    StorageError,
    TaskError,
    UnavailableError,
    UnknownNodeError,
    UnknownOutcomeError,
    WorkerDiedError,
)

if TYPE_CHECKING:
    from coterie import (
        aio as aio,
        balance as balance,
        check as check,
        client as client,
        protocol as protocol,
        raft as raft,
        ring as ring,
        sim as sim,
        testing as testing,
        textbook as textbook,
    )
    from coterie._client.client import connect as connect
    from coterie._client.fence import Fence as Fence
    from coterie._member.cluster import Cluster as Cluster
    from coterie._member.member import Member as Member
    from coterie._pool.executor import Executor as Executor, Future as Future
    from coterie._pool.outcome import Outcome as Outcome
    from coterie._pool.pool import Pool as Pool
    from coterie._pool.timeouts import TaskTimeoutError as TaskTimeoutError
    from coterie.ring import ConsistentHash

    __version__: str

__all__ = [
    "AuthError",
    "Cluster",
    "CompactedError",
    "ConfigError",
    "ConsistentHash",
    "CoterieError",
    "EmptyRingError",
    "Executor",
    "Fence",
    "Future",
    "InternalError",
    "InvariantViolated",
    "LockLostError",
    "LockTimeoutError",
    "Member",
    "NoBackendError",
    "NotLeaderError",
    "Outcome",
    "OverloadedError",
    "Pool",
    "QuotaError",
    "RequestError",
    "StoppedError",
    "StorageError",
    "TaskError",
    "TaskTimeoutError",
    "UnavailableError",
    "UnknownNodeError",
    "UnknownOutcomeError",
    "WorkerDiedError",
    "connect",
]

# Names that are loaded when somebody first asks for them, and where they are.
_LATER = {
    "Cluster": "coterie._member.cluster",
    "ConsistentHash": "coterie.ring",
    "Executor": "coterie._pool.executor",
    "Fence": "coterie._client.fence",
    "Future": "coterie._pool.executor",
    "Member": "coterie._member.member",
    "Outcome": "coterie._pool.outcome",
    "Pool": "coterie._pool.pool",
    "TaskTimeoutError": "coterie._pool.timeouts",
    "connect": "coterie._client.client",
}
if sys.platform not in ("linux", "darwin"):
    _LATER |= dict.fromkeys(("Executor", "Future", "Pool"), "coterie._pool.elsewhere")
_MODULES = ("aio", "balance", "check", "client", "protocol", "raft", "ring", "sim", "testing", "textbook")


def __getattr__(name: str) -> Any:
    # What is compiled is loaded when somebody first names it: `import coterie` costs little however much there is, and
    # pytest, which imports the plugin of every package at every start, loads nothing of ours for who does not use it.
    if name in _MODULES:
        return import_module(f"coterie.{name}")
    if name in _LATER:
        found: Any = getattr(import_module(_LATER[name]), name)
    elif name == "__version__":
        # From the compiled module: reading the package's metadata would cost milliseconds.
        found = import_module("coterie._coterie").version()
    else:
        raise AttributeError(f"module 'coterie' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, "__version__", "exceptions"})
