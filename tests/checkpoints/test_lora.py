"""LoRA adapters: merged by hand, through logits, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import randomise
from gpt2 import GPT2Config, GPT2LMHeadModel, save_gpt2
from in_the_engine import assert_exported
from llama import LlamaConfig, random_llama, save_llama
from safetensors.torch import save_file
from torch import Tensor, nn

import pygpt
from pygpt.checkpoints.base import Options
from pygpt.checkpoints.recognise import read
from pygpt.cli.main import main
from pygpt.errors import InvalidRequestError, ModelFileError

RANK, ALPHA = 3, 7.0
LLAMA = ["q_proj", "v_proj", "down_proj"]
GPT2 = ["c_attn", "c_proj"]


def targets(model: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """The weights of the modules that a config names, by the modules' paths."""
    return {path: module.weight for path, module in model.named_modules() if path.rpartition(".")[2] in names}


def save_adapter(
    directory: Path, weights: dict[str, Tensor], names: list[str], *, turned: bool = False, rank: int = RANK,
    **config: Any,
) -> dict[str, tuple[Tensor, Tensor]]:  # fmt: skip
    """adapter_config.json and adapter_model.safetensors as PEFT writes them; A and B of each module."""
    torch.manual_seed(3)
    directory.mkdir(exist_ok=True)
    pairs = {}
    for path, weight in weights.items():
        outputs, inputs = weight.T.shape if turned else weight.shape
        pairs[path] = (torch.randn(rank, inputs) * 0.3, torch.randn(outputs, rank) * 0.3)
    tensors = {}
    for path, (a, b) in pairs.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = a
        tensors[f"base_model.model.{path}.lora_B.weight"] = b
    save_file(tensors, directory / "adapter_model.safetensors")
    fields = {
        "peft_type": "LORA", "r": rank, "lora_alpha": ALPHA, "target_modules": names, "bias": "none",
        "fan_in_fan_out": turned, "use_dora": False, "use_rslora": False, "modules_to_save": None,
        "rank_pattern": {}, "alpha_pattern": {}, "init_lora_weights": True, "task_type": "CAUSAL_LM",
    }  # fmt: skip
    (directory / "adapter_config.json").write_text(json.dumps(fields | config), "utf-8")
    return pairs


def merge_by_hand(
    weights: dict[str, Tensor], pairs: dict[str, tuple[Tensor, Tensor]], scale: float, turned: bool = False
) -> None:
    """W + scale B A, in place."""
    with torch.no_grad():
        for path, weight in weights.items():
            a, b = pairs[path]
            change = scale * (b @ a)
            weight.add_(change.T if turned else change)


@pytest.mark.parametrize(
    ("config", "scale"), [({}, ALPHA / RANK), ({"use_rslora": True}, ALPHA / math.sqrt(RANK))]
)
def test_every_logit_of_llama_with_an_adapter_is_that_of_the_merged(
    config: dict[str, Any], scale: float, tmp_path: Path
) -> None:
    model = random_llama(LlamaConfig(tie_word_embeddings=True), size=1.0)
    save_llama(model, tmp_path / "base")
    weights = targets(model, LLAMA)
    assert len(weights) == 6
    pairs = save_adapter(tmp_path / "lora", weights, LLAMA, **config)
    merge_by_hand(weights, pairs, scale)
    options = Options(tokenizer="none", lora=tmp_path / "lora")
    assert_exported(tmp_path / "base", model, tmp_path / "m.pygpt", options, context=50, vocab=61)


@pytest.mark.parametrize("prefix", [True, False])
def test_every_logit_of_gpt2_with_an_adapter_is_that_of_the_merged(prefix: bool, tmp_path: Path) -> None:
    model = GPT2LMHeadModel(GPT2Config())
    randomise(model)
    save_gpt2(model, tmp_path / "base", prefix=prefix)
    weights = targets(model, GPT2)
    assert len(weights) == 9  # c_proj of attention, which is square, and of the MLP
    pairs = save_adapter(tmp_path / "lora", weights, GPT2, turned=True)
    merge_by_hand(weights, pairs, ALPHA / RANK, turned=True)
    options = Options(tokenizer="none", lora=tmp_path / "lora")
    done = assert_exported(tmp_path / "base", model, tmp_path / "m.pygpt", options, context=21, vocab=59)
    with pygpt.Engine(done.path) as engine:
        assert engine.info["provenance"]["lora"] == "lora"


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_an_adapter_on_a_tied_head_changes_the_head_and_not_the_embedding(
    family: str, stored: bool, tmp_path: Path
) -> None:
    model: nn.Module
    if family == "gpt2":
        gpt2 = model = GPT2LMHeadModel(GPT2Config())
        randomise(model)
        save_gpt2(gpt2, tmp_path / "base")
    else:
        llama = model = random_llama(LlamaConfig(tie_word_embeddings=True))
        save_llama(llama, tmp_path / "base")
    source = tmp_path / "base"
    if stored:
        (source / "model.safetensors").unlink()
        source = source / "pytorch_model.bin"
        torch.save(model.state_dict(), source)  # has the head under its own name
    ((a, b),) = save_adapter(tmp_path / "lora", targets(model, ["lm_head"]), ["lm_head"]).values()
    head = model.get_submodule("lm_head")
    changed = head.weight + ALPHA / RANK * (b @ a)
    head.weight = nn.Parameter(changed.detach())  # no more the embedding's
    options = Options(tokenizer="none", lora=tmp_path / "lora")
    vocab = len(head.weight)
    assert_exported(source, model, tmp_path / "m.pygpt", options, context=20, vocab=vocab)


def test_patterns_change_the_scale_of_the_modules_that_they_name(tmp_path: Path) -> None:
    model = random_llama()
    save_llama(model, tmp_path / "base")
    weights = targets(model, LLAMA)
    pairs = save_adapter(tmp_path / "lora", weights, LLAMA, alpha_pattern={"layers.1.mlp.down_proj": 2})
    imported = read(tmp_path / "base", Options(tokenizer="none", lora=tmp_path / "lora"))
    for layer, alpha in ((0, ALPHA), (1, 2)):
        path = f"model.layers.{layer}.mlp.down_proj"
        a, b = pairs[path]
        expected = weights[path].detach() + alpha / RANK * (b @ a)
        got = imported.tensors[f"h.{layer}.mlp.down"]()
        np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "lora_only"}, "bias"),
        ({"peft_type": "IA3"}, "peft_type"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"target_parameters": ["w"]}, "target_parameters"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "alpha_pattern"),
        ({"rank_pattern": {"down_proj": 2}}, "rank 3"),
        ({"r": 4}, "rank 3"),
        ({"r": 0}, "r is 0"),
        ({"lora_alpha": "big"}, "lora_alpha"),
        ({"target_modules": [*LLAMA, "k_proj"]}, "k_proj"),
        ({"fan_in_fan_out": True}, "do not fit"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_name_and_nothing_is_written(
    config: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_llama()
    save_llama(model, tmp_path / "base")
    save_adapter(tmp_path / "lora", targets(model, LLAMA), LLAMA, **config)
    arguments = ["--tokenizer", "none", "--lora", str(tmp_path / "lora")]
    assert main(["export", str(tmp_path / "base"), *arguments]) == 3
    assert says in capsys.readouterr().err
    assert not (tmp_path / "base.pygpt").exists()


def _save(directory: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, directory / "adapter_model.safetensors")


def test_adapters_of_another_model_or_without_a_half_are_refused(tmp_path: Path) -> None:
    model = random_llama()
    save_llama(model, tmp_path / "base")
    options = Options(tokenizer="none", lora=tmp_path / "lora")
    save_adapter(tmp_path / "lora", targets(model, LLAMA), LLAMA, target_modules="all-linear")
    key = "base_model.model.model.layers.0.self_attn.q_proj"
    a, b = torch.zeros(RANK, 40), torch.zeros(144, RANK)
    for tensors, says in (
        ({f"{key}.lora_A.weight": a}, "missing of model.layers.0.self_attn.q_proj"),
        ({f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b[:-1]}, "do not fit"),
        ({f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b.to(torch.int8)}, "no lora_A or lora_B"),
        ({f"{key}.lora_embedding_A": a}, "no lora_A or lora_B"),
        (
            {"base_model.model.h.7.mlp.lora_A.weight": a, "base_model.model.h.7.mlp.lora_B.weight": b},
            "another",
        ),
    ):
        _save(tmp_path / "lora", tensors)
        with pytest.raises(ModelFileError, match=says):
            read(tmp_path / "base", options)
    (tmp_path / "lora" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelFileError, match="neither"):
        read(tmp_path / "base", options)
    with pytest.raises(ModelFileError, match=r"adapter_config\.json"):
        read(tmp_path / "base", Options(tokenizer="none", lora=tmp_path))


def test_a_live_module_merges_its_own(tmp_path: Path) -> None:
    model = GPT2LMHeadModel(GPT2Config())
    with pytest.raises(InvalidRequestError, match="merge_and_unload"):
        read(model, Options(tokenizer="none", lora=tmp_path))
