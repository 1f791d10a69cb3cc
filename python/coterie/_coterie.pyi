"""
The compiled half of Coterie. Import `coterie` instead: the names here may change in any release.
"""

from _typeshed import Incomplete, SupportsGetItem
from typing import Any, Self
from typing_extensions import disjoint_base

__all__ = ["Balancer", "Lease", "Ring", "provoke_panic", "version"]

@disjoint_base
class Balancer:
    """
    The compiled half of every balancer of `coterie.balance`: a policy, or a layer over another balancer.
    """
    def __new__(cls, /, policy: str, *, below: Balancer | None = None, health: Incomplete | None = None, ring: Ring | None = None, seed: int = 0, clock: Any | None = None, decay: float = 0.0, penalty: float = 0.0) -> Self: ...
    @property
    def _changes(self, /) -> Any:
        """
        The lock around each change of the table, for changes that have several steps.
        """
    def _discard(self, /, backend: Any, drain: bool) -> None:
        """
        Takes a backend out of service: after its last request has ended, or at once.
        """
    def _health(self, /) -> tuple[bool, int]:
        """
        Whether a `Healthy` layer panics, and how many ejections its limit has prevented.
        """
    def _insert(self, /, backend: Any, weight: float, first: bool) -> None:
        """
        Adds a backend, or takes a draining one back into service.
        """
    def _judge(self, /, backend: Any, refusal: str | None) -> None:
        """
        Tells the `Trusted` layer whether a backend satisfies its policy, or why not.
        """
    def _place(self, /, ring: Ring) -> None:
        """
        Tells a `Hashed` policy what its ring looks like now. A node that is no backend yet, or no longer, is
        passed over.
        """
    def _publish(self, /) -> None:
        """
        Shows the backends that were inserted first.
        """
    def _states(self, /) -> list[tuple[Any, float, int, int, int, float | None, bool, str | None, float | None]]:
        """
        What is known of each backend.
        """
    def _weigh(self, /, backend: Any, weight: float) -> None:
        """
        Changes the weight of a backend.
        """
    def done(self, /, backend: Any, latency: float, ok: bool = True) -> None:
        """
        A request that was picked for `backend` has ended.

        Parameters
        ----------
        backend
            What :meth:`pick` returned, or an equal object.
        latency : float
            How long it took, in seconds.
        ok : bool, default True
            Whether it succeeded. A failure never makes a backend look fast: where load or latency decide, it
            counts as a slow answer.

        Raises
        ------
        UnknownNodeError
            The balancer does not have that backend, or no longer.
        ConfigError
            `latency` is negative or not finite.

        Examples
        --------
        >>> from coterie.balance import LeastConnections
        >>> balancer = LeastConnections(["a", "b"])
        >>> backend = balancer.pick()
        >>> balancer.done(backend, 0.012)
        >>> balancer.stats().backends[backend].in_flight
        0
        """
    def pick(self, /, key: Any | None = None, *, exclude: Any | None = None) -> Any:
        """
        A backend for one request. Tell :meth:`done` when the request has ended, or use :meth:`lease`.

        Parameters
        ----------
        key : str, bytes or int, optional
            What the request is about. Only :class:`Hashed` looks at it.
        exclude : iterable, optional
            Backends that must not get the request: those that failed it before, so that a second attempt goes
            elsewhere. One that the balancer does not have is ignored.

        Returns
        -------
        backend
            The object that was added.

        Raises
        ------
        NoBackendError
            No backend may take the request; ``.reasons`` says why each was passed over. Nothing was counted.
        TypeError
            The policy places requests by key, and there is none.

        Examples
        --------
        >>> from coterie.balance import RoundRobin
        >>> balancer = RoundRobin(["a", "b"])
        >>> balancer.pick(), balancer.pick(), balancer.pick()
        ('a', 'b', 'a')
        >>> balancer.pick(exclude=["b"])
        'a'
        """

@disjoint_base
class Lease:
    """
    A request that is being served; closing it is `done`.
    """
    def __new__(cls, /, balancer: Balancer, key: Any | None, exclude: Any | None, timeout: float | None) -> Self: ...
    def _finish(self, /, ok: bool | None) -> bool:
        """
        Ends the lease: well, badly, or (`None`) nobody can tell. False when it had ended before.
        """
    @property
    def backend(self, /) -> Any:
        """
        The backend that serves the request.
        """

@disjoint_base
class Ring:
    """
    The compiled part of a ring. Use the classes of `coterie.ring`.
    """
    def __len__(self, /) -> int: ...
    def __new__(cls, /, nodes: SupportsGetItem[int, Any], names: SupportsGetItem[int, str], weights: SupportsGetItem[int, float], settings: "dict[str, Any]", memory: tuple[SupportsGetItem[int, int], SupportsGetItem[int, int], SupportsGetItem[int, int]] | None = None, origin: Ring | None = None) -> Self:
        """
        A ring of the kind that the settings name, or a copy of `origin`.
        """
    def _acquire(self, /, key: Any) -> Any:
        """
        `BoundedLoad` only: places a key.
        """
    def _add(self, /, node: Any, name: str, weight: float) -> None: ...
    def _find(self, /, name: str) -> tuple[Any] | None:
        """
        The node of a name, in a tuple, since any object may be a node.
        """
    def _loads(self, /) -> tuple[list[Any], list[int]]:
        """
        `BoundedLoad` only: the nodes and the load of each.
        """
    def _moved(self, /, other: Ring) -> float:
        """
        Share of the keys whose owner has another name in `other`.
        """
    def _nodes(self, /) -> list[Any]:
        """
        The nodes, in order.
        """
    def _release(self, /, node: Any, name: str) -> None:
        """
        `BoundedLoad` only: takes one key away from a node.
        """
    def _remove(self, /, node: Any, name: str) -> None: ...
    def _shares(self, /) -> tuple[list[Any], list[float]]:
        """
        The nodes and the share of keys of each.
        """
    def _state(self, /) -> tuple[list[Any], list[str], list[float], tuple[list[int], list[int], list[int]]]:
        """
        The nodes, their names and weights, and the memory: all that another process needs besides the settings.
        """
    def get(self, /, key: Any) -> Any:
        """
        The node that owns a key.

        Parameters
        ----------
        key : str, bytes or int
            Text stands for its UTF-8, and an integer for its decimal text (in `Jump` for its 64 bits), so that
            ``7``, ``"7"`` and ``b"7"`` agree.

        Returns
        -------
        object
            The node, as it was given.

        Raises
        ------
        EmptyRingError
            The ring has no nodes.
        TypeError
            The key is something else.

        Examples
        --------
        >>> from coterie import ConsistentHash
        >>> ring = ConsistentHash(["red", "green", "blue"])
        >>> ring.get("user:42") in ring.nodes
        True
        >>> ring.get(7) == ring.get("7") == ring.get(b"7")
        True
        """
    def get_many(self, /, keys: Any) -> "list[Any]":
        """
        The owner of each key, in one call: much faster than a loop over `get`.

        Parameters
        ----------
        keys : iterable of str, bytes or int, or NumPy array of integers or strings
            As for `get`. An array is read without making a Python object of each element.

        Returns
        -------
        list
            One node for each key, all from the same moment of the ring.

        Raises
        ------
        EmptyRingError
            There are keys, but no nodes.
        TypeError
            A key, or `keys` itself, is of a wrong type.

        Notes
        -----
        Other threads run meanwhile, and large batches use several cores.

        Examples
        --------
        >>> from coterie import ConsistentHash
        >>> ring = ConsistentHash(["red", "green", "blue"])
        >>> keys = ["user:1", "user:2", "user:3"]
        >>> ring.get_many(keys) == [ring.get(key) for key in keys]
        True
        """
    def get_many_indices(self, /, keys: Any) -> Any:
        """
        The owner of each key, as its position in ``list(ring)``. Needs NumPy.

        Parameters
        ----------
        keys : iterable of str, bytes or int, or NumPy array of integers or strings
            As for `get_many`.

        Returns
        -------
        numpy.ndarray of intp, shape (len(keys),)
            Positions, all from the same moment of the ring.

        Raises
        ------
        EmptyRingError
            There are keys, but no nodes.
        ModuleNotFoundError
            NumPy is not installed.

        Examples
        --------
        >>> import numpy as np
        >>> from coterie import ConsistentHash
        >>> ring = ConsistentHash(["red", "green", "blue"])
        >>> positions = ring.get_many_indices(np.arange(1_000))
        >>> np.bincount(positions).sum()
        np.int64(1000)
        >>> list(ring)[positions[7]] == ring.get(7)
        True
        """
    def get_n(self, /, key: Any, n: int) -> "list[Any]":
        """
        Several nodes for a key, for replication.

        Parameters
        ----------
        key : str, bytes or int
            As for `get`.
        n : int
            How many, at least 1.

        Returns
        -------
        list
            `n` distinct nodes, the owner first; all nodes when the ring has fewer.

        Raises
        ------
        EmptyRingError
            The ring has no nodes.
        ConfigError
            `n` is below 1.

        Examples
        --------
        >>> from coterie import ConsistentHash
        >>> ring = ConsistentHash(["red", "green", "blue"])
        >>> first, second = ring.get_n("user:42", 2)
        >>> first == ring.get("user:42")
        True
        >>> ring.remove_node(first)
        >>> ring.get("user:42") == second
        True
        """

def provoke_panic() -> None:
    """
    Panics, so that a test can see what becomes of a panic.
    """

def version() -> str:
    """
    The version of the crate and of the package: they are one.
    """
