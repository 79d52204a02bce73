"""The activations of every ISA, against their definitions in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from naive_formats import UNIT

from pygpt import _core
from pygpt._core import testing

pytestmark = pytest.mark.parametrize("isa", _core.isas())

X = np.concatenate(
    [
        np.linspace(-14, 14, 20_001),
        np.geomspace(1e-30, 1, 500),
        -np.geomspace(1e-30, 1, 500),
        [0.0, 30.0, -30.0, 1e4, -1e4, 1e30, -1e30],
    ]
).astype(np.float32)
WIDE = X.astype(np.float64)
SMALLEST = float(np.finfo(np.float32).tiny)  # below it the kernels give 0


def test_relu_is_exact(isa: str) -> None:
    np.testing.assert_array_equal(testing.activate(X, "relu", isa=isa), np.maximum(X, 0))


def test_relu_squared_is_exact(isa: str) -> None:
    with np.errstate(over="ignore"):  # beyond 1e19 the square is infinite
        wanted = np.maximum(X, 0) ** 2
    np.testing.assert_array_equal(testing.activate(X, "relu_squared", isa=isa), wanted)


def test_gelu_is_within_the_error_of_its_fit(isa: str) -> None:
    tail = np.array([0.5 * abs(x) * math.erfc(abs(x) / math.sqrt(2)) for x in WIDE])
    exact = np.where(WIDE < 0, -tail, WIDE - tail)
    # x - tail for positive x, -tail for negative. The tail's fit is off by 1.2e-7 of it, and its exponent,
    # about x^2 / 2, by six roundings of itself (math.h).
    off = 1.2e-7 + UNIT * (8 + 6 * WIDE**2 / 2)
    bound = off * tail + UNIT * (np.abs(exact) + np.abs(WIDE) * (WIDE > 0)) + 20 * SMALLEST
    assert (np.abs(testing.activate(X, "gelu", isa=isa) - exact) <= bound).all()


def test_gelu_tanh_is_within_the_rounding_of_its_exponent(isa: str) -> None:
    twice = 2 * math.sqrt(2 / math.pi) * (WIDE + 0.044715 * WIDE**3)
    exact = WIDE / (1 + np.exp(np.minimum(-twice, 700)))
    # The exponent is off by some units of itself, and so is the exponential by that many times the exponent.
    share = 1 / (1 + np.exp(np.minimum(twice, 700)))  # of the sum that is the exponential
    bound = UNIT * np.abs(exact) * (8 + 6 * np.abs(twice) * share) + 20 * SMALLEST
    assert (np.abs(testing.activate(X, "gelu_tanh", isa=isa) - exact) <= bound).all()


def test_tanh_is_within_four_units_in_the_last_place(isa: str) -> None:
    exact = np.tanh(WIDE)
    off = np.abs(testing.activate(X, "tanh", isa=isa) - exact)
    assert (off <= 4 * np.spacing(np.abs(exact).astype(np.float32))).all()


@pytest.mark.parametrize("name", ["relu", "gelu", "gelu_tanh", "relu_squared", "tanh"])
def test_an_element_does_not_depend_on_its_place(isa: str, name: str) -> None:
    x = X[::97]
    whole = testing.activate(x, name, isa=isa)
    for shift in range(1, 17):
        np.testing.assert_array_equal(testing.activate(x[shift:], name, isa=isa), whole[shift:])


@pytest.mark.parametrize("name", ["relu", "gelu", "gelu_tanh", "relu_squared", "tanh"])
def test_nan_stays_nan(isa: str, name: str) -> None:
    got = testing.activate(np.array([np.nan, 1.0], np.float32), name, isa=isa)
    assert np.isnan(got[0])
    assert got[1] > 0
