"""SiLU and gates of every ISA, against their definitions in float64."""

from __future__ import annotations

import numpy as np
import pytest

from pygpt import _core
from pygpt._core import testing

pytestmark = pytest.mark.parametrize("isa", _core.isas())

X = np.concatenate(
    [
        np.linspace(-86.9, 100, 50_001),
        np.geomspace(1e-30, 1, 500),
        -np.geomspace(1e-30, 1, 500),
        [0.0, 1e4, 1e30],
    ]
).astype(np.float32)


def silu(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    return wide * np.exp(-np.logaddexp(0.0, -wide))


def test_silu_is_within_five_units_in_the_last_place(isa: str) -> None:
    exact = silu(X)
    units = np.abs(testing.activate(X, "silu", isa=isa) - exact) / np.spacing(
        np.abs(exact).astype(np.float32)
    )
    assert units.max() <= 5


def test_silu_far_below_zero_is_zero(isa: str) -> None:
    x = np.concatenate([-np.linspace(86.9, 95, 2001), [-1e4, -1e30]]).astype(np.float32)
    assert (np.abs(testing.activate(x, "silu", isa=isa) - silu(x)) <= 1e-35).all()


def test_silu_does_not_depend_on_the_place_and_keeps_nan(isa: str) -> None:
    x = X[::97]
    whole = testing.activate(x, "silu", isa=isa)
    for shift in range(1, 17):
        np.testing.assert_array_equal(testing.activate(x[shift:], "silu", isa=isa), whole[shift:])
    assert np.isnan(testing.activate(np.array([np.nan], np.float32), "silu", isa=isa)[0])


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "silu", "relu_squared", "tanh"])
def test_a_gate_multiplies_panel_by_panel(isa: str, activation: str) -> None:
    x = np.random.default_rng(3).standard_normal((5, 2, 16), np.float32)
    activated = testing.activate(x[:, 0].ravel(), activation, isa=isa).reshape(5, 16)
    np.testing.assert_array_equal(testing.gate(x, activation, isa=isa), activated * x[:, 1])
