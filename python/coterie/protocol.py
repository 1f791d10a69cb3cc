"""The shape that all protocols share: six verbs in, effects out.

::

    start receive expire request link flush ──►  a pure machine  ──► Send Persist Checkpoint Promise
               (with the time)                                       Set Cancel Answer Notify

A machine is handed the time and a seed, and answers with effects, in the order in which they must happen. It does no
I/O, so the same machine runs in a simulated world, in a thread and over TCP.

**The durability law.** A :class:`Send` waits for nothing and promises nothing that a crash could undo. A
:class:`Promise` leaves only when every record that this machine persisted before it is durable.

Examples
--------
>>> from coterie import protocol, raft
>>> node = raft.Node(1)
>>> [type(effect).__name__ for effect in node.start(0.0, seed=1)]
['Persist', 'Set']
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = [
    "Answer",
    "Cancel",
    "Checkpoint",
    "Effect",
    "Notify",
    "Persist",
    "Promise",
    "Send",
    "Set",
]

LinkName: TypeAlias = Literal["Up", "Down", "Refused"]


@dataclass(frozen=True, slots=True)
class Send:
    """Leaves at once; promises nothing that a crash could undo.

    Attributes
    ----------
    to : int
        For whom.
    message : object
        What is said.

    Examples
    --------
    >>> print(Send(2, "hello"))
    Send 2 hello
    """

    to: int
    message: Any

    def __str__(self) -> str:
        return f"Send {self.to} {self.message}"


@dataclass(frozen=True, slots=True)
class Persist:
    """Is appended to the journal. Nobody waits for it.

    Attributes
    ----------
    record : object
        What is written down.

    Examples
    --------
    >>> print(Persist("vote for 2"))
    Persist vote for 2
    """

    record: Any

    def __str__(self) -> str:
        return f"Persist {self.record}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Replaces all records before it, so that journals end.

    Attributes
    ----------
    record : object
        What is written down.

    Examples
    --------
    >>> print(Checkpoint("all that counts"))
    Checkpoint all that counts
    """

    record: Any

    def __str__(self) -> str:
        return f"Checkpoint {self.record}"


@dataclass(frozen=True, slots=True)
class Promise:
    """Leaves when every record persisted before it is durable. To oneself it comes back by ``receive``.

    Attributes
    ----------
    to : int
        For whom.
    message : object
        What is said.

    Examples
    --------
    >>> print(Promise(2, "you have my vote"))
    Promise 2 you have my vote
    """

    to: int
    message: Any

    def __str__(self) -> str:
        return f"Promise {self.to} {self.message}"


@dataclass(frozen=True, slots=True)
class Set:
    """Sets this alarm, in place of one of the same name.

    Attributes
    ----------
    timer : str
        Its name.
    at : float
        When it rings, in seconds on the machine's clock.

    Examples
    --------
    >>> print(Set("Election", 0.3))
    Set Election 0.3
    """

    timer: str
    at: float

    def __str__(self) -> str:
        return f"Set {self.timer} {self.at}"


@dataclass(frozen=True, slots=True)
class Cancel:
    """Forgets this alarm.

    Attributes
    ----------
    timer : str
        Its name.

    Examples
    --------
    >>> print(Cancel("Election"))
    Cancel Election
    """

    timer: str

    def __str__(self) -> str:
        return f"Cancel {self.timer}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Answers a request.

    Attributes
    ----------
    id : int
        Which.
    value : object
        The answer; None when there is an error.
    error : object
        Why it could not be done; None when it could.

    Examples
    --------
    >>> print(Answer(7, "done"))
    Answer 7 done
    >>> print(Answer(7, error="too late"))
    Answer 7 error: too late
    """

    id: int
    value: Any = None
    error: Any = None

    def __str__(self) -> str:
        return f"Answer {self.id} {self.value if self.error is None else f'error: {self.error}'}"


@dataclass(frozen=True, slots=True)
class Notify:
    """Tells the application.

    Attributes
    ----------
    event : object
        What it hears.

    Examples
    --------
    >>> print(Notify("elected"))
    Notify elected
    """

    event: Any

    def __str__(self) -> str:
        return f"Notify {self.event}"


Effect: TypeAlias = Send | Persist | Checkpoint | Promise | Set | Cancel | Answer | Notify
