"""Layer norm of every ISA, against its definition in float64."""

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
    return np.random.default_rng(11)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7, 8, 9, 16, 31, 64, 100, 384, 1000])
@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (100.0, 1.0), (-3.0, 1e-3), (0.0, 1e4)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_layer_norm_is_within_the_rounding_of_its_sums(
    isa: str, width: int, mean: float, spread: float, with_bias: bool, rng: Generator
) -> None:
    x = (mean + spread * rng.standard_normal((3, width))).astype(np.float32)
    gain, bias = rng.standard_normal((2, width), np.float32)
    epsilon = 1e-5
    got = testing.layer_norm(x, gain, bias if with_bias else None, epsilon, isa=isa)

    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon)
    normed = centred * scale * gain
    exact = normed + (bias if with_bias else 0)
    # The mean is off by `shift`; it moves every element, and the variance only by its square, since the
    # elements add up to 0. A sum of width terms is off by gamma(width + 4) of the sum of their magnitudes.
    sums = gamma(width + 4)
    shift = sums * np.abs(wide).mean(axis=1, keepdims=True)
    bound = (
        np.abs(gain) * scale * shift
        + np.abs(normed) * (sums / 2 + (shift * scale) ** 2 + 6 * UNIT)
        + UNIT * (np.abs(exact) + np.abs(normed))
    )
    assert (np.abs(got - exact) <= 1.01 * bound).all()


def test_a_row_is_normed_by_itself(isa: str, rng: Generator) -> None:
    x = rng.standard_normal((9, 53), np.float32)
    gain, bias = rng.standard_normal((2, 53), np.float32)
    together = testing.layer_norm(x, gain, bias, isa=isa)
    for row in range(9):
        np.testing.assert_array_equal(
            testing.layer_norm(x[row : row + 1], gain, bias, isa=isa)[0], together[row]
        )


def test_a_constant_row_gives_the_bias(isa: str) -> None:
    x = np.full((1, 48), 3.0, np.float32)
    gain, bias = np.ones(48, np.float32), np.arange(48, dtype=np.float32)
    np.testing.assert_array_equal(testing.layer_norm(x, gain, bias, isa=isa)[0], bias)
    np.testing.assert_array_equal(testing.layer_norm(x, gain, isa=isa)[0], np.zeros(48))
