"""What clients are told: entries, events, members."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Entry", "Event", "Key", "Leader", "MemberInfo", "Status", "TransactionResult", "Value"]

#: A key, or a name: text stands for its UTF-8.
Key: TypeAlias = str | bytes
#: A value: text stands for its UTF-8.
Value: TypeAlias = bytes | bytearray | memoryview | str


class Entry(NamedTuple):
    """A key with all that is known of it.

    Attributes
    ----------
    key, value : bytes
        Both as bytes, however they were set.
    create_revision : int
        The revision of the store that created the key.
    mod_revision : int
        The revision that set it last.
    version : int
        How often it was set since it was created; 1 at first.
    lease : int
        The lease with which it ends; 0: with none.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     first = client.kv.put("color", "red")
    ...     second = client.kv.put("color", "blue")
    ...     entry = client.kv.entry("color")
    >>> entry.value, entry.version
    (b'blue', 2)
    >>> entry.create_revision == first, entry.mod_revision == second
    (True, True)
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


class Event(NamedTuple):
    """What happened to a key.

    Attributes
    ----------
    kind : {"put", "delete"}
        What.
    entry : Entry
        The key after it. When it was deleted: its name, and the revision of the deletion as `mod_revision`.
    previous : Entry or None
        The key before it, if the watch asked for that and history has it.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     with client.watch("color", start_revision=1) as watch:
    ...         _ = client.kv.put("color", "red")
    ...         event = next(watch)
    >>> event.kind, event.key, event.value
    ('put', b'color', b'red')
    """

    kind: Literal["put", "delete"]
    entry: Entry
    previous: Entry | None

    @property
    def key(self) -> bytes:
        """The key."""
        return self.entry.key

    @property
    def value(self) -> bytes | None:
        """What it was set to; None when it was deleted."""
        return self.entry.value if self.kind == "put" else None

    @property
    def revision(self) -> int:
        """The revision in which it happened."""
        return self.entry.mod_revision


class Leader(NamedTuple):
    """Who leads an election.

    Attributes
    ----------
    value : bytes
        What it says of itself.
    term : int
        Its fencing token: greater than that of every leader before.
    key : bytes
        The key by which it leads. It is there exactly as long as it does.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     election = client.election("primary")
    ...     term = election.campaign("host-1")
    ...     leader = election.leader()
    >>> leader.value, leader.term == term
    (b'host-1', True)
    """

    value: bytes
    term: int
    key: bytes


class MemberInfo(NamedTuple):
    """A member of the cluster.

    Attributes
    ----------
    id : int
        Drawn at random when it was born.
    name : str
        What it is called.
    address : str
        Where it listens; empty when it serves its own process alone.
    vote : int or None
        How eager it is to lead; None when it learns and does not vote.
    leads : bool
        Whether it leads, as far as the member knows that was asked.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     [member] = client.members
    >>> member.name, member.leads
    ('memory', True)
    """

    id: int
    name: str
    address: str
    vote: int | None
    leads: bool


class Status(NamedTuple):
    """How the cluster is, as seen from the member to which the client speaks.

    Attributes
    ----------
    cluster, member : int
        Ids, drawn at random.
    name : str
        The member's.
    role : {"leader", "follower", "candidate", "pre-candidate"}
        The member's.
    term : int
        The member's.
    leader : int or None
        Who leads, as far as the member knows.
    applied, committed, last : int
        Entries of its log: applied to its store, known to be committed, there.
    pending : int
        Requests that wait at the member.
    revision : int
        The store's present revision.
    compacted : int
        History before this revision is forgotten.
    keys, leases, bytes : int
        How much the store holds.
    alarm : bool
        Whether its quota is reached: what adds is refused.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     _ = client.kv.put("color", "red")
    ...     status = client.status()
    >>> status.role, status.keys, status.revision
    ('leader', 1, 2)
    """

    cluster: int
    member: int
    name: str
    role: str
    term: int
    leader: int | None
    applied: int
    committed: int
    last: int
    pending: int
    revision: int
    compacted: int
    keys: int
    leases: int
    bytes: int
    alarm: bool


class TransactionResult(NamedTuple):
    """What came of a transaction. True when its conditions held.

    Attributes
    ----------
    succeeded : bool
        Whether the conditions held, so that the steps of the transaction were done, and not those of `otherwise`.
    results : list
        For each step that was done: None for a put, how many keys went for a delete, an `Entry` or None for a get.
    revision : int
        The store's revision afterwards.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     result = client.kv.transaction().require("color", exists=True).put("color", "red").commit()
    >>> bool(result), result.results
    (False, [])
    """

    succeeded: bool
    results: list[Entry | int | None]
    revision: int

    def __bool__(self) -> bool:
        return self.succeeded


def entry_of(found: tuple[bytes, bytes, int, int, int, int]) -> Entry:
    """An entry, as the compiled half tells it."""
    return Entry(*found)


def events_of(batch: list[tuple[bool, tuple[bytes, bytes, int, int, int, int], object]]) -> list[Event]:
    """Events, as the compiled half tells them."""
    return [
        Event("put" if put else "delete", Entry(*entry), None if previous is None else Entry(*previous))  # type: ignore[misc]
        for put, entry, previous in batch
    ]


def leader_of(found: tuple[bytes, bytes, int, int, int, int] | None) -> Leader | None:
    """Who holds an election's oldest key."""
    return None if found is None else Leader(found[1], found[2], found[0])


def status_of(member: tuple, store: tuple) -> Status:  # type: ignore[type-arg]
    """What a member and its store say of themselves."""
    cluster, id, name, role, term, leader, (last, commit, applied, pending) = member
    revision, compacted, keys, leases, weight, alarm, _digest = store
    return Status(
        cluster, id, name, role, term, leader, applied, commit, last, pending,
        revision, compacted, keys, leases, weight, alarm,
    )  # fmt: skip


def members_of(found: tuple) -> list[MemberInfo]:  # type: ignore[type-arg]
    """The members, as one of them tells."""
    _term, leader, members = found
    return [MemberInfo(id, name, address, vote, id == leader) for id, name, address, vote in members]
