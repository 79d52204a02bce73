"""Attention over a paged cache of every ISA and cache type, against the softmax in float64."""

from __future__ import annotations

import numpy as np
import pytest
from naive_formats import gamma, round_trip
from numpy.random import Generator
from numpy.typing import NDArray

from pygpt import _core
from pygpt._core import testing

pytestmark = [
    pytest.mark.parametrize("isa", _core.isas()),
    pytest.mark.parametrize("kv_dtype", _core.formats()),
]

Floats = NDArray[np.float32]


@pytest.fixture
def rng() -> Generator:
    return np.random.default_rng(5)


def head(rng: Generator, rows: int, count: int, width: int, size: float = 1) -> tuple[Floats, Floats, Floats]:
    return (
        size * rng.standard_normal((rows, width), np.float32),
        size * rng.standard_normal((count, width), np.float32),
        rng.standard_normal((count, width), np.float32),
    )


def check(q: Floats, k: Floats, v: Floats, scale: float, kv_dtype: str, isa: str) -> None:
    got = testing.attend(q, k, v, scale, kv_dtype=kv_dtype, isa=isa)
    scale = float(np.float32(scale))
    keys, values = (round_trip(part, kv_dtype).astype(np.float64) for part in (k, v))
    for row in range(len(q)):
        count = len(k) - len(q) + row + 1
        wide = q[row].astype(np.float64)
        scores = scale * (keys[:count] @ wide)
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        exact = weights @ values[:count]
        # A score is off by its chain over the head; a weight by twice the worst of that, and by the
        # exponentials of the softmax and of each merge of 256 positions (two units, and half a unit of their
        # argument); the sums by theirs.
        magnitude = scale * (np.abs(keys[:count]) @ np.abs(wide))
        off = 2 * gamma(q.shape[1] + 2) * magnitude.max()
        merges = -(-count // 256)
        off += gamma(8 * (1 + merges) + (1 + merges) * np.ptp(scores))
        bound = (2 * off + gamma(2 * count + 4)) * (weights @ np.abs(values[:count]))
        assert (np.abs(got[row] - exact) <= bound).all()


@pytest.mark.parametrize("width", [1, 5, 16, 24, 64, 80, 130])
@pytest.mark.parametrize("count", [3, 32, 33, 256, 257, 600])
def test_attention_is_within_the_rounding_of_its_sums(
    isa: str, kv_dtype: str, width: int, count: int, rng: Generator
) -> None:
    check(*head(rng, 3, count, width), width**-0.5, kv_dtype, isa)


@pytest.mark.parametrize("size", [0.0, 3.0, 30.0])
def test_flat_and_sharp_attention_are_right_alike(
    isa: str, kv_dtype: str, size: float, rng: Generator
) -> None:
    check(*head(rng, 2, 300, 20, size), 0.3, kv_dtype, isa)


def test_one_position_gives_its_value_exactly(isa: str, kv_dtype: str, rng: Generator) -> None:
    q, k, v = head(rng, 1, 1, 24, 10)
    got = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa)
    np.testing.assert_array_equal(got, round_trip(v, kv_dtype))


@pytest.mark.parametrize("count", [1, 31, 40, 290])
def test_what_lies_behind_in_the_cache_changes_nothing(
    isa: str, kv_dtype: str, count: int, rng: Generator
) -> None:
    q, k, v = head(rng, 1, count, 24)
    clean = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa)
    for filler in (1.0, -1e30, np.nan, np.inf):
        stale = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa, filler=filler)
        np.testing.assert_array_equal(stale, clean)


def test_a_row_does_not_depend_on_later_positions_or_other_rows(
    isa: str, kv_dtype: str, rng: Generator
) -> None:
    q, k, v = head(rng, 270, 530, 24)
    together = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa)
    for row in (0, 1, 2, 30, 31, 250, 251, 252, 269):
        count = 530 - 270 + row + 1
        alone = testing.attend(q[row : row + 1], k[:count], v[:count], 0.2, kv_dtype=kv_dtype, isa=isa)
        np.testing.assert_array_equal(alone[0], together[row])


def test_partials_are_merged_by_absolute_position(isa: str, kv_dtype: str, rng: Generator) -> None:
    """Beyond 256 positions the result is that of the merge, also where the later ones weigh nothing."""
    q, k, v = head(rng, 1, 256, 16)
    near = testing.attend(q, k, v, 1.0, kv_dtype=kv_dtype, isa=isa)
    far = np.concatenate([k, np.tile(-1e4 * np.sign(q), (10, 1)).astype(np.float32)])
    got = testing.attend(
        q, far, np.concatenate([v, np.ones((10, 16), np.float32)]), 1.0, kv_dtype=kv_dtype, isa=isa
    )
    np.testing.assert_array_equal(got, near)
