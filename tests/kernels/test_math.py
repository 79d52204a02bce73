"""The exponentials, of the kernels and of the sampler, and the soft cap."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import _core
from pygpt._core import testing


def units_off(got: NDArray[np.float32], exact: NDArray[np.float64]) -> NDArray[np.float64]:
    """The error in units in the last place of the exact value."""
    return np.abs(got - exact) / np.spacing(exact.astype(np.float32)).astype(np.float64)


def grid(low: float, high: float) -> NDArray[np.float32]:
    """Values all over a range, and many near 0."""
    near = np.geomspace(1e-30, min(-low, 80), 5000)
    values = np.concatenate([np.linspace(low, high, 100_003), -near, near[near <= high]])
    return values.astype(np.float32)


@pytest.mark.parametrize("isa", _core.isas())
def test_exp_is_within_two_units_in_the_last_place(isa: str) -> None:
    x = grid(-87, 87)
    assert units_off(testing.exp(x, isa=isa), np.exp(x.astype(np.float64))).max() <= 2


@pytest.mark.parametrize("isa", _core.isas())
def test_exp_is_exact_where_exactness_is_relied_on(isa: str) -> None:
    x = np.array([0.0, -0.0, -87.01, -1000, -np.inf, 88.1, 1000, np.inf, np.nan], np.float32)
    got = testing.exp(x, isa=isa)
    np.testing.assert_array_equal(got, np.array([1, 1, 0, 0, 0, np.inf, np.inf, np.inf, np.nan], np.float32))


@pytest.mark.parametrize("isa", _core.isas())
def test_exp_is_finite_and_positive_between_its_limits(isa: str) -> None:
    x = np.concatenate([np.linspace(-87, -86.9, 1000), np.linspace(87.9, 88, 1000)]).astype(np.float32)
    got = testing.exp(x, isa=isa)
    assert np.isfinite(got).all()
    assert (got >= np.finfo(np.float32).tiny).all(), (
        "a subnormal would be slow, and 0 on machines that flush it"
    )


def test_the_samplers_exp_is_within_two_units_in_the_last_place() -> None:
    x = np.concatenate([np.linspace(-87, 0, 20_011), -np.geomspace(1e-30, 1, 500)]).astype(np.float32)
    got = np.array([testing.sampling_exp(float(value)) for value in x], np.float32)
    assert units_off(got, np.exp(x.astype(np.float64))).max() <= 2


def test_the_samplers_exp_is_exact_where_exactness_is_relied_on() -> None:
    assert [testing.sampling_exp(x) for x in (0.0, -0.0)] == [1, 1]
    assert [testing.sampling_exp(x) for x in (-87.01, -1e30, -np.inf, np.nan)] == [0, 0, 0, 0]


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("cap", [1.0, 15.0, 0.3])
def test_the_soft_cap_is_within_six_units_in_the_last_place(cap: float, isa: str) -> None:
    x = np.concatenate([grid(-20, 20), -grid(-20, 20)]) * np.float32(cap)
    wide = float(np.float32(cap))
    exact = wide * np.tanh(x.astype(np.float64) / wide)
    off = np.abs(testing.soft_cap(x, cap, isa=isa) - exact)
    assert (off / np.spacing(np.abs(exact).astype(np.float32))).max() <= 6


@pytest.mark.parametrize("isa", _core.isas())
def test_the_soft_cap_of_what_is_large_is_the_cap_and_nan_stays_nan(isa: str) -> None:
    x = np.array([0.0, -0.0, 1e4, -1e4, np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(testing.soft_cap(x, 15.0, isa=isa), [0, 0, 15, -15, 15, -15, np.nan])


@pytest.mark.parametrize("isa", _core.isas())
def test_a_soft_cap_does_not_depend_on_the_place(isa: str) -> None:
    x = grid(-30, 30)[::997]
    whole = testing.soft_cap(x, 15.0, isa=isa)
    for shift in range(1, 17):
        np.testing.assert_array_equal(testing.soft_cap(x[shift:], 15.0, isa=isa), whole[shift:])
