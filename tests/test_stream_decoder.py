"""A stream's text is the text, in whole characters (row C24 of the robustness plan)."""

from __future__ import annotations

import time

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import byte_tokenizer
from tokenizers import decoders, models, pre_tokenizers

from pygpt.stream_decoder import StreamDecoder
from pygpt.tokenizer import Tokenizer

SPECIAL = "<|endoftext|>"
BYTES = byte_tokenizer(SPECIAL)
BYTE_IDS = [BYTES.encode(bytes([byte]))[0] for byte in range(256)]
FAMILY = "a\N{GRINNING FACE}\N{MAN}\u200d\N{WOMAN}e\u0301\u00fc\u4e2d\u0000"


def fallback_tokenizer() -> Tokenizer:
    """As SentencePiece exports are: words with a mark for their space, and bytes for what has no word."""
    words = [
        "<unk>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "\u2581hello",
        "\u2581world",
        "\u2581",
        "a",
    ]
    tokenizer = tokenizers.Tokenizer(
        models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True)  # noqa: S106
    )
    steps = [
        decoders.Replace("\u2581", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
    tokenizer.decoder = decoders.Sequence(steps)
    return Tokenizer(tokenizer)


def pieces(tokenizer: Tokenizer, ids: list[int], *, skip: bool = True) -> list[str]:
    decoder = StreamDecoder(tokenizer, skip_special_tokens=skip)
    return [*(decoder.feed(token) for token in ids), decoder.finish()]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, BYTES.vocab_size - 1), max_size=40), st.booleans())
def test_C24_pieces_join_to_the_decoding_of_any_tokens(ids: list[int], skip: bool) -> None:
    whole = BYTES.decode(ids, skip_special_tokens=skip)
    assert "".join(pieces(BYTES, ids, skip=skip)) == whole


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_C24_no_replacement_character_appears_in_a_text_that_is_whole(text: str) -> None:
    ids = BYTES.encode(text)
    streamed = pieces(BYTES, ids)
    assert "".join(streamed) == text
    assert sum("\ufffd" in piece for piece in streamed) == text.count("\ufffd")
    assert streamed[-1] == ""


def test_C24_a_character_of_four_tokens_leaves_when_it_is_whole() -> None:
    assert pieces(BYTES, BYTES.encode("a\N{GRINNING FACE}b")) == [
        "a",
        "",
        "",
        "",
        "\N{GRINNING FACE}",
        "b",
        "",
    ]


@pytest.mark.parametrize("tail", [b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98", b"\xe4\xb8", b"\xc3"])
def test_C24_a_truncated_tail_is_flushed_once_at_the_end(tail: bytes) -> None:
    ids = [BYTE_IDS[byte] for byte in b"ab" + tail]
    assert pieces(BYTES, ids) == ["a", "b", *[""] * len(tail), "\ufffd"]


def test_C24_a_run_of_invalid_bytes_does_not_stall_the_stream() -> None:
    streamed = pieces(BYTES, [BYTE_IDS[0xFF]] * 1000)
    assert all(streamed[:-1])
    assert "".join(streamed) == "\ufffd" * 1000


def test_C24_special_tokens_are_skipped_or_shown() -> None:
    ids = BYTES.encode(f"a{SPECIAL}b", allow_special=True)
    assert "".join(pieces(BYTES, ids, skip=True)) == "ab"
    assert "".join(pieces(BYTES, ids, skip=False)) == f"a{SPECIAL}b"


def test_C24_a_special_token_inside_a_character_does_not_break_it() -> None:
    ids = BYTES.encode("\u00fc")
    special = BYTES.special_tokens[SPECIAL]
    assert "".join(pieces(BYTES, [ids[0], special, ids[1]])) == "\u00fc"


def test_C24_characters_that_look_like_byte_level_stay_what_they_are() -> None:
    tokenizer = Tokenizer.from_characters("a\u0120\u010a\u00e9\N{GRINNING FACE}")
    assert "".join(pieces(tokenizer, [0, 1, 2, 3, 4])) == "a\u0120\u010a\u00e9\N{GRINNING FACE}"


def test_C24_decoders_that_look_at_neighbours_give_the_same_text() -> None:
    tokenizer = fallback_tokenizer()
    hello, world = 257, 258
    emoji = [1 + byte for byte in "\N{GRINNING FACE}".encode()]
    ids = [hello, world, *emoji, 260, hello]
    streamed = pieces(tokenizer, ids)
    assert "".join(streamed) == tokenizer.decode(ids) == "hello world\N{GRINNING FACE}a hello"
    assert not any("\ufffd" in piece for piece in streamed)


def test_C24_an_endless_run_of_broken_bytes_does_not_stall_such_decoders() -> None:
    streamed = pieces(fallback_tokenizer(), [1 + 0xFF] * 100)
    assert max(len(list(group)) for group in "".join("x" if p else "." for p in streamed).split("x")) <= 16


@pytest.mark.parametrize("tokenizer", [BYTES, fallback_tokenizer()], ids=["bytes", "neighbours"])
def test_C24_the_cost_of_a_token_does_not_grow_with_the_text(tokenizer: Tokenizer) -> None:
    def fastest(count: int) -> float:
        """Seconds a token behind `count` tokens, the best of five: other work on the machine only adds."""
        decoder = StreamDecoder(tokenizer)
        for _ in range(count):
            decoder.feed(257 if tokenizer is not BYTES else 40)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(200):
                decoder.feed(257 if tokenizer is not BYTES else 40)
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest(20_000) < 5 * fastest(200)


def test_a_tokenizer_with_a_pre_tokenizer_of_words_streams_too() -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"hi": 0, "you": 1, "[UNK]": 2}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ours = Tokenizer(tokenizer)
    assert "".join(pieces(ours, [0, 1, 0])) == ours.decode([0, 1, 0]) == "hi you hi"
