"""tiktoken's vocabularies: tokens equal to tiktoken's own; pickles that run nothing (A26, B9, C6, C7)."""

from __future__ import annotations

import base64
import os
import pickle
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import LONG, NASTY, PATTERNS, small_ranks

from pygpt import InvalidRequestError, ModelFileError
from pygpt.checkpoints import bpe, tiktoken_file, vocabulary
from pygpt.checkpoints.base import Options
from pygpt.checkpoints.split_pattern import for_oniguruma
from pygpt.tokenizer import Tokenizer

ENGLISH = "The quick brown fox jumps over the lazy dog; he said: don't, it's 12345 times. caf\u00e9\n" * 20
RANKS = small_ranks(ENGLISH, 400)
END = len(RANKS)
SPECIAL = {"<|bos|>": END, "<|end|>": END + 1}
GAPS = {"<|bos|>": END + 5, "<|end|>": END + 9}  # as cl100k_base has them
NANOCHAT = bpe.from_ranks(RANKS, PATTERNS["nanochat"], SPECIAL)
CHARACTERS = st.sampled_from(
    "aabdehtlsvqz  \n\r\t'SL\u017f123\u0663.,!?-_/\u00a0\u200d\u0301\u00e9\u00df\u4e2d\U0001f468\x00\x85"
)
PATIENCE_S = 20  # some 0.3 s here; a machine may be busy


def naive(piece: bytes) -> list[int]:
    """A word's tokens as tiktoken's _byte_pair_merge defines them."""
    if piece in RANKS:
        return [RANKS[piece]]
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        ranks = [(RANKS[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in RANKS]
        if not ranks:
            return [RANKS[part] for part in parts]
        _, i = min(ranks)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


@settings(max_examples=100, deadline=None)
@given(st.text("aehtoqz\u00e9", min_size=1, max_size=12))
def test_the_tokens_of_a_word_are_those_of_its_ranks(word: str) -> None:
    assert NANOCHAT.encode(word) == naive(word.encode())


@pytest.fixture(scope="module", params=PATTERNS)
def both(request: pytest.FixtureRequest) -> tuple[Tokenizer, Any]:
    """Our tokenizer and tiktoken's, of the same ranks."""
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken, whose tokens are compared, is not installed")
    special = GAPS if request.param == "cl100k" else SPECIAL
    pattern = PATTERNS[request.param]
    theirs = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=RANKS, special_tokens=special)
    return bpe.from_ranks(RANKS, pattern, special), theirs


def test_C6_tokens_of_nasty_texts_are_those_of_tiktoken(both: tuple[Tokenizer, Any]) -> None:
    ours, theirs = both
    for text in NASTY:
        ids = ours.encode(text)
        assert ids == theirs.encode_ordinary(text), text
        assert ours.decode(ids) == theirs.decode(ids) == text
        assert ours.encode(text, allow_special=True) == theirs.encode(text, allowed_special="all")


@settings(max_examples=200, deadline=None)
@given(text=st.text(CHARACTERS, max_size=30) | st.text(max_size=30))
def test_C6_tokens_of_any_text_are_those_of_tiktoken(both: tuple[Tokenizer, Any], text: str) -> None:
    ours, theirs = both
    assert ours.encode(text) == theirs.encode_ordinary(text)


@settings(max_examples=50, deadline=None)
@given(ids=st.lists(st.integers(0, END - 1), max_size=20))
def test_C6_any_tokens_decode_as_with_tiktoken(both: tuple[Tokenizer, Any], ids: list[int]) -> None:
    ours, theirs = both
    assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("special", [SPECIAL, GAPS], ids=["dense", "gaps"])
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_C6_nasty_texts_survive_the_round_trip(pattern: str, special: dict[str, int]) -> None:
    tokenizer = bpe.from_ranks(RANKS, pattern, special)
    assert tokenizer.special_tokens == special
    again = Tokenizer.from_json(tokenizer.to_json())
    for text in NASTY:
        ids = tokenizer.encode(text)
        assert not set(ids) & set(special.values())
        assert tokenizer.decode(ids) == text
        assert again.encode(text) == ids
    assert tokenizer.encode("a<|end|>", allow_special=True) == [*naive(b"a"), special["<|end|>"]]


@pytest.mark.parametrize("text", LONG, ids=lambda text: ascii(text[:2]))
def test_C7_a_hundred_thousand_equal_characters_take_no_time(text: str) -> None:
    began = time.monotonic()
    assert NANOCHAT.decode(NANOCHAT.encode(text)) == text
    assert time.monotonic() - began < PATIENCE_S


class Encoding:
    """Pickles as tiktoken.Encoding does: an object and its state."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def __getstate__(self) -> Any:
        return self.state

    def __setstate__(self, state: Any) -> None: ...


def pickled(path: Path, state: Any, monkeypatch: pytest.MonkeyPatch, protocol: int = 4) -> Path:
    """A pickle of tiktoken's class; tiktoken itself need not be there."""
    core = ModuleType("tiktoken.core")
    Encoding.__module__, Encoding.__qualname__ = "tiktoken.core", "Encoding"
    core.Encoding = Encoding  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tiktoken", ModuleType("tiktoken"))
        patch.setitem(sys.modules, "tiktoken.core", core)
        path.write_bytes(pickle.dumps(Encoding(state), protocol))
    return path


def state(**changes: Any) -> dict[str, Any]:
    made = {
        "name": "rustbpe",
        "pat_str": PATTERNS["nanochat"],
        "mergeable_ranks": RANKS,
        "special_tokens": SPECIAL,
    }
    return made | changes


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_pickled_encoding_is_read_without_tiktoken(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pickled(tmp_path / "tokenizer.pkl", state(), monkeypatch, protocol)
    found = tiktoken_file.from_pickle(path)
    assert found.to_json() == NANOCHAT.to_json()
    assert vocabulary.given(Options(tokenizer=path)).special_tokens == SPECIAL  # type: ignore[union-attr]
    directory, notes = vocabulary.found(Options(), tmp_path / "none", tmp_path)
    assert directory is not None
    assert directory.vocab_size == END + 2
    assert notes == ()


def test_what_tiktoken_itself_pickles_is_read(tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken, whose pickle is read, is not installed")
    theirs = tiktoken.Encoding(
        "rustbpe", pat_str=PATTERNS["nanochat"], mergeable_ranks=RANKS, special_tokens=SPECIAL
    )
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(theirs))
    found = tiktoken_file.from_pickle(tmp_path / "tokenizer.pkl")
    live = vocabulary.given(Options(tokenizer=theirs))
    assert live is not None
    assert found.to_json() == live.to_json()


class Hostile:
    """Unpickled, it makes a directory."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("nested", [False, True])
def test_B9_a_pickle_with_code_is_refused_without_side_effect(
    nested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = str(tmp_path / "owned")
    path = tmp_path / "tokenizer.pkl"
    if nested:
        pickled(path, state(pat_str=Hostile(victim)), monkeypatch)
    else:
        path.write_bytes(pickle.dumps(Hostile(victim)))
    with pytest.raises(ModelFileError, match=r"mkdir.*no code is run") as caught:
        tiktoken_file.from_pickle(path)
    assert caught.value.code == "unsafe_pickle"
    assert not os.path.exists(victim)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mergeable_ranks": None}, "missing"),
        ({"pat_str": 5}, "missing"),
        ({"special_tokens": []}, "missing"),
        ({"mergeable_ranks": {"a": 1}}, "'a' is no token of bytes"),
        ({"mergeable_ranks": RANKS | {b"xyzzy": -1}}, "has the id -1"),
        ({"mergeable_ranks": RANKS | {b"xyzzy": 2**32}}, "has the id 4294967296"),
        ({"mergeable_ranks": RANKS | {b"xyzzy": True}}, "has the id True"),
        ({"mergeable_ranks": RANKS | {b"xyzzy": 7}}, "two of its tokens have the id 7"),
        ({"mergeable_ranks": RANKS | {b"": END + 5}}, "no token"),
        ({"mergeable_ranks": RANKS | {b"x" * 2000: END + 5}}, "token of 2000 bytes"),
        ({"special_tokens": {"<|bos|>": 3}}, "two of its tokens have the id 3"),
        ({"special_tokens": {"bos": END + 5}}, "could come from a text"),
        ({"special_tokens": {"q": END}}, "has the id"),
        ({"mergeable_ranks": {k: v for k, v in RANKS.items() if k != b"\x80"}}, "1 of the 256 bytes, 0x80"),
        ({"pat_str": r"(?s).+"}, r"position 0"),
        ({"pat_str": r"\p{N}{1,3}+\p{L}"}, r"position 5"),
        ({"pat_str": r"\w+|\s"}, r"position 0"),
        ({"pat_str": "("}, "split pattern is none"),
        ({"pat_str": "a" * 5000}, "5000 characters"),
    ],
)
def test_A26_ranks_that_are_none_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pickled(tmp_path / "tokenizer.pkl", state(**changes), monkeypatch)
    with pytest.raises(ModelFileError, match=message) as caught:
        tiktoken_file.from_pickle(path)
    assert caught.value.code == "invalid_tokenizer"
    assert str(path) in str(caught.value)


def test_a_pickle_of_a_name_says_how_to_pass_the_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pickled(tmp_path / "tokenizer.pkl", "gpt2", monkeypatch)
    with pytest.raises(ModelFileError, match=r"tiktoken\.get_encoding\('gpt2'\)"):
        tiktoken_file.from_pickle(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04", pickle.dumps({"a": 1}), pickle.dumps(5), b"\x80\x04(((((("]
)
def test_a_file_that_is_no_pickled_encoding_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.pkl").write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        tiktoken_file.from_pickle(tmp_path / "tokenizer.pkl")
    assert caught.value.code == "invalid_tokenizer"


def ranks_file(path: Path, ranks: dict[bytes, int]) -> Path:
    path.write_bytes(b"".join(base64.b64encode(t) + b" %d\n" % rank for t, rank in ranks.items()))
    return path


def test_a_file_of_ranks_is_read_where_its_name_is_known(tmp_path: Path) -> None:
    special = {"<|endoftext|>": 50256}
    found = vocabulary.given(Options(tokenizer=ranks_file(tmp_path / "gpt2.tiktoken", RANKS)))
    assert found is not None
    assert found.special_tokens == special
    assert found.to_json() == bpe.from_ranks(RANKS, PATTERNS["gpt2"], special).to_json()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.tiktoken", b"YQ== 0\n", "known for the names gpt2"),
        ("gpt2.tiktoken", b"YQ== 0\nYQ==\n", "line 2"),
        ("gpt2.tiktoken", b"Y 0\n", "line 1"),
        ("gpt2.tiktoken", b"YQ== x\n", "line 1"),
        ("gpt2.tiktoken", b"YQ== 0\n", "255 of the 256 bytes"),
    ],
)
def test_a_file_of_ranks_that_cannot_be_used_is_refused(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        vocabulary.given(Options(tokenizer=tmp_path / name))


@pytest.mark.parametrize(
    "pattern", ["(?<=a)b", "(?>a)", "(?P<n>a)", r"\ba", "a{2}?", "a{1,2}+b", "^a", ".", r"[a&&b]", "[[a]]"]
)
def test_what_the_dialects_read_differently_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequestError, match="does not translate"):
        for_oniguruma(pattern)
