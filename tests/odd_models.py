"""Model files of any shape with seeded random weights, written without a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.file import Contents, write

Floats = NDArray[np.float32]
Change = Callable[[str, Floats], Floats]  # of a tensor, by its name


def write_model(
    path: Path,
    *,
    seed: int = 0,
    dtype: str = "f32",
    biases: bool = True,
    blobs: Mapping[str, bytes] | None = None,
    change: Change | None = None,
    **shape: Any,
) -> Architecture:
    """Write a model whose logits differ by some units; `shape` holds fields of Architecture."""
    architecture = _architecture(biases, shape)
    rng = np.random.default_rng(seed)
    weights: dict[str, Floats] = {}
    for name, kind, rows, cols in _core.tensor_specs(architecture.to_config()):
        tensor = _weights(rng, name, kind, rows, cols)
        if ".attn.qkv" in name:
            _clear_padding(architecture, tensor.T if kind == "vector" else tensor)
        if ".mlp.up" in name and architecture.gate:
            _clear_gate_padding(architecture, tensor.T if kind == "vector" else tensor)
        weights[name] = change(name, tensor) if change else tensor
    path.unlink(missing_ok=True)
    path.touch()
    contents = Contents(
        architecture=architecture, dtype=dtype, weights=weights.__getitem__, blobs=blobs or {}
    )
    write(path, contents)
    return architecture


def _architecture(biases: bool, shape: Mapping[str, Any]) -> Architecture:
    flags = {f"{part}_bias": biases for part in ("qkv", "proj", "mlp", "norm", "head")}
    base: dict[str, Any] = {
        "n_layer": 1, "n_head": 2, "head_dim": 5, "d_model": 12, "d_ff": 20, "context_length": 16,
        "vocab_size": 11, "activation": "gelu", "tied_head": False,
    }  # fmt: skip
    values = base | flags | shape
    values.setdefault("padded_vocab_size", values["vocab_size"])
    values.setdefault("attention_scale", values["head_dim"] ** -0.5)
    return Architecture(**values)


def _weights(rng: np.random.Generator, name: str, kind: str, rows: int, cols: int) -> Floats:
    """As a network that was trained might have them: every sublayer adds about as much as there is."""
    if name == "rope_frequencies":
        return rng.uniform(0.001, 1, (rows, cols)).astype(np.float32)
    if name.endswith(".gain"):
        return (1 + 0.2 * rng.standard_normal((rows, cols))).astype(np.float32)
    if kind == "vector":
        return (0.3 * rng.standard_normal((rows, cols))).astype(np.float32)
    if kind == "table":
        return rng.standard_normal((rows, cols), np.float32)
    return (rng.standard_normal((rows, cols)) * cols**-0.5).astype(np.float32)


def _clear_gate_padding(architecture: Architecture, rows: Floats) -> None:
    """The rows of gate and up past d_ff are zero."""
    panels = rows.reshape(-1, 2, 16, rows.shape[1])
    for index, panel in enumerate(panels):
        panel[:, max(0, architecture.d_ff - 16 * index) :] = 0


def _clear_padding(architecture: Architecture, rows: Floats) -> None:
    """The rows of each head's q, k and v past head_dim are zero."""
    for first in range(0, len(rows), architecture.padded_head_dim):
        rows[first + architecture.head_dim : first + architecture.padded_head_dim] = 0
