"""The lecture's bigram.py: the logits are a row of its table, whatever went before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from families import BigramLanguageModel
from in_the_engine import assert_exported

import pygpt
from pygpt.checkpoints.base import Options
from pygpt.checkpoints.recognise import read
from pygpt.dtypes import DTYPES
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.exporter import export_with_report

TEXT = "the quick brown fox\njumps over a dog"  # 25 different characters


def make(vocab_size: int) -> BigramLanguageModel:
    torch.manual_seed(0)
    return BigramLanguageModel(vocab_size)


@pytest.mark.parametrize("vocab_size", [1, 2, 65, 131])
def test_every_logit_is_the_table_s(vocab_size: int, tmp_path: Path) -> None:
    model = make(vocab_size)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert_exported(tmp_path / "model.pt", model, tmp_path / "m.pygpt", context=40, vocab=vocab_size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_passes_its_proof_and_the_engine_generates(dtype: str, tmp_path: Path) -> None:
    model = make(len(set(TEXT)))
    done = export_with_report(model, tmp_path / "m.pygpt", dtype, Options(text=TEXT))
    assert done.report is not None
    assert done.report.method == "the original PyTorch module in float64"
    with pygpt.Engine(tmp_path / "m.pygpt") as engine:
        table = model.token_embedding_table.weight.detach().numpy()
        greedy = [3]
        for _ in range(20):
            greedy.append(int(table[greedy[-1]].argmax()))
        out = engine.generate([3], max_tokens=20, temperature=0)
        if dtype in ("f32", "f16"):
            assert out.token_ids == greedy[1:]
        assert len(out.token_ids) == 20
        long = engine.generate("the fox " * 200, max_tokens=5, on_overflow="slide", temperature=0)
        assert len(long.token_ids) == 5


def test_batches_and_threads_give_the_same_bits(tmp_path: Path) -> None:
    pygpt.export(make(65), tmp_path / "m.pygpt", dtype="f16", tokenizer="none")
    logits = []
    for threads in (1, 2):
        with pygpt.Engine(tmp_path / "m.pygpt", threads=threads) as engine:
            logits.append(engine.logits([1, 2, 3]))
    np.testing.assert_array_equal(logits[0], logits[1])


def test_a_vocabulary_must_be_given_and_be_the_model_s() -> None:
    state = make(25).state_dict()
    with pytest.raises(InvalidRequestError, match="text="):
        read(state, Options())
    with pytest.raises(ModelFileError, match="25"):
        read(state, Options(text="abc"))


def test_heads_are_not_there_to_be_given() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        export_with_report(make(5), Path("never.pygpt"), "f32", Options(tokenizer="none", n_head=7))
    assert caught.value.param == "n_head"


def test_a_table_that_is_not_square_is_no_bigram() -> None:
    with pytest.raises(ModelFileError, match="position_embedding_table"):
        read({"token_embedding_table.weight": torch.zeros(25, 8)}, Options(text=TEXT))
