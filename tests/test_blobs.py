"""Blobs that are not what they should be: refused by name, with nothing but our own error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from pygpt import ModelFileError, _core
from pygpt.architecture import Architecture
from pygpt.blobs import file_tokenizer, json_blob, text_blob
from pygpt.file import Contents, write
from pygpt.tokenizer import Tokenizer

VOCAB_SIZE = 5
WithBlob = Callable[[str, str | bytes], _core.ModelFile]


@pytest.fixture
def with_blob(tmp_path: Path) -> WithBlob:
    """A model file of 5 tokens with one blob."""

    def make(name: str, content: str | bytes) -> _core.ModelFile:
        architecture = Architecture(
            n_layer=1, n_head=1, head_dim=8, d_model=8, d_ff=8, context_length=8, vocab_size=VOCAB_SIZE,
            padded_vocab_size=VOCAB_SIZE, activation="relu", attention_scale=0.25, tied_head=True,
            qkv_bias=False, proj_bias=False, mlp_bias=False, norm_bias=False, head_bias=False,
        )  # fmt: skip
        shapes = {n: (r, c) for n, _, r, c in _core.tensor_specs(architecture.to_config())}
        blobs = {name: content if isinstance(content, bytes) else content.encode()}
        path = tmp_path / "blob.pygpt"
        path.touch()
        weights = {n: np.zeros(shape, np.float32) for n, shape in shapes.items()}.__getitem__
        contents = Contents(architecture=architecture, dtype="f32", weights=weights, defaults={}, blobs=blobs)
        write(path, contents)
        return _core.ModelFile(str(path), mmap=False, verify="full")

    return make


def description(model: dict[str, Any], **parts: Any) -> str:
    empty = dict.fromkeys(
        ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    )
    return json.dumps({"version": "1.0", "added_tokens": [], **empty, "model": model, **parts})


def added(token: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token, "content": "<s>", "special": True, **flags}


LETTER = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}


@pytest.mark.parametrize(
    "content",
    [b"\xff", "", "{", "[1]", '{"a": NaN}', '{"a": Infinity}', '{"a": 1e999}', '{"a": 1' + "0" * 400 + "}",
     '{"a": 1' + "0" * 5000 + "}", '{"a":' + "[" * 100_000, '{"a":' + "[" * 200 + "]" * 200 + "}"],
)  # fmt: skip
def test_json_that_is_none_or_absurd_is_an_error_with_its_blob(
    with_blob: WithBlob, content: str | bytes
) -> None:
    file = with_blob("provenance.json", content)
    with pytest.raises(ModelFileError) as caught:
        json_blob(file, "provenance.json", dict)
    assert caught.value.section == "blob provenance.json"
    assert caught.value.code == "invalid_blob"


def test_a_good_blob_is_read_and_a_missing_one_is_none(with_blob: WithBlob) -> None:
    file = with_blob("provenance.json", '{"a": [1, 2.5, "\\u00e9"]}')
    assert json_blob(file, "provenance.json", dict) == {"a": [1, 2.5, "é"]}
    assert json_blob(file, "chat.json", dict) is None
    assert text_blob(file, "chat_template.jinja") is None


def test_text_that_is_not_utf8_is_an_error_with_its_own_blob(with_blob: WithBlob) -> None:
    with pytest.raises(ModelFileError, match=r"\[blob chat_template.jinja\].*0xff") as caught:
        text_blob(with_blob("chat_template.jinja", b"a\xff"), "chat_template.jinja")
    assert caught.value.code == "invalid_chat"


@pytest.mark.parametrize(
    ("fault", "content"),
    [
        ("utf8", b"\xff\xfe{"),
        ("not json", "hello"),
        ("empty", ""),
        ("a list", "[]"),
        ("no model", "{}"),
        ("a model that is a list", '{"model":[]}'),
        ("A25: more tokens than the model", Tokenizer.from_characters("abcdefgh").to_json()),
        ("A25: an id of the model's size", description({**LETTER, "vocab": {"a": 0, "b": 5}})),
        ("a huge id", description({**LETTER, "vocab": {"a": 0, "b": 4_000_000_000}})),
        ("a huge id of a BPE", description({"type": "BPE", "vocab": {"a": 4_000_000_000}, "merges": []})),
        ("A26: an added id out of range", description(LETTER, added_tokens=[added(4294967295)])),
        ("an id that is text", description({**LETTER, "vocab": {"a": "0"}})),
        ("an id that is negative", description({**LETTER, "vocab": {"a": -1}})),
        ("A26: merge to an unknown token",
         description({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]})),
        ("A26: merge of an unknown token",
         description({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "x"]]})),
        ("charsmap",
         description(LETTER, normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        ("fixed length 0", description(LETTER, pre_tokenizer={"type": "FixedLength", "length": 0})),
        ("too large a Unigram", description(
            {"type": "Unigram", "unk_id": 0, "vocab": [[c, -1.0] for c in "abcdef"]})),
        ("unk_id out of range", description({"type": "Unigram", "unk_id": 5, "vocab": [["a", -1.0]]})),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)  # fmt: skip
def test_A26_tokenizer_that_cannot_be_used_is_invalid_tokenizer(
    with_blob: WithBlob, fault: str, content: str | bytes
) -> None:
    del fault
    with pytest.raises(ModelFileError) as caught:
        file_tokenizer(with_blob("tokenizer.json", content))
    assert caught.value.code == "invalid_tokenizer"
    assert caught.value.section == "blob tokenizer.json"


def test_truncation_and_padding_of_the_file_do_not_touch_a_text(with_blob: WithBlob) -> None:
    made = tokenizers.Tokenizer(models.WordLevel({c: i for i, c in enumerate("abcde")}, "a"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_truncation(2)
    made.enable_padding(length=8, pad_id=4)
    tokenizer = file_tokenizer(with_blob("tokenizer.json", made.to_str()))
    assert tokenizer is not None
    assert tokenizer.encode("a b c d") == [0, 1, 2, 3]
    assert tokenizer.encode("b") == [1]


def test_truncation_with_a_stride_beyond_its_length_fails_nowhere(with_blob: WithBlob) -> None:
    truncation = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 5}
    content = description(LETTER, truncation=truncation, pre_tokenizer={"type": "Whitespace"})
    tokenizer = file_tokenizer(with_blob("tokenizer.json", content))
    assert tokenizer is not None
    assert tokenizer.encode("a a a a a") == [0] * 5


def test_ids_with_holes_keep_their_tokens() -> None:
    content = json.loads(Tokenizer.from_characters("abc").to_json())
    content["model"]["vocab"] = {"a": 0, "b": 1, "c": 4}
    tokenizer = Tokenizer.from_json(json.dumps(content))
    assert tokenizer.vocab_size == 5
    assert tokenizer.encode("abc") == [0, 1, 4]
    assert tokenizer.decode([4, 0]) == "ca"
    assert tokenizer.token_ids == {0, 1, 4}
