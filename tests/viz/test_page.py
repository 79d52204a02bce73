"""The attention page: whole in itself, true to the weights, and deaf to what a text says."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import byte_tokenizer, reciting_model

from pygpt import ContextLengthError, Engine, InvalidRequestError, viz
from pygpt.viz import AttentionView, attention
from pygpt.viz.labels import labels


class Elements(HTMLParser):
    """Every element of a page with its attributes and the text in it."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data


def data_of(page: str) -> dict[str, Any]:
    elements = Elements(page)
    (place,) = (i for i, (_, attrs) in enumerate(elements.found) if attrs.get("id") == "data")
    return json.loads(elements.texts[place])


def some_weights(layers: int, heads: int, length: int) -> Any:
    rng = np.random.default_rng(0)
    scores = np.where(
        np.tri(length, dtype=bool), rng.standard_normal((layers, heads, length, length)), -np.inf
    )
    weights = np.exp(scores)
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def test_the_page_holds_the_engines_weights(engine: Engine) -> None:
    text = "To be, or\nnot to be"
    view = attention(engine, text)
    np.testing.assert_array_equal(view.weights[1], engine.attention(text, 1))
    data = data_of(view.to_html())
    assert "".join(data["tokens"]) == text.replace(" ", "\u00b7").replace("\n", "\u00b6")
    assert (data["layers"], data["heads"]) == ([0, 1], 3)
    steps = np.frombuffer(base64.b64decode(data["weights"]), np.uint8).reshape(2, 3, -1)
    rows, columns = np.tril_indices(len(text))
    np.testing.assert_allclose(steps / 255, view.weights[:, :, rows, columns], atol=0.5 / 255 + 1e-6)


def test_layers_are_chosen(engine: Engine) -> None:
    assert data_of(attention(engine, "abc", 1).to_html())["layers"] == [1]
    assert data_of(attention(engine, "abc", [1, 0]).to_html())["layers"] == [1, 0]
    for wrong in (2, -1, [0, 2], "0"):
        with pytest.raises(InvalidRequestError, match="from 0 to 1"):
            attention(engine, "abc", wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="at least one layer"):
        attention(engine, "abc", [])
    with pytest.raises(ContextLengthError):
        attention(engine, "a" * 65)


def test_the_page_needs_nothing_from_elsewhere(engine: Engine) -> None:
    page = attention(engine, "abc").to_html()
    assert not re.search(r"https?:|//[a-z]|\burl\(|@import|\bimport\b|fetch\(|XMLHttp|WebSocket", page)
    for tag, attrs in Elements(page).found:
        assert not {"src", "href", "action", "srcset"} & attrs.keys(), tag
    policy = [attrs["content"] for _, attrs in Elements(page).found if "http-equiv" in attrs]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"]
    assert len(page) < 20_000  # but for the weights


NASTY = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--<script>",
    "\"&quot;'><b>",
    "\u2028\u2029\\u003c",
    "@data@ @title@",
    "${7*7}`",
    "\x00\x1b[31m\u202e",
]


@pytest.mark.parametrize("text", NASTY)
def test_text_is_never_markup_or_script(text: str) -> None:
    """As a token and as a title: the same elements as ever, and the text as it was."""
    length = 3
    plain = AttentionView(["a"] * length, [0], some_weights(1, 2, length), "title")
    nasty = AttentionView(["a", text, "b"], [0], some_weights(1, 2, length), text)
    page = nasty.to_html()
    assert Elements(page).found == Elements(plain.to_html()).found
    assert data_of(page)["tokens"] == ["a", text, "b"]
    titles = [
        t for (tag, _), t in zip(Elements(page).found, Elements(page).texts, strict=True) if tag == "h1"
    ]
    assert titles[0].strip() == text.strip()
    # In a notebook the page is one attribute of a frame that may run scripts and nothing else.
    (frame,) = Elements(nasty._repr_html_()).found
    assert frame[0] == "iframe"
    assert frame[1]["sandbox"] == "allow-scripts"
    assert frame[1]["srcdoc"] == page


def test_a_nasty_prompt_comes_through_an_engine_harmlessly(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer("</script>")
    path = reciting_model(tmp_path / "m.pygpt", [0] * 40, tokenizer)
    with Engine(path) as engine:
        ids = tokenizer.encode("<b>\u20ac", allow_special=True) + tokenizer.encode(
            "</script>", allow_special=True
        )
        page = attention(engine, ids).to_html()
    tokens = data_of(page)["tokens"]
    assert tokens == ["<", "b", ">", "\\xe2", "\\x82", "\\xac", "</script>"]
    assert page.count("</script") == 2


def test_labels_without_a_tokenizer_are_ids() -> None:
    assert labels([3, 17], None) == ["3", "17"]


def test_a_page_is_saved_and_opens_as_utf8(engine: Engine, tmp_path: Path) -> None:
    view = attention(engine, "a b")
    path = view.save(tmp_path / "view.html")
    assert path.read_bytes().decode("utf-8") == view.to_html()
    assert '<meta charset="utf-8">' in view.to_html()[:200]


@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (2, 2, 3, 3), (2, 3, 3), (1, 0, 3, 3), (1, 2, 4, 4)])
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequestError, match="must be"):
        AttentionView(["a", "b", "c"], [0], np.zeros(shape, np.float32))


def test_a_page_that_would_be_too_large_is_refused_with_the_way_out() -> None:
    weights = np.broadcast_to(np.float32(0), (40, 40, 200, 200))
    with pytest.raises(InvalidRequestError, match=r"make 30 MiB.*at most 16 MiB; choose fewer layers"):
        AttentionView(["a"] * 200, list(range(40)), weights)


def test_what_viz_offers_is_there() -> None:
    assert all(hasattr(viz, name) for name in viz.__all__)
