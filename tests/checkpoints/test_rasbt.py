"""LLMs-from-scratch: every logit equal to an independent PyTorch forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from book_gpt import GPTModel
from families import randomise
from in_the_engine import assert_exported

from pygpt.checkpoints.base import Options
from pygpt.checkpoints.recognise import read
from pygpt.errors import InvalidRequestError, ModelFileError


def make(**shape: Any) -> GPTModel:
    model = GPTModel(**shape)
    randomise(model)
    return model


@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_logit_equals_that_of_the_book(qkv_bias: bool, wrapped: bool, tmp_path: Path) -> None:
    model = make(qkv_bias=qkv_bias, layers=3)
    state = model.state_dict()
    held = {"model_state_dict": state, "optimizer_state_dict": {"state": {}}} if wrapped else state
    torch.save(held, tmp_path / "model.pth")
    options = Options(tokenizer="none", n_head=3)
    assert_exported(tmp_path / "model.pth", model, tmp_path / "m.pygpt", options, context=15, vocab=47)


def test_a_live_model_says_how_many_heads_it_has_and_answers_for_itself(tmp_path: Path) -> None:
    model = make(heads=5, qkv_bias=True)
    done = assert_exported(model, model, tmp_path / "m.pygpt", context=15, vocab=47)
    assert done.report is not None
    assert done.report.method == "the original PyTorch module in float64"


def test_heads_and_vocabulary_must_be_given() -> None:
    state = make().state_dict()
    with pytest.raises(InvalidRequestError, match="heads") as caught:
        read(state, Options(tokenizer="none"))
    assert caught.value.param == "n_head"
    with pytest.raises(InvalidRequestError, match="47 tokens") as caught:
        read(state, Options(n_head=3))
    assert caught.value.param == "text"


def test_A20_a_missing_tensor_is_named() -> None:
    state = dict(make().state_dict())
    del state["trf_blocks.1.att.W_key.weight"]
    with pytest.raises(ModelFileError, match=r"trf_blocks\.1\.att\.W_key\.weight"):
        read(state, Options(tokenizer="none", n_head=3))
