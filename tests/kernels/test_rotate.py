"""Rotary positions of every ISA, against complex numbers in float64."""

from __future__ import annotations

import numpy as np
import pytest
from naive_formats import UNIT
from numpy.typing import NDArray

from pygpt import _core
from pygpt._core import testing

pytestmark = pytest.mark.parametrize("isa", _core.isas())


def turned(x: NDArray[np.float32], theta: float, first: int) -> NDArray[np.float64]:
    """Each pair as a complex number, turned by e^(i * position * theta^(-2j/D))."""
    rows, width = x.shape
    pairs = x[:, : width // 2].astype(np.float64) + 1j * x[:, width // 2 :]
    positions = np.arange(first, first + rows, dtype=np.float64)[:, None]
    frequencies = np.array([theta ** (-2.0 * j / width) for j in range(width // 2)])
    pairs = pairs * np.exp(1j * positions * frequencies)
    return np.concatenate([pairs.real, pairs.imag], axis=1)


@pytest.mark.parametrize("width", [2, 6, 16, 24, 34, 64, 128, 1024])
@pytest.mark.parametrize(("theta", "first"), [(10000.0, 0), (500000.0, 131_000), (1.5, 16_777_200)])
def test_a_turn_is_within_the_rounding_of_its_factors(isa: str, width: int, theta: float, first: int) -> None:
    x = np.random.default_rng(width).standard_normal((9, width), np.float32)
    got = testing.rotate(x, theta, first, isa=isa)
    # Cosine and sine are rounded to float32, then both products, then their sum; float64's angle at such
    # positions is off by 1e-9.
    half = width // 2
    sizes = np.abs(x[:, :half]) + np.abs(x[:, half:])
    bound = (3 * UNIT + 1e-8) * np.concatenate([sizes, sizes], axis=1)
    assert (np.abs(got - turned(x, theta, first)) <= 1.01 * bound).all()


def test_position_0_changes_nothing(isa: str) -> None:
    x = np.random.default_rng(0).standard_normal((1, 24), np.float32)
    np.testing.assert_array_equal(testing.rotate(x, 10000.0, isa=isa), x)


@pytest.mark.parametrize("width", [6, 24, 64])
def test_a_row_depends_on_its_position_alone(isa: str, width: int) -> None:
    x = np.random.default_rng(1).standard_normal((20, width), np.float32)
    together = testing.rotate(x, 10000.0, 5, isa=isa)
    for row in range(20):
        alone = testing.rotate(x[row : row + 1], 10000.0, 5 + row, isa=isa)
        np.testing.assert_array_equal(alone[0], together[row])
