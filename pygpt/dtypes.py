"""The dtypes that a model can be exported to, and which tensor is stored in which format (docs/format.md).

A dtype is a name for a whole model, a format for one tensor: `q4` is a mixture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DTYPES = ("f32", "f16", "bf16", "q8", "q4", "q4_pure")

# Weights of these formats are multiplied with activations that were rounded to bytes.
QUANTISED = ("q8", "q4")
GROUP = 64  # neighbours along k that share a scale

# What the loss cannot spare, by the last part of a tensor's name: the projection back from the hidden layer,
# whose inputs are the largest, and the output head (which is `wte` where it is tied).
# docs/kernels.md has the measurement.
_KEPT_Q8 = ("down", "wte", "head")


def tensor_format(dtype: str, name: str, kind: str) -> str:
    """The format of one tensor of a model in `dtype`. Vectors are always f32; tables, which are looked up and
    never multiplied, are never quantised."""
    if kind == "vector":
        return "f32"
    if dtype not in ("q8", "q4", "q4_pure"):
        return dtype
    if kind == "table":
        return "f16"
    if dtype == "q4":
        return "q8" if name.rpartition(".")[2] in _KEPT_Q8 else "q4"
    return dtype.removesuffix("_pure")


def rounded_activations(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a quantised matrix sees of its input x [..., k]: each group of 64 as whole multiples of a 127th of
    its largest magnitude."""
    k = x.shape[-1]
    groups = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -k % GROUP)])
    groups = groups.reshape(*x.shape[:-1], -1, GROUP)
    scales = np.abs(groups).max(axis=-1, keepdims=True) / 127.0
    steps = np.divide(groups, scales, out=np.zeros_like(groups), where=scales > 0)
    rounded: NDArray[np.float64] = (np.rint(steps) * scales).reshape(*x.shape[:-1], -1)[..., :k]
    return rounded
