"""Tokenised texts: made once, mapped, and noticed when they are of something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pygpt
from pygpt.errors import InvalidRequestError
from pygpt.tokenizer import Tokenizer
from pygpt.train import checkpoint, run, tokens
from pygpt.train.config import TrainConfig
from pygpt.train.run import train
from pygpt.train.tokens import Corpus, load_corpus
from pygpt.train.vocabulary import learn_bpe, make_tokenizer

LETTERS = Tokenizer.from_characters("abcdefghijklmnopqrstuvwxyz\n")


def load(text: Path, cache: Path | None, tokenizer: Tokenizer = LETTERS) -> tuple[Corpus, list[str]]:
    """The corpus, and what was done for it."""
    told: list[str] = []
    corpus = load_corpus(str(text), tokenizer, 16, cache, lambda what, *_: told.append(what))
    return corpus, told


def test_a_mapped_text_is_the_text_in_memory(alphabet: Path, tmp_path: Path) -> None:
    memory, _ = load(alphabet, None)
    mapped, _ = load(alphabet, tmp_path / "cache")
    assert np.array_equal(memory.train, mapped.train)
    assert np.array_equal(memory.validation, mapped.validation)
    assert memory.text_sha256 == mapped.text_sha256
    assert mapped.train.dtype == np.uint16
    assert isinstance(mapped.train, np.memmap)


def test_it_is_tokenised_once(alphabet: Path, tmp_path: Path) -> None:
    assert "tokenising the text" in load(alphabet, tmp_path / "cache")[1]
    assert "tokenising the text" not in load(alphabet, tmp_path / "cache")[1]


@pytest.mark.parametrize("change", ["text", "tokenizer", "truncated", "flipped", "manifest"])
def test_I12_what_is_of_something_else_or_damaged_is_made_anew(
    alphabet: Path, tmp_path: Path, change: str
) -> None:
    cache = tmp_path / "cache"
    load(alphabet, cache)
    tokenizer = LETTERS
    if change == "text":
        alphabet.write_text("zyx\n" * 500)
    elif change == "tokenizer":
        tokenizer = Tokenizer.from_characters("\nzyxwvutsrqponmlkjihgfedcba")
    elif change == "manifest":
        (cache / "tokens.json").write_text("{")
    else:
        ids = bytearray((cache / "tokens.bin").read_bytes())
        ids[0] ^= 1
        (cache / "tokens.bin").write_bytes(ids[:-2] if change == "truncated" else ids)
    again, told = load(alphabet, cache, tokenizer)
    assert "tokenising the text" in told
    expected = tokenizer.encode(alphabet.read_text())
    assert [*again.train, *again.validation] == expected


def test_ids_are_as_small_as_the_vocabulary_allows() -> None:
    assert tokens.dtype_for(65536) == "<u2"
    assert tokens.dtype_for(65537) == "<u4"


def test_I12_what_the_tokenizer_lacks_is_named(alphabet: Path) -> None:
    with pytest.raises(InvalidRequestError, match="'z'"):
        load(alphabet, None, Tokenizer.from_characters("abcdefghijklmnopqrstuvwxy\n"))


def test_bpe_joins_what_stands_together_and_reads_any_bytes() -> None:
    tokenizer = learn_bpe(iter(["the cat and the dog and the bird\n"] * 50), 300)
    assert tokenizer.decode(tokenizer.encode("the cat, naïve 𝄞\n")) == "the cat, naïve 𝄞\n"
    assert len(tokenizer.encode("the cat and the dog")) <= 6
    assert tokenizer.encode(b"\xff") != []
    assert 256 < tokenizer.vocab_size <= 300


def test_bpe_is_the_same_each_time() -> None:
    texts = ["a few words in a row, a few more\n"] * 20
    assert learn_bpe(iter(texts), 280).to_json() == learn_bpe(iter(texts), 280).to_json()


def test_a_tokenizer_is_characters_or_learnt_or_given(alphabet: Path, tmp_path: Path) -> None:
    assert make_tokenizer(str(alphabet), "chars", 256, run._untold).vocab_size == 27
    assert make_tokenizer(str(alphabet), "bpe", 260, run._untold).vocab_size == 260
    given = tmp_path / "tokenizer.json"
    given.write_text(LETTERS.to_json())
    assert make_tokenizer("unread", str(given), 256, run._untold).to_json() == LETTERS.to_json()
    with pytest.raises(InvalidRequestError, match="cannot be read") as caught:
        make_tokenizer("unread", str(tmp_path / "missing.json"), 256, run._untold)
    assert caught.value.param == "tokenizer"


def test_a_large_text_is_learnt_in_tokens_from_a_file(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small limit makes it a large text."""
    monkeypatch.setattr(run, "LARGE_BYTES", 1000)
    config = replace(tiny, tokenizer="bpe", vocab_size=260, steps=30)
    result = train(alphabet, tmp_path / "out", config)
    assert result.validation_loss < 1.5  # from ln 260 = 5.6
    assert (tmp_path / "out" / checkpoint.TOKENS / "tokens.bin").is_file()
    path = pygpt.export(tmp_path / "out", tmp_path / "out.pygpt")
    with pygpt.Engine(path) as engine:
        assert engine.generate("abcdef", max_tokens=6, temperature=0).text
    train(None, tmp_path / "out", config, resume=True, changes={"steps": 35})
    train(alphabet, tmp_path / "other", replace(config, cache=str(tmp_path / "shared")))
    assert (tmp_path / "shared" / "tokens.bin").is_file()
    assert not (tmp_path / "other" / checkpoint.TOKENS).exists()
