"""The forward pass in float64 numpy: the yardstick that the engine and every export are measured with.

It reads like the lecture, knows nothing of the C++ and shares no code with it. Tensors have the names and
shapes of docs/format.md. Shapes stand at the end of the lines where they change: T positions, C width of the
residual stream, H heads, G groups of heads that share k and v, D width of a head, P rows of a head's q, k or
v as stored, V rows of the vocabulary.
"""

# ruff: noqa: N806  (T and D are the names that everyone knows)

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pygpt.architecture import PANEL, Architecture

Array = NDArray[np.float64]


class Tensor(Protocol):
    """What is asked of a tensor [rows, cols]; an array is one, too."""

    @property
    def shape(self) -> tuple[Any, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> Any: ...


Weights = Callable[[str], Tensor]  # by its name in docs/format.md
Place = Callable[[str, Array], Array]  # "q" or "k" [T, D] of a head, as attention compares them
Rounding = Callable[[str, Array], Array]  # what the matrix of this name sees of its input [..., cols]


def _exact(name: str, x: Array) -> Array:
    del name
    return x


ROWS_AT_ONCE = 1024  # of a matrix in float64: the whole of it would be twice what the model is, in memory


@dataclass(frozen=True, slots=True)
class Trace:
    """What a forward pass computed.

    Attributes:
        states: the residual stream [T, C] as each layer reads it, then as the final norm does.
        logits: [positions asked for, padded_vocab_size].
    """

    states: list[Array]
    logits: Array


def forward(
    a: Architecture,
    weights: Weights,
    ids: Sequence[int],
    positions: Sequence[int] | None = None,
    rounding: Rounding = _exact,
) -> Trace:
    """Run the model over the ids, which are at most `context_length`. Weights are read one at a time.

    Args:
        positions: the positions to give logits for; None for all.
        rounding: how a storage format rounds what is multiplied; nothing is rounded without it.
    """

    def product(x: Array, name: str) -> Array:
        return _product(weights, rounding, x, name)

    def bias(name: str, present: bool) -> Array | float:
        return _bias(weights, name, present)

    def norm(x: Array, name: str) -> Array:
        return _norm(a, weights, x, name)

    def vector(name: str) -> Array:
        values: Array = weights(name)[0].astype(np.float64)
        return values

    x = weights("wte")[list(ids)].astype(np.float64)  # [T, C]
    if a.position == "learned":
        x = x + weights("wpe")[: len(ids)]
    if a.embedding_norm:
        x = norm(x, "ln_e")
    if a.smear_width:
        x = smeared(x, vector("smear.gate"), vector("smear.lambda")[0])
    x0 = kept = x
    states = []
    for i in range(a.n_layer):
        layer = f"h.{i}."
        if a.layer_lambdas:
            of_x, of_x0 = vector(layer + "lambdas")
            x = of_x * x + of_x0 * x0
        states.append(x)

        h = norm(x, layer + "ln_1")
        qkv = product(h, layer + "attn.qkv") + bias(layer + "attn.qkv.bias", a.qkv_bias)  # [T, G*(H/G+2)*P]
        if a.has_values(i):
            embedded = weights(layer + "attn.value_embed")[list(ids)].astype(np.float64)  # [T, G*D]
            qkv = with_values(a, qkv, h, vector(layer + "attn.value_gate"), embedded)
        heads = attention(a, qkv, a.window_of(i), partial(placed, a, weights, i))  # [T, H*D]
        x = x + product(heads, layer + "attn.proj") + bias(layer + "attn.proj.bias", a.proj_bias)

        h = norm(x, layer + "ln_2")
        u = product(h, layer + "mlp.up") + bias(layer + "mlp.up.bias", a.mlp_bias)
        u = hidden(a, u)  # [T, d_ff]
        x = x + product(u, layer + "mlp.down") + bias(layer + "mlp.down.bias", a.mlp_bias)
        kept = x if i == a.backout_layer else kept

    if a.backout_layer is not None:
        x = x - vector("backout.lambda") * kept
    states.append(x)
    if positions is not None:
        x = x[list(positions)]
    return Trace(states, readout(a, weights, x, rounding))  # [T, V]


def readout(a: Architecture, weights: Weights, x: Array, rounding: Rounding = _exact) -> Array:
    """Logits [..., padded_vocab_size] of states of the residual stream [..., C]: the final norm and the
    head."""
    x = _norm(a, weights, x, "ln_f")
    logits = _product(weights, rounding, x, "wte" if a.tied_head else "head")
    return capped(logits + _bias(weights, "head.bias", a.head_bias), a.logit_cap)


def _product(weights: Weights, rounding: Rounding, x: Array, name: str) -> Array:
    """x Wᵀ, some rows of W at a time, so that no float64 copy of the whole is made."""
    rounded, stored = rounding(name, x), weights(name)
    result = np.empty((*x.shape[:-1], len(stored)))
    buffer = np.empty((min(ROWS_AT_ONCE, len(stored)), stored.shape[1]))
    for start in range(0, len(stored), ROWS_AT_ONCE):
        rows = buffer[: len(stored) - start]
        rows[...] = stored[start : start + ROWS_AT_ONCE]
        np.matmul(rounded, rows.T, out=result[..., start : start + ROWS_AT_ONCE])
    return result


def _bias(weights: Weights, name: str, present: bool) -> Array | float:
    return weights(name)[0].astype(np.float64) if present else 0.0


def _norm(a: Architecture, weights: Weights, x: Array, name: str) -> Array:
    gain = weights(name + ".gain")[0]
    return NORMS[a.norm](x, gain, _bias(weights, name + ".bias", a.norm_bias), a.norm_epsilon)


def smeared(x: Array, gate: Array, scale: float) -> Array:
    """x [T, C], to each position of which the one before it is added, gated by the position's own first
    columns."""
    amount = scale * sigmoid(x[1:, : len(gate)] @ gate)  # [T - 1]
    return np.concatenate([x[:1], x[1:] + amount[:, None] * x[:-1]])


def with_values(a: Architecture, qkv: Array, h: Array, gate: Array, embedded: Array) -> Array:
    """qkv [T, G*(H/G+2)*P] with the token's embedding added to the v of each group, gated by first columns
    of the normed row.

    Args:
        h: [T, C].
        gate: [G*value_gate_width].
        embedded: [T, G*D]. Zhou et al. 2024, arXiv:2410.17897, add the first layer's v, here it is a table.
    """
    T, G, D = len(qkv), a.n_kv_head, a.head_dim
    amount = a.value_gate_scale * sigmoid(h[:, : a.value_gate_width] @ gate.reshape(G, -1).T)  # [T, G]
    qkv = qkv.reshape(T, G, a.heads_per_group + 2, a.padded_head_dim).copy()
    qkv[:, :, -1, :D] += amount[..., None] * embedded.reshape(T, G, D)
    return qkv.reshape(T, -1)


def capped(logits: Array, cap: float) -> Array:
    """cap * tanh(logits / cap); the logits where cap is 0. Gemma Team 2024, arXiv:2408.00118, section 2."""
    return cap * np.tanh(logits / cap) if cap else logits


def attention(a: Architecture, qkv: Array, window: int | None = None, place: Place = _exact) -> Array:
    """softmax(scale * q kᵀ) v of every head, each position seeing the last `window` up to itself, or all.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1; heads that share k and v: Ainslie et al. 2023,
    arXiv:2305.13245.

    Args:
        qkv: [T, G*(H/G+2)*P]: of group 0 the q of each of its heads, then k, then v; then of group 1, and so
            on.

    Returns:
        The heads side by side, [T, H*D].
    """
    T, D = len(qkv), a.head_dim
    # Without the padding: [T, G, H/G + 2, D].
    qkv = qkv.reshape(T, a.n_kv_head, a.heads_per_group + 2, a.padded_head_dim)[..., :D]
    back = np.arange(T)[:, None] - np.arange(T)  # from the row that asks to the column that answers
    unseen = (back < 0) | (back >= (window or T))
    out = np.empty((T, a.n_head, D))
    for head in range(a.n_head):
        group, index = divmod(head, a.heads_per_group)
        q, k, v = (qkv[:, group, part] for part in (index, -2, -1))  # each [T, D]
        q, k = place("q", q), place("k", k)
        scores = a.attention_scale * (q @ k.T)  # [T, T]
        scores[unseen] = -np.inf
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out[:, head] = scores / scores.sum(axis=-1, keepdims=True) @ v
    return out.reshape(T, a.n_head * D)


def placed(a: Architecture, weights: Weights, layer: int, part: str, x: Array) -> Array:
    """q or k [T, D] of a head of a layer, normed and turned where the architecture says so.

    The norm: Dehghani et al. 2023, arXiv:2302.05442, section 2.
    """

    def norm(x: Array) -> Array:
        return rms_norm(x, weights(f"h.{layer}.attn.{part}_norm.gain")[0], 0.0, a.norm_epsilon)

    if a.qk_norm == "before_rotary":
        x = norm(x)
    if a.turns(layer):
        exponents = -2.0 * np.arange(a.head_dim // 2) / a.head_dim
        x = rotated(x, weights("rope_frequencies")[0] if a.rope_frequencies else a.rope_theta**exponents)
    if a.qk_norm == "after_rotary":
        x = norm(x)
    return x


def rotated(x: Array, frequencies: NDArray[np.floating]) -> Array:
    """q or k [T, D] of a head, each pair (x[i], x[i + D/2]) turned by its position times its frequency.

    Su et al. 2021, arXiv:2104.09864.
    """
    T, D = x.shape
    angles = np.arange(T)[:, None] * frequencies.astype(np.float64)  # [T, D/2]
    first, second = x[:, : D // 2], x[:, D // 2 :]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=1)


def hidden(a: Architecture, u: Array) -> Array:
    """The hidden layer [T, d_ff] from what `mlp.up` gives.

    With a gate, panels of gate and up take turns in it. Shazeer 2020, arXiv:2002.05202.
    """
    act = ACTIVATIONS[a.activation]
    if not a.gate:
        return act(u)
    panels = u.reshape(len(u), -1, 2, PANEL)
    gated: Array = act(panels[:, :, 0]) * panels[:, :, 1]
    return gated.reshape(len(u), -1)[:, : a.d_ff]


def layer_norm(x: Array, gain: NDArray[np.floating], bias: Array | float, epsilon: float) -> Array:
    """Each row with mean 0 and variance 1 (of the row itself: divided by its length), then scaled and
    shifted.

    Ba, Kiros and Hinton 2016, arXiv:1607.06450.
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    normed: Array = centred / np.sqrt(variance + epsilon) * gain + bias
    return normed


def rms_norm(x: Array, gain: NDArray[np.floating], bias: Array | float, epsilon: float) -> Array:
    """Each row with a mean square of 1, then scaled and shifted.

    Zhang and Sennrich 2019, arXiv:1910.07467.
    """
    normed: Array = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon) * gain + bias
    return normed


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0.0)


def gelu(x: Array) -> Array:
    """x Phi(x) with the error function itself. Hendrycks and Gimpel 2016, arXiv:1606.08415."""
    erf = np.fromiter(map(math.erf, (x / math.sqrt(2.0)).ravel()), np.float64, x.size).reshape(x.shape)
    return 0.5 * x * (1.0 + erf)


def gelu_tanh(x: Array) -> Array:
    """The approximation of gelu that GPT-2 was trained with (same paper, section 2)."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Array) -> Array:
    """x / (1 + exp(-x)). Elfwing, Uchibe and Doya 2017, arXiv:1702.03118."""
    return x * sigmoid(x)


def relu_squared(x: Array) -> Array:
    """max(x, 0)^2. So et al. 2021, arXiv:2109.08668."""
    return relu(x) ** 2


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    result: Array = np.exp(-np.logaddexp(0.0, -x))
    return result


def tanh(x: Array) -> Array:
    """The hyperbolic tangent."""
    result: Array = np.tanh(x)
    return result


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "relu_squared": relu_squared,
    "tanh": tanh,
}
NORMS: dict[str, Callable[[Array, NDArray[np.floating], Array | float, float], Array]] = {
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
}


def log_sum_exp(logits: Array) -> Array:
    """log(sum(exp(logits))) of each row."""
    largest = logits.max(axis=-1)
    total: Array = largest + np.log(np.exp(logits - largest[..., None]).sum(axis=-1))
    return total
