"""The choice of scales and levels in q8 and q4: as good as the format allows, and safe at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from naive_formats import GROUP, Q4_LEVELS, QUANTISED, UNIT, Doubles, Floats, quantised_parts
from numpy.random import Generator

from pygpt import _core
from pygpt.parity import ACTIVATION_NOISE, QUANTISATION_NOISE

pytestmark = pytest.mark.parametrize("format", QUANTISED)

LEVELS = {"q8": np.arange(129) - 64, "q4": Q4_LEVELS - 64}

# Of the group's extreme value, before it is rounded to f16; 1/64 is the plain scale of the largest magnitude.
CANDIDATES = {
    "q8": [(1 - 0.02 * i) / 64 for i in range(6)],
    "q4": [sign * (0.82 + 0.06 * i) / 64 for i in range(7) for sign in (1, -1)],
}


@pytest.fixture
def rng() -> Generator:
    return np.random.default_rng(64)


def stored(groups: Floats, format: str) -> tuple[Doubles, Doubles]:
    """What groups [n, 64], each a row of a matrix, come back as, and their scales [n]."""
    levels, scales = quantised_parts(_core.pack(groups, "matrix", format), format, *groups.shape)
    scales = scales[: len(groups), 0].astype(np.float64)
    return scales[:, None] * (levels[: len(groups)] - 64), scales


def distance(groups: Floats, approximations: Doubles) -> Doubles:
    """The root of the squared error of each group."""
    return np.sqrt(((groups.astype(np.float64) - approximations) ** 2).sum(axis=-1))


def nearest(groups: Floats, scales: Doubles, format: str) -> Doubles:
    """The best that levels can do under these scales [n]."""
    weights = scales[:, None] * LEVELS[format]
    closest = np.abs(groups[:, :, None].astype(np.float64) - weights[:, None]).argmin(axis=2)
    return np.take_along_axis(weights, closest, axis=1)


def slack(groups: Floats) -> Doubles:
    """What a search in binary32 may lose against one in real numbers. Each difference is off by two
    roundings of its value; a value that is within 3 roundings of 64 levels of a tie may go to either side,
    which moves the difference by as many of the extreme; the sum of 64 squares adds less than that."""
    values = np.abs(groups).astype(np.float64)
    return 4 * UNIT * np.sqrt((values**2).sum(axis=1)) + 8 * 4 * UNIT * values.max(axis=1)


def many_groups(rng: Generator) -> Floats:
    """Groups of every temper: normal, flat, with one huge weight, skewed, of few values, tiny, sparse."""
    normal = rng.standard_normal((60, GROUP))
    huge = normal[:20].copy()
    huge[:, 7] *= 50
    return np.concatenate(
        [
            normal,
            rng.uniform(-1, 1, (20, GROUP)),
            huge,
            -huge,
            rng.exponential(1, (20, GROUP)),
            rng.integers(-3, 4, (20, GROUP)),
            1e-4 * normal[:20],
            4e-6 * normal[:20],
            2e5 * normal[:20],
            normal[:20] * (rng.random((20, GROUP)) < 0.1),
        ]
    ).astype(np.float32)


def test_no_candidate_and_no_plain_scale_would_have_been_better(format: str, rng: Generator) -> None:
    groups = many_groups(rng)
    got = distance(groups, stored(groups, format)[0])
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1)[:, 0]
    for candidate in CANDIDATES[format]:
        scales = (extreme * np.float32(candidate)).astype(np.float16).astype(np.float64)
        best = distance(groups, nearest(groups, scales, format))
        # A candidate may be off by one rounding, and so fall on the other side of a tie of f16: by 2^-11.
        assert (got <= best * (1 + 1e-3) + slack(groups)).all(), candidate
    assert (got <= distance(groups, np.zeros_like(groups)) + slack(groups)).all(), "nothing is worse than 0"


def test_every_level_is_the_nearest_under_its_scale(format: str, rng: Generator) -> None:
    groups = many_groups(rng)
    back, scales = stored(groups, format)
    best = nearest(groups, scales, format)
    off, least = (np.abs(groups.astype(np.float64) - weights) for weights in (back, best))
    assert (off <= least + 4 * 64 * UNIT * np.abs(scales)[:, None]).all()


def test_a_search_beats_the_plain_scale_on_what_networks_have(format: str, rng: Generator) -> None:
    """And what noise remains is what `pygpt.parity` counts on."""
    groups = rng.standard_normal((500, GROUP)).astype(np.float32)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1)[:, 0]
    plain = nearest(groups, (extreme / -64).astype(np.float16).astype(np.float64), format)
    gain = {"q8": 0.999, "q4": 0.9}[format]
    squares = [float((distance(groups, each) ** 2).sum()) for each in (stored(groups, format)[0], plain)]
    assert squares[0] < gain * squares[1]
    weights = squares[0] / (groups.astype(np.float64) ** 2).sum()
    noise = np.sqrt(weights + ACTIVATION_NOISE**2)
    assert noise == pytest.approx(QUANTISATION_NOISE[format], rel=0.05)


@pytest.mark.parametrize("zero", [0.0, -0.0, 1e-38, -1e-45, 1e-8])
def test_a_group_of_nothing_is_exactly_nothing(format: str, zero: float) -> None:
    back, scales = stored(np.full((17, GROUP), zero, np.float32), format)
    assert not back.any()
    assert not scales.any()
    assert not np.signbit(scales).any()


def test_one_huge_weight_is_kept_to_a_level(format: str, rng: Generator) -> None:
    groups = rng.standard_normal((16, GROUP)).astype(np.float32)
    groups[np.arange(16), 4 * np.arange(16)] = np.float32(3e6) * np.where(np.arange(16) % 2, 1, -1)
    back, _ = stored(groups, format)
    step = {"q8": 1 / 128, "q4": 0.13}[format]  # half of the widest gap, of the extreme
    assert (np.abs(back - groups) <= step * 3e6 + slack(groups)[:, None]).all()


def test_scales_go_down_to_the_smallest_subnormal_of_f16(format: str) -> None:
    sizes = np.ldexp(1.0, np.arange(-18, -8))  # /64: subnormal below 2^-14, 2^-24 the least
    groups = np.outer(sizes, np.linspace(-1, 1, GROUP)).astype(np.float32)
    back, scales = stored(groups, format)
    assert (np.abs(scales) > 0).all()
    assert (np.abs(scales[:4]) < 2.0**-14).all()
    # The scale itself may be off by half a subnormal, 64 levels away; and half of the widest gap.
    off = 64 * 2.0**-25 + {"q8": 0.5, "q4": 8}[format] * np.abs(scales)
    assert (np.abs(back - groups) <= off[:, None]).all()


def test_values_at_and_beside_ties_go_to_one_of_their_two_neighbours(format: str) -> None:
    levels = LEVELS[format]
    ties = (levels[1:] + levels[:-1]) / 2
    for nudge in (-1, 0, 1):
        values = ties.astype(np.float32)
        for _ in range(abs(nudge)):
            values = np.nextafter(values, np.float32(1e9 * nudge))
        for start in range(0, len(values), GROUP - 2):
            # With both ends there and much weight on them, the scale is 1 or nothing.
            group = np.zeros((1, GROUP), np.float32)
            part = values[start : start + GROUP - 2]
            group[0, : len(part)] = part
            group[0, -2:] = -64, levels[-1]
            back, scales = stored(group, format)
            best = nearest(group, scales, format)
            off, least = np.abs(back - group), np.abs(best - group)
            assert (off <= least + 4 * 64 * UNIT * abs(scales[0])).all()


def test_minus_zero_is_zero(format: str) -> None:
    groups = np.zeros((2, GROUP), np.float32)
    groups[:, 0] = 1
    groups[1, 1:] = -0.0
    levels, _ = quantised_parts(_core.pack(groups, "matrix", format), format, *groups.shape)
    np.testing.assert_array_equal(levels[0], levels[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3.0001e6, -1e38])
def test_a_weight_that_cannot_be_quantised_is_an_error_that_names_its_place(format: str, bad: float) -> None:
    weights = np.ones((19, 70), np.float32)
    weights[17, 66] = bad
    with pytest.raises(ValueError, match=rf"at row 17, column 66 is too large for {format}"):
        _core.pack(weights, "matrix", format)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_weight_that_is_taken_has_a_finite_scale(format: str, sign: int) -> None:
    groups = np.full((1, GROUP), sign * 3e6, np.float32)
    back, scales = stored(groups, format)
    assert np.isfinite(scales).all()
    np.testing.assert_allclose(back, groups, rtol={"q8": 1e-3, "q4": 1e-2}[format])


@pytest.mark.parametrize("kind", ["table", "vector"])
def test_what_is_not_multiplied_is_not_quantised(format: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"a {kind} cannot be {format}"):
        _core.pack(np.ones((2, 64), np.float32), kind, format)
    with pytest.raises(ValueError, match="size does not match"):
        _core.unpack(bytes(64), kind, format, 1, 64)
