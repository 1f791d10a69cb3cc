"""What a client of a cluster consists of. `coterie.connect` makes one; `coterie.aio.connect` one for event loops.

- `Client`: `kv`, `watch`, `lock`, `rlock`, `election`, `members`, `status`.
- `KeyValue`, `Transaction`, `Steps`, `TransactionResult`, `Entry`: keys and values.
- `Watch`, `Event`: what happens to them.
- `Lock`, `RLock`, `Lost`: who may do something. `coterie.Fence` is for what a lock guards.
- `Election`, `Leader`: who of many is the one.
- `Members`, `MemberInfo`, `Status`: the cluster itself.
"""

from __future__ import annotations

from coterie._client.client import Client
from coterie._client.elections import Election
from coterie._client.keyvalue import KeyValue
from coterie._client.locks import Lock, Lost, RLock
from coterie._client.members import Members
from coterie._client.transactions import Steps, Transaction
from coterie._client.values import Entry, Event, Leader, MemberInfo, Status, TransactionResult
from coterie._client.watches import Watch

__all__ = [
    "Client",
    "Election",
    "Entry",
    "Event",
    "KeyValue",
    "Leader",
    "Lock",
    "Lost",
    "MemberInfo",
    "Members",
    "RLock",
    "Status",
    "Steps",
    "Transaction",
    "TransactionResult",
    "Watch",
]
