"""Hugging Face's GPT-2: every logit equal to an independent PyTorch forward and to transformers' own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import randomise
from gpt2 import ACTIVATIONS, GPT2Config, GPT2LMHeadModel, save_gpt2
from in_the_engine import assert_exported

from pygpt.checkpoints.base import Options
from pygpt.checkpoints.recognise import read
from pygpt.cli.main import main
from pygpt.errors import InvalidRequestError, ModelFileError

IDS_ONLY = Options(tokenizer="none")


def make(config: GPT2Config | None = None) -> GPT2LMHeadModel:
    model = GPT2LMHeadModel(config or GPT2Config())
    randomise(model)
    return model


def assert_same(source: Any, model: GPT2LMHeadModel, target: Path) -> None:
    config = model.settings
    assert_exported(source, model, target, context=config.n_positions, vocab=config.vocab_size)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_of_gpt2_is_computed(activation: str, tmp_path: Path) -> None:
    model = make(GPT2Config(activation_function=activation))
    assert_same(save_gpt2(model, tmp_path / "m"), model, tmp_path / "m.pygpt")


@pytest.mark.parametrize(
    "changes",
    [
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"tie_word_embeddings": False},
        {"n_inner": None, "layer_norm_epsilon": 1e-3},
        {"n_head": 1, "n_layer": 1, "n_embd": 17, "vocab_size": 3, "n_positions": 40, "bos_token_id": 0,
         "eos_token_id": [1, 2]},
    ],
    ids=str,
)  # fmt: skip
def test_B12_every_variant_of_the_config_is_computed(changes: dict[str, Any], tmp_path: Path) -> None:
    model = make(replace(GPT2Config(), **changes))
    assert_same(save_gpt2(model, tmp_path / "m"), model, tmp_path / "m.pygpt")


def test_B12_files_without_the_prefix_and_with_buffers_are_read(tmp_path: Path) -> None:
    model = make()
    assert_same(save_gpt2(model, tmp_path / "m", prefix=False), model, tmp_path / "m.pygpt")


def test_an_older_pytorch_model_bin_is_read(tmp_path: Path) -> None:
    model = make()
    save_gpt2(model, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    assert_same(tmp_path / "m", model, tmp_path / "m.pygpt")


def test_the_original_of_transformers_is_computed_and_asked(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    fields = {"n_inner": 50, "n_layer": 3, "n_head": 3, "n_embd": 36, "n_positions": 19, "vocab_size": 41}
    config = transformers.GPT2Config(
        **fields, activation_function="gelu", scale_attn_by_inverse_layer_idx=True,
        attn_implementation="eager", bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    randomise(model)
    model.save_pretrained(tmp_path / "m")
    assert_exported(tmp_path / "m", model, tmp_path / "m.pygpt", context=19, vocab=41)
    done = assert_exported(model, model, tmp_path / "live.pygpt", context=19, vocab=41)
    assert done.report is not None
    assert done.report.method == "the original PyTorch module in float64"


def test_where_a_text_begins_and_ends_is_kept(tmp_path: Path) -> None:
    a = read(save_gpt2(make(), tmp_path / "m"), IDS_ONLY).architecture
    assert (a.start_token, a.stop_tokens) == (5, (7,))
    usual = save_gpt2(make(), tmp_path / "u", bos_token_id=50256, eos_token_id=50256)
    a = read(usual, IDS_ONLY).architecture  # 50256 is everyone's default, also of vocabularies without it
    assert (a.start_token, a.stop_tokens) == (None, ())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n_layer": 4}, "n_layer"),
        ({"n_embd": 37}, "n_embd"),
        ({"n_positions": 22}, "n_positions"),
        ({"vocab_size": 60}, "vocab_size"),
        ({"n_inner": 71}, "n_inner"),
        ({"n_head": 5}, "n_head"),
        ({"model_type": "gpt_neo"}, "model_type"),
        ({"activation_function": "mish"}, "activation_function"),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon"),
        ({"eos_token_id": 59}, "eos_token_id"),
        ({"add_cross_attention": True}, "add_cross_attention"),
    ],
)
def test_a_config_that_contradicts_the_tensors_is_refused_and_nothing_is_written(
    changes: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save_gpt2(make(), tmp_path / "m", **changes)
    code = main(["export", str(source), "--tokenizer", "none"])
    assert code == 3
    assert says in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_state_dict_alone_needs_the_number_of_heads() -> None:
    model = make(GPT2Config(n_inner=None))
    state = dict(model.state_dict())
    with pytest.raises(InvalidRequestError, match="config"):
        read(state, IDS_ONLY)
    assert read(state, Options(tokenizer="none", n_head=4)).architecture.n_head == 4


def test_a_head_of_its_own_is_told_by_the_tensors_where_no_config_is(tmp_path: Path) -> None:
    model = make(GPT2Config(tie_word_embeddings=False))
    options = Options(tokenizer="none", n_head=4)
    assert_exported(model.state_dict(), model, tmp_path / "m.pygpt", options, context=21, vocab=59)
    lacking = save_gpt2(make(), tmp_path / "m", tie_word_embeddings=False)
    with pytest.raises(ModelFileError, match=r"lm_head\.weight"):
        read(lacking, IDS_ONLY)


def test_B12_a_square_c_proj_is_transposed_with_the_rest(tmp_path: Path) -> None:
    model = make()
    imported = read(save_gpt2(model, tmp_path / "m"), IDS_ONLY)
    expected = model.transformer.h[1].attn.c_proj.weight.detach().numpy().T
    np.testing.assert_array_equal(imported.tensors["h.1.attn.proj"](), expected)


def test_a_tokenizer_json_beside_the_weights_comes_along(tmp_path: Path) -> None:
    import small_models

    tokenizer = small_models.byte_tokenizer()
    model = make(GPT2Config(vocab_size=tokenizer.vocab_size + 3))
    source = save_gpt2(model, tmp_path / "m")
    (source / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")
    imported = read(source, Options())
    assert imported.tokenizer is not None
    assert imported.architecture.vocab_size == tokenizer.vocab_size
    assert json.loads((source / "config.json").read_text())["vocab_size"] == tokenizer.vocab_size + 3
