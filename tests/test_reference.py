"""The float64 forward against PyTorch in float64, at every position."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pygpt.architecture import Architecture
from pygpt.reference import ACTIVATIONS, attention, forward, layer_norm, log_sum_exp

ODD = Architecture(
    n_layer=3,
    n_head=3,
    head_dim=10,
    d_model=26,  # not n_head * head_dim
    d_ff=37,
    context_length=11,
    vocab_size=19,
    padded_vocab_size=21,
    activation="gelu",
    attention_scale=0.4,
    tied_head=False,
    qkv_bias=True,
    proj_bias=True,
    mlp_bias=True,
    norm_bias=True,
    head_bias=True,
)


def random_weights(a: Architecture, seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors by the table of docs/format.md, with noise where heads are padded: it must not matter."""
    rng = np.random.default_rng(seed)
    C, HD, P3 = a.d_model, a.n_head * a.head_dim, a.n_head * 3 * a.padded_head_dim  # noqa: N806
    shapes = {
        "wte": (a.padded_vocab_size, C),
        "wpe": (a.context_length, C),
        "ln_f.gain": (1, C),
        "ln_f.bias": (1, C),
    }
    shapes |= {"head": (a.padded_vocab_size, C), "head.bias": (1, a.padded_vocab_size)}
    for i in range(a.n_layer):
        h = f"h.{i}."
        shapes |= {
            h + "ln_1.gain": (1, C),
            h + "ln_1.bias": (1, C),
            h + "ln_2.gain": (1, C),
            h + "ln_2.bias": (1, C),
        }
        shapes |= {h + "attn.qkv": (P3, C), h + "attn.qkv.bias": (1, P3)}
        shapes |= {h + "attn.proj": (C, HD), h + "attn.proj.bias": (1, C)}
        shapes |= {h + "mlp.up": (a.d_ff, C), h + "mlp.up.bias": (1, a.d_ff)}
        shapes |= {h + "mlp.down": (C, a.d_ff), h + "mlp.down.bias": (1, C)}
    return {name: rng.standard_normal(shape, np.float32) * 0.3 for name, shape in shapes.items()}


def by_torch(a: Architecture, weights: dict[str, np.ndarray], ids: list[int]) -> torch.Tensor:
    """The same with torch's own layers."""
    F = torch.nn.functional  # noqa: N806
    w = {name: torch.from_numpy(value).double() for name, value in weights.items()}
    x = w["wte"][ids] + w["wpe"][: len(ids)]
    for i in range(a.n_layer):
        h = f"h.{i}."
        n = F.layer_norm(x, (a.d_model,), w[h + "ln_1.gain"][0], w[h + "ln_1.bias"][0], a.norm_epsilon)
        qkv = F.linear(n, w[h + "attn.qkv"], w[h + "attn.qkv.bias"][0])
        qkv = qkv.view(len(ids), a.n_head, 3, a.padded_head_dim)[..., : a.head_dim]
        q, k, v = qkv.permute(2, 1, 0, 3)  # each [H, T, D]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=a.attention_scale)
        y = y.transpose(0, 1).reshape(len(ids), -1)
        x = x + F.linear(y, w[h + "attn.proj"], w[h + "attn.proj.bias"][0])
        n = F.layer_norm(x, (a.d_model,), w[h + "ln_2.gain"][0], w[h + "ln_2.bias"][0], a.norm_epsilon)
        u = F.gelu(F.linear(n, w[h + "mlp.up"], w[h + "mlp.up.bias"][0]))
        x = x + F.linear(u, w[h + "mlp.down"], w[h + "mlp.down.bias"][0])
    x = F.layer_norm(x, (a.d_model,), w["ln_f.gain"][0], w["ln_f.bias"][0], a.norm_epsilon)
    return F.linear(x, w["head"], w["head.bias"][0])


def test_every_logit_equals_torch_s() -> None:
    weights = random_weights(ODD)
    ids = [3, 20, 0, 7, 7, 18, 1, 2, 5, 11, 4]
    ours = forward(ODD, weights.__getitem__, ids)
    theirs = by_torch(ODD, weights, ids).numpy()
    np.testing.assert_allclose(ours.logits, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())
    assert [state.shape for state in ours.states] == [(11, 26)] * 4


def test_positions_asked_for_are_rows_of_all_logits() -> None:
    weights = random_weights(ODD)
    all_of_them = forward(ODD, weights.__getitem__, [1, 2, 3, 4, 5]).logits
    some = forward(ODD, weights.__getitem__, [1, 2, 3, 4, 5], positions=[0, 4, 2]).logits
    np.testing.assert_allclose(some, all_of_them[[0, 4, 2]], rtol=0, atol=1e-13)


def test_a_later_token_changes_no_earlier_logit() -> None:
    weights = random_weights(ODD)
    first = forward(ODD, weights.__getitem__, [1, 2, 3, 4, 5]).logits
    second = forward(ODD, weights.__getitem__, [1, 2, 3, 9, 5]).logits
    np.testing.assert_array_equal(first[:3], second[:3])
    assert np.abs(first[3:] - second[3:]).max() > 1e-3


@pytest.mark.parametrize("name", ["relu", "gelu", "gelu_tanh"])
def test_activations_equal_torch_s(name: str) -> None:
    x = np.linspace(-9, 9, 2001)
    theirs = {
        "relu": torch.relu,
        "gelu": torch.nn.functional.gelu,
        "gelu_tanh": lambda t: torch.nn.functional.gelu(t, approximate="tanh"),
    }[name](torch.from_numpy(x))
    np.testing.assert_allclose(ACTIVATIONS[name](x), theirs.numpy(), rtol=1e-13, atol=1e-15)


def test_layer_norm_of_a_constant_row_is_its_bias() -> None:
    np.testing.assert_array_equal(
        layer_norm(np.full((2, 5), 3.0), np.ones(5), np.arange(5.0), 1e-5)[0], np.arange(5)
    )


def test_attention_to_one_position_is_its_value() -> None:
    qkv = np.random.default_rng(0).standard_normal((1, ODD.n_head * 3 * ODD.padded_head_dim))
    values = qkv.reshape(ODD.n_head, 3, ODD.padded_head_dim)[:, 2, : ODD.head_dim]
    np.testing.assert_allclose(attention(ODD, qkv)[0], values.ravel(), rtol=1e-15)


def test_log_sum_exp_does_not_overflow() -> None:
    np.testing.assert_allclose(
        log_sum_exp(np.array([[1000.0, 1000.0], [-1000.0, -2000.0]])), [1000 + np.log(2), -1000]
    )


def test_every_product_and_nothing_else_is_rounded_under_its_name() -> None:
    """Rounding what a matrix sees is the same as another input to it: asked for once for each product."""
    weights = random_weights(ODD)
    asked: list[tuple[str, tuple[int, ...]]] = []

    def rounding(name: str, x: np.ndarray) -> np.ndarray:
        asked.append((name, x.shape))
        return 2 * x if name == "head" else x

    exact = forward(ODD, weights.__getitem__, [1, 2, 3])
    doubled = forward(ODD, weights.__getitem__, [1, 2, 3], [2], rounding)
    parts = [("attn.qkv", 26), ("attn.proj", 30), ("mlp.up", 26), ("mlp.down", 37)]
    layers = [(f"h.{i}.{part}", (3, width)) for i in range(3) for part, width in parts]
    assert asked == [*layers, ("head", (1, 26))]
    bias = weights["head.bias"]
    np.testing.assert_allclose(doubled.logits - bias, 2 * (exact.logits[2:] - bias), rtol=1e-12)
    for mine, theirs in zip(doubled.states, exact.states, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_tied_head_is_rounded_as_wte_and_the_lookup_is_not() -> None:
    tied = replace(ODD, tied_head=True, head_bias=False)
    weights = random_weights(ODD)
    names: list[str] = []

    def rounding(name: str, x: np.ndarray) -> np.ndarray:
        names.append(name)
        return np.zeros_like(x)

    trace = forward(tied, weights.__getitem__, [1, 2], rounding=rounding)
    assert names[-1] == "wte"
    assert names.count("wte") == 1
    assert "wpe" not in names
    np.testing.assert_array_equal(trace.states[0], weights["wte"][[1, 2]].astype(float) + weights["wpe"][:2])
    assert not trace.logits.any()
