"""The weight formats of docs/format.md once more, in plain numpy: what a weight becomes and where it lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNIT = 2.0**-24  # the relative error of one binary32 rounding

Floats = NDArray[np.float32]


def bf16_bits(values: Floats) -> NDArray[np.uint16]:
    """The upper half of each binary32, rounded to nearest, ties to even, in whole numbers."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    lower, upper = bits & 0xFFFF, bits >> 16
    up = (lower > 0x8000) | ((lower == 0x8000) & (upper & 1 == 1))
    return (upper + up).astype(np.uint16)


def elements(values: Floats, format: str) -> NDArray[np.generic]:
    """The values as elements of a format: float32, float16, or the bits of bfloat16."""
    if format == "bf16":
        return bf16_bits(values)
    return values.astype({"f32": np.float32, "f16": np.float16}[format])


def round_trip(values: Floats, format: str) -> Floats:
    """What the weights are once they were stored."""
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


def gamma(steps: float) -> float:
    """The relative error of a chain of so many roundings (Higham 2002, lemma 3.1)."""
    return steps * UNIT / (1 - steps * UNIT)
