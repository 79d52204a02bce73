"""Weights of other models in ours: it computes what they compute."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.model import Model
from pygpt.tokenizer import Tokenizer
from pygpt.train import checkpoint
from pygpt.train.config import PRESETS, TrainConfig
from pygpt.train.initial import Start, imported
from pygpt.train.run import train

sys.path.insert(0, str(Path(__file__).parents[1] / "checkpoints"))

import families

CHARACTERS = "abcdefghijklmnopqrstuvwxyz\n"


@pytest.fixture
def vocabulary(tmp_path: Path) -> str:
    path = tmp_path / "tokenizer.json"
    path.write_text(Tokenizer.from_characters(CHARACTERS).to_json())
    return str(path)


def difference(start: Start, original: torch.nn.Module, length: int) -> float:
    """Of the logits, relative to the largest."""
    ids = [i * 5 % len(CHARACTERS) for i in range(length)]
    with torch.no_grad():
        ours = start.model().double().eval()(torch.tensor([ids]))[0].numpy()
    theirs = families.all_logits(original, ids).numpy()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("context_length", [17, 9])
def test_nanogpt_goes_on_where_it_was(
    tmp_path: Path, vocabulary: str, bias: bool, context_length: int
) -> None:
    recorded = families.NanoGPTConfig(bias=bias, vocab_size=len(CHARACTERS))
    model = families.NanoGPT(recorded)
    families.randomise(model)
    torch.save({"model": model.state_dict(), "model_args": asdict(recorded)}, tmp_path / "ckpt.pt")
    config = replace(
        PRESETS["finetune"],
        init_from=str(tmp_path / "ckpt.pt"),
        tokenizer=vocabulary,
        context_length=context_length,
    )
    start = imported(config)
    assert difference(start, model, context_length) < 1e-12
    assert start.config.context_length == context_length
    assert (start.config.bias, start.config.tie_weights, start.config.activation) == (bias, True, "gelu")


def test_the_lectures_model_gets_the_biases_it_lacks_as_zeros(tmp_path: Path, vocabulary: str) -> None:
    model = families.GPTLanguageModel(families.LectureConfig(vocab_size=len(CHARACTERS)))
    families.randomise(model)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    config = replace(PRESETS["finetune"], init_from=str(tmp_path / "model.pt"), tokenizer=vocabulary)
    start = imported(config)
    assert difference(start, model, 13) < 1e-12
    assert start.config.bias
    assert not start.model().blocks[0].attn.qkv.bias.any()


def test_another_scale_of_attention_goes_into_the_queries(
    tmp_path: Path, vocabulary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = families.GPTLanguageModel(families.LectureConfig(vocab_size=len(CHARACTERS), scale="width"))
    families.randomise(model)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    config = replace(PRESETS["finetune"], init_from=str(tmp_path / "model.pt"), tokenizer=vocabulary)
    assert difference(imported(config), model, 13) > 1e-3
    from pygpt.train import initial

    options = initial.Options
    monkeypatch.setattr(initial, "Options", lambda **given: options(**given, attention_scale="width"))
    assert difference(imported(config), model, 13) < 1e-6  # scaled, the queries' weights are rounded to f32


def test_its_own_checkpoint_is_fine_tuned(alphabet: Path, tmp_path: Path, tiny: TrainConfig) -> None:
    first = train(alphabet, tmp_path / "first", tiny)
    reversed_alphabet = tmp_path / "backwards.txt"
    reversed_alphabet.write_text("zyxwvutsrqponmlkjihgfedcba\n" * 60)
    config = replace(tiny, init_from=str(tmp_path / "first"), n_layers=9, d_model=8, eval_interval=10)
    fresh = replace(config, learning_rate=1e-9, steps=1)
    assert train(alphabet, tmp_path / "same", fresh).validation_loss == pytest.approx(
        first.validation_loss, abs=1e-3
    )
    tuned = train(reversed_alphabet, tmp_path / "tuned", config)
    assert tuned.validation_loss < 0.5
    model, tokenizer = checkpoint.load(tmp_path / "tuned")
    assert (model.config.n_layers, model.config.d_model) == (1, 32)
    assert tokenizer.to_json() == checkpoint.load(tmp_path / "first")[1].to_json()
    again = train(None, tmp_path / "tuned", config, resume=True, changes={"steps": 70, "n_layers": 3})
    assert again.step == 70


def test_what_the_model_cannot_express_is_refused_by_name(
    tmp_path: Path, vocabulary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = families.NanoGPT(families.NanoGPTConfig(vocab_size=len(CHARACTERS)))
    torch.save({"model": model.state_dict(), "model_args": asdict(model.config)}, tmp_path / "ckpt.pt")
    config = replace(PRESETS["finetune"], init_from=str(tmp_path / "ckpt.pt"), tokenizer=vocabulary)
    from pygpt.train import initial

    whole = initial.read(config.init_from, initial.Options(tokenizer=vocabulary))
    for name, value in (
        ("position", "rotary"), ("norm", "rms_norm"), ("gate", True), ("n_kv_head", 1), ("d_ff", 100),
        ("norm_epsilon", 1e-6),
    ):  # fmt: skip
        foreign = replace(whole, architecture=replace(whole.architecture, **{name: value}))
        monkeypatch.setattr(initial, "read", lambda *_, foreign=foreign: foreign)
        with pytest.raises(ModelFileError, match=f"cannot be trained here: its {name} is") as caught:
            imported(config)
        assert caught.value.code == "unsupported_architecture"


def test_without_a_vocabulary_it_says_which_flag_gives_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Model(8, 16, 2, 1, 5)
    directory = tmp_path / "run"
    directory.mkdir()
    checkpoint.save_weights(directory, model)
    (directory / checkpoint.CONFIG).write_text(json.dumps({"model": asdict(model.config)}))
    with pytest.raises(InvalidRequestError, match="holds no vocabulary; give its --tokenizer"):
        imported(replace(PRESETS["finetune"], init_from=str(directory)))
