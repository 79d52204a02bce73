"""The rounding of activations to bytes on every ISA, bit for bit as docs/format.md says."""

from __future__ import annotations

import numpy as np
import pytest
from naive_formats import GROUP, quantised_rows
from numpy.random import Generator

from pygpt import _core
from pygpt._core import testing
from pygpt.dtypes import rounded_activations

pytestmark = pytest.mark.parametrize("isa", _core.isas())


@pytest.fixture
def rng() -> Generator:
    return np.random.default_rng(127)


def check(x: np.ndarray, isa: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the kernel makes of finite x, held against numpy."""
    rows, k = x.shape
    numbers, scales = quantised_rows(x)
    got = testing.quantise(x, isa=isa)
    assert [each.dtype for each in got] == [np.int8, np.float32, np.int32]
    np.testing.assert_array_equal(got[0], numbers[:, :k])
    np.testing.assert_array_equal(got[1].view(np.uint32), scales.view(np.uint32))
    np.testing.assert_array_equal(got[2], -64 * numbers.reshape(rows, -1, GROUP).sum(axis=2))
    return got


@pytest.mark.parametrize("k", [1, 2, 15, 17, 63, 64, 65, 128, 200, 1001])
def test_bytes_scales_and_starts_are_numpys(isa: str, k: int, rng: Generator) -> None:
    x = rng.standard_normal((7, k)) * np.exp(rng.uniform(-20, 20, (7, 1)))
    numbers, _, _ = check(x.astype(np.float32), isa)
    assert np.abs(numbers.astype(int)).max() == 127
    assert numbers.min() >= -127, "-128 would saturate the products"


def test_the_extreme_of_a_group_is_127_whatever_it_is(isa: str, rng: Generator) -> None:
    largest = np.ldexp(rng.uniform(1, 2, 4000), rng.integers(-95, 127, 4000)).astype(np.float32)
    x = np.outer(largest, np.array([1, -1, 0.5, 0.0])).astype(np.float32)
    numbers, _, _ = check(x, isa)
    np.testing.assert_array_equal(numbers[:, :2], np.tile([127, -127], (4000, 1)))


def test_ties_go_to_the_even_neighbour(isa: str) -> None:
    x = np.concatenate([[127.0], np.arange(-126.5, 127, 4.1)[:62].round() + 0.5, [-127.0]]).astype(np.float32)
    numbers, scales, _ = check(x[None], isa)
    assert scales[0, 0] == 1.0
    np.testing.assert_array_equal(numbers[0], np.rint(x))
    assert (numbers[0, 1:-1] % 2 == 0).all()


@pytest.mark.parametrize("zero", [0.0, -0.0, 1e-31, -9e-31, 1e-45])
def test_what_is_as_good_as_zero_is_zero(isa: str, zero: float) -> None:
    """Its scale would have no inverse in binary32."""
    numbers, scales, starts = check(np.full((2, 100), zero, np.float32), isa)
    assert not numbers.any()
    assert not scales.any()
    assert not starts.any()


@pytest.mark.parametrize("edge", [1.0000001e-30, 1e-28, 3.3999e38, 3.4028235e38, -3.4028235e38])
def test_the_largest_and_the_smallest_that_count_are_rounded_like_others(isa: str, edge: float) -> None:
    x = np.ones((2, 64), np.float32)  # what a row had before is not what it has now
    x[1, ::2], x[1, 1::2] = np.float32(edge), np.float32(edge) / 4
    check(x, isa)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 31, 63, 64, 99])
def test_what_is_not_finite_is_not_lost(isa: str, bad: float, place: int, rng: Generator) -> None:
    """The scale carries it: whatever it is multiplied with is not finite either."""
    x = rng.standard_normal((2, 100)).astype(np.float32)
    right = testing.quantise(x, isa=isa)
    x[1, place] = bad
    numbers, scales, starts = testing.quantise(x, isa=isa)
    group = place // GROUP
    assert np.isnan(scales[1, group]) if np.isnan(bad) else np.isposinf(scales[1, group])
    for wrong, good in ((numbers[:, :64], right[0][:, :64]), (numbers[:, 64:], right[0][:, 64:])):
        np.testing.assert_array_equal(wrong[0], good[0])
    np.testing.assert_array_equal(scales[1, 1 - group], right[1][1, 1 - group])
    np.testing.assert_array_equal(starts[1, 1 - group], right[2][1, 1 - group])


def test_the_rounding_is_that_of_the_reference(isa: str, rng: Generator) -> None:
    """pygpt.dtypes rounds in float64: the same numbers but for ties that binary32 sees elsewhere."""
    x = rng.standard_normal((50, 320)).astype(np.float32)
    numbers, scales, _ = testing.quantise(x, isa=isa)
    theirs = rounded_activations(x.astype(np.float64))
    steps = np.repeat(scales.astype(np.float64), GROUP, axis=1)
    off = np.abs(numbers * steps - theirs) / steps
    assert off.max() <= 1.001
    assert np.mean(off > 0.5) < 1e-3
