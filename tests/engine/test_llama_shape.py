"""RMS norm, rotary positions, groups of heads, gates, windows: the same bits, whatever rides along."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_bits import check_nothing_matters_but_the_request, prompt, run
from odd_models import write_model

from pygpt import _core
from pygpt.dtypes import QUANTISED, rounded_activations
from pygpt.reference import forward

ISAS = pytest.mark.parametrize("isa", _core.isas())
BUDGET = 1e-4  # of the largest |logit|

LLAMA = {
    "norm": "rms_norm", "position": "rotary", "rope_theta": 10000.0, "activation": "silu", "gate": True,
    "biases": False, "vocab_size": 37,
}  # fmt: skip

# Groups that divide among the workers and that do not, more heads in a group than the kernel attends at once,
# hidden layers that end inside a panel and inside a group of 64, and more than one partial softmax.
SHAPES: dict[str, dict[str, Any]] = {
    "groups": {
        "n_layer": 2, "n_head": 6, "n_kv_head": 3, "head_dim": 24, "d_model": 40, "d_ff": 100,
        "context_length": 60,
    },
    "wide_groups": {
        "n_head": 16, "n_kv_head": 2, "head_dim": 32, "d_model": 70, "d_ff": 200, "context_length": 280,
    },
    "one_group": {
        "n_layer": 2, "n_head": 7, "n_kv_head": 1, "head_dim": 10, "d_model": 33, "d_ff": 16,
        "context_length": 40,
    },
    # Windows that begin inside a page, in some layers and in all; layers that are not turned.
    "windows": {
        "n_layer": 3, "n_head": 4, "n_kv_head": 2, "head_dim": 16, "d_model": 40, "d_ff": 50,
        "context_length": 300, "window": 45, "window_layers": "110", "qk_norm": "after_rotary",
    },
    "short_windows": {
        "n_layer": 4, "n_head": 6, "n_kv_head": 3, "head_dim": 10, "d_model": 33, "d_ff": 16,
        "context_length": 50, "window": 7, "rope_layers": "1110", "qk_norm": "before_rotary",
        "rope_theta": 0.0, "rope_frequencies": True,
    },
    # What is a value of its own goes with any other.
    "mixed": {
        "n_head": 4, "n_kv_head": 2, "head_dim": 6, "norm": "layer_norm", "biases": True,
        "activation": "gelu",
    },
    "learned": {
        "n_head": 4, "head_dim": 6, "position": "learned", "rope_theta": 0.0, "qk_norm": "before_rotary",
        "window": 5, "gate": False,
    },
}  # fmt: skip
SHAPES = {name: LLAMA | shape for name, shape in SHAPES.items()}


def model(shape: str, dtype: str, folder: Path) -> _core.ModelFile:
    write_model(folder / "model.pygpt", dtype=dtype, seed=5, **SHAPES[shape])
    return _core.ModelFile(str(folder / "model.pygpt"), verify="full")


@ISAS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8", "q4"])
def test_logits_agree_with_the_float64_forward(shape: str, dtype: str, isa: str, tmp_path: Path) -> None:
    file = model(shape, dtype, tmp_path)
    architecture = write_model(tmp_path / "again.pygpt", dtype=dtype, seed=5, **SHAPES[shape])
    formats = {tensor.name: tensor.format for tensor in file.tensors}
    ids = prompt(architecture.context_length, 1)
    wanted = forward(
        architecture,
        file.tensor,
        ids,
        rounding=lambda name, x: rounded_activations(x) if formats[name] in QUANTISED else x,
    ).logits
    engine = _core.Engine(file, isa=isa, threads=2, kv_dtype="f32")
    (event,) = run(engine, [_core.Request(prompt=ids, max_tokens=0, logits=True)])
    engine.close()
    # Where float64 rounds an activation down, binary32 may round it up: a step of a 127th here and there.
    budget = 0.05 if dtype in QUANTISED else BUDGET
    assert np.abs(event.logits - wanted).max() <= budget * np.abs(wanted).max()


@ISAS
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *itertools.product(("groups", "one_group"), ("f32", "q8", "q4")),
        ("wide_groups", "f16"),
        ("windows", "f16"),
        ("short_windows", "q8"),
        ("mixed", "q8"),
    ],
)
def test_nothing_depends_on_batch_threads_or_chunk(shape: str, dtype: str, isa: str, tmp_path: Path) -> None:
    file = model(shape, dtype, tmp_path)
    longest = file.config["context_length"] - 5
    check_nothing_matters_but_the_request(file, isa, longest)


@ISAS
@pytest.mark.parametrize("shape", ["wide_groups", "windows"])
def test_a_prompt_and_a_continuation_of_it_have_the_same_logits(shape: str, isa: str, tmp_path: Path) -> None:
    """What was decoded token by token is what a prefill of the whole text says."""
    engine = _core.Engine(model(shape, "f16", tmp_path), threads=2, isa=isa)
    (grown,) = run(engine, [_core.Request(prompt=prompt(250, 1), max_tokens=25, logprobs=3, seed=3)])
    text = prompt(250, 1) + grown.token_ids
    (whole,) = run(engine, [_core.Request(prompt=text, max_tokens=0, prompt_logprobs=3)])
    decoded = [(each.token_id, each.logprob, each.top) for each in grown.logprobs]
    read = [(each.token_id, each.logprob, each.top) for each in whole.prompt_logprobs]
    assert decoded == read[249:]
    engine.close()


@ISAS
@pytest.mark.parametrize("threads", [1, 2])
def test_groups_of_one_are_heads_of_their_own(threads: int, isa: str, tmp_path: Path) -> None:
    """Heads whose k and v are copies compute what a group with one k and v does, bit for bit."""
    shared = SHAPES["groups"] | {"n_layer": 1}
    write_model(tmp_path / "shared.pygpt", seed=5, **shared)
    file = _core.ModelFile(str(tmp_path / "shared.pygpt"))
    padded, width = 32, 40
    groups = file.tensor("h.0.attn.qkv").reshape(3, 4, padded, width)  # q, q, k, v of each group
    heads = np.stack([groups[:, [0, 2, 3]], groups[:, [1, 2, 3]]], axis=1).reshape(-1, width)

    def same(name: str, _: np.ndarray) -> np.ndarray:
        return heads if name == "h.0.attn.qkv" else file.tensor(name)

    write_model(tmp_path / "apart.pygpt", change=same, **(shared | {"n_kv_head": 6}))
    logits = []
    for name in ("shared", "apart"):
        engine = _core.Engine(_core.ModelFile(str(tmp_path / f"{name}.pygpt")), threads=threads, isa=isa)
        (event,) = run(engine, [_core.Request(prompt=prompt(60, 2), max_tokens=0, logits=True)])
        logits.append(event.logits)
        engine.close()
    np.testing.assert_array_equal(logits[0], logits[1])
