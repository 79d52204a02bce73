"""Attention over a paged cache of every ISA and cache type, against the softmax in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from naive_formats import gamma, kv_round_trip
from numpy.random import Generator
from numpy.typing import NDArray

from pygpt import _core
from pygpt._core import testing

pytestmark = [
    pytest.mark.parametrize("isa", _core.isas()),
    pytest.mark.parametrize("kv_dtype", _core.kv_dtypes()),
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


def check(
    q: Floats,
    k: Floats,
    v: Floats,
    scale: float,
    kv_dtype: str,
    isa: str,
    together: int = 1,
    window: int = 1 << 40,
) -> None:
    got = testing.attend(q, k, v, scale, kv_dtype=kv_dtype, isa=isa, together=together, window=window)
    scale = float(np.float32(scale))
    keys, values = (kv_round_trip(part, kv_dtype).astype(np.float64) for part in (k, v))
    for row in range(len(q)):
        count = len(k) - len(q) + row + 1
        seen = slice(max(count - window, 0), count)
        wide = q[row].astype(np.float64)
        scores = scale * (keys[seen] @ wide)
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        exact = weights @ values[seen]
        # A score is off by its chain over the head, its scales and the rounding of what was stored; a weight
        # by twice the worst of that, and by the exponentials of the softmax and of each merge of 256
        # positions (two units, and half a unit of their argument); the sums by theirs.
        magnitude = scale * (np.abs(keys[seen]) @ np.abs(wide))
        off = 2 * gamma(q.shape[1] + 4) * magnitude.max()
        merges = -(-count // 256)
        off += gamma(8 * (1 + merges) + (1 + merges) * np.ptp(scores))
        bound = (2 * off + gamma(2 * count + 6)) * (weights @ np.abs(values[seen]))
        assert (np.abs(got[row] - exact) <= bound).all()


@pytest.mark.parametrize("width", [1, 5, 16, 24, 64, 80, 130])
@pytest.mark.parametrize("count", [3, 32, 33, 256, 257, 600])
def test_attention_is_within_the_rounding_of_its_sums(
    isa: str, kv_dtype: str, width: int, count: int, rng: Generator
) -> None:
    for together in (1, 3):
        check(*head(rng, 3, count, width), width**-0.5, kv_dtype, isa, together)


WINDOWS = (1, 2, 5, 31, 32, 33, 100, 255, 256, 257, 300)


@pytest.mark.parametrize("count", [3, 40, 257, 600])
def test_a_window_ends_what_a_row_sees(isa: str, kv_dtype: str, count: int, rng: Generator) -> None:
    """Pages before the windows are not there in these calls: reading one would crash."""
    for window in WINDOWS:
        for together in (1, 3):
            check(*head(rng, 3, count, 24), 0.2, kv_dtype, isa, together, window)


def test_what_lies_before_a_window_changes_nothing(isa: str, kv_dtype: str, rng: Generator) -> None:
    """Also where it shares a page with what is seen, and other rows of the call see it."""
    for window in WINDOWS:
        q, k, v = head(rng, 6, 300, 24)
        clean = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa, window=window)
        for row in range(6):
            before = max(300 - 6 + row + 1 - window, 0)
            k[before - 1 : before] = v[before - 1 : before] = 1e30 if kv_dtype in ("bf16", "f16") else np.inf
            for together in (1, 6):
                got = testing.attend(
                    q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa, window=window, together=together
                )
                np.testing.assert_array_equal(got[row:], clean[row:])


def test_a_window_of_all_positions_is_none(isa: str, kv_dtype: str, rng: Generator) -> None:
    q, k, v = head(rng, 4, 290, 24)
    for together in (1, 4):
        wide = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa, together=together, window=290)
        whole = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa, together=together)
        np.testing.assert_array_equal(wide, whole)


@pytest.mark.parametrize("size", [0.0, 3.0, 30.0])
def test_flat_and_sharp_attention_are_right_alike(
    isa: str, kv_dtype: str, size: float, rng: Generator
) -> None:
    check(*head(rng, 2, 300, 20, size), 0.3, kv_dtype, isa)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3, 1e36])
def test_one_position_gives_its_value_exactly(isa: str, kv_dtype: str, size: float, rng: Generator) -> None:
    if kv_dtype == "f16" and size > 1e4:
        pytest.skip("f16 holds no such values")
    q, k, v = head(rng, 1, 1, 24, 10)
    v *= np.float32(size)
    if size == 1e36:
        v[0, 5] = 3.38e38 if kv_dtype == "bf16" else 3.402e38
    got = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa)
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got, kv_round_trip(v, kv_dtype))


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


@pytest.mark.parametrize("width", [5, 24, 64, 80])
@pytest.mark.parametrize("together", [2, 3, 4, 5, 6])
def test_rows_that_are_attended_together_get_the_bits_of_each_alone(
    isa: str, kv_dtype: str, width: int, together: int, rng: Generator
) -> None:
    """Counts that cross a page of 32 and a partial of 256 inside one call; a last call that is not full."""
    for count, rows in ((14, 14), (37, 8), (261, 11), (515, 7)):
        q, k, v = head(rng, rows, count, width)
        for window in (3, 33, 256, 1000):
            alone = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa, window=window)
            got = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa, together=together, window=window)
            np.testing.assert_array_equal(got, alone)


@pytest.mark.parametrize("together", [2, 6])
def test_what_lies_behind_changes_nothing_for_rows_together(
    isa: str, kv_dtype: str, together: int, rng: Generator
) -> None:
    q, k, v = head(rng, 6, 290, 24)
    clean = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa)
    for filler in (-1e30, np.nan, np.inf):
        stale = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa, filler=filler, together=together)
        np.testing.assert_array_equal(stale, clean)


def test_positions_of_very_different_size_keep_their_own_precision(
    isa: str, kv_dtype: str, rng: Generator
) -> None:
    """A large value in one position must not coarsen the others: int8 has a scale for each."""
    q, k, v = head(rng, 1, 40, 24)
    v *= np.geomspace(1e-3, 1e3, 40, dtype=np.float32)[:, None]
    k[:20] *= 10
    check(q, k, v, 0.2, kv_dtype, isa)


def test_keys_and_values_of_zero_are_zero(isa: str, kv_dtype: str) -> None:
    q, k, v = np.ones((1, 20), np.float32), np.zeros((33, 20), np.float32), np.zeros((33, 20), np.float32)
    v[7] = 33
    got = testing.attend(q, k, v, 1.0, kv_dtype=kv_dtype, isa=isa)
    np.testing.assert_allclose(got, 1.0, rtol=1e-6)  # all scores are 0, one value in 33 is 33


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("of", ["k", "v"])
def test_what_is_not_finite_in_the_cache_is_not_lost(isa: str, kv_dtype: str, bad: float, of: str) -> None:
    rng = np.random.default_rng(1)
    q, k, v = head(rng, 1, 40, 24)
    {"k": k, "v": v}[of][11, 3] = bad
    assert not np.isfinite(testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa)).all()


def test_what_a_later_position_holds_reaches_no_earlier_row(isa: str, kv_dtype: str, rng: Generator) -> None:
    q, k, v = head(rng, 6, 40, 16)
    v[37] = np.inf if kv_dtype in ("f32", "int8") else 1e30  # the fourth row is the first to see it
    for together in range(1, 7):
        got = testing.attend(q, k, v, 0.25, kv_dtype=kv_dtype, isa=isa, together=together)
        alone = testing.attend(q, k, v, 0.25, kv_dtype=kv_dtype, isa=isa)
        assert np.isfinite(got[:3]).all()
        np.testing.assert_array_equal(got, alone)


@pytest.mark.parametrize("count", [1, 31, 40, 257, 600])
def test_the_weights_are_those_of_the_float64_softmax(
    isa: str, kv_dtype: str, count: int, rng: Generator
) -> None:
    q, k, v = head(rng, min(count, 8), count, 24, 2)
    got = testing.attend(q, k, v, 0.2, kv_dtype=kv_dtype, isa=isa, together=6, filler=np.nan, weights=True)
    keys = kv_round_trip(k, kv_dtype).astype(np.float64)
    for row in range(len(q)):
        seen = count - len(q) + row + 1
        scores = np.float32(0.2) * (keys[:seen] @ q[row].astype(np.float64))
        wanted = np.exp(scores - scores.max())
        wanted /= wanted.sum()
        # As above: the chain of the scores, twice; exponentials, sums and merges.
        magnitude = 0.2 * (np.abs(keys[:seen]) @ np.abs(q[row]))
        off = 2 * gamma(24 + 4) * magnitude.max() + gamma(24 + 3 * np.ptp(scores)) + gamma(2 * seen + 6)
        assert (np.abs(got[row, :seen] - wanted) <= 2 * off * wanted + 1e-30).all()
        assert not got[row, seen:].any()


@pytest.mark.parametrize("window", [1, 20, 50, 270, 1000])
@pytest.mark.parametrize("together", [1, 6])
def test_weights_times_values_are_the_attention(
    isa: str, kv_dtype: str, together: int, window: int, rng: Generator
) -> None:
    q, k, v = head(rng, 7, 300, 24)
    how: dict[str, Any] = {"kv_dtype": kv_dtype, "isa": isa, "window": window}
    weights = testing.attend(q, k, v, 0.2, together=together, weights=True, **how)
    np.testing.assert_array_equal(weights, testing.attend(q, k, v, 0.2, weights=True, **how))
    assert (np.count_nonzero(weights, axis=1) == np.minimum(np.arange(294, 301), window)).all()
    attended = testing.attend(q, k, v, 0.2, **how)
    values = kv_round_trip(v, kv_dtype).astype(np.float64)
    np.testing.assert_allclose(weights.astype(np.float64) @ values, attended, atol=1e-5)
