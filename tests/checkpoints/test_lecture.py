"""The lecture's gpt.py: every logit equal to an independent PyTorch forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from families import GPTLanguageModel, LectureConfig, all_logits, randomise

from pygpt.checkpoints.base import Imported, Options
from pygpt.checkpoints.recognise import read
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.reference import forward

TEXT = "the quick brown fox\njumps over a dog"  # 27 different characters
CONFIG = LectureConfig(vocab_size=len(set(TEXT)))


def make(config: LectureConfig = CONFIG) -> GPTLanguageModel:
    model = GPTLanguageModel(config)
    randomise(model)
    return model


def difference(imported: Imported, model: GPTLanguageModel, ids: list[int]) -> float:
    """Largest difference of a logit, of the largest |logit|."""
    ours = forward(imported.architecture, lambda name: imported.tensors[name](), ids).logits
    theirs = all_logits(model, ids).numpy()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize(
    "config",
    [
        LectureConfig(),
        LectureConfig(vocab_size=7, n_embd=20, block_size=5, n_head=1, n_layer=3),
        LectureConfig(
            vocab_size=65, n_embd=50, block_size=9, n_head=4, n_layer=1
        ),  # 4 heads of 12: not all of 50
    ],
    ids=str,
)
def test_every_logit_equals_that_of_the_lecture(config: LectureConfig, tmp_path: Path) -> None:
    model = make(config)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    imported = read(tmp_path / "model.pt", Options(tokenizer="none"))
    ids = [i * 5 % config.vocab_size for i in range(config.block_size)]
    assert difference(imported, model, ids) < 1e-12


def test_the_scale_of_the_video_is_a_choice(tmp_path: Path) -> None:
    model = make(LectureConfig(scale="width"))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    as_shown = read(tmp_path / "model.pt", Options(tokenizer="none", attention_scale="width"))
    later = read(tmp_path / "model.pt", Options(tokenizer="none"))
    assert difference(as_shown, model, [1, 2, 3, 4]) < 1e-12
    assert difference(later, model, [1, 2, 3, 4]) > 1e-3
    with pytest.raises(InvalidRequestError, match="head or width"):
        read(tmp_path / "model.pt", Options(tokenizer="none", attention_scale="none"))


def test_the_vocabulary_is_the_sorted_characters_of_the_text(tmp_path: Path) -> None:
    model = make()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    (tmp_path / "input.txt").write_text(TEXT, "utf-8")
    chars = sorted(set(TEXT))
    for options in (Options(text=TEXT), Options(text=tmp_path / "input.txt"), Options(chars="".join(chars))):
        imported = read(tmp_path / "model.pt", options)
        assert imported.tokenizer is not None
        assert imported.tokenizer.encode("fox") == [chars.index(c) for c in "fox"]
        assert imported.architecture.start_token == 0  # gpt.py generates from a zero
        assert imported.defaults == {}


def test_a_vocabulary_must_be_given_and_be_the_model_s(tmp_path: Path) -> None:
    torch.save(make().state_dict(), tmp_path / "model.pt")
    with pytest.raises(InvalidRequestError, match="text=") as caught:
        read(tmp_path / "model.pt", Options())
    assert caught.value.param == "text"
    with pytest.raises(ModelFileError, match=f"26 tokens, but the model has {CONFIG.vocab_size}"):
        read(tmp_path / "model.pt", Options(text="abcdefghijklmnopqrstuvwxyz"))
    with pytest.raises(InvalidRequestError, match="give one"):
        read(tmp_path / "model.pt", Options(text=TEXT, chars="abc"))
    with pytest.raises(InvalidRequestError, match="no file"):
        read(tmp_path / "model.pt", Options(text="imput.txt"))


def test_a_live_module_answers_for_itself() -> None:
    model = make()
    imported = read(model, Options(text=TEXT))
    assert imported.original_logits is not None
    np.testing.assert_array_equal(imported.original_logits([1, 2]), all_logits(model, [1, 2]).numpy())


@pytest.mark.parametrize(
    ("dropped", "named"),
    [
        (("ln_f.",), "ln_f.weight"),
        (("lm_head.bias",), "lm_head.bias"),
        (("position_embedding_table.",), "position_embedding_table.weight"),
        (("blocks.",), "blocks.0.sa.heads.0"),
    ],
)
def test_models_of_earlier_moments_are_recognised_and_not_guessed_at(dropped: tuple[str], named: str) -> None:
    state = {name: tensor for name, tensor in make().state_dict().items() if not name.startswith(dropped)}
    with pytest.raises(ModelFileError, match=named) as caught:
        read(state, Options(text=TEXT))
    assert caught.value.code == "incomplete"


def test_A20_a_head_that_is_missing_from_one_block_is_named() -> None:
    state = dict(make().state_dict())
    del state["blocks.1.sa.heads.2.key.weight"]
    with pytest.raises(ModelFileError, match=r"blocks\.1\.sa\.heads\.2\.key\.weight"):
        read(state, Options(text=TEXT))
