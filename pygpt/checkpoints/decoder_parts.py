"""What decoders of Llama's kind store apart and docs/format.md together: q, k and v; gate and up."""

from __future__ import annotations

from collections.abc import Callable

from pygpt.architecture import Architecture
from pygpt.checkpoints.base import Array, Read, Source
from pygpt.checkpoints.canonical import head_by_head, panel_by_panel

Joined = Callable[[list[Array]], Array]  # from their tensors to the rows of ours


def joined(
    source: Source,
    a: Architecture,
    qkv: tuple[str, ...],
    gate_up: tuple[str, ...],
    half_split: Callable[[Array], Array] = lambda rows: rows,
) -> dict[str, Callable[[int], Read]]:
    """Readers for `canonical_tensors`, of weights and of biases.

    Args:
        qkv: the names of the layers q, k and v, {i} for the block; tensors end in .weight and .bias.
        gate_up: the names of the gate and of what it multiplies.
        half_split: puts the rows of q or k [heads, head_dim, width], whose pairs are turned together, into
            the order of docs/format.md.
    """
    sizes = tuple(heads * a.head_dim for heads in (a.n_head, a.n_kv_head, a.n_kv_head))

    def heads(parts: list[Array]) -> Array:
        q, k, v = (part.reshape(-1, a.head_dim, part.shape[-1]) for part in parts)
        return head_by_head(half_split(q), half_split(k), v)

    def panels(parts: list[Array]) -> Array:
        return panel_by_panel(*parts)

    def weight(names: tuple[str, ...], rows: tuple[int, ...], join: Joined) -> Callable[[int], Read]:
        def reader(layer: int) -> Read:
            reads = [
                source.reader(f"{name.format(i=layer)}.weight", n, a.d_model)
                for name, n in zip(names, rows, strict=True)
            ]
            return lambda: join([read() for read in reads])

        return reader

    def bias(names: tuple[str, ...], rows: tuple[int, ...], join: Joined) -> Callable[[int], Read]:
        def reader(layer: int) -> Read:
            reads = [
                source.reader(f"{name.format(i=layer)}.bias", n) for name, n in zip(names, rows, strict=True)
            ]
            return lambda: join([read().reshape(-1, 1) for read in reads]).reshape(1, -1)

        return reader

    return {
        "attn.qkv": weight(qkv, sizes, heads),
        "attn.qkv.bias": bias(qkv, sizes, heads),
        "mlp.up": weight(gate_up, (a.d_ff, a.d_ff), panels),
        "mlp.up.bias": bias(gate_up, (a.d_ff, a.d_ff), panels),
    }
