"""f32 logits against PyTorch float32, and every format against float64 on the weights as stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from odd_models import write_model

import pygpt
from pygpt import _core
from pygpt.dtypes import DTYPES
from pygpt.file import Contents
from pygpt.model import Model
from pygpt.parity import stored_budget
from pygpt.reference import forward

BUDGET = 1e-4  # of the largest |logit|: the promise


def logits_of(file: _core.ModelFile, ids: list[int], isa: str, **options: Any) -> NDArray[np.float32]:
    engine = _core.Engine(file, isa=isa, threads=2, **options)
    (event,) = engine.submit([_core.Request(prompt=ids, max_tokens=0, logits=True)]).poll(60, until_done=True)
    engine.close()
    assert event.logits is not None
    return event.logits


def configuration(rng: Generator) -> dict[str, Any]:
    """Odd sizes: heads of 16 to 80, contexts of 7 to 300, vocabularies of 11 to 5000."""
    heads = int(rng.integers(1, 7))
    width = int(rng.integers(16, 81))
    return {
        "context_length": int(rng.integers(7, 301)),
        "d_model": heads * min(width, 320 // heads),
        "h": heads,
        "n_layers": int(rng.integers(1, 4)),
        "n_vocab": int(np.exp(rng.uniform(np.log(11), np.log(5000)))),
        "activation": str(rng.choice(["relu", "gelu", "gelu_tanh"])),
        "bias": bool(rng.integers(2)),
        "tie_weights": bool(rng.integers(2)),
    }


@pytest.mark.parametrize("case", range(20))
def test_f32_logits_are_those_of_pytorch(case: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(case)
    shape = configuration(rng)
    torch.manual_seed(case)
    model = Model(**shape).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Fresh weights are so small that every layer hardly matters, and fresh biases are 0.
            parameter.mul_(2)
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    path = pygpt.export(model, tmp_path / "model.pygpt", dtype="f32", tokenizer="none", verify=False)
    ids = rng.integers(0, shape["n_vocab"], shape["context_length"]).tolist()
    with torch.no_grad():
        wanted = model(torch.tensor([ids]))[0].numpy()
    for isa in _core.isas():
        got = logits_of(_core.ModelFile(str(path)), ids, isa)
        assert got.shape == wanted.shape
        worst = np.abs(got - wanted).max(axis=1) / np.abs(wanted).max()
        assert worst.max() <= BUDGET, (shape, isa, int(worst.argmax()))


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [
        {"n_head": 3, "head_dim": 5, "d_model": 17, "d_ff": 9, "tied_head": True, "activation": "gelu_tanh"},
        {"n_head": 1, "head_dim": 1, "d_model": 1, "d_ff": 1, "vocab_size": 2},
        {"n_head": 2, "head_dim": 130, "d_model": 31, "attention_scale": 0.01, "biases": False},
        {
            "n_head": 7,
            "head_dim": 16,
            "d_model": 48,
            "context_length": 300,
            "activation": "relu",
            "n_layer": 3,
        },
        {"d_model": 40, "vocab_size": 11, "padded_vocab_size": 64, "qkv_bias": False, "head_bias": False},
        {"d_model": 20, "proj_bias": False, "mlp_bias": False, "norm_bias": False, "norm_epsilon": 0.1},
    ],
    ids=["odd", "one", "wide_heads", "long", "padded", "some_biases"],
)
def test_shapes_that_no_lecture_has_agree_with_the_float64_forward(
    shape: dict[str, Any], dtype: str, isa: str, tmp_path: Path
) -> None:
    architecture = write_model(tmp_path / "model.pygpt", seed=3, dtype=dtype, **shape)
    file = _core.ModelFile(str(tmp_path / "model.pygpt"), verify="full")
    rng = np.random.default_rng(4)
    ids = rng.integers(0, architecture.vocab_size, architecture.context_length).tolist()
    contents = Contents(architecture=architecture, dtype=dtype, weights=file.tensor)
    trace = forward(architecture, file.tensor, ids, rounding=contents.rounding)
    wanted = trace.logits[:, : architecture.vocab_size]
    got = logits_of(file, ids, isa, kv_dtype="f32")  # so that nothing but the weights is rounded
    off = np.abs(got - wanted).max(axis=1) / np.abs(wanted).max()
    assert off.max() <= stored_budget(dtype, architecture.n_layer)
    # Where no activation lay at a tie, which binary32 may see elsewhere, there is no difference to speak of.
    assert np.median(off) <= BUDGET


@pytest.mark.parametrize("isa", _core.isas())
def test_every_isa_and_chunk_gives_the_same_model(isa: str, tmp_path: Path) -> None:
    """The ISAs differ in their last bits only."""
    write_model(tmp_path / "model.pygpt", n_layer=3, d_model=64, n_head=4, head_dim=16, context_length=70)
    file = _core.ModelFile(str(tmp_path / "model.pygpt"))
    ids = np.random.default_rng(0).integers(0, 11, 70).tolist()
    best = logits_of(file, ids, _core.isas()[0])
    assert np.abs(logits_of(file, ids, isa, prefill_chunk=13) - best).max() <= 1e-5 * np.abs(best).max()
