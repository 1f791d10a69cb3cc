"""Transactions, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from coterie._client.values import Entry, Key, TransactionResult, Value
from coterie.exceptions import ConfigError

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Steps", "Transaction"]

_Step = tuple[str, Key, Any]


class Steps:
    """Steps that are done together, in one revision, or not at all. No two of them may change the same key.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     steps = client.kv.transaction().put("a", "1").get("a").delete("b")
    ...     result = steps.commit()
    >>> result.results[1].value, result.results[2]
    (b'1', 0)
    """

    def __init__(self) -> None:
        self._steps: list[_Step] = []

    def put(self, key: Key, value: Value) -> Self:
        """Set a key."""
        self._steps.append(("put", key, value))
        return self

    def delete(self, key: Key, *, prefix: bool = False) -> Self:
        """Take a key away, or all that begin with it."""
        self._steps.append(("delete", key, prefix))
        return self

    def get(self, key: Key) -> Self:
        """Read a key, as the steps before this one have left it."""
        self._steps.append(("get", key, False))
        return self


class Conditional(Steps):
    """Steps with conditions. Each conditions' kin is one method."""

    def __init__(self) -> None:
        super().__init__()
        self._compares: list[tuple[str, str, Key, bool, Any]] = []
        self._otherwise = Steps()

    def require(
        self,
        key: Key,
        *,
        value: Value | None = None,
        exists: bool | None = None,
        version: int | None = None,
        create_revision: int | None = None,
        mod_revision: int | None = None,
        comparison: Literal["==", "!=", "<", ">"] = "==",
    ) -> Self:
        """Do the steps only if a key is as expected. Several conditions must hold together.

        Parameters
        ----------
        key
            Which key.
        value, version, create_revision, mod_revision
            What is compared: exactly one of them, or `exists`. A key that is not there has version and revisions 0, and
            its value equals nothing.
        exists
            Whether it must be there.
        comparison
            How what is there must compare with what is given.
        """
        given: dict[str, Any] = {
            name: expected
            for name, expected in (
                ("value", value),
                ("version", version),
                ("create_revision", create_revision),
                ("mod_revision", mod_revision),
            )
            if expected is not None
        }
        if exists is not None:
            if given or comparison != "==":
                raise ConfigError("exists stands alone; use another require() for what else must hold")
            given, comparison = {"version": 0}, ">" if exists else "=="
        if len(given) != 1:
            raise ConfigError(
                "say one thing that must hold: value, exists, version, create_revision or mod_revision"
            )
        [(what, expected)] = given.items()
        self._compares.append((what, comparison, key, False, expected))
        return self

    @property
    def otherwise(self) -> Steps:
        """The steps to do when the conditions do not hold."""
        return self._otherwise

    def _arguments(self) -> tuple[Any, Any, Any]:
        return self._compares, self._steps, self._otherwise._steps

    def _result(self, told: tuple[bool, list[Any], int]) -> TransactionResult:
        succeeded, results, revision = told
        steps = self._steps if succeeded else self._otherwise._steps
        shown: list[Entry | int | None] = []
        for (kind, _, _), result in zip(steps, results, strict=True):
            if kind == "get":
                shown.append(Entry(*result[0]) if result else None)
            else:
                shown.append(result)
        return TransactionResult(succeeded, shown, revision)


class Transaction(Conditional):
    """A transaction: if all its conditions hold, all its steps, else those of `otherwise`; in one revision.

    Examples
    --------
    >>> import coterie
    >>> with coterie.connect("memory:") as client:
    ...     _ = client.kv.put("stock", "1")
    ...     sale = client.kv.transaction().require("stock", value="1").put("stock", "0").put("sold", "1")
    ...     sale.otherwise.get("stock")  # doctest: +ELLIPSIS
    ...     first, second = sale.commit(), sale.commit()
    <coterie...Steps object at ...>
    >>> first.succeeded, second.succeeded, second.results[0].value
    (True, False, b'0')
    """

    def __init__(self, core: Any, timeout: float) -> None:
        super().__init__()
        self._core, self._timeout = core, timeout

    def commit(self, *, timeout: float | None = None) -> TransactionResult:
        """Do it. A transaction may be committed several times.

        Raises
        ------
        RequestError
            If two steps of one branch change the same key, or there are more than 128 of them.
        """
        wait = self._timeout if timeout is None else timeout
        return self._result(self._core.transaction(*self._arguments(), wait))
