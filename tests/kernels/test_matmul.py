"""The matrix product of every ISA and format, against float64 and against its own definition step by step."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from naive_formats import gamma, round_trip
from numpy.random import Generator
from numpy.typing import NDArray

from pygpt import _core
from pygpt._core import testing

pytestmark = [
    pytest.mark.parametrize("isa", _core.isas()),
    pytest.mark.parametrize("format", _core.formats()),
]


@pytest.fixture
def rng() -> Generator:
    return np.random.default_rng(7)


def matrix(rng: Generator, *shape: int) -> NDArray[np.float32]:
    return rng.standard_normal(shape, np.float32)


@pytest.mark.parametrize("k", [1, 2, 3, 15, 16, 17, 64, 65, 384, 1001])
@pytest.mark.parametrize("n", [1, 16, 17, 70])
def test_the_product_is_within_the_rounding_of_its_chain(
    isa: str, format: str, k: int, n: int, rng: Generator
) -> None:
    x, w, bias, y = matrix(rng, 5, k), matrix(rng, n, k), matrix(rng, n), matrix(rng, 5, n)
    stored = round_trip(w, format).astype(np.float64)
    exact = x.astype(np.float64) @ stored.T
    magnitude = np.abs(x).astype(np.float64) @ np.abs(stored).T

    # One product and one addition a step, then the bias, then y.
    for more, less in ({}, 0), ({"bias": bias}, bias), ({"bias": bias, "y": y}, bias + y.astype(np.float64)):
        got = testing.matmul(x, w, format, isa=isa, **more)
        error = np.abs(got - (exact + less))
        assert (error <= gamma(k + 3) * (magnitude + np.abs(bias) + np.abs(y))).all()


@pytest.mark.parametrize("k", [1, 37, 64])
def test_a_row_does_not_depend_on_the_rows_beside_it(isa: str, format: str, k: int, rng: Generator) -> None:
    x, w, bias, y = matrix(rng, 13, k), matrix(rng, 90, k), matrix(rng, 90), matrix(rng, 13, 90)
    alone = np.concatenate(
        [testing.matmul(x[r : r + 1], w, format, isa=isa, bias=bias, y=y[r : r + 1]) for r in range(13)]
    )
    for rows in range(1, 14):
        together = testing.matmul(x[:rows], w, format, isa=isa, bias=bias, y=y[:rows])
        np.testing.assert_array_equal(together, alone[:rows])
        shifted = testing.matmul(x[13 - rows :], w, format, isa=isa, bias=bias, y=y[13 - rows :])
        np.testing.assert_array_equal(shifted, alone[13 - rows :])


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_column_does_not_depend_on_the_range_of_panels(
    isa: str, format: str, rows: int, rng: Generator
) -> None:
    x, w, bias = matrix(rng, rows, 51), matrix(rng, 16 * 11 + 3, 51), matrix(rng, 16 * 11 + 3)
    whole = testing.matmul(x, w, format, isa=isa, bias=bias)
    for first in range(12):
        for last in range(first, 13):
            part = testing.matmul(x, w, format, isa=isa, bias=bias, first=first, last=last)
            inside = slice(16 * first, 16 * last)
            np.testing.assert_array_equal(part[:, inside], whole[:, inside])
            part[:, inside] = 0
            assert not part.any(), "columns outside the range were written"


def rounded(value: Fraction) -> Fraction:
    """The nearest binary32, ties to even; for values in the normal range."""
    if value == 0:
        return value
    exponent = 0
    while abs(value) >= Fraction(2) ** (exponent + 24):
        exponent += 1
    while abs(value) < Fraction(2) ** (exponent + 23):
        exponent -= 1
    return round(value / Fraction(2) ** exponent) * Fraction(2) ** exponent  # round() is half to even


def test_each_output_is_one_chain_over_k_in_ascending_order(isa: str, format: str, rng: Generator) -> None:
    x, w = matrix(rng, 2, 41), matrix(rng, 3, 41)
    stored = round_trip(w, format)
    got = testing.matmul(x, w, format, isa=isa)
    for row in range(2):
        for column in range(3):
            total = Fraction(0)
            for a, b in zip(x[row].tolist(), stored[column].tolist(), strict=True):
                product = Fraction(a) * Fraction(b)
                # generic has no fused multiply-add: there the product is rounded before it is added.
                total = rounded((rounded(product) if isa == "generic" else product) + total)
            assert Fraction(float(got[row, column])) == total


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_broken_row_breaks_no_other(isa: str, format: str, bad: float, rng: Generator) -> None:
    x, w = matrix(rng, 7, 33), matrix(rng, 20, 33)
    broken = x.copy()
    broken[3, 17] = bad
    right, got = testing.matmul(x, w, format, isa=isa), testing.matmul(broken, w, format, isa=isa)
    assert not np.isfinite(got[3]).any()
    np.testing.assert_array_equal(np.delete(got, 3, axis=0), np.delete(right, 3, axis=0))
