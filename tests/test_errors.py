"""Errors that travel: between processes, and as copies."""

from __future__ import annotations

import copy
import pickle

import pytest

import pygpt.errors
from pygpt.errors import Error, ModelFileError
from pygpt.parity import ParityError

CLASSES = [kind for kind in vars(pygpt.errors).values() if isinstance(kind, type) and issubclass(kind, Error)]


def made(kind: type[Error]) -> Error:
    if issubclass(kind, ModelFileError):
        return kind("a.pygpt", "overlap", "two tensors share bytes", "tensor wte", 128)
    if issubclass(kind, pygpt.errors.InvalidRequestError):
        return kind("top_p", "must be a number")
    if kind is ParityError:
        return ParityError("wrong", None)
    return kind("what went wrong")


@pytest.mark.parametrize("kind", [*CLASSES, ParityError], ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_behind_pickle_and_copy(kind: type[Error]) -> None:
    error = made(kind)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is kind
        assert str(other) == str(error)
        assert vars(other) == vars(error)
        assert other.args == error.args
