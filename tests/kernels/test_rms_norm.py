"""RMS norm of every ISA, against its definition in float64."""

from __future__ import annotations

import numpy as np
import pytest
from naive_formats import UNIT, gamma
from numpy.random import Generator

from pygpt import _core
from pygpt._core import testing

pytestmark = pytest.mark.parametrize("isa", _core.isas())


@pytest.fixture
def rng() -> Generator:
    return np.random.default_rng(13)


@pytest.mark.parametrize("width", [1, 2, 7, 8, 9, 16, 31, 64, 100, 384, 2048])
@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (100.0, 1.0), (0.0, 1e-6), (0.0, 1e4)])
@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 1.0])
def test_rms_norm_is_within_the_rounding_of_its_sum(
    isa: str, width: int, mean: float, spread: float, epsilon: float, rng: Generator
) -> None:
    x = (mean + spread * rng.standard_normal((3, width))).astype(np.float32)
    gain = rng.standard_normal(width, np.float32)
    got = testing.rms_norm(x, gain, epsilon, isa=isa)

    wide = x.astype(np.float64)
    exact = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + np.float32(epsilon)) * gain
    # A sum of width squares is off by gamma(width + 4) of itself, its root by half of that; the division, the
    # sum with epsilon, the root, its inverse and two products round once each.
    bound = np.abs(exact) * (gamma(width + 4) / 2 + 6 * UNIT)
    assert (np.abs(got - exact) <= 1.01 * bound).all()


def test_a_row_is_normed_by_itself(isa: str, rng: Generator) -> None:
    x = rng.standard_normal((9, 53), np.float32)
    gain = rng.standard_normal(53, np.float32)
    together = testing.rms_norm(x, gain, isa=isa)
    for row in range(9):
        np.testing.assert_array_equal(testing.rms_norm(x[row : row + 1], gain, isa=isa)[0], together[row])


def test_a_row_of_zeros_stays_zero(isa: str) -> None:
    np.testing.assert_array_equal(
        testing.rms_norm(np.zeros((1, 48), np.float32), np.ones(48, np.float32), isa=isa), np.zeros((1, 48))
    )
