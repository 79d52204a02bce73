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

import numpy as np
from numpy.typing import NDArray

from pygpt.architecture import PANEL, Architecture

Array = NDArray[np.float64]
Weights = Callable[[str], NDArray[np.floating]]  # a tensor [rows, cols] by its name in docs/format.md
Rounding = Callable[[str, Array], Array]  # what the matrix of this name sees of its input [..., cols]


def _exact(name: str, x: Array) -> Array:
    del name
    return x


ROWS_AT_ONCE = 4096  # of a matrix in float64: the whole of it would be twice what the model is, in memory


@dataclass(frozen=True, slots=True)
class Trace:
    """What a forward pass computed.

    Attributes:
        states: the residual stream [T, C] after the embedding, then after each layer.
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
        """x Wᵀ"""
        rounded, stored = rounding(name, x), weights(name)
        result = np.empty((*x.shape[:-1], len(stored)))
        for start in range(0, len(stored), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            result[..., rows] = rounded @ stored[rows].astype(np.float64).T
        return result

    def bias(name: str, present: bool) -> Array | float:
        return weights(name).astype(np.float64)[0] if present else 0.0

    def norm(x: Array, name: str) -> Array:
        gain = weights(name + ".gain")[0]
        return NORMS[a.norm](x, gain, bias(name + ".bias", a.norm_bias), a.norm_epsilon)

    x = weights("wte")[list(ids)].astype(np.float64)  # [T, C]
    if a.position == "learned":
        x = x + weights("wpe")[: len(ids)]
    states = [x]
    for i in range(a.n_layer):
        layer = f"h.{i}."

        h = norm(x, layer + "ln_1")
        qkv = product(h, layer + "attn.qkv") + bias(layer + "attn.qkv.bias", a.qkv_bias)  # [T, G*(H/G+2)*P]
        heads = attention(a, qkv)  # [T, H*D]
        x = x + product(heads, layer + "attn.proj") + bias(layer + "attn.proj.bias", a.proj_bias)

        h = norm(x, layer + "ln_2")
        u = product(h, layer + "mlp.up") + bias(layer + "mlp.up.bias", a.mlp_bias)
        u = hidden(a, u)  # [T, d_ff]
        x = x + product(u, layer + "mlp.down") + bias(layer + "mlp.down.bias", a.mlp_bias)
        states.append(x)

    if positions is not None:
        x = x[list(positions)]
    x = norm(x, "ln_f")
    head = product(x, "wte" if a.tied_head else "head")
    return Trace(states, head + bias("head.bias", a.head_bias))  # [T, V]


def attention(a: Architecture, qkv: Array) -> Array:
    """softmax(scale * q kᵀ) v of every head, each position seeing itself and what came before.

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
    future = np.triu(np.ones((T, T), bool), k=1)  # row asks, column answers
    out = np.empty((T, a.n_head, D))
    for head in range(a.n_head):
        group, place = divmod(head, a.heads_per_group)
        q, k, v = (qkv[:, group, part] for part in (place, -2, -1))  # each [T, D]
        if a.position == "rotary":
            q, k = rotated(q, a.rope_theta), rotated(k, a.rope_theta)
        scores = a.attention_scale * (q @ k.T)  # [T, T]
        scores[future] = -np.inf
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out[:, head] = scores / scores.sum(axis=-1, keepdims=True) @ v
    return out.reshape(T, a.n_head * D)


def rotated(x: Array, theta: float) -> Array:
    """q or k [T, D] of a head, each pair (x[i], x[i + D/2]) turned by its position times theta^(-2i/D).

    Su et al. 2021, arXiv:2104.09864.
    """
    T, D = x.shape
    angles = np.arange(T)[:, None] * theta ** (-2.0 * np.arange(D // 2) / D)  # [T, D/2]
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
    return x * np.exp(-np.logaddexp(0.0, -x))


def tanh(x: Array) -> Array:
    """The hyperbolic tangent."""
    result: Array = np.tanh(x)
    return result


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
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
