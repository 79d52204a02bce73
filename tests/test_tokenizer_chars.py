"""Character vocabularies: any Unicode, unknown characters, the same tokenizer.json everywhere."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from pygpt.errors import InvalidRequestError
from pygpt.tokenizer import Tokenizer

ANY_TEXT = st.text(min_size=1)  # every code point but surrogates
TRICKY = "a\n\r\r\n\t\x00\x1b \u2028\u00e9e\u0301\U0001f468\u200d\U0001f469\ufeff\ud7ff\ue000\U0010ffff"


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT)
def test_any_text_survives_the_round_trip(text: str) -> None:
    tokenizer = Tokenizer.from_text(text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(text)
    assert tokenizer.vocab_size == len(set(text))


@settings(max_examples=100, deadline=None)
@given(ANY_TEXT)
def test_our_fast_path_and_the_library_agree(text: str) -> None:
    tokenizer = Tokenizer.from_text(text)
    library = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    ids = library.encode(text, add_special_tokens=False).ids
    assert ids == tokenizer.encode(text)
    assert library.decode(ids, skip_special_tokens=False) == text


def test_ids_follow_the_code_points_as_in_the_lecture() -> None:
    tokenizer = Tokenizer.from_text("hello\n")
    assert tokenizer.encode("\nehlo") == [0, 1, 2, 3, 4]


def test_ids_follow_the_order_of_given_characters() -> None:
    assert Tokenizer.from_characters("zay").encode("ayz") == [1, 2, 0]


def test_json_keeps_the_tokenizer_and_its_speed() -> None:
    tokenizer = Tokenizer.from_text(TRICKY)
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.to_json() == tokenizer.to_json()
    assert again.encode(TRICKY) == tokenizer.encode(TRICKY)
    assert again.decode(again.encode(TRICKY)) == TRICKY
    with pytest.raises(InvalidRequestError, match="'q'"):
        again.encode("q")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abcabcx", r"'x' \(U\+0078\) at position 6 .* 3 characters"),
        ("\U0001f600", r"'\U0001f600' \(U\+1F600\) at position 0"),
        ("a\x00", r"'\\x00' \(U\+0000\) at position 1"),
        ("ab\udc80", r"'\\udc80' \(U\+DC80\) at position 2"),
    ],
)
def test_an_unknown_character_is_shown_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        Tokenizer.from_characters("abc").encode(text)


@pytest.mark.parametrize(
    ("characters", "message"),
    [
        ([], "empty"),
        (["a", "b", "a"], "'a' occurs twice"),
        (["ab"], "'ab'"),
        ([""], "''"),
        (["\ud800"], "ud800"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(characters: list[str], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        Tokenizer.from_characters(characters)


@pytest.mark.parametrize("token", [-1, 3])
def test_an_id_outside_the_vocabulary_is_refused(token: int) -> None:
    with pytest.raises(InvalidRequestError, match=rf"token {token} at index 1"):
        Tokenizer.from_characters("abc").decode([0, token])


def test_text_that_is_no_tokenizer_json_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="tokenizer"):
        Tokenizer.from_json('{"version": "1.0"}')


def test_empty_text_is_no_tokens() -> None:
    tokenizer = Tokenizer.from_characters("abc")
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_real_text_survives_the_round_trip(real_text: str) -> None:
    tokenizer = Tokenizer.from_text(real_text)
    assert tokenizer.decode(tokenizer.encode(real_text)) == real_text
