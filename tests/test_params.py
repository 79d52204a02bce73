"""The vocabulary of parameters: ranges, aliases, near misses (rows C9-C18 of the robustness plan)."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from pygpt.errors import InvalidRequestError, UnknownParameterError
from pygpt.param_names import ALIASES, NOT_BUILT
from pygpt.params import RECORDED, SamplingParams

NAN, INF = math.nan, math.inf


def params(**keywords: Any) -> SamplingParams:
    return SamplingParams.from_keywords(keywords)


def assert_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        params(**{name: value})
    assert caught.value.param == name
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [0, -0.0, 1e-30, 0.0])
def test_C9_a_temperature_of_nothing_is_greedy(value: float) -> None:
    assert math.copysign(1, params(temperature=value).temperature or 0.0) == 1
    assert params(temperature=value).temperature == 0


@pytest.mark.parametrize("value", [2.0, 2.0001, 1, 100, np.float32(0.5), np.int64(1)])
def test_C9_any_finite_temperature_is_taken(value: float) -> None:
    assert params(temperature=value).temperature == float(value)


@pytest.mark.parametrize("value", [-1, NAN, INF, -INF, "1", True, [], 1e300, 10**400])
def test_C9_a_temperature_that_is_none_is_refused(value: object) -> None:
    assert_refused("temperature", value)


def test_C9_None_is_the_default() -> None:
    assert params(temperature=None) == params()
    assert params(temperature=None).rules({"temperature": 0.7}, 65)["temperature"] == 0.7


@pytest.mark.parametrize(
    ("value", "k"), [(0, 0), (-1, 0), (None, 0), (1, 1), (65, 65), (66, 65), (2**31, 65)]
)
def test_C10_top_k_is_off_or_clamped(value: int | None, k: int) -> None:
    assert params(top_k=value).rules({"top_k": 7}, vocab_size=65)["top_k"] == k


def test_C10_top_k_that_is_not_given_is_the_recorded_one() -> None:
    assert params().rules({"top_k": 7}, 65)["top_k"] == 7
    assert params().rules({}, 65)["top_k"] == 0


@pytest.mark.parametrize("value", [-2, 1.0, True, "5", NAN])
def test_C10_a_top_k_that_is_none_is_refused(value: object) -> None:
    assert_refused("top_k", value)


@pytest.mark.parametrize("value", [0, 0.0, 1.0001, -0.1, NAN, INF, "1"])
def test_C11_top_p_outside_of_0_to_1_is_refused(value: object) -> None:
    assert_refused("top_p", value)


@pytest.mark.parametrize("value", [1.0001, -0.1, NAN, "0.1"])
def test_C11_min_p_outside_of_0_to_1_is_refused(value: object) -> None:
    assert_refused("min_p", value)


@pytest.mark.parametrize("value", [0, -1, 1e-300, 101, NAN, INF, "1", True])
def test_a_repetition_penalty_that_no_logit_survives_is_refused(value: object) -> None:
    assert_refused("repetition_penalty", value)


def test_C11_the_ends_of_the_ranges_are_taken() -> None:
    rules = params(top_p=1, min_p=0).rules({"top_p": 0.5, "min_p": 0.5}, 65)
    assert (rules["top_p"], rules["min_p"]) == (1.0, 0.0)
    assert params(top_p=1e-300).top_p == pytest.approx(1.1754944e-38)  # survives as binary32


@pytest.mark.parametrize("value", [0, -1, 9, 10**6, 1.0, True])
def test_C13_n_outside_of_1_to_8_is_refused(value: object) -> None:
    assert_refused("n", value)


@pytest.mark.parametrize("value", [-1, 2**31, 1.0, True, "5", pytest.param(10**5000, id="huge")])
def test_C14_max_tokens_that_is_no_count_is_refused(value: object) -> None:
    assert_refused("max_tokens", value)


def test_C14_max_tokens_of_none_and_zero_are_taken() -> None:
    assert params(max_tokens=None).max_tokens is None
    assert params(max_tokens=0).max_tokens == 0
    assert params(max_tokens=np.uint16(3)).max_tokens == 3


@pytest.mark.parametrize(
    "value", ["", [""], ["a"] * 5, "x" * 257, "é" * 129, b"a", 5, ["a", 5], "\ud800", {"a"}, [["a"]]]
)
def test_C15_stop_that_cannot_be_is_refused(value: object) -> None:
    assert_refused("stop", value)


@pytest.mark.parametrize("value", ["x" * 256, ["ab", "abc"], ("a", "b", "c", "d"), []])
def test_C15_stop_is_a_text_or_up_to_four(value: Any) -> None:
    expected = (value,) if isinstance(value, str) else tuple(value)
    assert params(stop=value).stop == expected


@pytest.mark.parametrize(
    "value", [{"abc": 1}, {-1: 1}, {1: NAN}, {1: "2"}, {1: True}, {True: 1}, [(1, 2)], "1"]
)
def test_C16_logit_bias_that_cannot_be_is_refused(value: object) -> None:
    assert_refused("logit_bias", value)


def test_C16_logit_bias_is_clamped_and_takes_ids_as_JSON_writes_them() -> None:
    taken = params(logit_bias={"5": 1e9, 6: -INF, np.int64(7): np.float32(0.5)})
    assert taken.logit_bias == {5: 100.0, 6: -100.0, 7: 0.5}


def test_C16_logit_bias_has_at_most_300_entries_of_the_vocabulary() -> None:
    assert_refused("logit_bias", dict.fromkeys(range(301), 1.0))
    with pytest.raises(InvalidRequestError, match=r"logit_bias: token 65 .* 0\.\.64"):
        params(logit_bias={65: 1}).rules({}, vocab_size=65)


@pytest.mark.parametrize("value", [-2, 2**64, "x", 1.0, True])
def test_C17_a_seed_that_is_none_is_refused(value: object) -> None:
    assert_refused("seed", value)


@pytest.mark.parametrize("value", [0, 2**64 - 1])
def test_C17_seeds_have_64_bits(value: int) -> None:
    assert params(seed=value).seed == value


def test_C17_a_seed_of_minus_one_is_random() -> None:
    assert params(seed=-1).seed is None


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("temperatur", "temperature"),
        ("topk", "top_k"),
        ("max_token", "max_tokens"),
        ("maxtokens", "max_tokens"),
        ("max_new_token", "max_tokens"),
        ("stops", "stop"),
        ("sead", "seed"),
    ],
)
def test_C18_an_unknown_keyword_is_a_TypeError_that_names_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(TypeError, match=f"{wrong}: .*did you mean {right}\\?") as caught:
        params(**{wrong: 1})
    assert isinstance(caught.value, UnknownParameterError)
    assert caught.value.param == wrong


def test_C18_a_keyword_like_no_other_is_refused_too() -> None:
    with pytest.raises(UnknownParameterError, match=r"zzz: no such parameter$"):
        params(zzz=1)


@pytest.mark.parametrize("name", sorted(NOT_BUILT))
def test_a_name_that_nothing_implements_is_refused_with_what_works(name: str) -> None:
    with pytest.raises(UnknownParameterError, match=f"not built yet.* {NOT_BUILT[name]}$"):
        params(**{name: 1})
    assert NOT_BUILT[name] in SamplingParams.__dataclass_fields__


@pytest.mark.parametrize(("alias", "name"), sorted(ALIASES.items()))
def test_an_alias_means_its_parameter(alias: str, name: str) -> None:
    value = "x" if name == "stop" else 3
    assert params(**{alias: value}) == params(**{name: value})
    with pytest.raises(InvalidRequestError, match="another name of"):
        params(**{name: value, alias: value})


def test_do_sample_is_a_switch() -> None:
    assert params(do_sample=False).temperature == 0
    assert params(do_sample=True, temperature=0.7).temperature == 0.7
    assert params(n_predict=-1).max_tokens is None
    with pytest.raises(InvalidRequestError, match="another name of"):
        params(do_sample=False, temperature=0.7)


@pytest.mark.parametrize("name", [field.name for field in fields(SamplingParams)])
def test_None_is_the_default_of_every_parameter_but_top_k(name: str) -> None:
    off = 0 if name == "top_k" else getattr(SamplingParams(), name)
    assert getattr(SamplingParams(**{name: None}), name) == off


def test_keywords_go_on_top_of_a_base() -> None:
    base = params(temperature=0.5, stop="a", logit_bias={3: 1.0}, top_k=5)
    changed = SamplingParams.from_keywords({"temperature": 0.7}, base)
    assert (changed.temperature, changed.stop, changed.logit_bias) == (0.7, ("a",), {3: 1.0})
    assert changed.top_k == 5
    assert params().top_k is RECORDED


def test_the_rules_are_what_was_said_else_recorded_else_neutral() -> None:
    recorded = {"temperature": 0.8, "top_k": 20, "top_k_ties": True}
    rules = params(temperature=0.3, min_p=0.1).rules(recorded, vocab_size=65)
    assert rules["temperature"] == 0.3
    assert (rules["top_k"], rules["top_k_ties"], rules["min_p"]) == (20, True, 0.1)
    assert (rules["top_p"], rules["repetition_penalty"]) == (1.0, 1.0)


@pytest.mark.parametrize("value", [[], [-1], [1.0], "1", [True], [[1]]])
def test_allowed_token_ids_are_ids(value: object) -> None:
    assert_refused("allowed_token_ids", value)


def test_ids_may_be_numpy_or_single() -> None:
    assert params(allowed_token_ids=np.array([3, 1])).allowed_token_ids == (3, 1)
    assert params(stop_token_ids=4).stop_token_ids == (4,)
    assert params(stop_token_ids={4}).stop_token_ids == (4,)
