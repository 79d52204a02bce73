"""The weight formats of docs/format.md once more, in plain numpy: what a weight becomes and where it lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pygpt import _core

UNIT = 2.0**-24  # the relative error of one binary32 rounding

PLAIN = ("f32", "f16", "bf16")
QUANTISED = ("q8", "q4")
GROUP = 64
Q4_LEVELS = np.array([0, 15, 26, 34, 41, 48, 54, 60, 65, 70, 76, 82, 88, 95, 104, 116])

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


def bf16_bits(values: Floats) -> NDArray[np.uint16]:
    """The upper half of each binary32, rounded to nearest, ties to even, in whole numbers."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    lower, upper = bits & 0xFFFF, bits >> 16
    up = (lower > 0x8000) | ((lower == 0x8000) & (upper & 1 == 1))
    return (upper + up).astype(np.uint16)


def elements(values: Floats, format: str) -> NDArray[np.generic]:
    """The values as elements of a plain format: float32, float16, or the bits of bfloat16."""
    if format == "bf16":
        return bf16_bits(values)
    return values.astype({"f32": np.float32, "f16": np.float16}[format])


def round_trip(values: Floats, format: str) -> Floats:
    """What weights [rows, cols] are once they were stored. Which scales a quantised format chooses is the
    packer's affair (tests/formats/test_quantise.py): they are read from what it wrote."""
    if format in QUANTISED:
        levels, scales = quantised_parts(_core.pack(values, "matrix", format), format, *values.shape)
        rows, cols = values.shape
        return (np.repeat(scales, GROUP, axis=1) * (levels - 64).astype(np.float32))[:rows, :cols]
    if format == "bf16":
        return (bf16_bits(values).astype(np.uint32) << 16).view(np.float32).reshape(values.shape)
    return elements(values, format).astype(np.float32)


def pack_matrix(weights: Floats, format: str) -> bytes:
    """Panels of 16 rows: [k][16], or [k/2][16][2] for bf16, filled up with zeros."""
    pair = 2 if format == "bf16" else 1
    rows, cols = weights.shape
    whole = elements(weights, format)
    out = []
    for first in range(0, rows, 16):
        for k in range(0, cols, pair):
            for row in range(first, first + 16):
                for step in range(k, k + pair):
                    inside = row < rows and step < cols
                    out.append(whole[row, step].tobytes() if inside else bytes(whole.itemsize))
    return b"".join(out)


def quantised_bytes(format: str, rows: int, cols: int) -> int:
    """Bytes of a quantised matrix: in each panel pairs of groups, scales first; the last may be half."""
    groups = -(-cols // GROUP)
    panel = groups * GROUP * 16 // (1 if format == "q8" else 2) + -(-groups // 2) * 64
    return -(-rows // 16) * panel


def quantised_places(format: str, group: int) -> tuple[int, int]:
    """Where the weights and the scales of a group begin in a panel, in bytes."""
    weights = GROUP * 16 // (1 if format == "q8" else 2)
    pair = group // 2 * (64 + 2 * weights)
    return pair + 64 + group % 2 * weights, pair + group % 2 * 32


def quantised_parts(packed: bytes, format: str, rows: int, cols: int) -> tuple[Ints, Floats]:
    """What lies in a quantised matrix: levels [rows, cols] and scales [rows, groups], both with the padding
    of the last panel and the last group."""
    groups, panels = -(-cols // GROUP), -(-rows // 16)
    raw = np.frombuffer(packed, np.uint8).reshape(panels, -1)
    size = GROUP * 16 // (1 if format == "q8" else 2)
    places = [quantised_places(format, group) for group in range(groups)]
    weights = np.concatenate([raw[:, at : at + size] for at, _ in places], axis=1)
    if format == "q8":
        quads = weights.reshape(panels, groups * GROUP // 4, 16, 4)
        levels = quads.transpose(0, 2, 1, 3)
    else:
        pairs = weights.reshape(panels, groups * GROUP // 8, 16, 4)
        levels = Q4_LEVELS[np.stack([pairs & 15, pairs >> 4], axis=-2)].transpose(0, 2, 1, 3, 4)
    of_groups = np.concatenate([raw[:, at : at + 32] for _, at in places], axis=1)
    scales = of_groups.copy().view("<f2").reshape(panels, groups, 16)
    return (
        levels.reshape(panels * 16, groups * GROUP).astype(np.int64),
        scales.transpose(0, 2, 1).reshape(panels * 16, groups).astype(np.float32),
    )


def quantised_rows(x: Floats) -> tuple[Ints, Floats]:
    """Activations [rows, k] as whole numbers [rows, whole groups], nearest even, and the scale of each group:
    max |x| / 127. In binary32 throughout, as docs/format.md says."""
    rows, k = x.shape
    groups = np.zeros((rows, -(-k // GROUP), GROUP), np.float32)
    groups.reshape(rows, -1)[:, :k] = x
    largest = np.abs(groups).max(axis=-1)
    counts = largest >= np.float32(1e-30)  # what is smaller has a scale without an inverse
    scales = np.where(counts, largest / np.float32(127), np.float32(0))
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=counts)
    return np.rint(groups * inverse[..., None]).astype(np.int64).reshape(rows, -1), scales


def kv_round_trip(values: Floats, kv_dtype: str) -> Floats:
    """What keys or values [positions, head_dim] are once they lie in the cache."""
    if kv_dtype != "int8":
        return round_trip(values, kv_dtype)
    largest = np.abs(values).max(axis=1, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest >= 1e-30)
    return np.rint(values * inverse) * np.where(largest >= 1e-30, largest / np.float32(127), np.float32(0))


def gamma(steps: float) -> float:
    """The relative error of a chain of so many roundings (Higham 2002, lemma 3.1)."""
    return steps * UNIT / (1 - steps * UNIT)
