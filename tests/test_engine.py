"""The engine's face: prompts, ends, stop strings, streams (rows C1-C8, C12, C14, C15, C17, C24)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from small_models import LETTERS, byte_tokenizer, reciting_model
from tokenizers import decoders, models, pre_tokenizers

import pygpt
from pygpt import (
    Completion,
    ContextLengthError,
    Engine,
    InvalidRequestError,
    ModelFileError,
    NumericalError,
)
from pygpt.tokenizer import Tokenizer

Recite = Callable[..., Engine]
CONTEXT = 64


def one(found: Any) -> Completion:
    assert isinstance(found, Completion)
    return found


# Prompts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", [], b"", np.array([], np.int64)])
def test_C1_an_empty_prompt_starts_from_the_start_token(engine: Engine, prompt: Any) -> None:
    out = engine.generate(prompt, max_tokens=5, seed=1)
    assert out.prompt_token_ids == [engine.info["config"]["start_token"]]
    assert out.text == engine.generate("\n", max_tokens=5, seed=1).text


@pytest.mark.parametrize("prompt", ["", []])
def test_C1_without_a_start_token_an_empty_prompt_is_refused(recite: Recite, prompt: Any) -> None:
    with pytest.raises(InvalidRequestError, match="no token that a text starts from") as caught:
        recite("abc").generate(prompt)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("length", "policy", "tokens", "dropped"),
    [
        (CONTEXT - 1, "stop", 1, 0),
        (CONTEXT, "stop", 0, 0),
        (CONTEXT - 1, "error", 1, 0),
        (CONTEXT, "error", 0, 0),
        (CONTEXT - 1, "slide", 1, 0),
        (CONTEXT, "slide", 0, 0),
        (CONTEXT + 1, "slide", 0, 1),
        (100 * CONTEXT, "shift", 0, 99 * CONTEXT),
    ],
)
def test_C2_without_max_tokens_a_text_ends_at_the_contexts_end(
    engine: Engine, length: int, policy: str, tokens: int, dropped: int
) -> None:
    out = engine.generate("a" * length, on_overflow=policy)
    assert (out.finish_reason, len(out.token_ids)) == ("length", tokens)
    assert out.usage.prompt_tokens_dropped == dropped
    assert out.usage.prompt_tokens == length - dropped
    assert out.usage.completion_tokens == tokens


@pytest.mark.parametrize("policy", ["stop", "error"])
@pytest.mark.parametrize("length", [CONTEXT + 1, 100 * CONTEXT])
def test_C2_a_prompt_that_does_not_fit_is_an_error_with_both_numbers(
    engine: Engine, length: int, policy: str
) -> None:
    with pytest.raises(ContextLengthError, match=rf"{length} tokens .* context of {CONTEXT}"):
        engine.generate("a" * length, max_tokens=1, on_overflow=policy)


def test_C2_cropping_is_what_the_cropped_prompt_gives(engine: Engine) -> None:
    text = "the quick brown fox jumps over the lazy dog " * 4
    cropped = engine.generate(text, max_tokens=20, seed=3)
    assert cropped.text == engine.generate(text[-CONTEXT:], max_tokens=20, seed=3).text


def test_C3_stop_ends_at_the_contexts_end_and_slide_goes_on(engine: Engine) -> None:
    ended = engine.generate("abc", max_tokens=200, on_overflow="stop")
    assert (ended.finish_reason, ended.usage.total_tokens) == ("length", CONTEXT)
    for policy in ("slide", "shift", None):
        assert len(engine.generate("abc", max_tokens=200, on_overflow=policy).token_ids) == 200


def test_C3_error_refuses_up_front(engine: Engine) -> None:
    assert engine.generate("abc", max_tokens=CONTEXT - 3, on_overflow="error").finish_reason == "length"
    with pytest.raises(ContextLengthError, match=r"3 prompt tokens and max_tokens=62 .* context of 64"):
        engine.generate("abc", max_tokens=CONTEXT - 2, on_overflow="error")


@pytest.mark.parametrize("wrong", [-1, len(LETTERS), 2**31, 2**63, 1.0, True, None, [2], "a", 10**30])
def test_C4_a_wrong_token_id_is_named_with_its_index(engine: Engine, wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"index 1 .*") as caught:
        engine.generate([1, wrong])
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("kind", [np.int64, np.uint16, np.int32, np.uint8])
def test_C4_numpy_ids_are_taken(engine: Engine, kind: Any) -> None:
    expected = engine.generate([20, 21, 22], max_tokens=5, seed=1).text
    array = np.array([20, 21, 22], kind)
    assert engine.generate(array, max_tokens=5, seed=1).text == expected  # type: ignore[call-overload]
    assert engine.generate(list(array), max_tokens=5, seed=1).text == expected
    rows = engine.generate(np.stack([array, array]), max_tokens=5, seed=1)  # type: ignore[call-overload]
    assert [str(row) for row in rows] == [expected, expected]


@pytest.mark.parametrize("prompt", [5, None, 1.5, {"a": 1}, {1}, True, object()])
def test_C4_what_is_no_prompt_is_refused(engine: Engine, prompt: Any) -> None:
    with pytest.raises(InvalidRequestError, match="prompt: must be a text"):
        engine.generate(prompt)


@pytest.mark.parametrize("text", ["\ud800", "ab\udfff"])
def test_C5_lone_surrogates_are_refused(engine: Engine, recite: Recite, text: str) -> None:
    for each in (engine, recite("abc")):
        with pytest.raises(InvalidRequestError) as caught:
            each.generate(text)
        assert caught.value.param == "prompt"
        assert "position" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00", b"a\x80b", "é".encode()[:1], b"\x00", "\ufeffbom".encode(), "שלום".encode(),
        ("e" + "\u0301" * 10_000).encode(), "\N{MAN}\u200d\N{WOMAN}".encode(), b"\xed\xa0\x80",
    ],
)  # fmt: skip
def test_C6_bytes_survive_the_round_trip_of_a_byte_level_tokenizer(content: bytes) -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode(content)
    assert b"".join(tokenizer.bytes_of(token) or b"" for token in ids) == content


def test_C6_bytes_are_prompts(engine: Engine, recite: Recite) -> None:
    assert (
        engine.generate(b"abc", max_tokens=4, seed=1).text
        == engine.generate("abc", max_tokens=4, seed=1).text
    )
    assert recite("abc").generate(b"\xff", max_tokens=2).text == "ab"
    with pytest.raises(InvalidRequestError, match="0xff at 1 is not UTF-8") as caught:
        engine.generate(b"a\xff")
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("character", ["a", "^", " ", "1", "_"])
@pytest.mark.parametrize("kind", ["characters", "bytes"])
def test_C7_a_million_equal_characters_take_no_two_seconds(character: str, kind: str) -> None:
    tokenizer = byte_tokenizer() if kind == "bytes" else Tokenizer.from_characters("a^ 1_")
    start = time.process_time()
    ids = tokenizer.encode(character * 1_000_000)
    assert time.process_time() - start < 2
    assert len(ids) == 1_000_000


def test_C8_what_looks_like_a_special_token_is_text() -> None:
    special = "<|endoftext|>"
    tokenizer = byte_tokenizer(special, "<|im_start|>")
    assert tokenizer.special_tokens[special] not in tokenizer.encode(special)
    assert tokenizer.decode(tokenizer.encode(special)) == special
    assert tokenizer.encode(f"a{special}", allow_special=True)[-1] == tokenizer.special_tokens[special]


def test_an_unknown_character_is_shown(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match=r"'7' \(U\+0037\) at position 2"):
        engine.generate("ab7")


def test_a_file_without_tokenizer_speaks_token_ids(tmp_path: Path) -> None:
    path = reciting_model(tmp_path / "ids.pygpt", [0, 5, 6, 7, 8], None)
    with Engine(path) as engine:
        out = engine.generate([1], max_tokens=3, temperature=0)
        assert (out.text, out.token_ids) == ("", [5, 6, 7])
        assert [p.token_ids for p in engine.stream([1], max_tokens=3, temperature=0)][-1][-1] == 7
        for prompt, keywords in (("a", {}), ([1], {"stop": "a"})):
            with pytest.raises(InvalidRequestError, match="no tokenizer"):
                engine.generate(prompt, **keywords)  # type: ignore[call-overload]


# What comes back ------------------------------------------------------------------------------------------


def test_lists_come_back_in_order_and_n_samples_as_lists(engine: Engine) -> None:
    prompts = ["one", "two", "three"]
    alone = [engine.generate(p, max_tokens=8, seed=5).text for p in prompts]
    assert [out.text for out in engine.generate(prompts, max_tokens=8, seed=5)] == alone
    pairs = engine.generate(prompts, n=2, max_tokens=8, seed=5)
    assert [pair[0].text for pair in pairs] == alone
    assert all(pair[0].text != pair[1].text for pair in pairs)
    assert [sample.sample for sample in pairs[0]] == [0, 1]
    assert [s.text for s in engine.generate("one", n=2, max_tokens=8, seed=5)] == [s.text for s in pairs[0]]
    assert engine.generate(["one"], max_tokens=8, seed=5)[0].text == alone[0]
    assert str(engine("one", max_tokens=8, seed=5)) == alone[0]


def test_C12_rules_that_leave_one_token_leave_it(engine: Engine) -> None:
    out = engine.generate(
        "a", max_tokens=5, allowed_token_ids=[7], top_p=1e-30, min_p=1.0, logit_bias={7: -1e9}
    )
    assert out.token_ids == [7] * 5


def test_C12_rules_that_leave_no_token_are_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="leave none"):
        engine.generate("a", max_tokens=5, min_tokens=5, allowed_token_ids=[7], stop_token_ids=[7])


def test_C14_max_tokens_0_scores_the_prompt_only(engine: Engine) -> None:
    out = engine.generate("hello", max_tokens=0, prompt_logprobs=2)
    assert (out.text, out.token_ids, out.finish_reason) == ("", [], "length")
    assert out.prompt_logprobs is not None
    assert [each.token_id for each in out.prompt_logprobs] == out.prompt_token_ids[1:]
    assert all(len(each.top) == 2 for each in out.prompt_logprobs)


def test_min_tokens_above_max_tokens_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="min_tokens: 5 is more than max_tokens=4"):
        engine.generate("a", min_tokens=5, max_tokens=4)


def test_C17_a_random_seed_is_reported_and_repeats_the_text(engine: Engine) -> None:
    first, second = engine.generate("abc", max_tokens=20), engine.generate("abc", max_tokens=20)
    assert first.seed != second.seed
    assert engine.generate("abc", max_tokens=20, seed=first.seed).text == first.text
    a, b = engine.generate(["abc", "abc"], max_tokens=20)
    assert a.text != b.text


def test_C17_a_seeds_text_does_not_depend_on_neighbours_or_threads(small_model: Path) -> None:
    texts = set()
    for threads in (1, 2, 3):
        with Engine(small_model, threads=threads) as engine:
            texts.add(engine.generate("abc", max_tokens=30, seed=9).text)
            texts.add(engine.generate(["xyz", "abc", "q"], max_tokens=30, seed=9, logprobs=3)[1].text)
    assert len(texts) == 1


def test_logprobs_are_of_the_tokens(engine: Engine) -> None:
    out = engine.generate("abc", max_tokens=6, temperature=0, logprobs=3)
    assert out.logprobs is not None
    assert [each.token_id for each in out.logprobs] == out.token_ids
    assert all(each.top[0] == (each.token_id, each.logprob) for each in out.logprobs)
    assert all(len(each.top) == 3 for each in out.logprobs)
    assert engine.generate("abc", max_tokens=6, temperature=0).logprobs is None


def test_logits_and_scores_agree(engine: Engine) -> None:
    ids = engine.tokenizer.encode("hello there") if engine.tokenizer else []
    logits = engine.logits(ids)
    assert logits.shape == (len(ids), len(LETTERS))
    assert logits.dtype == np.float32
    wide = logits.astype(np.float64)
    logprobs = (
        wide
        - np.log(np.exp(wide - wide.max(1, keepdims=True)).sum(1, keepdims=True))
        - wide.max(1, keepdims=True)
    )
    expected = [logprobs[i, token] for i, token in enumerate(ids[1:])]
    score, again = engine.score(["hello there", ids])
    np.testing.assert_allclose(score.logprobs, expected, atol=1e-4)
    assert again == score
    assert score.nll == pytest.approx(-sum(expected), rel=1e-5)
    assert score.perplexity == pytest.approx(math.exp(score.nll / len(expected)))
    assert score.bits_per_byte == pytest.approx(score.nll / math.log(2) / len("ello there"))


def test_texts_that_cannot_be_scored_are_refused(engine: Engine) -> None:
    assert engine.score([]) == []
    with pytest.raises(ContextLengthError, match="65 tokens"):
        engine.score(["a" * 65])
    with pytest.raises(ContextLengthError, match="65 tokens"):
        engine.logits("a" * 65)
    with pytest.raises(InvalidRequestError, match="1 token"):
        engine.score(["a"])
    with pytest.raises(InvalidRequestError, match="list of texts"):
        engine.score("abc")  # type: ignore[arg-type]


def test_A24_weights_without_a_number_are_a_NumericalError(recite: Recite) -> None:
    with pytest.raises(NumericalError, match="not finite"):
        recite("abc", weight=math.nan).generate("x", max_tokens=2)


def test_recorded_defaults_hold_until_something_else_is_said(recite: Recite) -> None:
    engine = recite("abcdef", defaults={"temperature": 0.0})
    assert engine.generate("x", max_tokens=3).text == "abc"
    assert {engine.generate("x", max_tokens=3, temperature=50.0).text for _ in range(3)} != {"abc"}


# Ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        ("world", "hello \N{GRINNING FACE} ", "world"),
        (["wor", "world"], "hello \N{GRINNING FACE} ", "wor"),
        ("hello", "", "hello"),
        ("\N{GRINNING FACE}", "hello ", "\N{GRINNING FACE}"),
        ("o \N{GRINNING FACE} w", "hell", "o \N{GRINNING FACE} w"),
        (["xx", "lo"], "hel", "lo"),
    ],
)
def test_C15_the_text_ends_before_the_earliest_stop_string(
    recite: Recite, stop: Any, text: str, reason: str
) -> None:
    engine = recite("hello \N{GRINNING FACE} world, and more behind it")
    out = one(engine.generate("x", stop=stop))
    assert (out.text, out.finish_reason, out.stop_reason) == (text, "stop", reason)
    assert out.usage.completion_tokens == len(out.token_ids) == len(text.encode())
    pieces = list(engine.stream("x", stop=stop))
    assert "".join(piece.text for piece in pieces) == text
    assert [token for piece in pieces for token in piece.token_ids] == out.token_ids
    assert pieces[-1].finish_reason == "stop"


def test_C15_the_stop_string_stays_where_asked_for(recite: Recite) -> None:
    out = recite("hello world").generate("x", stop="o w", include_stop_str_in_output=True, logprobs=0)
    assert (out.text, out.stop_reason) == ("hello w", "o w")
    assert len(out.token_ids) == len(out.logprobs or ()) == 7


def test_C15_a_stop_string_that_is_never_whole_is_text(recite: Recite) -> None:
    out = recite("hello wor").generate("x", stop="world")
    assert (out.text, out.finish_reason) == ("hello wor", "length")


def test_min_tokens_come_before_any_stop_string(recite: Recite) -> None:
    assert recite("ababab").generate("x", stop="a", min_tokens=3).text == "abab"


def test_a_stop_token_ends_the_text_and_is_not_in_it(recite: Recite) -> None:
    tokenizer = byte_tokenizer("<|end|>")
    end = tokenizer.special_tokens["<|end|>"]
    engine = recite("abc<|end|>def", tokenizer, stop_tokens=(end,))
    out = engine.generate("x")
    assert (out.text, out.finish_reason, out.stop_reason) == ("abc", "stop", end)
    going_on = engine.generate("x", ignore_eos=True)
    assert (going_on.text, going_on.finish_reason) == ("abcdef", "length")
    shown = engine.generate("x", ignore_eos=True, skip_special_tokens=False)
    assert shown.text == "abc<|end|>def"
    own = tokenizer.encode("e")[0]
    assert engine.generate("x", ignore_eos=True, stop_token_ids=own).text == "abcd"


def test_echo_begins_with_the_prompt(recite: Recite) -> None:
    engine = recite("bcd")
    assert engine.generate("a", echo=True, stop="a").text == "abcd"
    assert "".join(map(str, engine.stream("a", echo=True))) == "abcd"
    assert engine.generate([engine.tokenizer.encode("a")[0]], echo=True).text == "abcd"  # type: ignore[union-attr]


# Streams --------------------------------------------------------------------------------------------------


def test_C24_a_stream_shows_whole_characters_and_is_the_text(recite: Recite) -> None:
    text = "a\N{GRINNING FACE}\N{MAN}\u200d\N{WOMAN}\u00fc\u4e2d"
    engine = recite(text)
    pieces = list(engine.stream("x", logprobs=1))
    whole = pieces[-1].completion
    assert whole is not None
    assert "".join(piece.text for piece in pieces) == whole.text == text
    assert not any("\ufffd" in piece.text for piece in pieces)
    assert [token for piece in pieces for token in piece.token_ids] == whole.token_ids
    assert [each for piece in pieces for each in piece.logprobs or ()] == whole.logprobs
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)


def test_C24_a_truncated_tail_comes_once_at_the_end(recite: Recite) -> None:
    engine = recite(b"ab\xf0\x9f\x98")
    pieces = list(engine.stream("x"))
    assert "".join(piece.text for piece in pieces) == engine.generate("x").text == "ab\ufffd"


def test_a_stream_is_the_text_that_generate_gives(engine: Engine) -> None:
    for seed in range(20):
        asked: dict[str, Any] = {"max_tokens": 40, "seed": seed, "stop": ["e", "th"], "temperature": 1.3}
        assert "".join(map(str, engine.stream("Now", **asked))) == engine.generate("Now", **asked).text


def test_samples_of_a_stream_say_whose_they_are(engine: Engine) -> None:
    pieces = list(engine.stream("Now", n=3, max_tokens=20, seed=2))
    texts = ["".join(p.text for p in pieces if p.sample == sample) for sample in range(3)]
    assert texts == [out.text for out in engine.generate("Now", n=3, max_tokens=20, seed=2)]


def test_a_stream_takes_one_prompt_and_checks_it_at_once(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="one prompt"):
        engine.stream(["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="did you mean temperature"):
        engine.stream("a", temperatur=1)
    with pytest.raises(TypeError, match="did you mean temperature"):
        engine.generate("a", temperatur=1)


def test_info_and_repr_say_what_runs(engine: Engine) -> None:
    info = engine.info
    assert info["config"]["n_layer"] == 2
    assert info["parameters"] > 0
    assert info["provenance"]["family"] == "pygpt"
    assert repr(engine).startswith("<pygpt.Engine 'small.pygpt': ")
    assert pygpt.__version__ in info["provenance"]["library"]


# What a file or a caller may get wrong ----------------------------------------------------------------------


@pytest.mark.parametrize("params", [5, {"max_tokens": 2}, "greedy"])
def test_params_that_are_none_are_named(engine: Engine, params: Any) -> None:
    for ask in (engine.generate, engine.stream):
        with pytest.raises(InvalidRequestError, match="max_tokens=5") as caught:
            ask("a", params)  # type: ignore[call-overload]
        assert caught.value.param == "params"


@pytest.mark.parametrize("options", [{"mmap": "no"}, {"mmap": None}, {"mmap": 1}])
def test_mmap_that_is_no_bool_is_refused(small_model: Path, options: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Engine(small_model, **options)
    assert caught.value.param == "mmap"


@pytest.mark.parametrize("path", ["a\0b", b"a\0b", "", b"", None, 5])
def test_A27_a_path_that_is_none_is_refused(path: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Engine(path)
    assert caught.value.param == "path"


def test_score_takes_arrays_and_refuses_texts_of_nothing(engine: Engine) -> None:
    ids = engine.tokenizer.encode("abcd") if engine.tokenizer else []
    expected = engine.score(["abcd"])
    assert engine.score([np.array(ids)]) == expected
    assert engine.score(np.array([ids])) == expected  # type: ignore[arg-type]
    assert engine.score([]) == []
    for texts in ([[]], [""]):
        with pytest.raises(InvalidRequestError):
            engine.score(texts)


def test_logits_of_too_long_a_prompt_advise_nothing_that_logits_has_not(engine: Engine) -> None:
    with pytest.raises(ContextLengthError) as caught:
        engine.logits([1] * (CONTEXT + 1))
    assert "on_overflow" not in str(caught.value)


def test_A24_score_and_logits_of_weights_that_are_not_finite_raise(recite: Recite) -> None:
    engine = recite("abc", weight=math.nan)
    with pytest.raises(NumericalError):
        engine.logits("ab")
    with pytest.raises(NumericalError):
        engine.score(["ab"])


def test_A24_no_request_is_blamed_for_logits_that_leave_no_token(recite: Recite) -> None:
    script_without = recite("abc", weight=-math.inf, vocab_size=300)
    with pytest.raises(NumericalError):
        script_without.generate([300 - 1], max_tokens=2)


@pytest.mark.parametrize(
    ("name", "value"), [("repetition_penalty", 1e-3), ("repetition_penalty", 101.0), ("min_p", 1.5)]
)
def test_a_recorded_default_that_no_request_may_have_is_refused(
    recite: Recite, name: str, value: float
) -> None:
    with pytest.raises(ModelFileError, match=name) as caught:
        recite("abc", defaults={name: value})
    assert caught.value.code in ("invalid_default", "invalid_header")


def test_A25_ids_without_a_token_are_not_sampled_and_are_no_text(recite: Recite) -> None:
    letters = Tokenizer.from_characters("abc")
    engine = recite("abcabc", letters, vocab_size=9, weight=0.0)  # every id is equally likely
    out = engine.generate("a", max_tokens=6, temperature=5.0, n=8, seed=1)
    assert {token for each in out for token in each.token_ids} == {0, 1, 2}
    forced = one(engine.generate([0, 8], max_tokens=3, allowed_token_ids=[7], echo=True))
    assert (forced.token_ids, forced.text) == ([7, 7, 7], "a")
    assert engine.score([[0, 8, 1]])[0].token_ids == [0, 8, 1]


def test_A25_stop_tokens_without_a_token_still_stop(recite: Recite) -> None:
    letters = Tokenizer.from_characters("abc")
    engine = recite("aaaa", letters, vocab_size=9, weight=0.0, stop_tokens=(8,))
    outs = engine.generate("a", max_tokens=3, temperature=5.0, n=8, seed=1)
    assert any(each.stop_reason == 8 for each in outs)


def test_a_character_that_a_word_tokenizer_lacks_is_named(recite: Recite) -> None:
    words = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1}))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    engine = recite("a b", Tokenizer(words))
    with pytest.raises(InvalidRequestError, match="zzz") as caught:
        engine.generate("a zzz")
    assert caught.value.param == "prompt"


def test_a_word_tokenizer_smaller_than_its_model_generates(recite: Recite) -> None:
    words = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    engine = recite("a a a a", Tokenizer(words), vocab_size=5, weight=0.0)
    out = one(engine.generate([1, 4], max_tokens=2, echo=True, temperature=3.0, seed=1))
    assert set(out.token_ids) <= {0, 1}
    assert one(engine.generate([1, 4], max_tokens=2, allowed_token_ids=[4], echo=True)).text == "a"
