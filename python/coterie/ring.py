"""Keys to nodes: consistent hashing and its kin.

::

               0 ≡ 2^128                a node stands on the circle as many points (its virtual nodes);
            c₂ ·──•──· a₁               a key belongs to the first point at or after its own hash:
          ·    key ↷     ·              here to a₁, and to the next point, b₀, once `a` has left.
       b₁ ·              · b₀           Only the keys of a node that leaves, or that a new node takes
          ·              ·              over, ever move.
            a₀ ·──·──· c₁

All rings share one protocol, `Ring`, and each declares its laws: what it promises about weights, movement and
balance. `ConsistentHash` is the one to begin with.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    Self,
    SupportsFloat,
    SupportsIndex,
    TypeAlias,
    TypeVar,
)

from coterie import _coterie
from coterie._typing import Key, Weights, checked_weight, paired
from coterie.exceptions import ConfigError, UnknownNodeError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Anchor",
    "BoundedLoad",
    "ConsistentHash",
    "Jump",
    "Ketama",
    "Laws",
    "Maglev",
    "Rendezvous",
    "Ring",
]

Node = TypeVar("Node", bound=Hashable)
Choice = TypeVar("Choice", bound=str)
Keys: TypeAlias = (
    "Iterable[Key] | npt.NDArray[np.integer[Any]] | npt.NDArray[np.str_] | npt.NDArray[np.bytes_]"
)

_SIZE_MAX = 1 << 26


class Laws(NamedTuple):
    """What a ring promises. Tests hold every ring to what it declares here.

    Attributes
    ----------
    weights : bool
        Whether nodes may differ in weight; otherwise a weight other than 1 is a `ConfigError`.
    removes : {"any", "last"}
        Which node may leave.
    movement : {"minimal", "near minimal"}
        Minimal: a key moves only from a node that leaves, or to a node that comes. Near minimal: a few per
        cent of the others move as well.
    ordered : bool
        Whether the order in which nodes came, and who left before, makes a difference.
    balance : float
        Bound on the fullest node's share against the average, for 100 equal nodes and default settings.
    load : bool
        Whether the answer depends on what was acquired before.

    Examples
    --------
    >>> from coterie.ring import Jump
    >>> Jump.laws.removes
    'last'
    """

    weights: bool
    removes: Literal["any", "last"]
    movement: Literal["minimal", "near minimal"]
    ordered: bool
    balance: float
    load: bool = False


class Ring(_coterie.Ring, Generic[Node]):
    """What all rings have in common. Build one of the subclasses.

    A ring is safe to use from several threads. A lookup takes no lock (but for `BoundedLoad`, whose answers depend on its loads) and sees the ring before a change or
    after it, never a mixture. Nodes may be any hashable objects; ``name(node)`` tells them apart and is what is
    hashed, so it must be the same in every process.

    Attributes
    ----------
    laws : Laws
        What this kind of ring promises.

    Examples
    --------
    >>> from coterie.ring import ConsistentHash, Ring
    >>> ring = ConsistentHash(["red", "green", "blue"])
    >>> isinstance(ring, Ring), len(ring), "red" in ring, list(ring)
    (True, 3, True, ['red', 'green', 'blue'])
    """

    __slots__ = ("_name", "_settings")

    laws: ClassVar[Laws]
    _name: Callable[[Node], str]
    _settings: dict[str, Any]

    if TYPE_CHECKING:
        # Inherited from the compiled class, so that a lookup passes through no Python code.
        def get(self, key: Key) -> Node: ...
        def get_n(self, key: Key, n: SupportsIndex) -> list[Node]: ...
        def get_many(self, keys: Keys) -> list[Node]: ...
        def get_many_indices(self, keys: Keys) -> npt.NDArray[np.intp]: ...

    def __new__(cls, *_args: Any, **_settings: Any) -> Self:
        raise TypeError(f"{cls.__name__} is what rings have in common; build one of its subclasses")

    @classmethod
    def _build(
        cls,
        nodes: Iterable[Node] | Mapping[Node, float],
        weights: Weights[Node] | None,
        name: Callable[[Node], str],
        **settings: Any,
    ) -> Self:
        if not callable(name):
            raise TypeError(f"name is a function from a node to its name, not {type(name).__name__}")
        pairs = _weighted(nodes, weights)
        names = [_name_of(node, name) for node, _ in pairs]
        if isinstance(nodes, (set, frozenset)):
            # A set's order differs from process to process.
            order = sorted(range(len(names)), key=lambda position: names[position].encode())
            pairs, names = [pairs[i] for i in order], [names[i] for i in order]
        if "capacity" in settings and settings["capacity"] is None:
            settings["capacity"] = max(16, 2 * len(names))
        return cls._place([node for node, _ in pairs], names, [weight for _, weight in pairs], settings, name)

    @classmethod
    def _place(
        cls,
        nodes: list[Node],
        names: list[str],
        weights: list[float],
        settings: dict[str, Any],
        name: Callable[[Node], str],
        memory: tuple[list[int], list[int], list[int]] | None = None,
        origin: Ring[Node] | None = None,
    ) -> Self:
        kind = {"kind": cls._kind(), **settings}
        self = _coterie.Ring.__new__(cls, nodes, names, weights, kind, memory, origin)
        self._settings = settings
        self._name = name
        return self

    @classmethod
    def _kind(cls) -> str:
        """The name of the algorithm, which a user's subclass inherits."""
        return next(base.__name__ for base in cls.__mro__ if base.__module__ == __name__)

    @property
    def nodes(self) -> set[Node]:
        """The nodes on the ring, as a set of one's own.

        Examples
        --------
        >>> from coterie import ConsistentHash
        >>> ConsistentHash({"red": 1, "green": 2}).nodes == {"red", "green"}
        True
        """
        return set(self._nodes())

    @property
    def weights(self) -> dict[Node, float]:
        """The weight of each node.

        Examples
        --------
        >>> from coterie import ConsistentHash
        >>> ConsistentHash({"red": 1, "green": 2}).weights
        {'red': 1.0, 'green': 2.0}
        """
        nodes, _, weights, _ = self._state()
        return dict(zip(nodes, weights, strict=True))

    def add_node(self, node: Node, weight: SupportsFloat = 1) -> None:
        """Take in a node, which takes over its share of the keys.

        Parameters
        ----------
        node : hashable
            The node.
        weight : float, default 1
            Its share of the keys relative to the others.

        Raises
        ------
        ConfigError
            A node of that name is there, or the ring does not take the weight. Nothing changed.

        Examples
        --------
        >>> from coterie import ConsistentHash
        >>> ring = ConsistentHash(["red", "green"])
        >>> ring.add_node("blue", weight=2)
        >>> list(ring)
        ['red', 'green', 'blue']
        """
        hash(node)
        self._add(node, _name_of(node, self._name), checked_weight(node, weight))

    def remove_node(self, node: Node) -> None:
        """Let a node go; the others take over its keys.

        Parameters
        ----------
        node : hashable
            A node of the ring.

        Raises
        ------
        UnknownNodeError
            The node is not there. Nothing changed.
        ConfigError
            The ring cannot let this one go (see `Laws.removes`). Nothing changed.

        Examples
        --------
        >>> from coterie import ConsistentHash
        >>> ring = ConsistentHash(["red", "green"])
        >>> ring.remove_node("red")
        >>> list(ring)
        ['green']
        """
        self._remove(node, self._name_of_present(node))

    def distribution(self) -> dict[Node, float]:
        """Share of the key space that each node owns.

        Returns
        -------
        dict
            Node to share. The shares add up to 1. They are exact for points and tables; `Jump`, `Anchor` and
            `Rendezvous` follow the weights by construction.

        Examples
        --------
        >>> from coterie.ring import Jump
        >>> Jump(["red", "green"]).distribution()
        {'red': 0.5, 'green': 0.5}
        """
        nodes, shares = self._shares()
        return dict(zip(nodes, shares, strict=True))

    def moved(self, other: Ring[Any]) -> float:
        """Share of the keys whose owner has another name in `other`.

        Parameters
        ----------
        other : Ring
            The ring to compare with: a copy from before a change, or another algorithm.

        Returns
        -------
        float
            0 to 1. Exact between two `ConsistentHash` of the same hash and between two `Maglev` of the same
            table size; otherwise measured on a fixed sample of 100,000 keys, to within 0.003.

        Examples
        --------
        >>> from copy import copy
        >>> from coterie.ring import Jump
        >>> before = Jump(["red", "green"])
        >>> after = copy(before)
        >>> after.add_node("blue")
        >>> round(after.moved(before), 2)
        0.33
        """
        if not isinstance(other, Ring):
            raise TypeError(f"other is a ring, not {type(other).__name__}")
        return float(self._moved(other))

    def copy(self) -> Self:
        """A ring of its own that answers alike.

        Examples
        --------
        >>> from coterie import ConsistentHash
        >>> ring = ConsistentHash(["red", "green"])
        >>> twin = ring.copy()
        >>> twin.remove_node("red")
        >>> len(ring), len(twin)
        (2, 1)
        """
        copied = self._place([], [], [], self._settings, self._name, origin=self)
        if hasattr(self, "__dict__"):
            copied.__dict__.update(self.__dict__)
        return copied

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        nodes, names, weights, memory = self._state()
        arguments = (type(self), nodes, names, weights, self._settings, self._name, memory)
        return _restore, arguments, getattr(self, "__dict__", None) or None

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes())

    def __contains__(self, node: object) -> bool:
        try:
            self._name_of_present(node)  # type: ignore[arg-type]  # any object may be asked for
        except UnknownNodeError:
            return False
        return True

    def __repr__(self) -> str:
        count = len(self)
        settings = "".join(f", {name}={value!r}" for name, value in self._settings.items())
        return f"{type(self).__name__}({count} node{'s' * (count != 1)}{settings})"

    def _name_of_present(self, node: Node) -> str:
        try:
            name = _name_of(node, self._name)
        except ConfigError:
            name = None
        present = None if name is None else self._find(name)
        # A name is not enough: the number 1 is not the node "1".
        if name is None or present is None or present[0] != node:
            raise UnknownNodeError(f"{node!r} is not on the ring", node=node)
        return name


def _restore(
    cls: type[Ring[Node]],
    nodes: list[Node],
    names: list[str],
    weights: list[float],
    settings: dict[str, Any],
    name: Callable[[Node], str],
    memory: tuple[list[int], list[int], list[int]],
) -> Ring[Node]:
    return cls._place(nodes, names, weights, settings, name, memory)


def _name_of(node: Node, name: Callable[[Node], str]) -> str:
    text = name(node)
    if not isinstance(text, str):
        raise ConfigError(f"name({node!r}) is {type(text).__name__}, not str")
    if text == object.__repr__(node):
        raise ConfigError(
            f"{text} is object's default text, which differs from process to process; "
            f"give {type(node).__name__} a __str__, or pass name="
        )
    return text


def _weighted(
    nodes: Iterable[Node] | Mapping[Node, float], weights: Weights[Node] | None
) -> list[tuple[Node, float]]:
    if isinstance(nodes, (str, bytes)):
        raise TypeError(f"nodes is one {type(nodes).__name__}, not several nodes; put it into a list")
    if isinstance(nodes, Mapping):
        if weights is not None:
            raise ConfigError("weights came twice: as nodes' values and as weights")
        return [(node, checked_weight(node, weight)) for node, weight in nodes.items()]
    plain = list(nodes)
    for node in plain:
        hash(node)
    if weights is None:
        return [(node, 1.0) for node in plain]
    if isinstance(weights, Mapping):
        known = set(plain)
        strangers = [node for node in weights if node not in known]
        if strangers:
            raise ConfigError(f"weights names {strangers[0]!r}, which is not among the nodes")
        return [(node, checked_weight(node, weights.get(node, 1))) for node in plain]
    if isinstance(nodes, (set, frozenset)):
        raise ConfigError("a set has no order for a sequence of weights; pass a mapping from node to weight")
    return [(node, checked_weight(node, weight)) for node, weight in paired(plain, weights, "nodes")]


def _whole(setting: str, value: int, least: int = 1) -> int:
    whole = operator.index(value)
    if not least <= whole <= _SIZE_MAX:
        raise ConfigError(f"{setting} is {whole}; it must be {least} to {_SIZE_MAX}")
    return whole


def _choice(setting: str, value: Choice, choices: tuple[str, ...]) -> Choice:
    if value not in choices:
        raise ConfigError(f"{setting} is {value!r}; it must be one of {', '.join(map(repr, choices))}")
    return value


_HASHES = ("md5", "xxh3")


class ConsistentHash(Ring[Node]):
    """Consistent hashing with virtual nodes.

    Each node stands on a circle of hashes as `replicas` points; a key belongs to the first point at or after
    its own hash. When a node leaves, only its keys move, spread over all others.

    Parameters
    ----------
    nodes : iterable of nodes, or mapping from node to weight
        The nodes. A set's are taken in the order of their names.
    replicas : int, default 128
        Points of a node of weight 1. The spread of the load shrinks as 1/sqrt(replicas): 128 leave the fullest
        of 100 nodes some 25 % above the average.
    hash : {"md5", "xxh3"}, default "md5"
        "md5" is what others' rings use; "xxh3" is several times faster.
    weights : mapping from node to weight, or sequence, optional
        Share of the keys relative to the other nodes; 1 where nothing is said. A node has
        ``round(replicas * weight)`` points, and at least one.
    name : callable, default str
        Gives a node's name.

    Raises
    ------
    ConfigError
        A setting is wrong, or two nodes have one name.

    Notes
    -----
    Point ``i`` of a node is the hash of ``name(node) + str(i)``, 128 bits of MD5 big-endian or 64 bits of XXH3;
    of two equal points the smaller name's counts. Names that differ only in a number at their end share many
    points (``n1`` + ``10`` is ``n11`` + ``0``): among ``n1`` to ``n20``, ``n11`` gets a fifth less than its share.
    Names of equal length, such as ``n01``, or with something behind the number, such as a port, share none. A
    lookup takes O(1) expected time. A change takes O(points) and
    hashes only the points of the node that comes.

    References
    ----------
    .. [1] D. Karger et al., "Consistent hashing and random trees", STOC 1997.

    Examples
    --------
    >>> from coterie import ConsistentHash
    >>> ring = ConsistentHash(["red", "green", "blue"])
    >>> ring
    ConsistentHash(3 nodes, replicas=128, hash='md5')
    >>> before = ring.copy()
    >>> ring.add_node("black")
    >>> 0.15 < ring.moved(before) < 0.35
    True
    """

    __slots__ = ()

    laws = Laws(weights=True, removes="any", movement="minimal", ordered=False, balance=1.4)

    def __new__(
        cls,
        nodes: Iterable[Node] | Mapping[Node, float],
        *,
        replicas: int = 128,
        hash: Literal["md5", "xxh3"] = "md5",
        weights: Weights[Node] | None = None,
        name: Callable[[Node], str] = str,
    ) -> Self:
        replicas, hash = _whole("replicas", replicas), _choice("hash", hash, _HASHES)
        return cls._build(nodes, weights, name, replicas=replicas, hash=hash)


class Ketama(Ring[Node]):
    """libmemcached's consistent hashing, bit for bit, so that clients in several languages share one cache.

    Parameters
    ----------
    nodes : iterable of nodes, or mapping from node to weight
        Servers, named ``host:port``; without a port it is memcached's own, 11211.
    weights : mapping from node to weight, or sequence, optional
        Share of the keys relative to the other servers.
    variant : {"ketama", "ketama_weighted", "spy"}, default "ketama"
        "ketama": 100 points a server while all weights are 1, and otherwise as "ketama_weighted": 160 points
        for each server of average weight. "spy": the same with the names of SpyMemcached.
    name : callable, default str
        Gives a node's name.

    Raises
    ------
    ConfigError
        A setting is wrong, or two nodes are one server.

    Notes
    -----
    A weight counts against the sum of all, in single precision as in libmemcached. So a change of one server may
    shift the number of points of others, and a few keys move that need not. A change places all points anew.

    References
    ----------
    .. [1] R. Jones, "libketama: consistent hashing library for memcached clients", 2007.
    .. [2] libmemcached, ``libmemcached/hosts.cc``, ``update_continuum``.

    Examples
    --------
    >>> from coterie.ring import Ketama
    >>> servers = Ketama(["10.0.1.1:11211", "10.0.1.2:11211", "10.0.1.3:11211"])
    >>> servers.get_many(["key0", "key1", "key2", "key3"])
    ['10.0.1.2:11211', '10.0.1.2:11211', '10.0.1.3:11211', '10.0.1.1:11211']
    """

    __slots__ = ()

    laws = Laws(weights=True, removes="any", movement="near minimal", ordered=False, balance=1.45)

    def __new__(
        cls,
        nodes: Iterable[Node] | Mapping[Node, float],
        *,
        weights: Weights[Node] | None = None,
        variant: Literal["ketama", "ketama_weighted", "spy"] = "ketama",
        name: Callable[[Node], str] = str,
    ) -> Self:
        variant = _choice("variant", variant, ("ketama", "ketama_weighted", "spy"))
        return cls._build(nodes, weights, name, variant=variant)


class Jump(Ring[Node]):
    """Jump consistent hash: no memory, perfect balance, and nodes that leave from the end only.

    Parameters
    ----------
    nodes : iterable of nodes
        The nodes; their order counts.
    weights : optional
        Refused unless all are 1.
    name : callable, default str
        Gives a node's name.

    Raises
    ------
    ConfigError
        Two nodes have one name, or weights differ.

    Notes
    -----
    An integer key is taken as its 64 bits (modulo 2^64), as in the paper, not as its decimal text: ``get(7)`` and
    ``get("7")`` differ. A lookup takes O(log nodes).

    References
    ----------
    .. [1] J. Lamping and E. Veach, "A fast, minimal memory, consistent hash algorithm", 2014.

    Examples
    --------
    >>> from coterie.ring import Jump
    >>> shards = Jump(range(1024))
    >>> shards.get(256)
    520
    """

    __slots__ = ()

    laws = Laws(weights=False, removes="last", movement="minimal", ordered=True, balance=1.0)

    def __new__(
        cls,
        nodes: Iterable[Node] | Mapping[Node, float],
        *,
        weights: Weights[Node] | None = None,
        name: Callable[[Node], str] = str,
    ) -> Self:
        return cls._build(nodes, weights, name)


class Rendezvous(Ring[Node]):
    """Rendezvous hashing (highest random weight): every node bids for the key, and the highest bid wins.

    Parameters
    ----------
    nodes : iterable of nodes, or mapping from node to weight
        The nodes.
    weights : mapping from node to weight, or sequence, optional
        Share of the keys relative to the other nodes, kept exactly.
    name : callable, default str
        Gives a node's name.

    Raises
    ------
    ConfigError
        A setting is wrong, or two nodes have one name.

    Notes
    -----
    A lookup takes O(nodes): right for few nodes, or for exact weights.

    References
    ----------
    .. [1] D. Thaler and C. Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Transactions
       on Networking, 1998.
    .. [2] C. Schindelhauer and G. Schomaker, "Weighted distributed hash tables", SPAA 2005.

    Examples
    --------
    >>> from coterie.ring import Rendezvous
    >>> ring = Rendezvous({"large": 3, "small": 1})
    >>> ring.distribution()
    {'large': 0.75, 'small': 0.25}
    """

    __slots__ = ()

    laws = Laws(weights=True, removes="any", movement="minimal", ordered=False, balance=1.0)

    def __new__(
        cls,
        nodes: Iterable[Node] | Mapping[Node, float],
        *,
        weights: Weights[Node] | None = None,
        name: Callable[[Node], str] = str,
    ) -> Self:
        return cls._build(nodes, weights, name)


class Maglev(Ring[Node]):
    """Maglev hashing: one read of a table, nearly perfect balance, and a little more movement than needed.

    Parameters
    ----------
    nodes : iterable of nodes, or mapping from node to weight
        The nodes.
    table_size : int, default 65537
        Slots of the table: a prime above the number of nodes, best 100 times that.
    weights : mapping from node to weight, or sequence, optional
        Share of the keys relative to the other nodes.
    name : callable, default str
        Gives a node's name.

    Raises
    ------
    ConfigError
        A setting is wrong, or two nodes have one name.

    Notes
    -----
    The table is filled in the order of names, so it does not depend on who came when. A change fills it anew, in
    O(table_size) expected.

    References
    ----------
    .. [1] D. Eisenbud et al., "Maglev: a fast and reliable software network load balancer", NSDI 2016.

    Examples
    --------
    >>> from coterie.ring import Maglev
    >>> ring = Maglev(["red", "green", "blue"])
    >>> {node: round(share, 4) for node, share in ring.distribution().items()}
    {'red': 0.3333, 'green': 0.3333, 'blue': 0.3333}
    """

    __slots__ = ()

    laws = Laws(weights=True, removes="any", movement="near minimal", ordered=False, balance=1.01)

    def __new__(
        cls,
        nodes: Iterable[Node] | Mapping[Node, float],
        *,
        table_size: int = 65537,
        weights: Weights[Node] | None = None,
        name: Callable[[Node], str] = str,
    ) -> Self:
        return cls._build(nodes, weights, name, table_size=_whole("table_size", table_size))


class Anchor(Ring[Node]):
    """AnchorHash: perfect balance, minimal movement, and any node may leave.

    Parameters
    ----------
    nodes : iterable of nodes
        The nodes; their order counts, and so does who left before.
    capacity : int, optional
        Nodes that fit; by default twice as many as there are, and at least 16.
    weights : optional
        Refused unless all are 1.
    name : callable, default str
        Gives a node's name.

    Raises
    ------
    ConfigError
        A setting is wrong, two nodes have one name, weights differ, or the ring is full.

    Notes
    -----
    A lookup takes O((1 + ln(capacity / nodes))^2) expected, so a capacity far above the number of nodes costs
    little. A node that comes takes the place of the one that left last.

    References
    ----------
    .. [1] G. Mendelson et al., "AnchorHash: a scalable consistent hash", IEEE/ACM Transactions on Networking,
       2020.

    Examples
    --------
    >>> from coterie.ring import Anchor
    >>> ring = Anchor(["red", "green", "blue"], capacity=100)
    >>> before = ring.copy()
    >>> ring.remove_node("green")
    >>> ring.add_node("green")
    >>> ring.moved(before)
    0.0
    """

    __slots__ = ()

    laws = Laws(weights=False, removes="any", movement="minimal", ordered=True, balance=1.0)

    def __new__(
        cls,
        nodes: Iterable[Node] | Mapping[Node, float],
        *,
        capacity: int | None = None,
        weights: Weights[Node] | None = None,
        name: Callable[[Node], str] = str,
    ) -> Self:
        capacity = None if capacity is None else _whole("capacity", capacity)
        return cls._build(nodes, weights, name, capacity=capacity)


class BoundedLoad(Ring[Node]):
    """Consistent hashing with bounded loads: a node that is full passes the key on to the next one.

    `acquire` places a key and counts it; `release` takes one away. No `acquire` lifts a node above
    ``ceil((1 + epsilon) * keys * share)`` of the keys that are then held; `release` and new nodes lower the average,
    and move nothing by themselves.

    Parameters
    ----------
    nodes : iterable of nodes, or mapping from node to weight
        The nodes.
    epsilon : float, default 0.25
        Slack above a node's fair share. Less of it evens the load and sends more keys away from home.
    replicas, hash, weights, name
        As in `ConsistentHash`.

    Raises
    ------
    ConfigError
        A setting is wrong, or two nodes have one name.

    Notes
    -----
    `get` says where `acquire` would place the key now, so it depends on the load. A node that leaves takes its load
    with it: acquire again what it held. A key is counted, not remembered.

    References
    ----------
    .. [1] V. Mirrokni, M. Thorup and M. Zadimoghaddam, "Consistent hashing with bounded loads", SODA 2018.

    Examples
    --------
    >>> from coterie.ring import BoundedLoad
    >>> ring = BoundedLoad(["red", "green", "blue"])
    >>> placed = [ring.acquire("one hot key") for _ in range(12)]
    >>> sorted(ring.loads.values())
    [2, 5, 5]
    """

    __slots__ = ()

    laws = Laws(weights=True, removes="any", movement="minimal", ordered=False, balance=1.4, load=True)

    def __new__(
        cls,
        nodes: Iterable[Node] | Mapping[Node, float],
        *,
        epsilon: float = 0.25,
        replicas: int = 128,
        hash: Literal["md5", "xxh3"] = "md5",
        weights: Weights[Node] | None = None,
        name: Callable[[Node], str] = str,
    ) -> Self:
        replicas, hash = _whole("replicas", replicas), _choice("hash", hash, _HASHES)
        return cls._build(nodes, weights, name, epsilon=float(epsilon), replicas=replicas, hash=hash)

    @property
    def loads(self) -> dict[Node, int]:
        """What each node holds.

        Examples
        --------
        >>> from coterie.ring import BoundedLoad
        >>> BoundedLoad(["red", "green"]).loads
        {'red': 0, 'green': 0}
        """
        nodes, loads = self._loads()
        return dict(zip(nodes, loads, strict=True))

    def acquire(self, key: Key) -> Node:
        """Place a key: its owner, whose load grows by one.

        Parameters
        ----------
        key : str, bytes or int
            As for `get`.

        Returns
        -------
        object
            The first node at or after the key that has room.

        Raises
        ------
        EmptyRingError
            The ring has no nodes.

        Examples
        --------
        >>> from coterie.ring import BoundedLoad
        >>> ring = BoundedLoad(["red", "green"])
        >>> node = ring.acquire("user:42")
        >>> ring.loads[node]
        1
        """
        node: Node = self._acquire(key)
        return node

    def release(self, node: Node) -> None:
        """Take one key away from a node.

        Parameters
        ----------
        node : hashable
            What `acquire` answered.

        Raises
        ------
        UnknownNodeError
            The node is not there (any more).
        RequestError
            The node holds nothing.

        Examples
        --------
        >>> from coterie.ring import BoundedLoad
        >>> ring = BoundedLoad(["red", "green"])
        >>> ring.release(ring.acquire("user:42"))
        >>> sum(ring.loads.values())
        0
        """
        self._release(node, self._name_of_present(node))
