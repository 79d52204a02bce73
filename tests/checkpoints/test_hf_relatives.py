"""Llama's relatives in transformers: every logit equal to an independent PyTorch forward."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llama import LlamaConfig, Own, random_llama, save_llama

import pygpt
from pygpt import _core
from pygpt.checkpoints.base import Options
from pygpt.checkpoints.recognise import read
from pygpt.errors import ModelFileError
from pygpt.reference import forward

BUDGET = 1e-4  # of the largest |logit|: the promise

SMALL = LlamaConfig(hidden_size=36, intermediate_size=50, num_attention_heads=4, num_key_value_heads=2)
DEEP = LlamaConfig(
    hidden_size=36, intermediate_size=50, num_attention_heads=6, num_key_value_heads=2, head_dim=10,
    num_hidden_layers=5, tie_word_embeddings=True,
)  # fmt: skip
LONG = LlamaConfig(
    hidden_size=36, intermediate_size=50, num_attention_heads=4, num_key_value_heads=1, head_dim=16,
    max_position_embeddings=300,  # more than one partial softmax
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A relative: its module, what config.json says of it, and what becomes of that."""

    config: LlamaConfig
    own: Own
    fields: dict[str, Any]
    values: dict[str, Any] = field(default_factory=dict)


LLAMA3 = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 40,
}  # fmt: skip

CASES = {
    "llama_linear": Case(
        SMALL,
        Own(linear=2.5),
        {"rope_scaling": {"type": "linear", "factor": 2.5}},
        {"rope_frequencies": True},
    ),
    "llama_llama3": Case(
        LONG,
        Own(llama3=(8.0, 1.0, 4.0, 40)),
        {"rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_frequencies": True, "rope_theta": 0.0},
    ),
    "llama_parameters": Case(
        SMALL,
        Own(llama3=(8.0, 1.0, 4.0, 40)),
        {"rope_theta": None, "rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, **LLAMA3}},
    ),
    "llama_biases": Case(
        SMALL,
        Own(qkv_bias=True, o_bias=True, mlp_bias=True),
        {"attention_bias": True, "mlp_bias": True},
        {"qkv_bias": True, "proj_bias": True, "mlp_bias": True},
    ),
    "mistral": Case(
        LONG,
        Own(windows=(37, 37)),
        {"model_type": "mistral", "sliding_window": 37},
        {"window": 37, "window_layers": ""},
    ),
    "mistral_off": Case(SMALL, Own(), {"model_type": "mistral", "sliding_window": None}, {"window": 0}),
    "mistral_wide": Case(SMALL, Own(), {"model_type": "mistral"}, {"window": 0}),  # 4096, the class's own
    "qwen2": Case(SMALL, Own(qkv_bias=True), {"model_type": "qwen2"}, {"qkv_bias": True, "window": 0}),
    "qwen2_unused": Case(
        SMALL, Own(qkv_bias=True), {"model_type": "qwen2", "sliding_window": 5, "max_window_layers": 0}
    ),
    "qwen2_windows": Case(
        DEEP,
        Own(qkv_bias=True, windows=(None, None, None, 9, 9)),
        {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 3},
        {"window": 9, "window_layers": "00011"},
    ),
    "qwen2_types": Case(
        DEEP,
        Own(qkv_bias=True, windows=(9, None, 9, None, 9)),
        {
            "model_type": "qwen2",
            "use_sliding_window": True,
            "sliding_window": 9,
            "layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"],
        },
        {"window": 9, "window_layers": "10"},
    ),
    "qwen3": Case(LONG, Own(qk_norm=True), {"model_type": "qwen3"}, {"qk_norm": "before_rotary"}),
    "qwen3_biases": Case(
        DEEP,
        Own(qk_norm=True, qkv_bias=True, o_bias=True),
        {"model_type": "qwen3", "attention_bias": True},
        {"qkv_bias": True, "proj_bias": True, "mlp_bias": False},
    ),
    "smollm3": Case(
        DEEP,
        Own(unturned=(3,)),
        {"model_type": "smollm3", "tie_word_embeddings": None},  # tied is its own default
        {"rope_layers": "1110", "tied_head": True},
    ),
    "smollm3_listed": Case(
        DEEP,
        Own(unturned=(0, 3), windows=(7, None, None, 7, None), mlp_bias=True),
        {
            "model_type": "smollm3",
            "no_rope_layers": [0, 1, 1, 0, 1],
            "use_sliding_window": True,
            "sliding_window": 7,
            "mlp_bias": True,
        },
        {"rope_layers": "011", "window_layers": "100", "window": 7},
    ),
    "smollm3_interval": Case(
        DEEP, Own(unturned=(1, 3)), {"model_type": "smollm3", "no_rope_layer_interval": 2}
    ),
}


def ids_of(config: LlamaConfig) -> list[int]:
    return [i * 17 % config.vocab_size for i in range(config.max_position_embeddings)]


@pytest.mark.parametrize("name", CASES)
def test_the_float64_forward_is_the_original(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = random_llama(case.config, own=case.own)
    imported = read(save_llama(model, tmp_path / "m", **case.fields), Options(tokenizer="none"))
    assert {key: getattr(imported.architecture, key) for key in case.values} == case.values
    ids = ids_of(case.config)
    ours = forward(imported.architecture, lambda tensor: imported.tensors[tensor](), ids).logits
    with torch.no_grad():
        theirs = model.double()(torch.tensor([ids]))[0].numpy()
    # Frequencies of their own are stored in binary32, as transformers computes them.
    budget = 1e-4 if imported.architecture.rope_frequencies else 1e-12
    assert np.abs(ours - theirs).max() <= budget * np.abs(theirs).max()


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("name", CASES)
def test_f32_logits_are_those_of_pytorch(name: str, isa: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = random_llama(case.config, own=case.own)
    source = save_llama(model, tmp_path / "m", **case.fields)
    path = pygpt.export(source, tmp_path / "m.pygpt", dtype="f32", tokenizer="none", verify=False)
    with torch.no_grad():
        wanted = model(torch.tensor([ids_of(case.config)]))[0].numpy()
    engine = _core.Engine(_core.ModelFile(str(path), verify="full"), isa=isa, threads=2)
    request = _core.Request(prompt=ids_of(case.config), max_tokens=0, logits=True)
    (event,) = engine.submit([request]).poll(60, until_done=True)
    engine.close()
    assert event.logits is not None
    assert event.logits.shape == wanted.shape
    worst = np.abs(event.logits - wanted).max(axis=1) / np.abs(wanted).max()
    assert worst.max() <= BUDGET, int(worst.argmax())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mistral", {"layer_types": ["full_attention"] * 2}, "several kinds"),
        ("mistral", {"sliding_window": 0}, "sliding_window is 0"),
        ("mistral", {"sliding_window": "wide"}, "sliding_window is 'wide'"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 2}, "no sliding window in use"),
        ("qwen2", {"layer_types": ["full_attention"]}, "no list of 2 layers"),
        ("qwen2", {"layer_types": ["full_attention", "chunked_attention"]}, "'chunked_attention'"),
        ("qwen2", {"use_sliding_window": "yes"}, "use_sliding_window is 'yes'"),
        ("qwen2_windows", {"max_window_layers": -1}, "max_window_layers is -1"),
        ("qwen2", {"model_type": "llama"}, "does not have: .*bias"),
        ("qwen3", {"model_type": "llama"}, "does not have: .*norm"),
        ("qwen3", {"head_dim": 24}, "expected the shape"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "no list of 5 layers"),
        ("smollm3", {"no_rope_layers": [1, 0, 2, 1, 1]}, "no_rope_layers holds 2"),
        ("smollm3", {"no_rope_layers": [0] * 5}, "without rotary positions"),
        ("smollm3", {"no_rope_layer_interval": 0}, "no_rope_layer_interval is 0"),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused_by_name(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    case = CASES[name]
    directory = save_llama(random_llama(case.config, own=case.own), tmp_path / "m", **case.fields | changes)
    with pytest.raises(ModelFileError, match=message):
        read(directory, Options(tokenizer="none"))
