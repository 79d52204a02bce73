"""The known answers of a Hugging Face directory come from transformers, where it can run, and else say so."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

import pygpt
from pygpt import _core
from pygpt.checkpoints import hf_original
from pygpt.parity import ParityError

transformers = pytest.importorskip("transformers", minversion="5")

SIZES = {
    "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_hidden_layers": 2, "max_position_embeddings": 70, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
GPT2 = {
    "vocab_size": 61, "n_embd": 24, "n_head": 4, "n_layer": 2, "n_positions": 70, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
BY_US = "pygpt's float64 forward of the original weights"


def saved(kind: str, directory: Path, sizes: dict[str, Any] = SIZES) -> Path:
    torch.manual_seed(5)
    model = getattr(transformers, f"{kind}ForCausalLM" if kind != "GPT2" else "GPT2LMHeadModel")(
        getattr(transformers, f"{kind}Config")(**sizes)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=1.5 * parameter.shape[-1] ** -0.5)
    model.save_pretrained(directory)
    return directory


def method(source: Path, **arguments: Any) -> str:
    """What the file says about where its known answers come from."""
    path = pygpt.export(
        source, source.with_name("m.pygpt"), **{"dtype": "f32", "tokenizer": "none", **arguments}
    )
    said: str = json.loads(_core.ModelFile(str(path)).blob("known_answers.json"))["method"]
    return said


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("kind", ["Llama", "Mistral", "Qwen2", "Qwen3", "SmolLM3", "NanoChat", "GPT2"])
def test_a_directory_is_run_by_transformers(kind: str, tmp_path: Path) -> None:
    source = saved(kind, tmp_path / "hf", GPT2 if kind == "GPT2" else SIZES)
    assert method(source) == "the original PyTorch module in float64"


def test_it_computes_in_float64_what_transformers_casts_to_float32(tmp_path: Path) -> None:
    """RMSNorm and softmax do; without that the two would agree to 1e-7 of the largest logit at best."""
    from pygpt.checkpoints.base import Options
    from pygpt.checkpoints.recognise import read
    from pygpt.reference import forward

    imported = read(saved("Llama", tmp_path / "hf"), Options(tokenizer="none"))
    ids = [7]  # at position 0 nothing is turned: transformers keeps its angles' frequencies in float32
    assert imported.original_logits is not None
    theirs = imported.original_logits(ids)
    ours = forward(imported.architecture, lambda name: imported.tensors[name](), ids).logits
    assert abs(theirs - ours).max() <= 1e-12 * abs(ours).max()


def test_what_transformers_computes_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved("Llama", tmp_path / "hf")
    ran = hf_original._run
    monkeypatch.setattr(hf_original, "_run", lambda *given: ran(*given) * 1.001)
    with pytest.raises(ParityError, match="computes something else"):
        method(source)
    assert not (tmp_path / "m.pygpt").exists()


def test_code_in_the_directory_is_never_run(tmp_path: Path) -> None:
    source = saved("Llama", tmp_path / "hf")
    marker = tmp_path / "ran"
    (source / "own.py").write_text(f"open({str(marker)!r}, 'w')\n", "utf-8")
    fields = json.loads((source / "config.json").read_text("utf-8"))
    fields["auto_map"] = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    (source / "config.json").write_text(json.dumps(fields), "utf-8")
    method(source)
    assert not marker.exists()


def test_what_transformers_cannot_load_is_computed_here_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved("Llama", tmp_path / "hf")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    assert method(source) == f"{BY_US} (its own code did not run in float64: RuntimeError)"


def test_weights_that_transformers_makes_up_are_no_witness(tmp_path: Path) -> None:
    """Of names with a wrapper's prefix, which export takes off, it finds none."""
    from safetensors.torch import load_file, save_file

    source = saved("Llama", tmp_path / "hf")
    tensors = load_file(source / "model.safetensors")
    save_file({f"_orig_mod.{name}": each for name, each in tensors.items()}, source / "model.safetensors")
    assert method(source) == f"{BY_US} (its own code did not run in float64: ValueError)"


@pytest.mark.parametrize("why", ["verify", "memory", "version", "adapter"])
def test_it_is_not_asked(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is to be verified, the copy does not fit, it is old, or it would add an adapter."""
    source = saved("Llama", tmp_path / "hf")

    def asked(*_: Any) -> None:
        raise AssertionError("transformers was asked")

    monkeypatch.setattr(hf_original, "_run", asked)
    if why == "memory":
        monkeypatch.setattr(hf_original._core.bench, "available_memory", lambda: 100_000)
    elif why == "version":
        monkeypatch.setattr(hf_original, "FIRST_VERSION", 999)
    elif why == "adapter":
        (source / "adapter_config.json").write_text("{}", "utf-8")
    assert method(source, verify=why != "verify") == BY_US


def test_merged_weights_are_not_those_of_the_directory(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    source = saved("Llama", tmp_path / "hf")
    (tmp_path / "lora").mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    pair = {f"{name}.lora_A.weight": torch.randn(2, 24), f"{name}.lora_B.weight": torch.randn(24, 2)}
    save_file(pair, tmp_path / "lora" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    assert method(source, lora=tmp_path / "lora") == BY_US
