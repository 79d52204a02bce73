"""Weights of other models in ours: it computes what they compute."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pygpt
from pygpt.checkpoints.base import Options
from pygpt.cli.main import main
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.model import Model
from pygpt.tokenizer import Tokenizer
from pygpt.train import checkpoint
from pygpt.train.config import PRESETS, TrainConfig
from pygpt.train.initial import Start, imported
from pygpt.train.run import train

sys.path.insert(0, str(Path(__file__).parents[1] / "checkpoints"))

import book_gpt
import families
import gpt2
import llama
import relatives

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


def test_another_scale_of_attention_goes_into_the_queries(tmp_path: Path, vocabulary: str) -> None:
    model = families.GPTLanguageModel(families.LectureConfig(vocab_size=len(CHARACTERS), scale="width"))
    families.randomise(model)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    config = replace(PRESETS["finetune"], init_from=str(tmp_path / "model.pt"), tokenizer=vocabulary)
    assert difference(imported(config), model, 13) > 1e-3
    config = replace(config, init_attention_scale="width")
    assert difference(imported(config), model, 13) < 1e-6  # scaled, the queries' weights are rounded to f32


def gpt_2(directory: Path, _: pytest.MonkeyPatch, **changes: Any) -> tuple[torch.nn.Module, Path]:
    shape = {"vocab_size": len(CHARACTERS), "n_inner": None, "n_positions": 19}
    model = gpt2.GPT2LMHeadModel(gpt2.GPT2Config(**shape | changes))
    families.randomise(model)
    return model, gpt2.save_gpt2(model, directory / "gpt2")


def mingpt(directory: Path, _: pytest.MonkeyPatch) -> tuple[torch.nn.Module, Path]:
    model = of_gpt_2s_layout(tied=False)
    return model, relatives.save_mingpt(directory / "mingpt", model)


def build_nanogpt(directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.nn.Module, Path]:
    model = of_gpt_2s_layout(tied=True)
    path = directory / "model_00005.pt"
    return model, relatives.save_build_nanogpt(path, model, monkeypatch, vocab_size=len(CHARACTERS))


def of_gpt_2s_layout(*, tied: bool) -> families.NanoGPT:
    config = families.NanoGPTConfig(
        block_size=19, vocab_size=len(CHARACTERS), n_layer=3, n_head=3, n_embd=36, bias=True
    )
    model = families.NanoGPT(config, tied=tied, tanh=True)
    families.randomise(model)
    return model


@pytest.mark.parametrize(
    "save",
    [
        gpt_2,
        partial(gpt_2, tie_word_embeddings=False),
        partial(gpt_2, scale_attn_by_inverse_layer_idx=True),
        mingpt,
        build_nanogpt,
    ],
)
def test_gpt_2_and_its_kin_go_on_where_they_were(
    save: Callable[..., tuple[torch.nn.Module, Path]],
    tmp_path: Path,
    vocabulary: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, source = save(tmp_path, monkeypatch)
    start = imported(replace(PRESETS["finetune"], init_from=str(source), tokenizer=vocabulary))
    assert difference(start, model, 19) < 1e-6  # a scale in the queries is rounded to f32
    assert start.config.context_length == 19


def test_a_gpt_2_of_transformers_is_fine_tuned_exported_and_speaks(alphabet: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    shape = transformers.GPT2Config(
        vocab_size=27, n_positions=16, n_embd=32, n_layer=1, n_head=2, bos_token_id=26, eos_token_id=26
    )
    transformers.GPT2LMHeadModel(shape).save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").write_text(Tokenizer.from_characters(CHARACTERS).to_json())
    flags = ["--steps=80", "--learning-rate=0.01", "--threads=1", "--device=cpu", "--dropout=0", "-q"]
    out = str(tmp_path / "out")
    assert main(["train", str(alphabet), "-o", out, "--init-from", str(tmp_path / "hf"), *flags]) == 0
    with pygpt.Engine(pygpt.export(out, tmp_path / "out.pygpt")) as engine:
        assert str(engine.generate("abc", max_tokens=5, temperature=0)) == "defgh"


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

    whole = initial.read(config.init_from, Options(tokenizer=vocabulary))
    for name, value in (
        ("position", "rotary"), ("norm", "rms_norm"), ("gate", True), ("n_kv_head", 1), ("d_ff", 100),
        ("norm_epsilon", 1e-6),
    ):  # fmt: skip
        foreign = replace(whole, architecture=replace(whole.architecture, **{name: value}))
        monkeypatch.setattr(initial, "read", lambda *_, foreign=foreign: foreign)
        with pytest.raises(
            ModelFileError, match=rf"cannot be trained here.* has not: {name} \S+ \(there "
        ) as caught:
            imported(config)
        assert caught.value.code == "unsupported_architecture"


def test_a_llama_is_refused_with_all_that_stands_in_the_way(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], alphabet: Path, vocabulary: str
) -> None:
    model = llama.random_llama(llama.LlamaConfig(vocab_size=len(CHARACTERS)))
    source = str(llama.save_llama(model, tmp_path / "llama"))
    flags = ["--init-from", source, "--tokenizer", vocabulary, "-o", str(tmp_path / "out")]
    assert main(["train", str(alphabet), *flags]) == 3
    error = capfd.readouterr().err
    for reason in ("norm rms_norm (there layer_norm)", "position rotary (there learned)", "gate true"):
        assert reason in error
    assert not (tmp_path / "out").exists()


def test_without_a_vocabulary_it_says_which_flag_gives_one(tmp_path: Path, alphabet: Path) -> None:
    torch.manual_seed(0)
    model = Model(8, 16, 2, 1, 5)
    directory = tmp_path / "run"
    directory.mkdir()
    checkpoint.save_weights(directory, model)
    (directory / checkpoint.CONFIG).write_text(json.dumps({"model": asdict(model.config)}))
    lecture = families.GPTLanguageModel(families.LectureConfig(vocab_size=len(CHARACTERS)))
    torch.save(lecture.state_dict(), tmp_path / "lecture.pt")
    nano = families.NanoGPT(families.NanoGPTConfig(vocab_size=len(CHARACTERS)))
    torch.save({"model": nano.state_dict(), "model_args": asdict(nano.config)}, tmp_path / "ckpt.pt")
    for source in (directory, tmp_path / "lecture.pt", tmp_path / "ckpt.pt"):
        with pytest.raises(InvalidRequestError, match="holds no vocabulary; give its own: --tokenizer"):
            imported(replace(PRESETS["finetune"], init_from=str(source)))
    config = replace(PRESETS["finetune"], init_from=str(tmp_path / "lecture.pt"), tokenizer=str(alphabet))
    assert imported(config).tokenizer.encode("\na") == [0, 1]  # of the text that it was trained on


def test_heads_that_the_files_do_not_tell_are_asked_for(tmp_path: Path, vocabulary: str) -> None:
    model = book_gpt.GPTModel(vocab=len(CHARACTERS), heads=3)
    families.randomise(model)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    config = replace(PRESETS["finetune"], init_from=str(tmp_path / "model.pth"), tokenizer=vocabulary)
    with pytest.raises(InvalidRequestError, match="does not say; give --init-n-head"):
        imported(config)
    assert difference(imported(replace(config, init_n_head=3)), model, 13) < 1e-12
