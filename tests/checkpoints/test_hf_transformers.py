"""The relatives of Llama as transformers itself makes, saves and runs them, at small odd sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pygpt
from pygpt import _core
from pygpt.checkpoints.base import Options
from pygpt.checkpoints.recognise import read

transformers = pytest.importorskip("transformers")

BUDGET = 1e-4  # of the largest |logit|: the promise

SIZES = {
    "vocab_size": 61, "hidden_size": 36, "intermediate_size": 50, "num_attention_heads": 6,
    "num_key_value_heads": 2, "num_hidden_layers": 4, "max_position_embeddings": 290, "bos_token_id": 1,
    "eos_token_id": [2, 60], "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 40,
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama3": ("Llama", {"rope_parameters": LLAMA3, "head_dim": 14}),
    "linear": (
        "Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}}
    ),
    "mistral": ("Mistral", {"sliding_window": 33}),
    "qwen2": ("Qwen2", {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1}),
    "qwen3": ("Qwen3", {"head_dim": 10}),
    "smollm3": ("SmolLM3", {}),
    "smollm3_windows": ("SmolLM3", {"use_sliding_window": True, "sliding_window": 7}),
}  # fmt: skip


def random_model(name: str) -> Any:
    """Weights under which every part matters."""
    kind, fields = CASES[name]
    config = getattr(transformers, f"{kind}Config")(**SIZES | fields, attn_implementation="eager")
    torch.manual_seed(3)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.normal_(std=1.5 * parameter.shape[1] ** -0.5)
    return model.eval()


@pytest.mark.parametrize("name", CASES)
def test_every_logit_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    model = random_model(name)
    model.save_pretrained(tmp_path / "hf")
    ids = [i * 17 % 61 for i in range(290)]
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0].numpy()
    path = pygpt.export(tmp_path / "hf", tmp_path / "m.pygpt", dtype="f32", tokenizer="none", verify=False)
    with pygpt.Engine(path, threads=2) as engine:
        got = engine.logits(ids)
    assert np.abs(got - wanted).max() <= BUDGET * np.abs(wanted).max()


@pytest.mark.parametrize("name", CASES)
def test_the_live_module_is_its_own_witness(name: str, tmp_path: Path) -> None:
    """Its float64 forward is what the known answers come from, so it must be ours."""
    path = pygpt.export(random_model(name), tmp_path / "m.pygpt", dtype="f32", tokenizer="none")
    assert b"the original PyTorch module" in _core.ModelFile(str(path)).blob("known_answers.json")


def test_shards_and_settings_of_save_pretrained_are_read(tmp_path: Path) -> None:
    model = random_model("qwen3")
    model.generation_config.update(do_sample=True, temperature=0.6, top_k=20, top_p=0.95)
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="30KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    whole, shards = (read(tmp_path / each, Options(tokenizer="none")) for each in ("whole", "shards"))
    assert whole.architecture == shards.architecture
    assert whole.architecture.stop_tokens == (2, 60)
    assert dict(shards.defaults) == {"temperature": 0.6, "top_k": 20, "top_p": 0.95}
    for name, tensor in whole.tensors.items():
        np.testing.assert_array_equal(shards.tensors[name](), tensor())
