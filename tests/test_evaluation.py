"""Losses of texts: the training code's own definition, and PyTorch's own numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_models
import torch
from small_models import LETTERS, byte_tokenizer

import pygpt
from pygpt import Engine, InvalidRequestError
from pygpt.dtypes import DTYPES
from pygpt.evaluation import Window, evaluate, windows_of
from pygpt.model import Model
from pygpt.train.evaluation import evaluate as training_loss

CONTEXT = 16


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(3)
    made = Model(context_length=CONTEXT, d_model=48, h=3, n_layers=2, n_vocab=len(LETTERS))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)
    return made


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, len(LETTERS), 10 * CONTEXT + 5)


def test_the_loss_is_that_of_the_training_code(model: Model, ids: np.ndarray, tmp_path: Path) -> None:
    path = pygpt.export(model, tmp_path / "m.pygpt", dtype="f32", chars=LETTERS, verify=False)
    theirs = training_loss(model, torch.from_numpy(ids), CONTEXT)
    with Engine(path) as engine:
        found = evaluate(engine, [ids])
        some = evaluate(engine, [ids], windows=3)
    assert found.loss == pytest.approx(theirs, rel=1e-5)
    assert some.loss == pytest.approx(
        training_loss(model, torch.from_numpy(ids), CONTEXT, windows=3), rel=1e-5
    )
    assert found.perplexity == pytest.approx(math.exp(theirs), rel=1e-4)
    assert (found.tokens, found.left_out, found.windows) == (10 * CONTEXT, 5, 10)
    assert found.bits_per_byte == pytest.approx(found.loss / math.log(2))  # every character is a byte
    assert found.bits_per_character == found.bits_per_byte


@pytest.mark.parametrize("window", [[], [3]])
def test_a_window_without_a_token_to_predict_is_refused(
    window: list[int], model: Model, tmp_path: Path
) -> None:
    path = pygpt.export(model, tmp_path / "m.pygpt", dtype="f32", chars=LETTERS, verify=False)
    with Engine(path) as engine, pytest.raises(InvalidRequestError) as caught:
        engine.window_logprobs([[1, 2, 3], window])
    assert caught.value.param == "windows"


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_evaluated(dtype: str, model: Model, ids: np.ndarray, tmp_path: Path) -> None:
    """Near the loss in f32: the budget of a format on weights as large as these is not the point here."""
    path = pygpt.export(model, tmp_path / "m.pygpt", dtype=dtype, chars=LETTERS, verify=False)
    with Engine(path) as engine:
        found = evaluate(engine, [ids])
    assert found.loss == pytest.approx(training_loss(model, torch.from_numpy(ids), CONTEXT), rel=0.1)


def test_overlapping_windows_score_each_token_once_and_see_more(
    model: Model, ids: np.ndarray, tmp_path: Path
) -> None:
    ids = ids[:48]
    path = pygpt.export(model, tmp_path / "m.pygpt", dtype="f32", chars=LETTERS, verify=False)
    with Engine(path) as engine:
        found = evaluate(engine, [ids], stride=5, rest=True)
    total = 0.0
    with torch.no_grad():
        for target in range(1, len(ids)):
            # The window that predicts it: the first of those that begin at 0, 5, 10, ... and reach it.
            begin = 5 * max(0, math.ceil((target - CONTEXT) / 5))
            logits = model.eval()(torch.from_numpy(ids[begin:target])[None])[0, -1].double()
            total -= torch.log_softmax(logits, -1)[ids[target]].item()
    assert found.tokens == len(ids) - 1
    assert found.loss == pytest.approx(total / found.tokens, rel=1e-5)


@pytest.mark.parametrize("size", range(12))
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("rest", [False, True])
def test_no_token_is_scored_twice_and_none_but_a_rest_is_left_out(size: int, stride: int, rest: bool) -> None:
    windows = list(windows_of(size, 4, stride, rest=rest))
    scored = [token for window in windows for token in range(window.first, window.end + 1)]
    assert scored == list(range(1, len(scored) + 1))
    assert all(1 <= window.end - window.begin <= 4 for window in windows)
    if rest or size <= 5:
        assert len(scored) == max(size - 1, 0)
    else:
        assert all(window.end - window.begin == 4 for window in windows)
        assert size - 1 - len(scored) < stride
    if stride == 4 and size > 9 and not rest:
        assert windows == [Window(0, 4, 1), Window(4, 8, 5)]


def test_special_tokens_are_no_text_of_which_bits_are_counted(recite: Callable[..., Engine]) -> None:
    tokenizer = byte_tokenizer("<|end|>")
    engine = recite("a\u00fc<|end|>b" * 3, tokenizer)
    ids = tokenizer.encode("\u00fc<|end|>\u00fcb", allow_special=True)
    found = evaluate(engine, [np.array(ids)])
    logprobs = engine.score([ids])[0].logprobs
    text = [
        logprob for token, logprob in zip(ids[1:], logprobs, strict=True) if not tokenizer.is_special(token)
    ]
    assert (found.bytes, found.characters) == (4, 2)  # the first byte is not predicted
    assert found.bits_per_byte == pytest.approx(-sum(text) / math.log(2) / 4)
    assert found.loss == pytest.approx(-sum(logprobs) / len(logprobs))


def test_a_window_may_end_in_a_stop_token(tmp_path: Path) -> None:
    path = small_models.reciting_model(
        tmp_path / "m.pygpt", [0, 1, 2, 3, 0], None, stop_tokens=(3,), vocab_size=5
    )
    with Engine(path) as engine:
        found = evaluate(engine, [np.array([0, 1, 2, 3])])
        assert found.tokens == 3
        assert found.bits_per_byte is None
        assert found.loss == pytest.approx(engine.score([[0, 1, 2, 3]])[0].nll / 3)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "nothing to predict"),
        ([[1]], {}, "nothing to predict"),
        ([[1, 2], [3, 99]], {}, "token 99 at index 1 of text 1"),
        ([[1, -1]], {}, "token -1 at index 1"),
        ([[1, 2]], {"stride": 0}, "stride"),
        ([[1, 2]], {"stride": 65}, "stride"),
        ([[1, 2]], {"context": 65}, "context"),
        ([[1, 2]], {"windows": 0}, "windows"),
    ],
)
def test_what_cannot_be_evaluated_is_named(
    engine: Engine, texts: list[list[int]], options: dict[str, int], message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        evaluate(engine, [np.array(each) for each in texts], **options)  # type: ignore[arg-type]
