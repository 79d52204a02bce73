"""Figures: what they draw is what they were given."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt import Engine, InvalidRequestError
from pygpt.errors import MissingExtraError
from pygpt.viz import attention_maps, lens_table, logit_lens, loss_curves

PNG = b"\x89PNG\r\n\x1a\n"


def test_maps_show_the_weights(engine: Engine) -> None:
    weights = engine.attention("to be", 0)
    figure: Any = attention_maps(weights, list("to be"), title="costs $5 or $6")
    assert len(figure.axes) == 3
    for axes, head in zip(figure.axes, weights, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), head)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list("to be")
    assert figure._repr_png_().startswith(PNG)
    one: Any = attention_maps(weights[1])
    np.testing.assert_array_equal(one.axes[0].images[0].get_array(), weights[1])


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (1, 2, 3, 3)])
def test_maps_of_no_such_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequestError, match="must be"):
        attention_maps(np.zeros(shape, np.float32))


def test_the_last_row_of_the_lens_is_what_the_model_says(engine: Engine) -> None:
    text = "Read half-way."
    lens = logit_lens(engine, text)
    logits = engine.logits(text).astype(np.float64)
    exact = np.exp(logits - logits.max(-1, keepdims=True))
    exact /= exact.sum(-1, keepdims=True)
    assert lens.probabilities.shape == (3, len(text))
    np.testing.assert_array_equal(lens.likeliest[-1], logits.argmax(-1))
    np.testing.assert_allclose(lens.probabilities[-1], exact.max(-1), rtol=2e-3)  # the cache is f16
    assert (lens.likeliest[0] != lens.likeliest[-1]).any()
    assert engine.tokenizer is not None
    assert lens.words[2][3] == engine.tokenizer.decode([int(logits[3].argmax())]).replace(" ", "\u00b7")


def test_the_table_of_the_lens_has_every_word(engine: Engine) -> None:
    lens = logit_lens(engine, "$a$ b".replace("$", "x"))
    figure: Any = lens_table(lens, title="lens")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [word for row in lens.words for word in row]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["embedding", "after h.0", "after h.1"]
    assert figure._repr_png_().startswith(PNG)


def test_curves_are_drawn_as_they_are(tmp_path: Path) -> None:
    curves = {"bigram": [(0, 4.0), (10, 3.0)], "transformer": [(0, 4.0), (10, 2.0), (20, 1.5)]}
    figure: Any = loss_curves(curves, floor=4.17)
    drawn = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    for name, points in curves.items():
        assert drawn[name] == [list(point) for point in points]
    figure.savefig(tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("curves", [{}, {"a": []}])
def test_no_curves_are_refused(curves: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="at least one point"):
        loss_curves(curves)


def test_without_matplotlib_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "matplotlib" else found(name, *more)
    )
    with pytest.raises(MissingExtraError, match=r'pip install "pygpt\[viz\]"'):
        loss_curves({"a": [(0, 1.0)]})
