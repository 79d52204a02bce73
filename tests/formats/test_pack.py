"""Weights to bytes and back, against numpy and against docs/format.md derived once more."""

from __future__ import annotations

import numpy as np
import pytest
from naive_formats import (
    PLAIN,
    QUANTISED,
    bf16_bits,
    elements,
    pack_matrix,
    quantised_bytes,
    quantised_parts,
    round_trip,
)
from numpy.random import Generator

from pygpt import _core

SIZES = [1, 2, 15, 16, 17, 33]
EDGES = np.array(
    [0.0, -0.0, 1.0, -1.0, 6e-8, -6e-8, 2.98e-8, 2.99e-8, 6.1e-5, 65504.0, 65519.99, -65519.99, 1e-30, 3e-39],
    np.float32,
)


@pytest.fixture
def rng() -> Generator:
    return np.random.default_rng(2026)


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("cols", SIZES)
@pytest.mark.parametrize("format", PLAIN)
def test_a_matrix_lies_in_panels_as_the_specification_says(
    rows: int, cols: int, format: str, rng: Generator
) -> None:
    weights = rng.standard_normal((rows, cols), np.float32)
    packed = _core.pack(weights, "matrix", format)

    assert packed == pack_matrix(weights, format)
    back = _core.unpack(packed, "matrix", format, rows, cols)
    np.testing.assert_array_equal(back, round_trip(weights, format))


def test_every_format_is_plain_or_quantised() -> None:
    assert _core.formats() == [*PLAIN, *QUANTISED]


@pytest.mark.parametrize("rows", [1, 16, 17, 33])
@pytest.mark.parametrize("cols", [1, 3, 7, 8, 63, 64, 65, 130, 192])
@pytest.mark.parametrize("format", QUANTISED)
def test_a_quantised_matrix_lies_in_groups_as_the_specification_says(
    rows: int, cols: int, format: str, rng: Generator
) -> None:
    weights = rng.standard_normal((rows, cols), np.float32)
    packed = _core.pack(weights, "matrix", format)

    assert len(packed) == quantised_bytes(format, rows, cols)
    back = _core.unpack(packed, "matrix", format, rows, cols)
    np.testing.assert_array_equal(back, round_trip(weights, format))
    # Read so, it is what was written: within half of the widest gap between two levels, and of what the
    # smallest scale cuts off the extreme.
    largest = np.abs(weights).max()
    assert np.abs(back - weights).max() <= {"q8": 1 / 128 + 0.1, "q4": 0.13 + 0.18}[format] * largest


@pytest.mark.parametrize("format", QUANTISED)
def test_the_padding_of_a_quantised_matrix_is_nothing(format: str, rng: Generator) -> None:
    rows, cols = 19, 70
    weights = 1 + rng.random((rows, cols), np.float32)
    packed = _core.pack(weights, "matrix", format)
    levels, scales = quantised_parts(packed, format, rows, cols)

    nearest_to_zero = {"q8": 64, "q4": 65}[format]
    assert not scales[rows:].any(), "rows past the last have scales of 0"
    assert (levels[rows:] == nearest_to_zero).all()
    assert (levels[:rows, cols:] == nearest_to_zero).all()
    assert (levels[:rows, :cols] != nearest_to_zero).all()
    alone = np.frombuffer(_core.pack(weights[:, :50], "matrix", format), np.uint8).reshape(2, -1)
    assert not alone[:, 32:64].any(), "a last group without a partner leaves the other's scales zero"


@pytest.mark.parametrize("format", QUANTISED)
def test_a_weight_lies_where_the_specification_says(format: str) -> None:
    """One weight that is not zero, in every place of two panels of two groups."""
    for row in (0, 1, 15, 16, 30):
        for k in (0, 1, 3, 4, 5, 8, 11, 12, 63, 64, 70, 127):
            weights = np.zeros((31, 128), np.float32)
            weights[row, k] = 2.0
            packed = np.frombuffer(_core.pack(weights, "matrix", format), np.uint8)
            width = 128 * 16 + 64 if format == "q8" else 128 * 8 + 64
            panel = packed.reshape(2, width)[row // 16]
            scale = panel[:64].view("<f2")[k // 64 * 16 + row % 16]
            if format == "q8":
                level = int(panel[64 + k // 4 * 64 + row % 16 * 4 + k % 4])
            else:
                byte = int(panel[64 + k // 8 * 64 + row % 16 * 4 + k % 4])
                level = [0, 15, 26, 34, 41, 48, 54, 60, 65, 70, 76, 82, 88, 95, 104, 116][
                    byte >> 4 if k % 8 >= 4 else byte & 15
                ]
            assert float(scale) * (level - 64) == pytest.approx(2.0, rel={"q8": 1e-3, "q4": 0.1}[format])
            assert np.count_nonzero(packed.reshape(2, width)[1 - row // 16][:64]) == 0


@pytest.mark.parametrize("kind", ["table", "vector"])
@pytest.mark.parametrize("format", PLAIN)
def test_a_table_and_a_vector_lie_row_by_row(kind: str, format: str, rng: Generator) -> None:
    weights = rng.standard_normal((5, 7), np.float32)
    packed = _core.pack(weights, kind, format)

    assert packed == elements(weights, format).tobytes()
    np.testing.assert_array_equal(_core.unpack(packed, kind, format, 5, 7), round_trip(weights, format))


@pytest.mark.parametrize("format", PLAIN)
def test_weights_of_every_size_round_to_nearest_even(format: str, rng: Generator) -> None:
    exponents = rng.integers(-40, 15, 20_000)
    random = np.ldexp(rng.uniform(-2, 2, 20_000), exponents).astype(np.float32)
    halfway = (random.view(np.uint32) & 0xFFFF0000 | 0x8000).view(np.float32)  # between two bfloat16
    f16_halfway = (random.view(np.uint32) & 0xFFFFE000 | 0x1000).view(np.float32)  # between two binary16
    weights = np.concatenate([EDGES, random, halfway, f16_halfway])[None]

    back = _core.unpack(_core.pack(weights, "table", format), "table", format, *weights.shape)

    np.testing.assert_array_equal(back, round_trip(weights, format))
    np.testing.assert_array_equal(np.signbit(back), np.signbit(weights))


def test_every_half_and_every_bfloat16_is_unpacked_to_its_value() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)[None]
    halves = _core.unpack(bits, "table", "f16", *bits.shape)
    bfloats = _core.unpack(bits, "table", "bf16", *bits.shape)

    np.testing.assert_array_equal(halves, bits.view(np.float16).astype(np.float32))
    np.testing.assert_array_equal(bfloats.view(np.uint32), bits.astype(np.uint32) << 16)
    finite = np.isfinite(bfloats)
    np.testing.assert_array_equal(bf16_bits(bfloats)[finite], bits[finite])


def test_a_weight_that_a_format_cannot_hold_is_an_error_that_names_its_place() -> None:
    weights = np.zeros((3, 4), np.float32)
    weights[2, 1] = 70000
    for kind in ("matrix", "table"):
        with pytest.raises(ValueError, match=r"70000 at row 2, column 1 .*f16"):
            _core.pack(weights, kind, "f16")
        for wide in ("bf16", "f32"):
            _core.pack(weights, kind, wide)
    weights[2, 1] = np.inf  # stays what it is: whether a model may hold it is not a format's affair
    assert np.isinf(_core.unpack(_core.pack(weights, "table", "f16"), "table", "f16", 3, 4)[2, 1])


@pytest.mark.parametrize(
    "call",
    [
        lambda: _core.pack(np.zeros((2, 2), np.float32), "cube", "f32"),
        lambda: _core.pack(np.zeros((2, 2), np.float32), "matrix", "q9"),
        lambda: _core.pack(np.zeros(2, np.float32), "matrix", "f32"),
        lambda: _core.unpack(bytes(2240), "matrix", "q8", 1, 129),
        lambda: _core.unpack(bytes(1152), "matrix", "q8", 17, 64),
        lambda: _core.unpack(bytes(16), "table", "f32", 2, 3),
        lambda: _core.unpack(bytes(16), "table", "f32", -2, -2),
        lambda: _core.unpack(bytes(16), "table", "f32", 1 << 62, 1 << 62),
        lambda: _core.unpack(b"", "table", "f32", 0, 0),
    ],
)
def test_impossible_kinds_formats_and_sizes_are_value_errors(call: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        call()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("data", "crc"),
    [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E), (b"", 0)],
)
def test_crc32c_gives_the_known_answers_of_rfc_3720(data: bytes, crc: int) -> None:
    assert _core.crc32c(data) == crc
    for cut in range(len(data)):
        assert _core.crc32c(data[cut:], _core.crc32c(data[:cut])) == crc
    assert _core.crc32c(np.frombuffer(data, np.uint8)) == crc
