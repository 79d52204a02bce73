"""The replay of known answers: it passes on good files, fails on wrong ones, and names the layer."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.divergence import explain, first_difference, first_lossy_layer
from pygpt.dtypes import DTYPES
from pygpt.errors import DeviceError, ModelFileError
from pygpt.file import Contents, Stored, write
from pygpt.known_answers import KnownAnswers, answers, choose_positions, choose_prompt, parse
from pygpt.parity import (
    STORED_BUDGET,
    engine_logits,
    file_dtype,
    known_answers,
    original_budget,
    replay,
    stored_budget,
)
from pygpt.reference import Trace, forward, log_sum_exp

SMALL = Architecture(
    n_layer=3,
    n_head=3,
    head_dim=20,
    d_model=60,
    d_ff=100,
    context_length=40,
    vocab_size=67,
    padded_vocab_size=70,
    activation="gelu",
    attention_scale=20**-0.5,
    tied_head=True,
    qkv_bias=True,
    proj_bias=True,
    mlp_bias=True,
    norm_bias=True,
    head_bias=False,
)


QUANTISED_DTYPES = [dtype for dtype in DTYPES if dtype.startswith("q")]


def contents(a: Architecture = SMALL, dtype: str = "f32", seed: int = 0) -> Contents:
    """A model at random whose weights do not fit f16 and bf16 exactly."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, _, rows, cols in _core.tensor_specs(a.to_config()):
        weights[name] = rng.standard_normal((rows, cols), np.float32) * 0.1 + (".gain" in name)
        if name.endswith(("attn.qkv", "attn.qkv.bias")):  # rows past head_dim are zero
            rows_of_heads = weights[name].reshape(a.n_head * 3, a.padded_head_dim, -1)
            rows_of_heads[:, a.head_dim :] = 0
    return Contents(architecture=a, dtype=dtype, weights=weights.__getitem__)


def known(what: Contents) -> KnownAnswers:
    a = what.architecture
    specs = {name: kind for name, kind, _, _ in _core.tensor_specs(a.to_config())}

    def as_stored(name: str) -> Stored:
        return Stored(what, name, specs[name])

    prompt = choose_prompt(a, 1_000_000)
    positions = choose_positions(len(prompt))
    original = forward(a, what.weights, prompt, positions)
    rounded = forward(a, as_stored, prompt, positions, what.rounding)
    sets = [answers(trace.logits, a.vocab_size) for trace in (original, rounded)]
    return KnownAnswers(prompt, positions, sets[0], sets[1], "test")


def saved(path: Path, what: Contents, answers_of: Contents | None = None) -> _core.ModelFile:
    """The file with the known answers of `what`, or of another model."""
    blob = known(answers_of or what).to_json()
    path.touch()
    write(path, replace(what, blobs={"known_answers.json": blob}))
    return _core.ModelFile(str(path), verify="full")


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_engine_gives_the_known_answers(isa: str, dtype: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "m.pygpt", contents(dtype=dtype))
    assert file_dtype(file) == dtype
    reports = [
        replay(file, isa=isa, threads=threads, prefill_chunk=chunk) for threads, chunk in ((1, 0), (3, 7))
    ]
    first, second = reports
    assert first is not None
    assert second is not None
    assert first.passed
    assert first.isa == isa
    assert first.stored == second.stored  # bit for bit the same, whatever the threads and the chunks
    assert first.stored.top1 == 1.0
    assert first.dtype == dtype
    if dtype not in QUANTISED_DTYPES:  # there, an activation may lie at a tie that binary32 sees elsewhere
        assert first.stored.max_rel < STORED_BUDGET / 10
        assert first.stored.kl < 1e-9
    assert first.stored.budget == stored_budget(dtype, SMALL.n_layer)
    assert first.original.budget == original_budget(dtype, SMALL.n_layer)
    share = 1.2 if dtype in QUANTISED_DTYPES else 4
    assert first.original.max_rel < original_budget(dtype, SMALL.n_layer) / share


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("format", ["f16", "bf16"])
def test_the_budget_of_a_format_is_neither_tight_nor_loose(format: str, seed: int, tmp_path: Path) -> None:
    layers = 1 + 2 * seed
    a = replace(SMALL, n_layer=layers, tied_head=bool(seed % 2), head_bias=False)
    report = replay(saved(tmp_path / "m.pygpt", contents(a, format, seed)))
    assert report is not None
    assert (
        original_budget(format, layers) / 50 < report.original.max_rel < original_budget(format, layers) / 2
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", QUANTISED_DTYPES)
def test_the_budget_of_bytes_is_neither_tight_nor_loose(dtype: str, seed: int, tmp_path: Path) -> None:
    """What a file lost, and what binary32 adds to it, in models of 1 to 11 layers."""
    layers = 1 + 2 * seed
    a = replace(SMALL, n_layer=layers, tied_head=bool(seed % 2), head_bias=False)
    report = replay(saved(tmp_path / "m.pygpt", contents(a, dtype, seed)))
    assert report is not None
    assert report.stored.max_rel < report.stored.budget / 2
    assert report.stored.top1 == 1.0
    assert original_budget(dtype, layers) / 6 < report.original.max_rel < original_budget(dtype, layers)


def test_the_figures_are_what_they_say(tmp_path: Path) -> None:
    what = contents(dtype="bf16")
    file = saved(tmp_path / "m.pygpt", what)
    report = replay(file)
    assert report is not None
    prompt = known(what).prompt
    positions = choose_positions(len(prompt))
    theirs = forward(SMALL, what.weights, prompt).logits[positions, : SMALL.vocab_size]
    ours = engine_logits(file, prompt)[0][positions].astype(np.float64)
    p = theirs - log_sum_exp(theirs)[:, None]
    q = ours - log_sum_exp(ours)[:, None]
    divergence = float((np.exp(p) * (p - q)).sum(axis=1).mean())
    top = np.sort(theirs)[:, -32:].min(axis=1, keepdims=True)
    largest = float(np.abs(ours - theirs)[theirs >= top].max())
    assert report.original.max_abs == pytest.approx(largest, rel=1e-2)
    assert report.original.max_rel == pytest.approx(largest / np.abs(theirs).max(), rel=1e-1)
    assert report.original.kl == pytest.approx(divergence, rel=0.3)
    assert report.original.top1 == np.mean(ours.argmax(1) == theirs.argmax(1))


@pytest.mark.parametrize("name", ["h.1.mlp.down", "h.2.attn.qkv", "wpe", "ln_f.gain"])
@pytest.mark.parametrize(("dtype", "factor"), [("f32", 1.01), ("f16", 1.01), ("q8", 1.3), ("q4", 1.3)])
def test_one_wrong_tensor_is_found(dtype: str, factor: float, name: str, tmp_path: Path) -> None:
    good = contents(dtype=dtype)
    wrong = {name: good.weights(name) * np.float32(factor)}
    bad = replace(good, weights=lambda asked: wrong.get(asked, good.weights(asked)))
    report = replay(saved(tmp_path / "m.pygpt", bad, answers_of=good))
    assert report is not None
    assert not report.stored.passed
    assert not report.passed


@pytest.mark.parametrize("dtype", ["f32", "bf16", "q4"])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("wpe", "the embedding differs: "),
        ("h.0.attn.qkv", "h.0 is the first block whose output differs: "),
        ("h.1.ln_1.gain", "h.1 is the first block whose output differs: "),
        ("h.2.mlp.down", "h.2 is the first block whose output differs: "),
        ("ln_f.gain", "the final norm or the head is the first that differs: "),
    ],
)
def test_the_first_layer_that_diverges_is_named(name: str, place: str, dtype: str, tmp_path: Path) -> None:
    """A tensor that was damaged between the source and the file."""
    good = contents(dtype=dtype)
    wrong = {name: good.weights(name) * np.float32(1.4)}
    bad = replace(good, weights=lambda asked: wrong.get(asked, good.weights(asked)))
    file = saved(tmp_path / "m.pygpt", bad, answers_of=good)
    meant = saved(tmp_path / "good.pygpt", good)
    ids = known(good).prompt
    positions = choose_positions(len(ids))
    trace = forward(SMALL, meant.tensor, ids, positions, good.rounding)
    found = first_difference(file, trace, ids, positions)
    assert found is not None
    assert found.startswith(place)
    assert re.search(r"0\.\d+ of .* against a budget of \d", found)
    assert first_difference(meant, trace, ids, positions) is None
    # Alone, the file can only say that its weights are others.
    answers_of_file = known_answers(file)
    assert answers_of_file is not None
    assert "not the weights that its known answers were made from" in explain(file, answers_of_file)


def test_a_fault_of_the_engine_is_told_from_one_of_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine with a fault in h.1, played by a reference whose h.1 differs."""
    from pygpt import divergence

    file = saved(tmp_path / "m.pygpt", contents())

    def other(a: Architecture, weights: Any, *more: Any) -> Trace:
        return forward(a, lambda name: weights(name) * (1.1 if name == "h.1.mlp.down" else 1.0), *more)

    monkeypatch.setattr(divergence, "forward", other)
    assert "wrongly here: h.1 is the first block" in explain(file, known(contents()))


def test_a_block_that_overflows_is_named(tmp_path: Path) -> None:
    what = contents()
    trace = forward(SMALL, what.weights, [1, 2, 3])

    def huge(name: str) -> np.ndarray:
        return what.weights(name) * np.float32(1e38 if "h.1.mlp" in name else 1)

    (tmp_path / "m.pygpt").touch()
    write(tmp_path / "m.pygpt", replace(what, weights=huge))
    found = first_difference(_core.ModelFile(str(tmp_path / "m.pygpt")), trace, [1, 2, 3], [0])
    assert found == "h.1 is the first block whose output is not finite"


def test_the_first_layer_that_a_format_spoils_is_named() -> None:
    what = contents()
    exact = forward(SMALL, what.weights, [1, 2, 3])
    rough = forward(
        SMALL, lambda name: what.weights(name) * (1.2 if name == "h.1.mlp.up" else 1.0), [1, 2, 3]
    )
    assert "after h.1" in first_lossy_layer(exact, rough, 0.01)
    assert "head" in first_lossy_layer(exact, exact, 0.01)


def test_a_file_without_known_answers_has_nothing_to_replay(tmp_path: Path) -> None:
    (tmp_path / "m.pygpt").touch()
    write(tmp_path / "m.pygpt", contents())
    assert replay(_core.ModelFile(str(tmp_path / "m.pygpt"))) is None


def test_an_isa_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError):
        replay(saved(tmp_path / "m.pygpt", contents()), isa="mmx")


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": []},
        {"prompt": [67]},
        {"prompt": [1] * 41},
        {"prompt": [1.0]},
        {"positions": [40]},
        {"positions": [-1]},
        {"stored": []},
        {"original": [{"ids": [1], "logits": [1e400], "log_sum_exp": 1.0}] * 16},
        {"original": [{"ids": [1, 2], "logits": [1.0], "log_sum_exp": 1.0}] * 16},
        {"original": 7},
        None,
    ],
    ids=str,
)
def test_known_answers_that_make_no_sense_are_a_damaged_file(change: dict[str, Any] | None) -> None:
    fields = json.loads(known(contents()).to_json())
    blob = b"{" if change is None else json.dumps(fields | change).encode()
    with pytest.raises(ModelFileError, match=r"known_answers\.json"):
        parse(blob, SMALL, "m.pygpt")


def test_known_answers_come_back_as_they_were() -> None:
    before = known(contents())
    assert parse(before.to_json(), SMALL, "m.pygpt") == before
    assert len(before.positions) == 16
    assert (before.positions[0], before.positions[-1]) == (0, len(before.prompt) - 1)
    assert len(set(before.prompt)) > 35  # of 40: spread over the vocabulary
    assert all(i < SMALL.vocab_size for answer in before.stored for i in answer.ids)  # no padding
    assert choose_positions(1) == [0]
