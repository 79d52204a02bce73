"""The matrix product of every ISA and format, against float64 and against its own definition step by step."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from naive_formats import (
    GROUP,
    PLAIN,
    QUANTISED,
    UNIT,
    Doubles,
    Floats,
    gamma,
    quantised_parts,
    quantised_rows,
    round_trip,
)
from numpy.random import Generator

from pygpt import _core
from pygpt._core import testing

pytestmark = pytest.mark.parametrize("isa", _core.isas())
FORMATS = pytest.mark.parametrize("format", _core.formats())


@pytest.fixture
def rng() -> Generator:
    return np.random.default_rng(7)


def matrix(rng: Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape, np.float32)


def seen(x: Floats, format: str) -> Doubles:
    """What a matrix of this format sees of its input."""
    if format in PLAIN:
        return x.astype(np.float64)
    numbers, scales = quantised_rows(x)
    return (numbers * np.repeat(scales.astype(np.float64), GROUP, axis=1))[:, : x.shape[1]]


def chain_error(x: Doubles, w: Doubles, format: str) -> Doubles:
    """The bound on the error of each output [rows, n], bias and y apart.

    Plain: k fused steps. Quantised: the sum of a group is exact, and so is its conversion (below 2^24); the
    product of two scales is rounded once, and then there is one fused step a group. Where there is no fused
    step, it is two roundings.
    """
    k = x.shape[1]
    if format in PLAIN:
        return gamma(k + 1) * (np.abs(x) @ np.abs(w).T)
    groups = -(-k // GROUP)
    wide = [np.pad(each, ((0, 0), (0, -k % GROUP))).reshape(len(each), groups, GROUP) for each in (x, w)]
    sums = np.abs(np.einsum("rgi,ngi->rng", *wide)).sum(axis=2)
    return gamma(groups + 2) * sums


@FORMATS
@pytest.mark.parametrize("k", [1, 2, 3, 15, 16, 17, 63, 64, 65, 130, 256, 384, 1001, 1025, 2100])
@pytest.mark.parametrize("rows", [1, 2, 5, 30])
def test_the_product_is_within_the_rounding_of_its_chain(
    isa: str, format: str, k: int, rows: int, rng: Generator
) -> None:
    for n in (1, 16, 17, 70) if rows == 5 else (70,):
        x, w, bias, y = matrix(rng, rows, k), matrix(rng, n, k), matrix(rng, n), matrix(rng, rows, n)
        inputs, stored = seen(x, format), round_trip(w, format).astype(np.float64)
        exact, allowed = inputs @ stored.T, chain_error(inputs, stored, format)

        # The chain, then the bias, then y.
        wide = y.astype(np.float64)
        for more, less in ({}, 0), ({"bias": bias}, bias), ({"bias": bias, "y": y}, bias + wide):
            got = testing.matmul(x, w, format, isa=isa, **more)
            error = np.abs(got - (exact + less))
            sums = np.abs(exact) + allowed + np.abs(bias) + np.abs(y)
            assert (error <= 1.001 * allowed + gamma(2) * sums).all()


@FORMATS
@pytest.mark.parametrize("k", [1, 37, 64, 300])
def test_a_row_does_not_depend_on_the_rows_beside_it(isa: str, format: str, k: int, rng: Generator) -> None:
    x, w, bias, y = matrix(rng, 14, k), matrix(rng, 90, k), matrix(rng, 90), matrix(rng, 14, 90)
    alone = np.concatenate(
        [testing.matmul(x[r : r + 1], w, format, isa=isa, bias=bias, y=y[r : r + 1]) for r in range(14)]
    )
    for rows in range(1, 15):
        together = testing.matmul(x[:rows], w, format, isa=isa, bias=bias, y=y[:rows])
        np.testing.assert_array_equal(together, alone[:rows])
        shifted = testing.matmul(x[14 - rows :], w, format, isa=isa, bias=bias, y=y[14 - rows :])
        np.testing.assert_array_equal(shifted, alone[14 - rows :])


@FORMATS
@pytest.mark.parametrize("k", [70, 2100])
def test_many_rows_give_the_bits_of_each_alone(isa: str, format: str, k: int, rng: Generator) -> None:
    """Tiles of every height, blocks of 96 rows that are full, almost full and just begun, blocks of k."""
    n = 35
    x, w, bias, y = matrix(rng, 200, k), matrix(rng, n, k), matrix(rng, n), matrix(rng, 200, n)

    @cache
    def alone(row: int) -> Floats:
        return testing.matmul(x[row : row + 1], w, format, isa=isa, bias=bias, y=y[row : row + 1])[0]

    counts = (*range(3, 27), 47, 48, 95, 96, 97, 98, 101, 191, 192, 193, 200) if k == 70 else (3, 9, 25, 100)
    for rows in counts:
        together = testing.matmul(x[:rows], w, format, isa=isa, bias=bias, y=y[:rows])
        for row in range(rows) if k == 70 else {0, 1, 2, 8, 24, 95, 96, 99} & set(range(rows)):
            np.testing.assert_array_equal(together[row], alone(row), err_msg=f"row {row} of {rows}")


@FORMATS
@pytest.mark.parametrize("rows", [1, 2, 7, 30])
def test_a_column_does_not_depend_on_the_range_of_panels(
    isa: str, format: str, rows: int, rng: Generator
) -> None:
    x, w, bias = matrix(rng, rows, 70), matrix(rng, 16 * 11 + 3, 70), matrix(rng, 16 * 11 + 3)
    whole = testing.matmul(x, w, format, isa=isa, bias=bias)
    for first in range(12):
        for last in range(first, 13):
            far = (first + last) % 2 == 1  # nor on where the weights lie
            part = testing.matmul(x, w, format, isa=isa, bias=bias, first=first, last=last, far=far)
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


def step(a: Fraction, b: Fraction, total: Fraction, isa: str) -> Fraction:
    """a * b + total, fused but on generic, where the product is rounded before it is added."""
    product = a * b
    return rounded((rounded(product) if isa == "generic" else product) + total)


@pytest.mark.parametrize("format", PLAIN)
@pytest.mark.parametrize("rows", [2, 30])
def test_each_output_is_one_chain_over_k_in_ascending_order(
    isa: str, format: str, rows: int, rng: Generator
) -> None:
    k = 41 if rows == 2 else 300
    x, w = matrix(rng, rows, k), matrix(rng, 3, k)
    stored = round_trip(w, format)
    got = testing.matmul(x, w, format, isa=isa)
    for row in (0, 1) if rows == 2 else (17,):
        for column in range(3):
            total = Fraction(0)
            for a, b in zip(x[row].tolist(), stored[column].tolist(), strict=True):
                total = step(Fraction(a), Fraction(b), total, isa)
            assert Fraction(float(got[row, column])) == total


@pytest.mark.parametrize("format", QUANTISED)
@pytest.mark.parametrize(("rows", "k"), [(1, 640), (2, 200), (7, 640), (30, 1300), (100, 2100)])
def test_each_output_is_one_chain_over_groups_whose_sums_are_whole_numbers(
    isa: str, format: str, rows: int, k: int, rng: Generator
) -> None:
    x, w = matrix(rng, rows, k), matrix(rng, 19, k)
    numbers, x_scales = quantised_rows(x)
    levels, w_scales = quantised_parts(_core.pack(w, "matrix", format), format, *w.shape)
    got = testing.matmul(x, w, format, isa=isa)
    groups = x_scales.shape[1]
    sums = np.einsum(
        "rgi,ngi->rng", numbers.reshape(rows, groups, GROUP), (levels - 64).reshape(-1, groups, GROUP)
    )
    scales = x_scales[:, None] * w_scales[None]  # each product rounded to binary32
    for row in {0, rows // 2, rows - 1}:
        for column in (0, 7, 15, 18):
            total = Fraction(0)
            for group in range(groups):
                factors = (int(sums[row, column, group]), float(scales[row, column, group]))
                total = step(*map(Fraction, factors), total, isa)
            assert Fraction(float(got[row, column])) == total


@pytest.mark.parametrize("format", QUANTISED)
@pytest.mark.parametrize("rows", [1, 2, 7, 30])
@pytest.mark.parametrize("extreme", ["least", "most"])
def test_the_largest_products_do_not_saturate(isa: str, format: str, rows: int, extreme: str) -> None:
    """Weights all at the ends of their range, activations all at +127 or -127: 2 * 128 * 127 is an int16."""
    k, n = 1024, 17
    w = np.ones((n, k), np.float32)
    if extreme == "most":
        # The first of a group's two ends has the largest magnitude: it decides the sign of the scale.
        w[:, 1::GROUP] = -1 if format == "q8" else 1
    else:
        w[:, 1:] = np.where(np.arange(1, k) % GROUP == 0, 1, -1) if format == "q8" else 1
    levels, w_scales = quantised_parts(_core.pack(w, "matrix", format), format, n, k)
    ends = {"q8": 0 if extreme == "least" else 128, "q4": 0}[format]
    assert np.mean(levels[:n] == ends) > 0.95

    for signs in (np.ones(k), -np.ones(k), np.where(np.arange(k) % 4 < 2, 1, -1)):
        x = np.tile(signs.astype(np.float32) * 127, (rows, 1))
        numbers, x_scales = quantised_rows(x)
        assert (np.abs(numbers) == 127).all()
        assert (x_scales == 1).all()
        products = ((levels[:n] - 64) * numbers[0]).reshape(n, -1, GROUP).sum(axis=2)
        total = np.zeros(n, np.float32)
        for group in range(k // GROUP):  # whole numbers times a power of two: every step is exact
            assert np.log2(np.abs(w_scales[:n, group])).max() % 1 == 0
            total += products[:, group] * w_scales[:n, group]
        got = testing.matmul(x, w, format, isa=isa)
        np.testing.assert_array_equal(got, np.tile(total, (rows, 1)))


@pytest.mark.parametrize("format", QUANTISED)
def test_what_lies_past_k_in_the_last_group_changes_nothing(isa: str, format: str, rng: Generator) -> None:
    x, w = matrix(rng, 9, 70), matrix(rng, 20, 70)
    cut = testing.matmul(x, w, format, isa=isa)
    wide = np.zeros((9, 128), np.float32)
    wide[:, :70] = x
    np.testing.assert_array_equal(testing.matmul(wide, np.pad(w, ((0, 0), (0, 58))), format, isa=isa), cut)


@FORMATS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [1, 2, 7, 30, 100])
def test_a_broken_row_breaks_no_other(isa: str, format: str, bad: float, rows: int, rng: Generator) -> None:
    x, w = matrix(rng, rows, 133), matrix(rng, 20, 133)
    broken, row = x.copy(), rows // 2
    broken[row, 77] = bad
    right, got = testing.matmul(x, w, format, isa=isa), testing.matmul(broken, w, format, isa=isa)
    assert not np.isfinite(got[row]).any()
    np.testing.assert_array_equal(np.delete(got, row, axis=0), np.delete(right, row, axis=0))


@pytest.mark.parametrize("format", QUANTISED)
def test_rows_of_zeros_and_columns_of_zeros_give_zeros(isa: str, format: str, rng: Generator) -> None:
    x, w = matrix(rng, 5, 100), matrix(rng, 20, 100)
    x[2] = 0
    w[7] = 0
    got = testing.matmul(x, w, format, isa=isa)
    assert not got[2].any()
    assert not got[:, 7].any()
    assert np.abs(got).max() > 1


def test_bytes_cost_the_accuracy_that_they_must_and_no_more(isa: str, rng: Generator) -> None:
    """Against the weights and activations before they were rounded: the noise of the formats' own test."""
    x, w = matrix(rng, 40, 768), matrix(rng, 64, 768)
    exact = x.astype(np.float64) @ w.astype(np.float64).T
    noise = {}
    for name in _core.formats():
        off = testing.matmul(x, w, name, isa=isa) - exact
        noise[name] = float(np.sqrt((off**2).mean() / (exact**2).mean()))
    assert noise["f32"] < 100 * UNIT
    assert 0.010 < noise["q8"] < 0.016
    assert 0.065 < noise["q4"] < 0.095
