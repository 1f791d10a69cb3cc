"""Errors say who erred; they keep their fields on the way through a pickle."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

import coterie
from coterie import exceptions

CLASSES = [getattr(exceptions, name) for name in exceptions.__all__]


@pytest.mark.parametrize("kind", CLASSES)
def test_all_descend_from_one_class(kind: type[Exception]) -> None:
    assert issubclass(kind, coterie.CoterieError)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (coterie.ConfigError, ValueError),
        (coterie.UnknownNodeError, KeyError),
        (coterie.UnavailableError, ConnectionError),
        (coterie.LockTimeoutError, TimeoutError),
        (coterie.AuthError, PermissionError),
        (coterie.StorageError, OSError),
    ],
)
def test_kin_of_builtins_can_be_caught_as_such(kind: type[Exception], builtin: type[Exception]) -> None:
    with pytest.raises(builtin, match="why"):
        raise kind("why")


def test_internal_error_is_not_a_runtime_error() -> None:
    # Code that survives a RuntimeError of its own must not survive a bug of ours unseen.
    assert not issubclass(coterie.InternalError, RuntimeError)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_text_is_the_message(kind: type[Exception]) -> None:
    assert str(kind("a plain sentence")) == "a plain sentence"
    assert str(kind()) == ""


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", CLASSES)
def test_a_pickle_keeps_type_and_message(kind: type[Exception], protocol: int) -> None:
    error = pickle.loads(pickle.dumps(kind("message"), protocol))
    assert type(error) is kind
    assert str(error) == "message"


@pytest.mark.parametrize(
    ("error", "field", "value"),
    [
        (coterie.UnknownNodeError("no such node", node=("a", 1)), "node", ("a", 1)),
        (coterie.NoBackendError("none", reasons={"a": "ejected"}), "reasons", {"a": "ejected"}),
        (coterie.InvariantViolated("seed 7", seed=7, step=9), "seed", 7),
        (coterie.NotLeaderError("ask another", leader=3, term=9), "leader", 3),
        (coterie.OverloadedError("later", limit="pending_max"), "limit", "pending_max"),
        (coterie.CompactedError("gone", revision=41), "revision", 41),
        (coterie.LockLostError("gone", token=7), "token", 7),
        (coterie.StorageError("rot", path="wal/1", offset=4096), "offset", 4096),
        (coterie.InvariantViolated("seed 7", invariant="election safety"), "invariant", "election safety"),
    ],
)
def test_fields_survive_pickling_and_copying(error: Exception, field: str, value: object) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert getattr(twin, field) == value
        assert str(twin) == str(error)


def test_reasons_are_a_copy() -> None:
    reasons = {"a": "ejected"}
    error = coterie.NoBackendError("none", reasons=reasons)
    reasons["a"] = "changed later"
    assert error.reasons == {"a": "ejected"}


def test_the_drawn_tree_is_the_tree() -> None:
    drawn = set(
        re.findall(r"(\w+Error|InvariantViolated)\b", (exceptions.__doc__ or "").split("Each class")[0])
    )
    builtins = {"ValueError", "KeyError", "ConnectionError", "OSError", "PermissionError", "TimeoutError"}
    assert drawn - builtins == set(exceptions.__all__)
