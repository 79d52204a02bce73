"""What is mixed into the residual stream and v, and the cap on logits: exact, and alike in any batch."""

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

ROTARY = {
    "norm": "rms_norm", "position": "rotary", "rope_theta": 10000.0, "activation": "relu_squared",
    "biases": False, "vocab_size": 37,
}  # fmt: skip
VALUES = {"value_layers": "01", "value_gate_width": 12, "value_gate_scale": 3.0}

# Each part alone, and all of them, with groups that divide among two workers and that do not, and layers that
# end where a pattern has not.
SHAPES: dict[str, dict[str, Any]] = {
    "all": ROTARY | VALUES | {
        "n_layer": 3, "n_head": 6, "n_kv_head": 3, "head_dim": 24, "d_model": 40, "d_ff": 100,
        "context_length": 60, "embedding_norm": True, "smear_width": 24, "layer_lambdas": True,
        "backout_layer": 1, "logit_cap": 15.0,
    },
    "even": ROTARY | VALUES | {
        "n_layer": 4, "n_head": 4, "n_kv_head": 2, "head_dim": 10, "d_model": 33, "d_ff": 70,
        "context_length": 280, "padded_vocab_size": 50, "embedding_norm": True, "smear_width": 5,
        "layer_lambdas": True, "backout_layer": 2, "logit_cap": 3.0,
    },
    "cap": {"logit_cap": 0.5, "tied_head": True},
    "lambdas": {"layer_lambdas": True, "n_layer": 2, "d_model": 70},
    "backout": {"backout_layer": 0, "d_model": 35},  # of one layer: what is kept is what it is taken from
    "values": {"value_gate_width": 1, "value_gate_scale": 2.0, "n_layer": 2},
    # The embedding is normed, with a bias, behind the position's row is added.
    "smear": {"smear_width": 12, "embedding_norm": True, "activation": "relu_squared"},
}  # fmt: skip


def model(shape: str, dtype: str, folder: Path) -> _core.ModelFile:
    write_model(folder / "model.pygpt", dtype=dtype, seed=5, **SHAPES[shape])
    return _core.ModelFile(str(folder / "model.pygpt"), verify="full")


def exact_logits(file: _core.ModelFile, shape: str, folder: Path, ids: list[int]) -> np.ndarray:
    """By the float64 forward, of what the file stores."""
    architecture = write_model(folder / "again.pygpt", seed=5, **SHAPES[shape])
    formats = {tensor.name: tensor.format for tensor in file.tensors}

    def rounding(name: str, x: np.ndarray) -> np.ndarray:
        return rounded_activations(x) if formats[name] in QUANTISED else x

    return forward(architecture, file.tensor, ids, rounding=rounding).logits[:, : architecture.vocab_size]


@ISAS
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [*itertools.product(SHAPES, ("f32",)), *itertools.product(("all", "even"), ("f16", "bf16", "q8", "q4"))],
)
def test_logits_agree_with_the_float64_forward(shape: str, dtype: str, isa: str, tmp_path: Path) -> None:
    file = model(shape, dtype, tmp_path)
    ids = prompt(file.config["context_length"], 1)
    wanted = exact_logits(file, shape, tmp_path, ids)
    # Where float64 rounds an activation down, binary32 may round it up: a step of a 127th here and there.
    budget = 0.08 if dtype in QUANTISED else BUDGET
    for chunk in (1, 1 << 20):
        engine = _core.Engine(file, isa=isa, threads=2, kv_dtype="f32", prefill_chunk=chunk)
        (event,) = run(engine, [_core.Request(prompt=ids, max_tokens=0, logits=True)])
        engine.close()
        assert event.logits is not None
        assert np.abs(event.logits - wanted).max() <= budget * np.abs(wanted).max()


PARTS: dict[str, dict[str, Any]] = {
    "lambdas": {"layer_lambdas": False},
    "smear": {"smear_width": 0},
    "values": {"value_layers": "", "value_gate_width": 0, "value_gate_scale": 0.0},
    "one layer's values": {"value_layers": "010"},
    "backout": {"backout_layer": None},
    "another layer's backout": {"backout_layer": 0},
    "cap": {"logit_cap": 0.0},
    "norm of the embedding": {"embedding_norm": False},
    "activation": {"activation": "relu"},
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_shows_in_the_logits(part: str, tmp_path: Path) -> None:
    """Else none of the tests here would see it missing."""
    file = model("even", "f32", tmp_path)
    ids = prompt(40, 1)
    architecture = write_model(
        tmp_path / "without.pygpt", change=lambda name, _: file.tensor(name), **(SHAPES["even"] | PARTS[part])
    )
    wanted = exact_logits(file, "even", tmp_path, ids)
    without = forward(architecture, file.tensor, ids).logits[:, : architecture.vocab_size]
    assert np.abs(without - wanted)[1:].max() > 100 * BUDGET * np.abs(wanted).max()


@ISAS
@pytest.mark.parametrize(
    ("shape", "dtype"), [*itertools.product(("all",), ("f32", "q4")), ("even", "f16"), ("smear", "q8")]
)
def test_nothing_depends_on_batch_threads_or_chunk(shape: str, dtype: str, isa: str, tmp_path: Path) -> None:
    file = model(shape, dtype, tmp_path)
    longest = min(40, file.config["context_length"] - 5)
    check_nothing_matters_but_the_request(file, isa, longest)


@ISAS
@pytest.mark.parametrize("length", [1, 2, 30])
def test_what_was_decoded_is_what_a_prefill_says(length: int, isa: str, tmp_path: Path) -> None:
    """The smear of the first token behind a prompt of one is that of the prompt's only token."""
    engine = _core.Engine(model("all", "f16", tmp_path), threads=2, isa=isa)
    (grown,) = run(engine, [_core.Request(prompt=prompt(length, 1), max_tokens=20, logprobs=3, seed=3)])
    text = prompt(length, 1) + grown.token_ids
    (whole,) = run(engine, [_core.Request(prompt=text, max_tokens=0, prompt_logprobs=3)])
    decoded = [(each.token_id, each.logprob, each.top) for each in grown.logprobs]
    read = [(each.token_id, each.logprob, each.top) for each in whole.prompt_logprobs]
    assert decoded == read[length - 1 :]
    engine.close()


@ISAS
def test_sliding_forgets_the_token_that_was_dropped(isa: str, tmp_path: Path) -> None:
    """The first position of the window has none before it, whatever text it was cut from."""
    engine = _core.Engine(model("all", "f32", tmp_path), threads=2, isa=isa)
    rules = {"temperature": 0.0, "logprobs": 3, "overflow": "slide"}
    (slid,) = run(engine, [_core.Request(prompt=prompt(60, 2), max_tokens=6, **rules)])
    window = (prompt(60, 2) + slid.token_ids[:5])[-60:]
    (fresh,) = run(engine, [_core.Request(prompt=window, max_tokens=1, **rules)])
    assert slid.logprobs[5].top == fresh.logprobs[0].top
    engine.close()


def test_logits_lie_within_the_cap(tmp_path: Path) -> None:
    engine = _core.Engine(model("cap", "f32", tmp_path), threads=2)
    (event,) = run(engine, [_core.Request(prompt=prompt(10, 1), max_tokens=0, logits=True)])
    assert event.logits is not None
    assert 0.4 < np.abs(event.logits).max() <= 0.5
    engine.close()
