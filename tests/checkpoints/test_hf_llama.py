"""Hugging Face's Llama: every logit equal to an independent PyTorch forward, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
import torch
from llama import LlamaConfig, LlamaForCausalLM, random_llama, save_llama
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import pygpt
from pygpt import _core
from pygpt.checkpoints.base import Options
from pygpt.checkpoints.recognise import read
from pygpt.cli.main import main
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.reference import forward

BUDGET = 1e-4  # of the largest |logit|: the promise

CONFIGS = {
    "groups": LlamaConfig(),
    "tied": LlamaConfig(tie_word_embeddings=True, num_attention_heads=4, num_key_value_heads=1, head_dim=10),
    "no_groups": LlamaConfig(num_attention_heads=5, num_key_value_heads=5, head_dim=8, rope_theta=500000.0),
    "wide_groups": LlamaConfig(
        num_attention_heads=14,  # of 7: more than the kernel attends at once
        num_key_value_heads=2,
        head_dim=16,
        hidden_size=64,
        intermediate_size=16,
        num_hidden_layers=3,
        max_position_embeddings=300,  # more than one partial softmax
    ),
}


def ids_of(config: LlamaConfig) -> list[int]:
    return [i * 17 % config.vocab_size for i in range(config.max_position_embeddings)]


def llama3(factor: float, low: float, high: float, context: float) -> dict[str, Any]:
    return {
        "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
        "original_max_position_embeddings": context,
    }  # fmt: skip


def logits_of(file: _core.ModelFile, ids: list[int], isa: str, **options: Any) -> NDArray[np.float32]:
    engine = _core.Engine(file, isa=isa, threads=2, **options)
    (event,) = engine.submit([_core.Request(prompt=ids, max_tokens=0, logits=True)]).poll(60, until_done=True)
    engine.close()
    assert event.logits is not None
    return event.logits


@pytest.mark.parametrize("name", CONFIGS)
def test_the_float64_forward_is_the_original(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    model = random_llama(config)
    imported = read(save_llama(model, tmp_path / "llama"), Options(tokenizer="none"))
    ids = ids_of(config)
    ours = forward(imported.architecture, lambda tensor: imported.tensors[tensor](), ids).logits
    with torch.no_grad():
        theirs = model.double()(torch.tensor([ids]))[0].numpy()
    assert np.abs(ours - theirs).max() <= 1e-12 * np.abs(theirs).max()


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("name", CONFIGS)
def test_f32_logits_are_those_of_pytorch(name: str, isa: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    model = random_llama(config)
    path = pygpt.export(save_llama(model, tmp_path / "llama"), dtype="f32", tokenizer="none", verify=False)
    with torch.no_grad():
        wanted = model(torch.tensor([ids_of(config)]))[0].numpy()
    got = logits_of(_core.ModelFile(str(path), verify="full"), ids_of(config), isa)
    assert got.shape == wanted.shape
    worst = np.abs(got - wanted).max(axis=1) / np.abs(wanted).max()
    assert worst.max() <= BUDGET, int(worst.argmax())


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8", "q4"])
def test_every_dtype_is_exported_and_holds_its_known_answers(dtype: str, tmp_path: Path) -> None:
    """Wide enough, and attention even enough, for the rounding of a quantised dtype to average out."""
    config = LlamaConfig(hidden_size=192, intermediate_size=300, num_hidden_layers=1, head_dim=64)
    source = save_llama(random_llama(config, size=0.8), tmp_path / "llama")
    path = pygpt.export(source, tmp_path / "m.pygpt", dtype=dtype, tokenizer="none")
    with pygpt.Engine(path) as engine:
        assert len(engine.generate([[1, 2, 3]], max_tokens=4)[0].token_ids) == 4


def test_the_config_becomes_values(tmp_path: Path) -> None:
    model = random_llama()
    directory = save_llama(model, tmp_path / "llama", bos_token_id=1, eos_token_id=[2, 60])
    path = pygpt.export(directory, dtype="f32", tokenizer="none", verify=False)
    config = _core.ModelFile(str(path)).config
    wanted = {
        "n_head": 6, "n_kv_head": 3, "head_dim": 24, "d_model": 40, "d_ff": 100, "context_length": 50,
        "norm": "rms_norm", "position": "rotary", "rope_theta": 10000.0, "activation": "silu", "gate": True,
        "tied_head": False, "start_token": 1, "stop_tokens": [2, 60], "vocab_size": 61,
    }  # fmt: skip
    assert {key: config[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("changes", "theta"),
    [
        ({"rope_theta": None, "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}}, 500000.0),
        ({"rope_theta": None}, 10000.0),
        ({"rope_theta": 1000000, "rope_scaling": {"type": "default"}}, 1000000.0),
        ({"num_key_value_heads": 3, "model_type": None}, 10000.0),
    ],
    ids=["new", "absent", "whole", "no_type"],
)
def test_every_spelling_of_the_base_is_read(changes: dict[str, Any], theta: float, tmp_path: Path) -> None:
    directory = save_llama(random_llama(), tmp_path / "llama", **changes)
    assert read(directory, Options(tokenizer="none")).architecture.rope_theta == theta


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is None"),
        ({"rope_scaling": llama3(8, 4, 4, 9)}, "high_freq_factor 4"),
        ({"rope_scaling": llama3(8, 1, 4, 0.5)}, "position_embeddings is 0.5"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor is 0"),
        ({"rope_scaling": {"type": "linear"}}, "factor is None"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic'.*default, linear and llama3"),
        ({"rope_scaling": {"type": ["linear"]}}, "linear"),
        ({"rope_scaling": [2.0]}, "rope_scaling is no object"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type is 'yarn'"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 5.0}}}, "differ between layers"),
        ({"attention_bias": True}, "tensors are missing.*bias"),
        ({"mlp_bias": True}, "tensors are missing.*bias"),
        ({"attention_bias": 1}, "attention_bias is 1"),
        ({"model_type": "gemma"}, "model_type is 'gemma'.*llama, mistral"),
        ({"model_type": "qwen2"}, "tensors are missing.*bias"),
        ({"vocab_size": 60}, "vocab_size is 60.*61 rows"),
        ({"head_dim": 10**12}, "head_dim is 1000000000000"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers is 1000000000000"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'"),
        ({"num_attention_heads": None}, "num_attention_heads is None"),
        ({"num_attention_heads": 4.0}, "num_attention_heads is 4.0"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
        ({"eos_token_id": 61}, "eos_token_id"),
        ({"eos_token_id": "</s>"}, "eos_token_id"),
        ({"num_key_value_heads": 2}, "k_proj.weight.*expected the shape"),
        ({"intermediate_size": 99}, "proj.weight.*expected the shape"),
        ({"num_hidden_layers": 3}, "tensors are missing"),
        ({"num_hidden_layers": 1}, "tensors that this family does not have"),
    ],
    ids=str,
)
def test_what_computes_otherwise_is_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = {key: value for key, value in changes.items() if value is not None}
    directory = save_llama(random_llama(), tmp_path / "llama", **config)
    if len(config) < len(changes):
        fields = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(
            json.dumps({k: v for k, v in fields.items() if k not in changes})
        )
    with pytest.raises(ModelFileError, match=message):
        read(directory, Options(tokenizer="none"))


def test_weights_without_their_config_are_refused(tmp_path: Path) -> None:
    directory = save_llama(random_llama(), tmp_path / "llama")
    (directory / "config.json").unlink()
    with pytest.raises(ModelFileError, match=r"config\.json"):
        read(directory, Options(tokenizer="none"))


def test_a_number_of_heads_that_contradicts_the_config_is_refused(tmp_path: Path) -> None:
    directory = save_llama(random_llama(), tmp_path / "llama")
    with pytest.raises(InvalidRequestError, match="6 heads"):
        read(directory, Options(tokenizer="none", n_head=3))


def sharded(directory: Path) -> tuple[Path, dict[str, str]]:
    """The same weights in two files, and which tensor lies in which."""
    state = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(state)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in halves.items():
        save_file({name: state[name] for name in own}, directory / file)
    places = {name: file for file, own in halves.items() for name in own}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return directory, places


def test_a_model_in_several_files_is_the_same_model(tmp_path: Path) -> None:
    whole = save_llama(random_llama(), tmp_path / "llama")
    first = pygpt.export(whole, tmp_path / "first.pygpt", tokenizer="none", verify=False).read_bytes()
    directory, _ = sharded(whole)
    second = pygpt.export(directory, tmp_path / "second.pygpt", tokenizer="none", verify=False).read_bytes()
    assert first == second


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({}, "none at all"),
        ([], "none at all"),
        ({"w": "../other.safetensors"}, "no file of its own directory"),
        ({"w": "/other.safetensors"}, "no file of its own directory"),
        ({"w": ".."}, "not there"),
        ({"w": "absent.safetensors"}, "'absent.safetensors', which is not there"),
        ({"w": [3]}, "3"),
    ],
)
def test_an_index_that_lies_is_exit_code_3_and_nothing_is_written(
    places: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, _ = sharded(save_llama(random_llama(), tmp_path / "llama"))
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors")
    before = sorted(tmp_path.rglob("*"))
    assert main(["export", str(directory), "--tokenizer", "none"]) == 3
    error = capsys.readouterr().err
    assert "index.json" in error
    assert message in error
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_is_exported_without_torch(tmp_path: Path) -> None:
    directory, _ = sharded(save_llama(random_llama(), tmp_path / "llama"))
    code = "import sys; sys.modules['torch'] = sys.modules['safetensors'] = None; "
    code += "import pygpt; pygpt.export(sys.argv[1], sys.argv[2], tokenizer='none')"
    path = tmp_path / "m.pygpt"
    subprocess.run([sys.executable, "-c", code, str(directory), str(path)], check=True, timeout=120)
    assert _core.ModelFile(str(path)).config["d_model"] == 40


def test_a_tensor_that_the_index_names_in_vain_is_named(tmp_path: Path) -> None:
    directory, places = sharded(save_llama(random_llama(), tmp_path / "llama"))
    index = {"weight_map": places | {"model.extra.weight": places["model.norm.weight"]}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelFileError, match=r"model\.extra\.weight"):
        read(directory, Options(tokenizer="none"))


def test_an_untied_head_that_is_missing_is_named(tmp_path: Path) -> None:
    model = random_llama(CONFIGS["tied"])
    directory = save_llama(model, tmp_path / "llama", tie_word_embeddings=False)
    with pytest.raises(ModelFileError, match=r"lm_head\.weight"):
        read(directory, Options(tokenizer="none"))


def test_a_state_dict_with_its_config_is_a_source() -> None:
    model = random_llama()
    source = {"state_dict": model.state_dict(), "config": json.loads(model.settings.to_json())}
    imported = read(source, Options(tokenizer="none"))
    np.testing.assert_array_equal(imported.tensors["wte"](), model.model.embed_tokens.weight.detach().numpy())


def test_a_live_module_answers_for_itself(tmp_path: Path) -> None:
    """As transformers' module does: its config has to_dict, and its output names the logits."""

    class Config:
        def to_dict(self) -> dict[str, Any]:
            return json.loads(LlamaConfig().to_json())

    class Output(dict[str, Any]):
        @property
        def logits(self) -> Any:
            return self["logits"]

    class Live(LlamaForCausalLM):
        config = Config()

        def forward(self, ids: torch.Tensor) -> Any:
            return Output(logits=super().forward(ids))

    model = Live(LlamaConfig())
    path = pygpt.export(model, tmp_path / "m.pygpt", dtype="f32", tokenizer="none")
    known = json.loads(_core.ModelFile(str(path)).blob("known_answers.json"))
    assert known["method"] == "the original PyTorch module in float64"


def test_the_directory_s_tokenizer_and_chat_template_come_along(tmp_path: Path) -> None:
    tokenizer = small_models.byte_tokenizer("<s>", "</s>")
    config = LlamaConfig(vocab_size=264)  # some rows more than there are tokens
    directory = save_llama(random_llama(config), tmp_path / "llama", bos_token_id=256, eos_token_id=257)
    (directory / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}), "utf-8")
    path = pygpt.export(directory, dtype="f32")
    file = _core.ModelFile(str(path))
    assert (file.config["vocab_size"], file.config["padded_vocab_size"]) == (258, 264)
    assert file.blob("chat_template.jinja").decode() == template
    with pygpt.Engine(path) as engine:
        assert engine.tokenizer.encode("abc") == tokenizer.encode("abc")


def test_without_a_tokenizer_the_file_speaks_ids_and_says_so(tmp_path: Path) -> None:
    directory = save_llama(random_llama(), tmp_path / "llama")
    assert "no tokenizer" in read(directory, Options()).notes[0]
    assert read(directory, Options(tokenizer="none")).notes == ()
