"""Requests to backends: load-balancer pickers that run in your process.

::

    pick(key) ──► layers narrow the candidates ──► the policy chooses one ──► backend
                  Trusted: labels satisfy a policy     RoundRobin, LeastConnections, PeakEwma, …
                  Healthy: not ejected, warmed up
    done(backend, latency, ok) ──► the policy learns the load, the layers learn the health

===========================  =====================================================================
policy                       chooses
===========================  =====================================================================
:class:`RoundRobin`          each backend in turn
:class:`WeightedRoundRobin`  each in turn, in proportion to its weight (nginx's sequence)
:class:`Random`              any backend
:class:`WeightedRandom`      any backend, with a chance in proportion to its weight
:class:`LeastConnections`    the backend with the fewest open requests
:class:`PowerOfTwoChoices`   the less loaded of two random backends
:class:`PeakEwma`            of two random backends, the one expected to answer first
:class:`Hashed`              the owner of the request's key on a ring of :mod:`coterie.ring`
===========================  =====================================================================

:class:`Healthy` and :class:`Trusted` wrap any of them, and each other. Backends are any hashable objects. All
balancers may be used from many threads at once; those that keep no state between picks (round robin, the random
ones, a plain ring) take no lock.

Examples
--------
>>> from coterie.balance import LeastConnections
>>> balancer = LeastConnections(["10.0.0.1:80", "10.0.0.2:80"])
>>> with balancer.lease() as backend:
...     print("asking", backend)
asking 10.0.0.1:80
"""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, SupportsFloat, TypeAlias, TypeVar

from coterie import _coterie
from coterie._typing import Key, Weights, checked_weight, paired
from coterie.exceptions import ConfigError, RequestError

if TYPE_CHECKING:
    from types import TracebackType

    from coterie.ring import Ring


__all__ = [
    "BackendStats",
    "Balancer",
    "Hashed",
    "Healthy",
    "Lease",
    "LeastConnections",
    "PeakEwma",
    "PowerOfTwoChoices",
    "Random",
    "RoundRobin",
    "Stats",
    "Trusted",
    "WeightedRandom",
    "WeightedRoundRobin",
]

Backend = TypeVar("Backend", bound=Hashable)
Clock: TypeAlias = Callable[[], float]
Labels: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BackendStats:
    """One backend, as :meth:`Balancer.stats` saw it.

    Attributes
    ----------
    weight : float
        Its share of the requests, relative to the other backends.
    picks, failures, in_flight : int
        Requests given to it, those of them that failed, and those that have not ended.
    latency : float or None
        The latency that the policy expects of it, in seconds, where the policy measures one.
    state : {"active", "warming", "refused", "draining"}
        ``refused`` by a layer; ``warming`` after its return; ``draining`` after its removal.
    reason : str
        Why it is refused or draining; empty otherwise.

    Examples
    --------
    >>> from coterie.balance import RoundRobin
    >>> balancer = RoundRobin(["a"])
    >>> balancer.pick()
    'a'
    >>> balancer.stats().backends["a"].in_flight
    1
    """

    weight: float
    picks: int
    failures: int
    in_flight: int
    latency: float | None
    state: Literal["active", "warming", "refused", "draining"]
    reason: str


@dataclass(frozen=True, slots=True)
class Stats(Generic[Backend]):
    """A balancer at one moment.

    Attributes
    ----------
    backends : dict
        :class:`BackendStats` of each backend, draining ones included.
    panicking : bool
        Whether a :class:`Healthy` layer ignores health, because too few backends are healthy.
    not_ejected : int
        Backends that a :class:`Healthy` layer's limit kept in service although they should have been ejected; each
        counts once, until it succeeds again.

    Examples
    --------
    >>> from coterie.balance import Random
    >>> Random(["a", "b"]).stats().in_flight
    0
    """

    backends: dict[Backend, BackendStats]
    panicking: bool
    not_ejected: int

    @property
    def picks(self) -> int:
        """Requests given to all backends."""
        return sum(backend.picks for backend in self.backends.values())

    @property
    def failures(self) -> int:
        """Those of them that failed."""
        return sum(backend.failures for backend in self.backends.values())

    @property
    def in_flight(self) -> int:
        """Those of them that have not ended."""
        return sum(backend.in_flight for backend in self.backends.values())


class Lease(_coterie.Lease, Generic[Backend]):
    """A request that is being served: closing it tells the balancer how it ended.

    Made by :meth:`Balancer.lease`. As a context manager, with ``with`` or ``async with``, it gives the backend;
    leaving by an exception is a failure, unless the exception only ends the task (``KeyboardInterrupt``,
    ``asyncio.CancelledError``): nobody can tell then how the request would have ended, so no failure is counted.
    Put a time-out *inside* the block, where its ``TimeoutError`` counts, or call ``close(ok=False)``. A lease that
    is forgotten ends when it is collected, with a `ResourceWarning`, or when its time-out has passed.

    Examples
    --------
    >>> from coterie.balance import RoundRobin
    >>> balancer = RoundRobin(["a"])
    >>> lease = balancer.lease()
    >>> lease.backend
    'a'
    >>> lease.close(), lease.close()
    (True, False)
    """

    _closed: bool

    if TYPE_CHECKING:

        @property
        def backend(self) -> Backend:
            """The backend that serves the request."""

    def __new__(
        cls,
        balancer: Balancer[Backend],
        key: Key | None,
        exclude: Iterable[Backend] | None,
        timeout: float | None,
    ) -> Self:
        lease = super().__new__(cls, balancer, key, exclude, timeout)
        lease._closed = False
        return lease

    def close(self, ok: bool | None = True) -> bool:
        """End the lease.

        Parameters
        ----------
        ok : bool or None, default True
            Whether the request succeeded; ``None`` when nobody can tell.

        Returns
        -------
        bool
            False when the lease had ended before, by an earlier call or by its time-out.

        Examples
        --------
        >>> from coterie.balance import RoundRobin
        >>> balancer = RoundRobin(["a"])
        >>> balancer.lease().close(ok=False)
        True
        >>> balancer.stats().failures
        1
        """
        self._closed = True
        return self._finish(ok)

    def __enter__(self) -> Backend:
        if self._closed:
            raise RequestError(f"{self!r} has served its request; take a new lease for another one")
        return self.backend

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close(ok=True)
        else:
            self.close(ok=False if isinstance(error, Exception) else None)

    async def __aenter__(self) -> Backend:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __del__(self) -> None:
        # A lease whose pick was refused was never begun.
        if not getattr(self, "_closed", True):
            forgotten = repr(self)
            self.close(ok=None)
            warnings.warn(f"{forgotten} was never closed", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return f"Lease({self.backend!r}{', closed' if self._closed else ''})"


class Balancer(_coterie.Balancer, Generic[Backend]):
    """What all balancers can do. Use one of its subclasses.

    Examples
    --------
    >>> from coterie.balance import Balancer, RoundRobin
    >>> isinstance(RoundRobin(["a"]), Balancer)
    True
    """

    _weighted = True

    if TYPE_CHECKING:
        # Both are compiled: their documentation stands there.
        def pick(self, key: Key | None = None, *, exclude: Iterable[Backend] | None = None) -> Backend: ...
        def done(self, backend: Backend, latency: float, ok: bool = True) -> None: ...

    def __new__(cls, *_arguments: Any, **_settings: Any) -> Self:
        raise TypeError(f"{cls.__name__} is what balancers have in common; build one of its subclasses")

    @classmethod
    def _build(cls, policy: str, *, clock: Clock | None = None, **settings: Any) -> Self:
        if clock is not None and not callable(clock):
            raise ConfigError(f"clock is {clock!r}; it must be a function that returns seconds")
        return _coterie.Balancer.__new__(cls, policy, clock=clock, **settings)

    def lease(
        self,
        key: Key | None = None,
        *,
        exclude: Iterable[Backend] | None = None,
        timeout: float | None = 3600.0,
    ) -> Lease[Backend]:
        """:meth:`pick` and :meth:`done` in one: the latency and the outcome are taken from the ``with`` block.

        Parameters
        ----------
        key : str, bytes or int, optional
            What the request is about. Only :class:`Hashed` looks at it.
        exclude : iterable, optional
            Backends that must not get the request: those that failed it before.
        timeout : float or None, default 3600.0
            Seconds after which the request no longer counts as open, in case the lease is never closed. ``None``:
            for ever.

        Returns
        -------
        Lease
            A context manager, for ``with`` and for ``async with``, that gives the backend.

        Raises
        ------
        NoBackendError
            No backend may take the request; nothing was counted.

        Examples
        --------
        >>> from coterie.balance import LeastConnections
        >>> balancer = LeastConnections(["a", "b"])
        >>> with balancer.lease() as backend:
        ...     balancer.stats().backends[backend].in_flight
        1
        >>> balancer.stats().in_flight
        0
        """
        if timeout is not None:
            _positive(timeout=timeout)
        return Lease(self, key, exclude, timeout)

    def add(self, backend: Backend, weight: SupportsFloat = 1, *, labels: Labels | None = None) -> None:
        """Add a backend while serving, or take one that drains back into service.

        Parameters
        ----------
        backend : hashable
            Any object; equal objects are one backend.
        weight : float, default 1
            Its share of the requests, relative to the others. Positive.
        labels : mapping, optional
            What a :class:`Trusted` layer judges it by.

        Raises
        ------
        ConfigError
            The backend is here already, the weight is not positive or the policy has none, or there are labels
            and nobody to look at them. Nothing changed.

        Examples
        --------
        >>> from coterie.balance import RoundRobin
        >>> balancer = RoundRobin(["a"])
        >>> balancer.add("b")
        >>> balancer.pick(), balancer.pick()
        ('a', 'b')
        """
        if labels is not None:
            raise ConfigError("labels are for Trusted; no layer here looks at them")
        self._insert(backend, self._checked_weight(backend, weight), False)

    def set_weight(self, backend: Backend, weight: SupportsFloat) -> None:
        """Change the weight of a backend while serving.

        Raises
        ------
        UnknownNodeError
            There is no such backend.
        ConfigError
            The weight is not positive, or the policy has no weights.

        Examples
        --------
        >>> from coterie.balance import WeightedRoundRobin
        >>> balancer = WeightedRoundRobin(["a", "b"])
        >>> balancer.set_weight("b", 2)
        >>> [balancer.pick() for _ in range(3)]
        ['b', 'a', 'b']
        """
        self._weigh(backend, self._checked_weight(backend, weight))

    def remove(self, backend: Backend, *, drain: bool = True) -> None:
        """Take a backend out of service.

        Parameters
        ----------
        backend : hashable
            The backend.
        drain : bool, default True
            It gets no new request and goes when its last one has ended. With False it is forgotten at once.

        Raises
        ------
        UnknownNodeError
            There is no such backend.

        Examples
        --------
        >>> from coterie.balance import RoundRobin
        >>> balancer = RoundRobin(["a", "b"])
        >>> busy = balancer.pick()
        >>> balancer.remove(busy)
        >>> balancer.stats().backends[busy].state
        'draining'
        >>> balancer.done(busy, 0.5)
        >>> busy in balancer.stats().backends
        False
        """
        self._discard(backend, drain)

    def label(self, backend: Backend, labels: Labels) -> None:
        """Judge a backend again, by new labels; for all :class:`Trusted` layers of this balancer.

        Parameters
        ----------
        backend : hashable
            The backend.
        labels : mapping
            All of its labels; earlier ones are forgotten.

        Raises
        ------
        UnknownNodeError
            There is no such backend.
        ConfigError
            No layer here looks at labels.

        Examples
        --------
        >>> from coterie.balance import RoundRobin, Trusted
        >>> balancer = Trusted(RoundRobin(["a"]), require={"tls": True})
        >>> balancer.label("a", {"tls": True})
        >>> balancer.pick()
        'a'
        """
        raise ConfigError(
            f"no layer here is Trusted and looks at labels, so {sorted(labels)} of {backend!r} say nothing"
        )

    def stats(self) -> Stats[Backend]:
        """What each backend has done so far, and in what state it is.

        Examples
        --------
        >>> from coterie.balance import RoundRobin
        >>> balancer = RoundRobin(["a", "b"])
        >>> for _ in range(10):
        ...     balancer.done(balancer.pick(), 0.01)
        >>> {backend: stats.picks for backend, stats in balancer.stats().backends.items()}
        {'a': 5, 'b': 5}
        """
        panicking, not_ejected = self._health()
        return Stats(
            {state[0]: _backend_stats(*state[1:]) for state in self._states()}, panicking, not_ejected
        )

    @property
    def backends(self) -> list[Backend]:
        """The backends in service, in the order in which they came; without those that drain.

        Examples
        --------
        >>> from coterie.balance import RoundRobin
        >>> RoundRobin(["a", "b"]).backends
        ['a', 'b']
        """
        return [state[0] for state in self._states() if not state[6]]

    def __len__(self) -> int:
        return len(self.backends)

    def __iter__(self) -> Iterator[Backend]:
        return iter(self.backends)

    def __contains__(self, backend: object) -> bool:
        return backend in self.backends

    def __repr__(self) -> str:
        count = len(self)
        return f"{type(self).__name__}({count} backend{'' if count == 1 else 's'})"

    def _checked_weight(self, backend: Backend, weight: SupportsFloat) -> float:
        number = checked_weight(backend, weight)
        if not self._weighted and number != 1:
            raise ConfigError(f"{type(self).__name__} has no weights; {backend!r} can not have {weight!r}")
        return number

    def _fill(self, backends: Iterable[Backend], weights: Weights[Backend] | None) -> None:
        for backend, weight in _weighed(backends, weights):
            self._insert(backend, self._checked_weight(backend, weight), True)
        self._publish()


def _weighed(
    backends: Iterable[Backend], weights: Weights[Backend] | None
) -> list[tuple[Backend, SupportsFloat]]:
    if isinstance(backends, (str, bytes)):
        kind = type(backends).__name__
        raise TypeError(f"backends is one {kind}, not several backends; put it into a list")
    if isinstance(backends, Mapping):
        if weights is not None:
            raise ConfigError("weights stand in the mapping of backends already; pass one of the two")
        return list(backends.items())
    if isinstance(backends, (set, frozenset)):
        if weights is not None and not isinstance(weights, Mapping):
            raise ConfigError("a set has no order for a sequence of weights; pass a mapping")
        # A set's order differs from process to process.
        backends = sorted(backends, key=repr)
    backends = list(backends)
    if weights is None:
        return [(backend, 1) for backend in backends]
    if isinstance(weights, Mapping):
        known = set(backends)
        strangers = [backend for backend in weights if backend not in known]
        if strangers:
            raise ConfigError(f"there is a weight for {strangers[0]!r}, which is no backend")
        return [(backend, weights.get(backend, 1)) for backend in backends]
    return paired(backends, weights, "backends")


def _backend_stats(
    weight: float,
    picks: int,
    failures: int,
    in_flight: int,
    latency: float | None,
    draining: bool,
    refusal: str | None,
    warmth: float | None,
) -> BackendStats:
    state: Literal["active", "warming", "refused", "draining"] = "active"
    if draining:
        state = "draining"
    elif refusal is not None:
        state = "refused"
    elif warmth is not None:
        state = "warming"
    return BackendStats(weight, picks, failures, in_flight, latency, state, refusal or "")


def _seed(seed: int | None) -> int:
    if seed is None:
        return int.from_bytes(os.urandom(8), "big")
    # Any integer is a seed, as for `random.seed`; the generator takes its low 64 bits.
    return _whole("seed", seed) & (2**64 - 1)


def _whole(setting: str, value: int) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ConfigError(f"{setting} is {value!r}; it must be a whole number") from None


def _positive(**spans: float) -> None:
    for name, span in spans.items():
        if not (isinstance(span, (int, float)) and span > 0):
            raise ConfigError(f"{name} is {span!r}; it must be a positive number of seconds")


def _share(**shares: float) -> None:
    for name, share in shares.items():
        if not (isinstance(share, (int, float)) and 0 <= share <= 1):
            raise ConfigError(f"{name} is {share!r}; it must lie between 0 and 1")


class RoundRobin(Balancer[Backend]):
    """Each backend in turn.

    Parameters
    ----------
    backends : iterable of hashable
        In the order of their turns.
    clock : callable, optional
        Seconds as a float; what leases are timed by. The machine's monotonic clock by default.

    Notes
    -----
    One atomic addition for each pick, no lock.

    Examples
    --------
    >>> from coterie.balance import RoundRobin
    >>> balancer = RoundRobin(["a", "b", "c"])
    >>> "".join(balancer.pick() for _ in range(7))
    'abcabca'
    """

    _weighted = False

    def __new__(cls, backends: Iterable[Backend] = (), *, clock: Clock | None = None) -> Self:
        self = cls._build("round robin", clock=clock)
        self._fill(backends, None)
        return self


class WeightedRoundRobin(Balancer[Backend]):
    """Each backend in turn, in proportion to its weight, and as evenly spread as can be.

    Parameters
    ----------
    backends : iterable of hashable, or mapping
        The backends, or weights by backend.
    weights : sequence or mapping, optional
        Weights in the order of the backends, or by backend; 1 where it says nothing.
    clock : callable, optional
        Seconds as a float; what leases are timed by. The machine's monotonic clock by default.

    Notes
    -----
    The sequence is nginx's smooth weighted round robin, ties included. A pick costs O(backends).

    References
    ----------
    .. [1] nginx, commit 52327e0627f4, "Upstream: smooth weighted round-robin balancing", 2012.

    Examples
    --------
    >>> from coterie.balance import WeightedRoundRobin
    >>> balancer = WeightedRoundRobin({"a": 5, "b": 1, "c": 1})
    >>> "".join(balancer.pick() for _ in range(7))
    'aabacaa'
    """

    def __new__(
        cls,
        backends: Iterable[Backend] = (),
        *,
        weights: Weights[Backend] | None = None,
        clock: Clock | None = None,
    ) -> Self:
        self = cls._build("weighted round robin", clock=clock)
        self._fill(backends, weights)
        return self


class Random(Balancer[Backend]):
    """Any backend, each with the same chance.

    Parameters
    ----------
    backends : iterable of hashable
        The backends.
    seed : int, optional
        The same seed draws the same sequence, on every platform. Drawn from the system by default.
    clock : callable, optional
        Seconds as a float; what leases are timed by. The machine's monotonic clock by default.

    Notes
    -----
    One atomic addition and a mix (SplitMix64) for each pick, no lock.

    Examples
    --------
    >>> from coterie.balance import Random
    >>> balancer = Random(["a", "b", "c"], seed=2)
    >>> "".join(balancer.pick() for _ in range(6))
    'bcbcab'
    """

    _weighted = False

    def __new__(
        cls, backends: Iterable[Backend] = (), *, seed: int | None = None, clock: Clock | None = None
    ) -> Self:
        self = cls._build("random", seed=_seed(seed), clock=clock)
        self._fill(backends, None)
        return self


class WeightedRandom(Balancer[Backend]):
    """Any backend, with a chance in proportion to its weight.

    Parameters
    ----------
    backends : iterable of hashable, or mapping
        The backends, or weights by backend.
    weights : sequence or mapping, optional
        Weights in the order of the backends, or by backend; 1 where it says nothing.
    seed : int, optional
        The same seed draws the same sequence, on every platform. Drawn from the system by default.
    clock : callable, optional
        Seconds as a float; what leases are timed by. The machine's monotonic clock by default.

    Notes
    -----
    The alias method: constant time for each pick, whatever the weights, and no lock. A change of the backends or
    of a weight costs O(backends).

    References
    ----------
    .. [1] A. J. Walker, "An efficient method for generating discrete random variables with general
       distributions", ACM Transactions on Mathematical Software 3 (1977).
    .. [2] M. D. Vose, "A linear algorithm for generating random numbers with a given distribution", 1991.

    Examples
    --------
    >>> from collections import Counter
    >>> from coterie.balance import WeightedRandom
    >>> balancer = WeightedRandom({"a": 3, "b": 1}, seed=7)
    >>> shares = Counter(balancer.pick() for _ in range(4000))
    >>> 2900 < shares["a"] < 3100
    True
    """

    def __new__(
        cls,
        backends: Iterable[Backend] = (),
        *,
        weights: Weights[Backend] | None = None,
        seed: int | None = None,
        clock: Clock | None = None,
    ) -> Self:
        self = cls._build("weighted random", seed=_seed(seed), clock=clock)
        self._fill(backends, weights)
        return self


class LeastConnections(Balancer[Backend]):
    """The backend with the fewest open requests for its weight; ties go round.

    Parameters
    ----------
    backends : iterable of hashable, or mapping
        The backends, or weights by backend.
    weights : sequence or mapping, optional
        Weights in the order of the backends, or by backend; 1 where it says nothing.
    clock : callable, optional
        Seconds as a float; what leases are timed by. The machine's monotonic clock by default.

    Notes
    -----
    Every request must end by :meth:`~Balancer.done` or by its lease. A failed one stays in the count for the
    next eight picks for each backend, as if it were still open: a backend that fails at once would otherwise look
    idle and draw all requests to itself. A pick costs O(backends).

    Examples
    --------
    >>> from coterie.balance import LeastConnections
    >>> balancer = LeastConnections(["a", "b"])
    >>> balancer.pick(), balancer.pick(), balancer.pick()
    ('a', 'b', 'a')
    >>> balancer.done("b", 0.1)
    >>> balancer.pick()
    'b'
    """

    def __new__(
        cls,
        backends: Iterable[Backend] = (),
        *,
        weights: Weights[Backend] | None = None,
        clock: Clock | None = None,
    ) -> Self:
        self = cls._build("least connections", clock=clock)
        self._fill(backends, weights)
        return self


class PowerOfTwoChoices(Balancer[Backend]):
    """The less loaded of two random backends.

    Parameters
    ----------
    backends : iterable of hashable, or mapping
        The backends, or weights by backend.
    weights : sequence or mapping, optional
        Weights in the order of the backends, or by backend; 1 where it says nothing.
    seed : int, optional
        The same seed draws the same sequence, on every platform. Drawn from the system by default.
    clock : callable, optional
        Seconds as a float; what leases are timed by. The machine's monotonic clock by default.

    Notes
    -----
    Nearly as even as :class:`LeastConnections`, in constant time, and without the herd that runs to one idle
    backend. Failed requests stay in the count for a while, as there.

    References
    ----------
    .. [1] M. Mitzenmacher, "The power of two choices in randomized load balancing", IEEE Transactions on Parallel
       and Distributed Systems 12 (2001).

    Examples
    --------
    >>> from coterie.balance import PowerOfTwoChoices
    >>> balancer = PowerOfTwoChoices(["a", "b"], seed=1)
    >>> sorted([balancer.pick(), balancer.pick()])
    ['a', 'b']
    """

    def __new__(
        cls,
        backends: Iterable[Backend] = (),
        *,
        weights: Weights[Backend] | None = None,
        seed: int | None = None,
        clock: Clock | None = None,
    ) -> Self:
        self = cls._build("two choices", seed=_seed(seed), clock=clock)
        self._fill(backends, weights)
        return self


class PeakEwma(Balancer[Backend]):
    """Of two random backends, the one that is expected to answer first: balancing by performance.

    What is expected is a moving average of latency, times the open requests. It jumps to each peak at once and
    decays exponentially.

    Parameters
    ----------
    backends : iterable of hashable, or mapping
        The backends, or weights by backend.
    weights : sequence or mapping, optional
        Weights in the order of the backends, or by backend; 1 where it says nothing.
    decay : float, default 10.0
        Seconds after which an observation keeps 1/e of its weight; at least a microsecond.
    penalty : float, default 1.0
        Seconds that a failure counts as, at least: a backend that fails fast must not look fast.
    seed : int, optional
        The same seed draws the same sequence, on every platform. Drawn from the system by default.
    clock : callable, optional
        Seconds as a float, never going back. The machine's monotonic clock by default.

    References
    ----------
    .. [1] Twitter, Finagle, ``PeakEwma``, 2015.
    .. [2] linkerd/linkerd2-proxy#4537: a backend that fails fast draws all requests to itself.

    Examples
    --------
    >>> from coterie.balance import PeakEwma
    >>> balancer = PeakEwma(["slow", "fast"], seed=1)
    >>> for _ in range(20):
    ...     backend = balancer.pick()
    ...     balancer.done(backend, 0.5 if backend == "slow" else 0.01)
    >>> balancer.stats().backends["fast"].picks > 15
    True
    """

    def __new__(
        cls,
        backends: Iterable[Backend] = (),
        *,
        weights: Weights[Backend] | None = None,
        decay: float = 10.0,
        penalty: float = 1.0,
        seed: int | None = None,
        clock: Clock | None = None,
    ) -> Self:
        _positive(decay=decay, penalty=penalty)
        if decay < 1e-6:
            raise ConfigError(f"decay is {decay!r}; it must be at least a microsecond")
        self = cls._build("peak ewma", seed=_seed(seed), clock=clock, decay=decay, penalty=penalty)
        self._fill(backends, weights)
        return self


class Hashed(Balancer[Backend]):
    """The owner of the request's key on a ring; while it is out, the next node that is not.

    Parameters
    ----------
    ring : coterie.ring.Ring
        Any ring; its nodes are the backends. The balancer works on a copy of its own: change that one through
        :meth:`~Balancer.add` and :meth:`~Balancer.remove`.
    clock : callable, optional
        Seconds as a float; what leases are timed by. The machine's monotonic clock by default.

    Notes
    -----
    Requests of one key stay together, and few of them move when a backend comes, goes, or is set aside by a
    layer. On a :class:`~coterie.ring.BoundedLoad` a pick fills its node until :meth:`~Balancer.done`, and a full
    node passes the key on; on all other rings a pick takes no lock.

    Examples
    --------
    >>> from coterie.balance import Hashed
    >>> from coterie.ring import ConsistentHash
    >>> ring = ConsistentHash(["a", "b", "c"])
    >>> balancer = Hashed(ring)
    >>> balancer.pick("user:42") == balancer.pick("user:42") == ring.get("user:42")
    True
    """

    _ring: Ring[Backend]

    def __new__(cls, ring: Ring[Backend], *, clock: Clock | None = None) -> Self:
        ring = ring.copy()
        self = cls._build("hashed", ring=ring, clock=clock)
        self._ring = ring
        for node, weight in ring.weights.items():
            self._insert(node, weight, True)
        self._place(ring)
        return self

    @property
    def ring(self) -> Ring[Backend]:
        """A copy of the ring as it is now, to look at its distribution or at what a change would move.

        Examples
        --------
        >>> from coterie.balance import Hashed
        >>> from coterie.ring import Maglev
        >>> Hashed(Maglev(["a", "b"])).ring.get("key") in ("a", "b")
        True
        """
        return self._ring.copy()

    def add(self, backend: Backend, weight: SupportsFloat = 1, *, labels: Labels | None = None) -> None:
        if labels is not None:
            raise ConfigError("labels are for Trusted; no layer here looks at them")
        weight = self._checked_weight(backend, weight)
        with self._changes:
            self._ring.add_node(backend, weight)
            try:
                self._insert(backend, weight, False)
            except BaseException:
                self._ring.remove_node(backend)
                raise
            self._place(self._ring)

    def set_weight(self, backend: Backend, weight: SupportsFloat) -> None:
        weight = self._checked_weight(backend, weight)
        weighted = self._ring.laws.weights
        if not weighted and weight != 1:
            raise ConfigError(
                f"{type(self._ring).__name__} has no weights; {backend!r} can not have {weight!r}"
            )
        with self._changes:
            if weighted:
                self._ring.remove_node(backend)
                self._ring.add_node(backend, weight)
            self._weigh(backend, weight)
            self._place(self._ring)

    def remove(self, backend: Backend, *, drain: bool = True) -> None:
        with self._changes:
            self._ring.remove_node(backend)
            self._place(self._ring)
            self._discard(backend, drain)


class _Layer(Balancer[Backend]):
    """A balancer over another one, which goes on working, with the same backends and counts."""

    _below: Balancer[Backend]

    @property
    def below(self) -> Balancer[Backend]:
        """The balancer that this one wraps.

        Examples
        --------
        >>> from coterie.balance import Healthy, RoundRobin
        >>> Healthy(RoundRobin(["a"])).below
        RoundRobin(1 backend)
        """
        return self._below

    def add(self, backend: Backend, weight: SupportsFloat = 1, *, labels: Labels | None = None) -> None:
        self._below.add(backend, weight, labels=labels)

    def label(self, backend: Backend, labels: Labels) -> None:
        self._below.label(backend, labels)

    def set_weight(self, backend: Backend, weight: SupportsFloat) -> None:
        self._below.set_weight(backend, weight)

    def remove(self, backend: Backend, *, drain: bool = True) -> None:
        self._below.remove(backend, drain=drain)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._below!r})"


@dataclass(frozen=True, slots=True)
class _HealthSettings:
    consecutive_failures: int
    success_rate_min: float
    window: float
    window_requests_min: int
    ejection_time: float
    ejection_time_max: float
    ejected_max: float
    panic_threshold: float
    slow_start: float


class Healthy(_Layer[Backend]):
    """Sets backends aside that fail, for a while: balancing by availability.

    Parameters
    ----------
    below : Balancer
        The balancer to wrap. It goes on working by itself, but only requests through this layer are judged.
    consecutive_failures : int, default 5
        Failures in a row that eject a backend; 0 turns this rule off.
    success_rate_min : float, default 0.5
        A backend is ejected when it answers less than this share of the window's requests; 0 turns this rule off.
    window : float, default 30.0
        Seconds that the success rate looks back on. A sliding window, which rare requests do not distort.
    window_requests_min : int, default 20
        The success rate says nothing about fewer requests than this.
    ejection_time : float, default 10.0
        Seconds of a first ejection. One that follows soon after the return lasts twice, three times … as long.
    ejection_time_max : float, default 300.0
        Seconds of the longest ejection.
    ejected_max : float, default 1.0
        The share of backends that may be out at once; one always may. A backend that this keeps in service is
        counted (``stats().not_ejected``) and logged. Above ``1 - panic_threshold`` the panic comes first.
    panic_threshold : float, default 0.5
        With fewer than this share of healthy backends, health is ignored: the ejected are better than none, and
        where most of them fail, it is seldom their fault. Shown as ``stats().panicking`` and logged. 0 never
        panics: :class:`~coterie.NoBackendError` then.
    slow_start : float, default 0.0
        Seconds over which a backend that returned, or was added later, grows to its full share, under any policy.
    seed : int, optional
        Draws which requests a warming backend gets. Drawn from the system by default.
    clock : callable, optional
        Seconds as a float, never going back. By default that of the balancer below.

    Notes
    -----
    What nobody can tell the outcome of (a cancelled task, a forgotten lease) is no failure.

    The rules are those of Envoy's outlier detection; its traps are not: a limit below one backend does not
    disable ejection (envoyproxy/envoy#12076), and neither limit nor panic acts in silence (#2671, #40697).

    Examples
    --------
    >>> from coterie.balance import Healthy, RoundRobin
    >>> balancer = Healthy(RoundRobin(["a", "b", "c"]), consecutive_failures=2)
    >>> for _ in range(6):
    ...     backend = balancer.pick()
    ...     balancer.done(backend, 0.01, ok=backend != "b")
    >>> "".join(balancer.pick() for _ in range(4))
    'acac'
    >>> balancer.stats().backends["b"].state
    'refused'
    """

    def __new__(
        cls,
        below: Balancer[Backend],
        *,
        consecutive_failures: int = 5,
        success_rate_min: float = 0.5,
        window: float = 30.0,
        window_requests_min: int = 20,
        ejection_time: float = 10.0,
        ejection_time_max: float = 300.0,
        ejected_max: float = 1.0,
        panic_threshold: float = 0.5,
        slow_start: float = 0.0,
        seed: int | None = None,
        clock: Clock | None = None,
    ) -> Self:
        _positive(window=window, ejection_time=ejection_time, ejection_time_max=ejection_time_max)
        _share(success_rate_min=success_rate_min, ejected_max=ejected_max, panic_threshold=panic_threshold)
        consecutive_failures = _whole("consecutive_failures", consecutive_failures)
        window_requests_min = _whole("window_requests_min", window_requests_min)
        if not 0 <= consecutive_failures < 2**32 or not 0 <= window_requests_min < 2**32:
            raise ConfigError(
                "consecutive_failures and window_requests_min must be 0 or more, and fit in 32 bits"
            )
        if not (isinstance(slow_start, (int, float)) and 0 <= slow_start < inf):
            raise ConfigError(f"slow_start is {slow_start!r}; it must be a number of seconds, 0 or more")
        settings = _HealthSettings(
            consecutive_failures,
            success_rate_min,
            window,
            window_requests_min,
            ejection_time,
            ejection_time_max,
            ejected_max,
            panic_threshold,
            slow_start,
        )
        self = cls._build("", below=below, health=settings, seed=_seed(seed), clock=clock)
        self._below = below
        return self


class Trusted(_Layer[Backend]):
    """Only backends whose labels satisfy a policy: balancing by security.

    Parameters
    ----------
    below : Balancer
        The balancer to wrap.
    require : mapping
        What each label must be: a value, a collection of permitted values (set, frozenset, list or tuple), or a
        function of the value that returns whether it will do. A backend without the label is refused.
    labels : mapping or callable
        The labels of each backend, by backend, or as a function of the backend. A backend that it does not know
        is refused: what nobody vouches for is not trusted.

    Notes
    -----
    Policies are judged when a backend is added or labelled, not at each pick. Wherever this layer stands, trust
    comes before health: a panicking :class:`Healthy` never sends a request to a backend that is not trusted.

    Examples
    --------
    >>> from coterie.balance import RoundRobin, Trusted
    >>> labels = {"a": {"tls": True, "zone": "eu-1"}, "b": {"tls": False, "zone": "eu-1"}}
    >>> balancer = Trusted(
    ...     RoundRobin(["a", "b"]), require={"tls": True, "zone": {"eu-1", "eu-2"}}, labels=labels
    ... )
    >>> balancer.pick(), balancer.pick()
    ('a', 'a')
    >>> balancer.label("b", {"tls": True, "zone": "eu-2"})
    >>> sorted({balancer.pick(), balancer.pick()})
    ['a', 'b']
    """

    _require: dict[str, Any]
    _labels: Callable[[Backend], Labels | None]

    def __new__(
        cls,
        below: Balancer[Backend],
        *,
        require: Mapping[str, Any],
        labels: Mapping[Backend, Labels] | Callable[[Backend], Labels | None] | None = None,
    ) -> Self:
        if not isinstance(require, Mapping):
            raise ConfigError(
                f"require is {require!r}; it must be a mapping from labels to what they must be"
            )
        find: Callable[[Backend], Labels | None]
        if labels is None:
            find = _unlabelled
        else:
            find = labels.get if isinstance(labels, Mapping) else labels
        refusals = [(backend, _refusal(require, find(backend))) for backend in below.backends]
        self = cls._build("", below=below)
        self._below, self._require, self._labels = below, dict(require), find
        for backend, refusal in refusals:
            self._judge(backend, refusal)
        return self

    def add(self, backend: Backend, weight: SupportsFloat = 1, *, labels: Labels | None = None) -> None:
        refusal = _refusal(self._require, self._labels(backend) if labels is None else labels)
        # Until it is judged, the layer refuses it: a moment without service, never one without trust.
        with self._changes:
            self._below.add(backend, weight, labels=labels if self._trusted_below else None)
            self._judge(backend, refusal)

    @property
    def _trusted_below(self) -> bool:
        below = self._below
        while isinstance(below, _Layer) and not isinstance(below, Trusted):
            below = below.below
        return isinstance(below, Trusted)

    def label(self, backend: Backend, labels: Labels) -> None:
        refusal = _refusal(self._require, labels)
        if self._trusted_below:
            self._below.label(backend, labels)
        self._judge(backend, refusal)


def _unlabelled(_backend: object) -> None:
    return None


def _refusal(require: Mapping[str, Any], labels: Labels | None) -> str | None:
    """Why `labels` do not satisfy `require`, or None."""
    if labels is None:
        return "it has no labels"
    for name, wanted in require.items():
        if name not in labels:
            return f"label {name!r} is missing"
        value = labels[name]
        if callable(wanted):
            if not wanted(value):
                return f"label {name!r} is {value!r}, which its rule refuses"
        elif isinstance(wanted, Collection) and not isinstance(wanted, (str, bytes, Mapping)):
            if value not in wanted:
                return f"label {name!r} is {value!r}, not one of {sorted(map(repr, wanted))}"
        elif value != wanted:
            return f"label {name!r} is {value!r}, not {wanted!r}"
    return None
