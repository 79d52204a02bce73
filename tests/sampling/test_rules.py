"""Each sampling rule against a naive float64 twin.

Logits are multiples of 1/64 and penalties are dyadic where tokens are compared, so that binary32 computes the
rules without rounding and ties are real ties. What is left to rounding is the exponential: a draw may fall to
the other side of a boundary only where the uniform number lies within SLACK of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

from pygpt import _core
from pygpt._core import testing

SLACK = 1e-6  # of the whole mass: each weight is within two units of 6e-8, and so is the total
NOT_FINITE, NONE_LEFT = -1, -2

Logits = NDArray[np.float32]


@pytest.fixture
def rng() -> Generator:
    return np.random.default_rng(17)


def request(prompt: Sequence[int] = (0,), **rules: Any) -> _core.Request:
    return _core.Request(prompt=list(prompt), **rules)


def grid(rng: Generator, vocab: int, spread: float = 3) -> Logits:
    """Random logits that are multiples of 1/64, with many ties."""
    return (np.round(rng.normal(0, spread, vocab) * 64) / 64).astype(np.float32)


def support(logits: Logits, output: Sequence[int] = (), draws: int = 300, **rules: Any) -> set[int]:
    """The tokens that some of many draws choose."""
    return {testing.choose(logits, request(seed=seed, **rules), output) for seed in range(draws)}


# ---- the twin


def adjusted(
    logits: Logits, prompt: Iterable[int], output: Sequence[int], rules: dict[str, Any]
) -> NDArray[np.float64]:
    """Logits after the rules that change or forbid them, one token at a time."""
    values = logits.astype(np.float64)
    for token, bias in rules.get("logit_bias", []):
        values[token] += bias
    if rules.get("allowed_token_ids"):
        for token in range(len(values)):
            if token not in rules["allowed_token_ids"]:
                values[token] = -np.inf
    if len(output) < rules.get("min_tokens", 0):
        for token in rules.get("stop_token_ids", []):
            values[token] = -np.inf
    for token in set(prompt) | set(output):
        factor = rules.get("repetition_penalty", 1.0)
        values[token] = values[token] / factor if values[token] > 0 else values[token] * factor
    for token in set(output):
        times = list(output).count(token)
        values[token] -= rules.get("presence_penalty", 0.0) + rules.get("frequency_penalty", 0.0) * times
    return values


def probabilities(values: NDArray[np.float64], rules: dict[str, Any]) -> NDArray[np.float64]:
    """What each token is drawn with, after temperature and the rules that cut the tail off."""
    order = sorted(range(len(values)), key=lambda token: (-values[token], token))
    kept = set(order)
    top_k = rules.get("top_k", 0)
    if 0 < top_k < len(values):
        kept = set(order[:top_k])
        if rules.get("top_k_ties"):
            kept |= {token for token in order if values[token] == values[order[top_k - 1]]}
    largest = values[order[0]]
    weights = np.array(
        [np.exp((values[t] - largest) / rules.get("temperature", 1.0)) if t in kept else 0.0 for t in order]
    )
    wanted, cumulative = rules.get("top_p", 1.0) * weights.sum(), 0.0
    for place, weight in enumerate(weights):
        if place > 0 and cumulative >= wanted:
            weights[place] = 0
        cumulative += weight
    weights[weights < rules.get("min_p", 0.0)] = 0  # of the most likely one's weight, which is 1
    by_id = np.zeros(len(values))
    by_id[order] = weights / weights.sum()
    return by_id


def explains(chances: NDArray[np.float64], uniform: float, token: int) -> bool:
    """Whether the running sum passes the uniform number at this token."""
    below = chances[:token].sum()
    return bool(chances[token] > 0 and below - SLACK <= uniform <= below + chances[token] + SLACK)


# ---- all rules at once


@pytest.mark.parametrize("vocab", [1, 2, 3, 17, 64, 257, 1000, 5000])
def test_all_rules_together_choose_what_the_twin_chooses(vocab: int, rng: Generator) -> None:
    for trial in range(60 if vocab < 1000 else 20):
        logits = grid(rng, vocab)
        logits[rng.random(vocab) < 0.1] = -np.inf
        prompt, output = rng.integers(0, vocab, 5).tolist(), rng.integers(0, vocab, trial % 7).tolist()
        rules: dict[str, Any] = {
            "temperature": float(rng.choice([0.25, 0.5, 1.0, 2.0])),
            "top_k": int(rng.choice([0, 1, 2, 10, 50, vocab, vocab + 1])),
            "top_k_ties": bool(rng.random() < 0.5),
            "top_p": float(rng.choice([1.0, 0.96875, 0.5, 0.125])),
            "min_p": float(rng.choice([0.0, 0.0625, 0.5])),
            "repetition_penalty": float(rng.choice([1.0, 2.0, 0.5])),
            "presence_penalty": float(rng.choice([0.0, 0.25, -0.5])),
            "frequency_penalty": float(rng.choice([0.0, 0.125, -0.25])),
            "logit_bias": [
                (int(t), float(b)) for t, b in zip(rng.integers(0, vocab, 2), [1.5, -4], strict=True)
            ],
            "stop_token_ids": rng.integers(0, vocab, 2).tolist(),
            "min_tokens": int(rng.choice([0, 3])),
            "allowed_token_ids": [] if rng.random() < 0.7 else rng.integers(0, vocab, 12).tolist()[:vocab],
            "seed": int(rng.integers(0, 1 << 63)),
            "sample": trial,
        }
        values = adjusted(logits, prompt, output, rules)
        token = testing.choose(logits, request(prompt, **rules), output)
        if np.isneginf(values).all():
            assert token == NONE_LEFT
            continue
        chances = probabilities(values, rules)
        uniform = testing.uniform(rules["seed"], trial, len(output))
        assert explains(chances, uniform, token), (rules, token)
        rules["temperature"] = 0.0
        assert testing.choose(logits, request(prompt, **rules), output) == int(np.argmax(values))


# ---- one by one


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_draws_have_the_distribution_of_the_softmax(temperature: float, rng: Generator) -> None:
    vocab, draws = 30, 20_000
    logits = rng.normal(0, 1, vocab).astype(np.float32)
    asked = request(temperature=temperature, seed=9)
    counts = np.zeros(vocab)
    for sample in range(draws):
        asked.sample = sample
        counts[testing.choose(logits, asked)] += 1
    expected = draws * probabilities(logits.astype(np.float64), {"temperature": temperature})
    # Chi-square with 29 degrees of freedom: mean 29, standard deviation sqrt(58); five above once in 13,000.
    assert ((counts - expected) ** 2 / expected).sum() < 29 + 5 * 58**0.5


def test_each_token_of_an_output_and_each_sample_has_its_own_number() -> None:
    logits = np.zeros(1000, np.float32)
    chosen = [
        testing.choose(logits, request(seed=3, sample=s), [0] * n) for s in range(20) for n in range(20)
    ]
    expected = [int(testing.uniform(3, s, n) * 1000) for s in range(20) for n in range(20)]
    assert chosen == expected


def test_temperature_0_takes_the_largest_and_the_lowest_id_of_equals(rng: Generator) -> None:
    for vocab in (1, 2, 50, 5000):
        logits = grid(rng, vocab, 0.2)
        assert testing.choose(logits, request(temperature=0.0)) == int(np.argmax(logits))


def test_top_k_keeps_exactly_k_and_the_lower_ids_of_equals() -> None:
    logits = np.array([1, 2, 0, 2, 2, -1], np.float32)
    assert support(logits, top_k=1) == {1}
    assert support(logits, top_k=2) == {1, 3}
    assert support(logits, top_k=3) == {1, 3, 4}
    assert support(logits, top_k=4) == {0, 1, 3, 4}
    assert support(logits, top_k=0) == support(logits, top_k=6) == support(logits, top_k=99) == set(range(6))


def test_top_k_with_ties_keeps_all_that_equal_the_kth() -> None:
    logits = np.array([1, 2, 0, 2, 2, 1], np.float32)
    assert support(logits, top_k=1, top_k_ties=True) == {1, 3, 4}
    assert support(logits, top_k=3, top_k_ties=True) == {1, 3, 4}
    assert support(logits, top_k=4, top_k_ties=True) == {0, 1, 3, 4, 5}


def test_top_k_above_what_is_possible_keeps_what_is_possible() -> None:
    logits = np.array([1, -np.inf, 0, -np.inf], np.float32)
    for ties in (False, True):
        assert support(logits, top_k=3, top_k_ties=ties) == {0, 2}


def test_top_p_stops_exactly_where_the_mass_is_reached() -> None:
    even = np.zeros(8, np.float32)
    assert support(even, top_p=0.5) == {0, 1, 2, 3}
    assert support(even, top_p=0.500001) == {0, 1, 2, 3, 4}
    assert support(even, top_p=0.499999) == {0, 1, 2, 3}
    assert support(even, top_p=1e-30) == {0}
    assert support(even, top_p=1.0) == set(range(8))
    steps = np.log(np.array([0.5, 0.25, 0.125, 0.125])).astype(np.float32)
    assert support(steps, top_p=0.7) == {0, 1}
    assert support(steps, top_p=0.8) == {0, 1, 2}


def test_top_p_finds_a_nucleus_of_any_size(rng: Generator) -> None:
    """More than the 64 that are put in order at once."""
    logits = rng.permutation(np.linspace(0, 1e-3, 3000)).astype(np.float32)
    order = np.argsort(-logits, kind="stable")
    for top_p in (0.01, 0.05, 0.3, 0.9):
        kept = support(logits, top_p=top_p, draws=2000)
        size = max(int(np.flatnonzero(order == token)[0]) for token in kept) + 1
        # Nearly even: the nucleus has top_p of the tokens, and 2000 draws reach all but some 10 / 2000 of it.
        assert 0.99 * 3000 * top_p - 2 <= size <= 1.001 * 3000 * top_p + 1


def test_min_p_is_a_share_of_the_most_likely_after_temperature() -> None:
    logits = np.log(np.array([1, 0.5, 0.3, 0.25])).astype(np.float32)
    assert support(logits, min_p=0.4) == {0, 1}
    assert support(logits, min_p=0.29) == {0, 1, 2}
    assert support(logits, min_p=1.0) == {0}
    assert support(logits, min_p=0.4, temperature=2.0) == {0, 1, 2, 3}  # roots: 1, 0.71, 0.55, 0.5
    assert support(logits, min_p=0.6, temperature=2.0) == {0, 1}


@pytest.mark.parametrize("penalty", [1.3, 0.7, 2.0])
def test_repetition_penalty_divides_positive_and_multiplies_negative_logits(penalty: float) -> None:
    """Keskar et al. 2019, section 4.1, once for each token of prompt and output."""
    logits = np.array([3, -3, 3, -3, 0], np.float32)
    factor = np.float32(penalty)
    after = np.array([np.float32(3) / factor, np.float32(-3) * factor, 3, -3, 0], np.float32)
    for prompt, output in (((0, 1), ()), ((0, 0), (1, 1, 1)), ((4,), (0, 1))):
        counts = [0] * 5
        for seed in range(2000):
            asked = request(prompt, repetition_penalty=penalty, seed=seed, temperature=4.0)
            counts[testing.choose(logits, asked, output)] += 1
        expected = 2000 * probabilities(after.astype(np.float64), {"temperature": 4.0})
        # Chi-square, 4 degrees of freedom: above 4 + 6 sqrt(8) once in 3000.
        assert ((np.array(counts) - expected) ** 2 / expected).sum() < 4 + 6 * 8**0.5


def test_presence_is_subtracted_once_and_frequency_each_time_of_the_output_only() -> None:
    logits = np.array([0, 0, 0, 0], np.float32)
    cases = [
        ({"presence_penalty": 0.5}, [0, 0.5, 0.5, 0]),
        ({"frequency_penalty": 0.5}, [0, 0.5, 1.5, 0]),
        ({"presence_penalty": -1.0, "frequency_penalty": 0.25}, [0, -0.75, -0.25, 0]),
    ]
    for rules, subtracted in cases:
        for token in range(4):  # the bias that just lifts the token over the others is what was taken from it
            for more, wins in ((0.01, True), (-0.01, False)):
                others = max(-np.delete(subtracted, token))  # the best of the others
                bias = subtracted[token] + others + more
                asked = request((0, 3, 3), temperature=0.0, logit_bias=[(token, float(bias))], **rules)
                chosen = testing.choose(logits, asked, (2, 1, 2, 2))
                assert (chosen == token) == wins


def test_logit_bias_is_added_and_adds_up() -> None:
    logits = np.array([0, 1, 2], np.float32)
    assert testing.choose(logits, request(temperature=0.0, logit_bias=[(0, 2.5)])) == 0
    assert testing.choose(logits, request(temperature=0.0, logit_bias=[(0, 1.5)])) == 2
    assert testing.choose(logits, request(temperature=0.0, logit_bias=[(0, 1.5), (0, 1.5)])) == 0
    assert support(logits, logit_bias=[(2, -100.0), (1, -100.0)]) == {0}


def test_allowed_token_ids_may_repeat_and_come_in_any_order(rng: Generator) -> None:
    logits = grid(rng, 50, 0.3)
    assert support(logits, allowed_token_ids=[7, 3, 7, 40, 3]) == {3, 7, 40}
    assert support(logits, allowed_token_ids=[49]) == {49}
    assert support(logits, allowed_token_ids=[], draws=3000) == set(range(50))
    once, twice = request(allowed_token_ids=[3, 7], seed=5), request(allowed_token_ids=[7, 3, 7, 3], seed=5)
    assert testing.choose(logits, once) == testing.choose(logits, twice)


def test_no_stop_token_is_chosen_before_min_tokens() -> None:
    logits = np.array([0, 5, 5, 0], np.float32)
    rules: dict[str, Any] = {"stop_token_ids": [1, 2], "min_tokens": 3}
    for count in range(3):
        assert support(logits, [0] * count, **rules) == {0, 3}
    assert support(logits, [0] * 3, **rules) >= {1, 2}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.nan])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("vocab", [1, 2, 1000])
def test_a_logit_that_is_no_number_is_reported_wherever_it_stands(
    bad: float, temperature: float, vocab: int, rng: Generator
) -> None:
    for place in {0, vocab // 2, vocab - 1}:
        logits = grid(rng, vocab)
        logits[place] = bad
        forbids = request(temperature=temperature, logit_bias=[(place, -100.0)], top_k=1)
        for asked in (request(temperature=temperature), forbids):
            assert testing.choose(logits, asked) == NOT_FINITE


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rules_that_forbid_every_token_say_so(temperature: float) -> None:
    nothing = np.full(4, -np.inf, np.float32)
    assert testing.choose(nothing, request(temperature=temperature)) == NONE_LEFT
    logits = np.array([-np.inf, 1, 2, -np.inf], np.float32)
    impossible: list[dict[str, Any]] = [
        {"allowed_token_ids": [0, 3]},
        {"stop_token_ids": [1, 2], "min_tokens": 1},
        {"allowed_token_ids": [1], "stop_token_ids": [1], "min_tokens": 1, "top_k": 1, "top_p": 0.1},
    ]
    for rules in impossible:
        assert testing.choose(logits, request(temperature=temperature, **rules)) == NONE_LEFT


@pytest.mark.parametrize("vocab", [1, 7, 300, 5000])
def test_filters_always_leave_the_most_likely_token(vocab: int, rng: Generator) -> None:
    logits = rng.normal(0, 5, vocab).astype(np.float32)
    tightest = {"top_k": 1, "top_p": 1e-30, "min_p": 1.0}
    for rules in ({name: value} for name, value in tightest.items()):
        assert support(logits, draws=20, **rules) == {int(np.argmax(logits))}
    assert support(logits, draws=20, **tightest) == {int(np.argmax(logits))}


def test_the_choice_is_a_pure_function(rng: Generator) -> None:
    logits = grid(rng, 500)
    before = logits.copy()
    asked = request(top_k=40, top_p=0.9, temperature=0.8, seed=1)
    assert len({testing.choose(logits, asked, [3, 3]) for _ in range(20)}) == 1
    np.testing.assert_array_equal(logits, before)
