"""Hugging Face's NanoChatForCausalLM: logits equal to an independent PyTorch forward, and transformers'."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_bits import run
from nanochat import Config, random_nanochat
from nanochat_in_hf import config_json, save_hf_nanochat

import pygpt
from pygpt import _core
from pygpt.checkpoints.base import Options
from pygpt.checkpoints.recognise import read
from pygpt.errors import ModelFileError

BUDGET = 1e-4  # of the largest |logit|: the promise
CONFIG = replace(Config(), window_pattern="L", vocab_size=64, n_layer=2)


def engine_logits(path: Path, ids: list[int]) -> np.ndarray:
    engine = _core.Engine(_core.ModelFile(str(path), verify="full"), threads=2, kv_dtype="f32")
    (event,) = run(engine, [_core.Request(prompt=ids, max_tokens=0, logits=True)])
    engine.close()
    assert event.logits is not None
    logits: np.ndarray = event.logits
    return logits


def test_f32_logits_are_those_of_the_first_generation(tmp_path: Path) -> None:
    model = random_nanochat("g1", CONFIG)
    ids = [i * 17 % 64 for i in range(300)]
    with torch.no_grad():
        wanted = model(torch.tensor(ids)).numpy()
    path = pygpt.export(save_hf_nanochat(model, tmp_path / "hf"), dtype="f32", tokenizer="none")
    assert np.abs(engine_logits(path, ids) - wanted).max() <= BUDGET * np.abs(wanted).max()
    config = _core.ModelFile(str(path)).config
    assert (config["start_token"], config["stop_tokens"]) == (55, [59])


def test_f32_logits_are_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers, whose model is run, is missing")
    settings = config_json(
        CONFIG, rms_norm_eps=None, hidden_size=40, num_attention_heads=4, num_key_value_heads=2
    )
    config = transformers.NanoChatConfig(**{k: v for k, v in settings.items() if k != "rope_theta"})
    torch.manual_seed(0)
    model = transformers.NanoChatForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=2 * parameter.shape[-1] ** -0.5)
    model.save_pretrained(tmp_path / "hf")
    ids = [i * 17 % 64 for i in range(300)]
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0].numpy()
    path = pygpt.export(tmp_path / "hf", dtype="f32", tokenizer="none")
    assert np.abs(engine_logits(path, ids) - wanted).max() <= BUDGET * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "silu"}, "hidden_act is 'silu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_type is 'linear'"),
        ({"num_key_value_heads": 3}, "expected the shape"),
        ({"num_hidden_layers": 3}, "tensors are missing"),
        ({"hidden_size": "60"}, "hidden_size is '60'"),
        ({"eos_token_id": 64}, "eos_token_id"),
    ],
)
def test_a_config_that_says_otherwise_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=message):
        read(
            save_hf_nanochat(random_nanochat("g1", CONFIG), tmp_path / "hf", **changes),
            Options(tokenizer="none"),
        )


def test_a_cap_that_is_null_is_none(tmp_path: Path) -> None:
    directory = save_hf_nanochat(random_nanochat("g1", CONFIG), tmp_path / "hf", final_logit_softcapping=None)
    assert read(directory, Options(tokenizer="none")).architecture.logit_cap == 0.0
