"""From a family's names to the tensors of docs/format.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from pygpt import _core
from pygpt.architecture import PANEL, Architecture
from pygpt.checkpoints.base import Array, Read, Source


def check_names(
    source: Source, required: Iterable[str], ignored: Iterable[str], n_layer: int, n_head: int = 0
) -> None:
    """Hold the checkpoint to the names of its family; {i} stands for every block, {h} for every head.

    Raises:
        ModelFileError: a required tensor is missing, or there is one that is neither required nor ignored.
    """
    if n_layer * max(n_head, 1) > len(source.tensors):  # before so many names are formed
        message = f"{n_layer} blocks are named, but there are {len(source.tensors)} tensors"
        raise source.error("missing_tensors", message)
    needed = {name for template in required for name in _expand(template, n_layer, n_head)}
    known = needed | {name for template in ignored for name in _expand(template, n_layer, n_head)}
    missing = sorted(needed - source.tensors.keys())
    extra = sorted(source.tensors.keys() - known)
    if missing:
        raise source.error("missing_tensors", f"tensors are missing: {shorten(missing)}")
    if extra:
        raise source.error("unexpected_tensors", f"tensors that this family does not have: {shorten(extra)}")


def shorten(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def canonical_tensors(
    source: Source,
    a: Architecture,
    names: Mapping[str, str],
    made: Mapping[str, Callable[[int], Read]] | None = None,
) -> dict[str, Read]:
    """Every tensor that the architecture implies, each as a function that reads it as [rows, cols].

    Args:
        names: our name to theirs, with {i} for the block. Their `attn.qkv` has the rows q of every head, then
            k, then v.
        made: what is not one tensor there: our name, in a block what stands behind "h.{i}.", and a function
            that makes the reader for block i (0 outside of blocks).

    Raises:
        ModelFileError: a tensor has another shape, or a dtype that cannot be read.
    """
    tensors: dict[str, Read] = {}
    for name, kind, rows, cols in _core.tensor_specs(a.to_config()):
        block = re.match(r"h\.(\d+)\.", name)
        make = made.get(name[block.end() :] if block else name) if made else None
        if make:
            tensors[name] = make(int(block[1]) if block else 0)
            continue
        theirs = names[f"h.{{i}}.{name[block.end() :]}"].replace("{i}", block[1]) if block else names[name]
        stacked = 3 * a.n_head * a.head_dim
        if name.endswith(".attn.qkv"):
            tensors[name] = _split(source.reader(theirs, stacked, cols), a.n_head)
        elif name.endswith(".attn.qkv.bias"):
            tensors[name] = _as_row(_split(source.reader(theirs, stacked), a.n_head))
        else:
            tensors[name] = (
                _as_row(source.reader(theirs, cols))
                if kind == "vector"
                else source.reader(theirs, rows, cols)
            )
    return tensors


def head_by_head(q: Array, k: Array, v: Array) -> Array:
    """q [n_head, head_dim, d_model] and k and v [n_kv_head, head_dim, d_model] as the rows of `attn.qkv`."""
    n_kv_head, head_dim, d_model = k.shape
    group = len(q) // n_kv_head
    padded = -(-head_dim // PANEL) * PANEL
    rows = np.zeros((n_kv_head, group + 2, padded, d_model), np.float32)
    rows[:, :group, :head_dim] = q.reshape(n_kv_head, group, head_dim, d_model)
    rows[:, group, :head_dim] = k
    rows[:, group + 1, :head_dim] = v
    return rows.reshape(-1, d_model)


def panel_by_panel(gate: Array, up: Array) -> Array:
    """gate and up [d_ff, d_model] as the rows of `mlp.up`: 16 of gate, the same 16 of up, and so on."""
    d_ff, d_model = gate.shape
    panels = -(-d_ff // PANEL)
    rows = np.zeros((2, panels * PANEL, d_model), np.float32)
    rows[0, :d_ff], rows[1, :d_ff] = gate, up
    return np.ascontiguousarray(rows.reshape(2, panels, PANEL, d_model).swapaxes(0, 1)).reshape(-1, d_model)


def _split(read: Read, n_head: int) -> Read:
    """From the rows q of every head, then k, then v, to head by head; a bias is one column."""

    def rows() -> Array:
        stored = read()
        stored = stored.reshape(3, n_head, stored.shape[0] // (3 * n_head), -1)
        return head_by_head(*stored)

    return rows


def _as_row(read: Read) -> Read:
    """A vector, or one column, as [1, n]."""
    return lambda: read().reshape(1, -1)


def _expand(template: str, n_layer: int, n_head: int) -> Iterable[str]:
    layers = range(n_layer) if "{i}" in template else range(1)
    heads = range(n_head) if "{h}" in template else range(1)
    return (template.replace("{i}", str(i)).replace("{h}", str(h)) for i in layers for h in heads)
