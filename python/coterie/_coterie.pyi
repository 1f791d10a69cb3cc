"""
The compiled half of Coterie. Import `coterie` instead: the names here may change in any release.
"""

from _typeshed import Incomplete, SupportsGetItem
from os import PathLike
from typing import Any, Self, final
from typing_extensions import Buffer, disjoint_base

__all__ = ["Balancer", "CheckHistory", "CheckPart", "ClientAcquisition", "ClientCore", "ClientHold", "ClientQueue", "ClientWatch", "Lease", "MemberCore", "PoolCore", "PoolDesk", "PoolListener", "PoolMap", "RaftNode", "Ring", "SimOutbox", "SimRandom", "SimWorld", "make_authority", "make_certificate", "pool_await_end", "pool_follow", "pool_hold", "pool_pin", "pool_resume", "provoke_panic", "raft_begin", "raft_line", "sim_shrink", "sim_swarm", "version"]

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

@final
class CheckHistory:
    """
    The compiled half of `coterie.check.History`.
    """
    def __len__(self, /) -> int: ...
    def __new__(cls, /, process: Any, operation: Any, value: Any, result: Any, start: Any, end: Any, outcome: Any, key: Any) -> Self: ...
    def _conflict(self, /, part: CheckPart, model: str, settings: tuple[Any, ...], timeout: float, memory: int) -> tuple[list[int], list[str], bool]:
        """
        The smallest conflict in a part that was found to be wrong.
        """
    def _judge(self, /, model: str, settings: tuple[Any, ...], keys: Any | None, timeout: float, memory: int) -> tuple[str, str | None, CheckPart | None]:
        """
        Judges it by a model. `keys` are the objects that the records touch, when they are not those of the history.
        """

@final
class CheckPart:
    """
    The operations of one object that no order explains, as records of a history; and the place where the search ended.
    """
    def __len__(self, /) -> int: ...

@final
class ClientAcquisition:
    """
    A lock that is asked for.
    """
    def cancel(self, /) -> bool:
        """
        Gives the place in the queue up; whether nothing had come yet.
        """

@final
class ClientCore:
    """
    What runs a client. Use `coterie.connect`.
    """
    def acquire(self, /, name: Any, value: Any, ttl: float, wait: float | None, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Acquires a lock. Without `to`, waits at most `wait` seconds (None: for ever; 0: takes no place in the queue), and
        returns what is held, or None. With it, returns what cancels.
        """
    def add(self, /, name: str, address: str, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Adds a member as an observer. Leader only, as all changes.
        """
    def close(self, /, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Says goodbye.
        """
    def compact(self, /, revision: int, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Forgets history before a revision.
        """
    def compare_and_swap(self, /, key: Any, expected: Any | None, revision: int | None, value: Any | None, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Sets a key, or takes it away, if its value or revision is as expected; whether it was.
        """
    def delete(self, /, key: Any, prefix: bool, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Takes keys away; how many.
        """
    def demote(self, /, id: int, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Makes a voter an observer.
        """
    def disarm(self, /, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Takes what adds again, once there is room.
        """
    def entry(self, /, key: Any, revision: int | None, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        A key with all that is known of it, or None.
        """
    def get(self, /, key: Any, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        The value of a key, or None.
        """
    def holder(self, /, name: Any, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        The entry by which a lock is held, or None.
        """
    def is_closed(self, /) -> bool:
        """
        Whether it was closed, or belongs to another process.
        """
    def member_status(self, /, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        How the member is that this client speaks to.
        """
    def members(self, /, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        The term, who leads it, and all members.
        """
    @staticmethod
    def memory(name: str | None, grace: float | None) -> ClientCore:
        """
        A client of a member in memory: of its own, or of the one of that name.
        """
    @staticmethod
    def network(addresses: SupportsGetItem[int, str], cluster: str, secret: bytes | bool | str | PathLike[str] | None, tls: tuple[bytes | str | PathLike[str], bytes | str | PathLike[str], bytes | str | PathLike[str]] | None, grace: float | None) -> ClientCore:
        """
        A client of the cluster whose members listen at these addresses.
        """
    def promote(self, /, id: int, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Makes an observer a voter.
        """
    def put(self, /, key: Any, value: Any, lease: int, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Sets a key; its revision.
        """
    def put_many(self, /, items: SupportsGetItem[int, tuple[Any, Any]], timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Sets many keys, each by itself, all under way at once; their revisions.
        """
    def range(self, /, start: Any, end: Any | None, prefix: bool, limit: int, descending: bool, keys_only: bool, count_only: bool, revision: int | None, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Entries, whether there are more, how many, and as of which revision.
        """
    def remove(self, /, id: int, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Takes a member out of the cluster.
        """
    def revoke(self, /, lease: int, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Ends a lease, and with it whatever it holds.
        """
    def store_status(self, /, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        The store as a whole: compacted, keys, leases, bytes, alarm, and the revision.
        """
    def transaction(self, /, compares: SupportsGetItem[int, Any], success: SupportsGetItem[int, Any], failure: SupportsGetItem[int, Any], timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        If all conditions hold, does the steps of one list, else those of the other; whether they held, and what came of
        each step.
        """
    def transfer(self, /, id: int, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Hands leadership to another voter.
        """
    def watch(self, /, key: Any, prefix: bool, start: int | None, previous: bool) -> ClientWatch:
        """
        Watches keys, from a revision on, or from now on.
        """

@final
class ClientHold:
    """
    A lock that is held.
    """
    def is_lost(self, /) -> bool:
        """
        Whether it is lost. In a forked child it is: the child holds nothing.
        """
    @property
    def key(self, /) -> bytes:
        """
        The key by which it is held.
        """
    @property
    def lease(self, /) -> int:
        """
        The lease with which it ends.
        """
    def release(self, /, timeout: float, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Gives it back; whether it was held until then. The second time, None.
        """
    @property
    def token(self, /) -> int:
        """
        Greater than that of every holder before.
        """
    def wait_lost(self, /, timeout: float | None, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Waits until it is lost, at most so many seconds; whether it is. With `to`, resolves a future when it is.
        """

@final
class ClientQueue:
    """
    Answers for one event loop, which reads from a descriptor when there are some, and takes all of them at once.
    """
    def __new__(cls, /) -> Self: ...
    def fileno(self, /) -> int:
        """
        Can be read from when there is something to resolve.
        """
    def resolve(self, /) -> None:
        """
        Resolves the futures whose answers have come.
        """

@final
class ClientWatch:
    """
    A watch.
    """
    def cancel(self, /) -> bool:
        """
        Nobody waits any more. What comes meanwhile is kept.
        """
    def close(self, /) -> None:
        """
        Ends it.
        """
    def next(self, /, timeout: float | None, to: tuple[ClientQueue, Any] | None = None) -> Any:
        """
        Waits for what happens next, at most so many seconds (None: for ever): events, or an empty list when nothing
        came in time; None when the watch was closed.
        """
    @property
    def next_revision(self, /) -> int | None:
        """
        From where on another watch would miss nothing; None as long as that is not known.
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

@final
class MemberCore:
    """
    A running member.
    """
    def __new__(cls, /, settings: Incomplete) -> Self: ...
    @property
    def address(self, /) -> str:
        """
        Where it listens.
        """
    def client(self, /, grace: float | None) -> ClientCore:
        """
        A client that asks this member, in this process.
        """
    def close(self, /) -> None:
        """
        Ends it in order. Two seconds at most.
        """
    def failure(self, /) -> BaseException | None:
        """
        The error that it stopped with by itself, if it did.
        """
    def has_ended(self, /) -> bool:
        """
        Whether it has ended.
        """
    def heal(self, /) -> None:
        """
        Ends all of that.
        """
    @property
    def id(self, /) -> int: ...
    def kill(self, /) -> None:
        """
        Ends it as SIGKILL would.
        """
    @property
    def name(self, /) -> str: ...
    def partition(self, /, name: str) -> None:
        """
        Cuts it off from the peer of that name.
        """
    def status(self, /) -> dict[Any, Any]:
        """
        How it is, in plain values.
        """
    def wait(self, /, timeout: float) -> bool:
        """
        Waits so many seconds for its end; says whether it has ended.
        """

@final
class PoolCore:
    """
    What runs a pool. Use `coterie.Pool`.
    """
    def __new__(cls, /, host: Any, workers: int, *, retries: int, task_timeout: float | None, tasks_max: int | None, threads: bool, memory_limit: int | None = None) -> Self: ...
    def abandon(self, /, job: int) -> None:
        """
        Nobody wants the results of the job, which shall be done all the same.
        """
    def advance(self, /, map: PoolMap, timeout: float | None) -> int:
        """
        Feeds a map and takes in its results, until it is over: answers as `wait_over`.
        """
    def appetite(self, /, job: int, most: int) -> int:
        """
        How many more items of the job should be drawn.
        """
    def begin(self, /, job: int, function: int, items: Any, count: int) -> PoolMap:
        """
        Begins a map that one thread feeds and gathers, by `advance`.
        """
    def cancel(self, /, job: int) -> None:
        """
        Nothing more of the job is begun, and nobody wants what was.
        """
    def close(self, /) -> None:
        """
        Takes no more work; stops when all is done.
        """
    def define(self, /, style: int, function: Any, views: SupportsGetItem[int, Buffer] = ...) -> int:
        """
        Takes in what tasks call, and which of `place`'s bytes its pickle left out; says its place.
        """
    def desk(self, /, worker: int) -> PoolDesk:
        """
        The desk of a worker that is a thread of this process.
        """
    def expect(self, /) -> None:
        """
        All workers are on their way; the host's `start` says who they are.
        """
    def fail(self, /, error: Any) -> None:
        """
        The pool does not work, because of this exception.
        """
    def failure(self, /) -> tuple[str, Any] | None:
        """
        Why the pool does not work, if it does not: a word, and what belongs to it.
        """
    def fetch(self, /, job: int) -> tuple[list[Any], list[int]]:
        """
        Results of a job that may be fetched now: values, and which of them (by their place) are failures.
        """
    def fetch_outcomes(self, /, job: int) -> list[tuple[int, bool, Any]]:
        """
        The same with indices: of each, which item it is, whether it is a failure, and what it is.
        """
    def fetch_single(self, /, job: int, index: int) -> tuple[bool, Any] | None:
        """
        The result of a single call if it is there: whether it is a failure, and what it is.
        """
    def files(self, /, worker: int) -> list[int]:
        """
        The descriptors that a worker inherits: the shared memory's, and others where the system needs them.
        """
    def forget(self, /, job: int) -> None:
        """
        Nobody wants the job any more.
        """
    def forget_single(self, /, job: int, index: int) -> None:
        """
        Nobody wants the result of this single call.
        """
    def gather(self, /, job: int) -> tuple[list[Any], Any | None] | None:
        """
        All results of a job that is over, in order, and the failure that came first.

        Nothing when the job was dropped.
        """
    def has_single(self, /, job: int, index: int) -> bool:
        """
        Whether the result of a single call is there.
        """
    def interrupt(self, /, job: int, item: int | None) -> int:
        """
        Interrupts what runs of this job, or this item of it; says how many workers run it.
        """
    def is_over(self, /, job: int) -> bool:
        """
        Whether the job is over.
        """
    def is_placed(self, /, bytes: Buffer) -> bool:
        """
        Whether these bytes lie where `place` put them.
        """
    @staticmethod
    def is_portable() -> bool:
        """
        Whether workers are woken through pipes, as on systems without futexes.
        """
    def is_running(self, /, job: int, index: int) -> bool:
        """
        Whether a worker runs this item.
        """
    def is_stopped(self, /) -> bool:
        """
        Whether no worker is left.
        """
    def join_threads(self, /) -> None:
        """
        Waits until the pool's threads have ended, after it has stopped.
        """
    def kill_runners(self, /, job: int, item: int | None) -> int:
        """
        Ends workers that run something of this job, or this item of it; says how many.
        """
    def left(self, /, worker: int) -> None:
        """
        A worker thread has left.
        """
    def notify_item(self, /, job: int, index: int) -> bool:
        """
        Tell the host when this item is finished; says whether it is finished already.
        """
    def observe(self, /, job: int) -> None:
        """
        Tell the host (with `WHOLE - 1` for an item) whenever results may be fetched.
        """
    def offer(self, /, job: int, function: int, items: Any, sealed: bool, waits: bool) -> int | None:
        """
        Encodes items and hands them out; says the index of the first.
        """
    def offer_call(self, /, job: int, function: int, item: Any, waits: bool) -> int:
        """
        Hands out a single call; says its index. It takes over one user of the function.
        """
    def open(self, /, order: int, function: int | None, chunk: int, notify: bool) -> int | None:
        """
        Opens a job: `order` is 0 gathered, 1 sorted, 2 as they arrive, 3 single calls, 4 single calls as they arrive.
        """
    def place(self, /, bytes: Buffer) -> memoryview | None:
        """
        Bytes that lie in shared memory from now on, read-only; nothing when there is no room.
        """
    def populate(self, /) -> None:
        """
        Starts the workers that are missing.
        """
    def progress(self, /, job: int) -> tuple[int, int] | None:
        """
        How many items of the job are finished, of how many that there are.
        """
    def release(self, /, function: int) -> None:
        """
        One user of a function less.
        """
    def share(self, /, function: int) -> None:
        """
        One more user of a function.
        """
    def statistics(self, /) -> dict[Any, Any]:
        """
        What the pool has done, and is doing: see `coterie.Pool.stats`. Times are in nanoseconds.
        """
    def terminate(self, /) -> None:
        """
        Ends all workers at once.
        """
    @staticmethod
    def threshold() -> int:
        """
        Bytes of the smallest buffer that travels through the arena.
        """
    def wait_at_rest(self, /, job: int, item: int | None, timeout: float | None) -> int:
        """
        The same as `wait_over` for the moment when nobody runs an item of the job.
        """
    def wait_over(self, /, job: int, timeout: float | None) -> int:
        """
        Waits until the job is over: 0 it is, 1 the time was up, 2 the pool was terminated, 3 it does not work.
        """
    def wait_single(self, /, job: int, index: int, timeout: float | None) -> int:
        """
        The same for a single call.
        """
    def wait_some(self, /, job: int, timeout: float | None) -> int:
        """
        The same for some results of a job.
        """
    def wait_stopped(self, /, timeout: float | None) -> int:
        """
        The same for the end of all workers.
        """
    def watch(self, /) -> None:
        """
        Starts the pool's threads.
        """
    def withdraw(self, /, job: int, index: int) -> bool:
        """
        A single call is not to be begun; says whether that came in time.
        """

@final
class PoolDesk:
    """
    A worker's end of its channel. Use `coterie.Pool`.
    """
    def __new__(cls, /, files: SupportsGetItem[int, int], workers: int, worker: int) -> Self: ...
    def give_up(self, /, why: bytes) -> None:
        """
        Says that the worker cannot work, and why (a pickled exception).
        """
    def is_interrupted(self, /) -> bool:
        """
        Whether a SIGINT that came is meant for the item that runs.
        """
    def is_superfluous(self, /) -> bool:
        """
        Whether the worker has nothing to do and nothing will come.
        """
    def run(self, /, codec: Any) -> None:
        """
        Works until the pool says that it is enough. `codec` has `loads`, `dumps`, `load_function`, `failure` and
        `encoding_failure`.
        """

@final
class PoolListener:
    """
    Calls a function whenever a descriptor can be read, until it says False. Its thread is none of Python's while it
    sleeps, so that who looks whether this process may be forked sees none.
    """
    def __new__(cls, /, file: int, hear: Any) -> Self: ...
    def join(self, /, timeout: float) -> bool:
        """
        Waits so many seconds for the thread to end; says whether it has. It does not wait for itself.
        """

@final
class PoolMap:
    """
    A map that the thread which waits for it feeds as it goes: only so many items are encoded as keep the workers busy, and
    results are taken in while they are in the caches. Use `coterie.Pool`.
    """
    def results(self, /) -> tuple[list[Any], Any | None]:
        """
        All results, in order, and the failure that came first.
        """

@disjoint_base
class RaftNode:
    """
    The compiled half of `coterie.raft.Node`: Raft's machine, which does nothing by itself.
    """
    def __new__(cls, /, id: int, *, cluster: int, election_timeout: float, heartbeat_interval: float, pre_vote: bool, check_quorum: bool, lease: tuple[float, float] | None, entry_bytes_max: int, message_bytes_max: int, in_flight_messages_max: int, in_flight_bytes_max: int, uncommitted_bytes_max: int, log_bytes_max: int, snapshot_log_bytes: int, snapshot_log_entries: int, retained_entries: int, chunk_bytes: int, pending_max: int) -> Self: ...
    def __reduce__(self, /) -> str: ...
    def __repr__(self, /) -> str: ...
    def expire(self, /, now: float, timer: Any) -> list[Any]:
        """
        Takes an alarm that it had set.

        Parameters
        ----------
        now : float
            Seconds on the caller's clock.
        timer : {"Election", "Heartbeat", "Quorum", "Transfer", "Deadline"}
            Which. An alarm may be put off when it rings: then it is set anew.

        Returns
        -------
        list of coterie.protocol.Effect
            What is to be done, in this order.
        """
    def flush(self, /, now: float) -> list[Any]:
        """
        Ends a batch of inputs: what was gathered leaves now.

        Parameters
        ----------
        now : float
            Seconds on the caller's clock.

        Returns
        -------
        list of coterie.protocol.Effect
            What is to be done, in this order.
        """
    @property
    def holds_lease(self, /) -> bool:
        """
        Whether it leads and a lease lets it serve reads alone, at the latest time that it was told.
        """
    @property
    def id(self, /) -> int:
        """
        Who it is.
        """
    def link(self, /, now: float, peer: int, link: Any) -> list[Any]:
        """
        Takes a hint about the connection to ``peer``. Hints are often wrong; they serve liveness, never safety.

        Parameters
        ----------
        now : float
            Seconds on the caller's clock.
        peer : int
            To whom.
        link : {"Up", "Down", "Refused"}
            Established; lost; nobody listens there.

        Returns
        -------
        list of coterie.protocol.Effect
            What is to be done, in this order.
        """
    @property
    def log(self, /) -> Any:
        """
        The runs of its log, a tuple of `coterie.raft.Run`.
        """
    def receive(self, /, now: float, sender: int, message: Any) -> list[Any]:
        """
        Takes a message from ``sender``: a peer, or itself for a promise that it made to itself.

        Parameters
        ----------
        now : float
            Seconds on the caller's clock.
        sender : int
            Who says it.
        message : coterie.raft.messages.Message
            What is said.

        Returns
        -------
        list of coterie.protocol.Effect
            What is to be done, in this order.
        """
    def request(self, /, now: float, id: int, request: Any) -> list[Any]:
        """
        Takes a request. It is answered exactly once in this life, now or later.

        Parameters
        ----------
        now : float
            Seconds on the caller's clock.
        id : int
            The caller's number for it, never the same twice.
        request : coterie.raft.requests.Request
            What is asked.

        Returns
        -------
        list of coterie.protocol.Effect
            What is to be done, in this order.
        """
    def start(self, /, now: float, seed: int, records: Any | None = None) -> list[Any]:
        """
        Begins a life. The first verb of all, and only once.

        Parameters
        ----------
        now : float
            Seconds on the caller's clock. It never goes back.
        seed : int
            For what the machine draws: election time-outs.
        records : sequence of coterie.raft.records.Record, default ()
            What the journal kept of earlier lives; none in the first.

        Returns
        -------
        list of coterie.protocol.Effect
            What is to be done, in this order.

        Examples
        --------
        >>> from coterie import raft
        >>> for effect in raft.Node(1).start(0.0, seed=1):
        ...     print(effect)
        Persist Identity cluster=0 id=1
        Set Election 0.523734527
        """
    @property
    def status(self, /) -> Any:
        """
        The machine at a glance, a `coterie.raft.Status`.
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

@final
class SimOutbox:
    """
    What a process wants done, in the order in which it must happen. What it emits is encoded as it is pushed, so
    whatever becomes of the object afterwards changes nothing: None, bool, int, float, str, bytes, list, tuple, dict, and
    frozen dataclasses of these. A world hands one to each verb.

    Examples
    --------
    >>> from coterie import sim
    >>> out = sim.Outbox()
    >>> out.persist({"vote": 2})
    >>> out.promise(2, "you have my vote")
    >>> out.effects
    [Persist(record={'vote': 2}), Promise(to=2, message='you have my vote')]
    """
    def __new__(cls, /) -> Self: ...
    def answer(self, /, id: int, value: Any | None = None, error: Any | None = None) -> None:
        """
        Answers a request, which must be done exactly once.

        Parameters
        ----------
        id : int
            Which.
        value : object, default None
            The answer.
        error : object, default None
            Why it could not be done, instead.
        """
    def cancel(self, /, timer: Any) -> None:
        """
        Forgets an alarm.

        Parameters
        ----------
        timer : str
            Its name.
        """
    def checkpoint(self, /, record: Any) -> None:
        """
        Appends a record that replaces all before it.

        Parameters
        ----------
        record : object
            All that the next life needs.
        """
    @property
    def effects(self, /) -> list[Any]:
        """
        What was pushed so far, as dataclasses of `coterie.protocol`: for a test that drives a process by hand.
        """
    def notify(self, /, event: Any) -> None:
        """
        Tells the application. Events of `coterie.raft.events` are what Raft's invariants look at.

        Parameters
        ----------
        event : object
            What it hears.
        """
    def persist(self, /, record: Any) -> None:
        """
        Appends a record to the journal. Nobody waits for it.

        Parameters
        ----------
        record : object
            What the next life shall begin with.
        """
    def promise(self, /, to: int, message: Any) -> None:
        """
        Leaves when every record persisted before it is durable. To oneself it comes back by ``receive``.

        Parameters
        ----------
        to : int
            For whom.
        message : object
            What is said.
        """
    def send(self, /, to: int, message: Any) -> None:
        """
        Leaves at once; promises nothing that a crash could undo.

        Parameters
        ----------
        to : int
            For whom.
        message : object
            What is said.
        """
    def set(self, /, timer: Any, at: float) -> None:
        """
        Sets an alarm, in place of one of the same name.

        Parameters
        ----------
        timer : str
            Its name, of 31 bytes at most.
        at : float
            When it rings, in seconds on the process's clock.
        """

@final
class SimRandom:
    """
    A seeded generator: the same draws on every platform and every version of Python.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1. A world hands each life of a process a generator of its own.

    Examples
    --------
    >>> from coterie import sim
    >>> random = sim.Random(7)
    >>> [random.below(6) for _ in range(8)]
    [2, 0, 5, 3, 2, 1, 2, 1]
    """
    def __new__(cls, /, seed: int) -> Self: ...
    def below(self, /, bound: int) -> int:
        """
        An int from 0 up to, but not including, ``bound``.

        Parameters
        ----------
        bound : int
            1 or more.
        """
    def choice(self, /, items: Any) -> Any:
        """
        One of several.

        Parameters
        ----------
        items : sequence
            Not empty.
        """
    def split(self, /) -> SimRandom:
        """
        A generator whose draws are independent of all that this one draws from here on.
        """
    def uniform(self, /, low: float, high: float) -> float:
        """
        A float between two others.

        Parameters
        ----------
        low, high : float
            From where, and up to where.
        """
    def unit(self, /) -> float:
        """
        A float from 0 up to, but not including, 1.
        """
    def word(self, /) -> int:
        """
        The next 64 bits, an int from 0 to 2**64 - 1.
        """

@disjoint_base
class SimWorld:
    """
    The compiled half of `coterie.sim.World`.
    """
    def __new__(cls, /, factory: Any, *, members: int, seed: int, faults: Any, clients: tuple[int, float, SupportsGetItem[int, str], int, float, tuple[bool, bool]] | None, record: bool, through_bytes: bool, trace_rows: int, membership: Any, settings: dict[Any, Any]) -> Self: ...
    def _act(self, /, verb: str, node: int) -> None:
        """
        Does something to the member: "crash", "restart", "pause" or "resume".
        """
    def _answer(self, /, id: int) -> tuple[Any, Any] | None:
        """
        The answer to a request: a value and an error, one of them None; None while there is no answer.
        """
    def _check(self, /) -> None:
        """
        Raises what was violated, or what a process has raised.
        """
    def _clock(self, /, node: int) -> float:
        """
        What the clock of a member shows.
        """
    @property
    def _digest(self, /) -> str: ...
    def _expect_progress(self, /, at: float) -> None:
        """
        From then on a quorum is whole.
        """
    @property
    def _faults(self, /) -> Any: ...
    def _heal(self, /) -> None: ...
    def _inject(self, /, faults: Any) -> None: ...
    @property
    def _is_raft(self, /) -> bool: ...
    @property
    def _leader(self, /) -> int | None: ...
    def _log(self, /, node: int) -> Any:
        """
        The log of a native member, a tuple of runs; None when it is down.
        """
    @property
    def _members(self, /) -> int: ...
    def _node(self, /, node: int) -> Any:
        """
        A member: the status of a native one, the object of one in Python, None when it is down.
        """
    @property
    def _now(self, /) -> float: ...
    def _partition(self, /, side: SupportsGetItem[int, int], other: SupportsGetItem[int, int] | None) -> None: ...
    def _request(self, /, node: int, request: Any) -> int: ...
    def _run(self, /, end: float) -> None:
        """
        Runs until `end`, in seconds since the beginning; looks up for Ctrl-C now and then.
        """
    @property
    def _seed(self, /) -> int: ...
    @property
    def _statistics(self, /) -> dict[Any, Any]: ...
    @property
    def _steps(self, /) -> int: ...
    @property
    def _trace(self, /) -> Any:
        """
        The trace, a `coterie.sim.Trace`.
        """

def make_authority() -> tuple[str, str]:
    """
    A new authority: its certificate and its key, in PEM.
    """

def make_certificate(certificate: str, key: str, hosts: SupportsGetItem[int, str]) -> tuple[str, str]:
    """
    A certificate and its key, in PEM, from an authority that `make_authority` has made, for these hosts.
    """

def pool_await_end(process: int, timeout: float | None) -> bool:
    """
    Waits so many seconds for a process to end, or as long as that takes; says whether it has ended.
    """

def pool_follow(file: int, group: bool) -> None:
    """
    Ends this process when the other end of `file` is closed, with its process group if that is the pool's own.
    """

def pool_hold(timeout: float) -> bool:
    """
    Keeps the threads of all pools out of Python, so that this one may fork; false when they do not leave in time.
    `pool_resume` must follow, in the child too, and does nothing when this was in vain.
    """

def pool_pin() -> None:
    """
    This process is about to fork: what it has in arenas, the child shall see as it is now.
    """

def pool_resume(child: bool = False) -> None:
    """
    Lets them go on. In a `child` there are none.
    """

def provoke_panic() -> None:
    """
    Panics, so that a test can see what becomes of a panic.
    """

def raft_begin(membership: Any, changes: Any) -> Any:
    """
    The joint membership that begins a change.
    """

def raft_line(kind: str, word: Any) -> str:
    """
    The one-line form of a word of Raft, the same as in Rust. `kind` says which family it belongs to.
    """

def sim_shrink(faults: Any, seconds: float, trial: Any) -> tuple[Any, float, int, bool] | None:
    """
    Makes a failing plan smaller. `trial(faults, seconds)` runs one for at most so long and gives the time of the same
    failure, or None; with `StopIteration` it ends the search. None when the plan itself does not fail again.
    """

def sim_swarm(seed: int, *, members: int, start: float, horizon: float, heals: bool, share: float, interval: float, length: float, drift_ppm_max: int, jump_max: float, everybody: bool) -> Any:
    """
    The faults that a swarm draws, shifted by `start` seconds; and whether everybody heals, where nobody can know
    beforehand which quorum would be one.
    """

def version() -> str:
    """
    The version of the crate and of the package: they are one.
    """
