"""What became of one item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar, cast

R = TypeVar("R")


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What became of one item: its value, or its error.

    Attributes
    ----------
    index : int
        Which item of the input.
    value : object
        What the function returned; None if it did not.
    error : BaseException or None
        What it raised, or what the pool says of the item.

    Examples
    --------
    >>> from coterie import Pool
    >>> with Pool(2) as pool:
    ...     for outcome in pool.imap(lambda x: 6 // x, [1, 0, 3], outcomes=True):
    ...         print(outcome.value if outcome.ok else repr(outcome.error))
    6
    ZeroDivisionError('integer division or modulo by zero')
    2
    """

    index: int
    value: R | None = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """Whether the item has a value."""
        return self.error is None

    def get(self) -> R:
        """The value; the error is raised."""
        if self.error is not None:
            raise self.error
        return cast("R", self.value)
