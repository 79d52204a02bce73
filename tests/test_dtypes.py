"""Which tensor is stored in which format, and what a quantised matrix sees of its input."""

from __future__ import annotations

import numpy as np
import pytest

from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.dtypes import DTYPES, GROUP, QUANTISED, rounded_activations, tensor_format
from pygpt.file import Contents
from pygpt.parity import ACTIVATION_NOISE, QUANTISATION_NOISE, UNIT_ROUNDOFF

UNTIED = Architecture(
    n_layer=12, n_head=1, head_dim=16, d_model=16, d_ff=16, context_length=4, vocab_size=8,
    padded_vocab_size=8, activation="relu", attention_scale=0.25, tied_head=False, qkv_bias=True,
    proj_bias=True, mlp_bias=True, norm_bias=True, head_bias=True,
)  # fmt: skip


def formats(dtype: str, *, tied: bool) -> dict[str, str]:
    """The format of every tensor of a model by its name."""
    config = UNTIED.to_config() | {"tied_head": "true" if tied else "false"}
    return {name: tensor_format(dtype, name, kind) for name, kind, _, _ in _core.tensor_specs(config)}


def weights_only(stored: dict[str, str]) -> dict[str, str]:
    return {name: each for name, each in stored.items() if not name.endswith((".gain", ".bias"))}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tied", [True, False])
def test_vectors_are_f32_and_the_core_takes_every_choice(dtype: str, tied: bool) -> None:
    stored = formats(dtype, tied=tied)
    assert {each for name, each in stored.items() if name.endswith((".gain", ".bias"))} == {"f32"}
    assert set(stored.values()) <= set(_core.formats())
    config = UNTIED.to_config() | {"tied_head": "true" if tied else "false"}
    for name, kind, rows, cols in _core.tensor_specs(config):
        assert _core.pack(np.zeros((rows, cols), np.float32), kind, stored[name])


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_a_plain_dtype_is_the_format_of_all_matrices_and_tables(dtype: str) -> None:
    assert set(weights_only(formats(dtype, tied=False)).values()) == {dtype}


@pytest.mark.parametrize("dtype", ["q8", "q4_pure"])
def test_a_pure_dtype_quantises_all_matrices_and_no_table(dtype: str) -> None:
    untied, tied = (weights_only(formats(dtype, tied=tied)) for tied in (False, True))
    assert [name for name, each in untied.items() if each == "f16"] == ["wte", "wpe"]
    assert [name for name, each in tied.items() if each == "f16"] == ["wpe"]
    assert set(untied.values()) == set(tied.values()) == {dtype.removesuffix("_pure"), "f16"}


def test_q4_keeps_in_q8_what_the_loss_cannot_spare() -> None:
    untied, tied = (weights_only(formats("q4", tied=tied)) for tied in (False, True))
    for layer in range(12):
        parts = {
            part: untied[f"h.{layer}.{part}"] for part in ("attn.qkv", "attn.proj", "mlp.up", "mlp.down")
        }
        assert parts == {"attn.qkv": "q4", "attn.proj": "q4", "mlp.up": "q4", "mlp.down": "q8"}
    assert (untied["wte"], untied["wpe"], untied["head"]) == ("f16", "f16", "q8")
    assert (tied["wte"], tied["wpe"]) == ("q8", "f16")


def test_every_dtype_has_its_figures() -> None:
    assert set(DTYPES) == set(UNIT_ROUNDOFF) | set(QUANTISATION_NOISE)
    assert set(QUANTISED) <= set(_core.formats())


def test_only_a_quantised_matrix_rounds_its_input() -> None:
    x = np.random.default_rng(0).standard_normal((2, 16))
    for dtype in DTYPES:
        contents = Contents(architecture=UNTIED, dtype=dtype, weights=lambda _: np.zeros((1, 1), np.float32))
        for name in ("h.3.attn.qkv", "h.3.mlp.down", "head"):
            seen = contents.rounding(name, x)
            assert np.array_equal(seen, x) == (dtype in ("f32", "f16", "bf16"))


@pytest.mark.parametrize("k", [1, 63, 64, 65, 200])
def test_activations_are_multiples_of_a_127th_of_their_group_s_largest(k: int) -> None:
    x = np.random.default_rng(k).standard_normal((3, 4, k))
    rounded = rounded_activations(x)
    assert rounded.shape == x.shape
    for first in range(0, k, GROUP):
        part, seen = x[..., first : first + GROUP], rounded[..., first : first + GROUP]
        largest = np.abs(part).max(axis=-1, keepdims=True)
        steps = seen / (largest / 127)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-12)
        assert (np.abs(seen - part) <= largest / 127 / 2 * (1 + 1e-12)).all()
        np.testing.assert_allclose(np.abs(seen).max(axis=-1, keepdims=True), largest, rtol=1e-15)


def test_ties_go_to_the_even_multiple_and_zeros_stay() -> None:
    x = np.array([127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 0.0])
    np.testing.assert_array_equal(rounded_activations(x), [127, 0, 2, 2, 0, -2, 0])
    np.testing.assert_array_equal(rounded_activations(np.zeros((2, 70))), np.zeros((2, 70)))


def test_the_rounding_of_activations_is_the_noise_that_parity_counts_on() -> None:
    x = np.random.default_rng(1).standard_normal((500, GROUP))
    off = rounded_activations(x) - x
    assert np.sqrt((off**2).sum() / (x**2).sum()) == pytest.approx(ACTIVATION_NOISE, rel=0.05)
