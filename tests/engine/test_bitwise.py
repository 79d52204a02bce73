"""The same bits, whatever rides along: batch, threads, chunks of the prompt, and what else is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from odd_models import write_model

from pygpt import _core
from pygpt._core import testing
from pygpt.dtypes import DTYPES

BATCHES = (1, 2, 3, 8)
THREADS = (1, 2, 3, 5)
CHUNKS = (1, 7, 128, 1 << 20)  # the last one is all of the prompt

# Heads that divide among the workers and that do not, odd widths, heads narrower than a panel and wider than
# four, and a context of more than the 256 positions of one partial softmax. For the quantised formats: rows
# that end inside a group of 64, and a worker's heads that are whole groups (of two workers) and that are not.
SHAPES: dict[str, dict[str, Any]] = {
    "long": {
        "n_layer": 1, "n_head": 4, "head_dim": 24, "d_model": 40, "d_ff": 50, "context_length": 280,
        "vocab_size": 37, "padded_vocab_size": 48, "activation": "gelu_tanh",
    },
    "tied": {
        "n_layer": 2, "n_head": 3, "head_dim": 5, "d_model": 17, "d_ff": 23, "context_length": 40,
        "vocab_size": 50, "tied_head": True, "biases": False, "activation": "relu",
    },
    "wide": {
        "n_layer": 2, "n_head": 5, "head_dim": 80, "d_model": 33, "d_ff": 64, "context_length": 40,
        "vocab_size": 61,
    },
    "groups": {
        "n_layer": 2, "n_head": 3, "head_dim": 24, "d_model": 72, "d_ff": 200, "context_length": 40,
        "vocab_size": 130,
    },
    "whole": {
        "n_layer": 2, "n_head": 4, "head_dim": 32, "d_model": 128, "d_ff": 192, "context_length": 40,
        "vocab_size": 61, "tied_head": True, "activation": "relu",
    },
}  # fmt: skip

QUANTISED = [dtype for dtype in DTYPES if dtype.startswith("q")]
CASES = [
    *itertools.product(("tied", "wide"), ("f32", "f16", "bf16")),
    *itertools.product(("groups", "whole"), QUANTISED),
    *[("tied", "q8"), ("wide", "q4"), ("long", "f16"), ("long", "q4")],
]

ISAS = pytest.mark.parametrize("isa", _core.isas())
Files = Callable[[str, str], _core.ModelFile]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A model by the name of its shape and its dtype."""
    folder = tmp_path_factory.mktemp("shapes")

    def file(shape: str, dtype: str) -> _core.ModelFile:
        path = folder / f"{shape}-{dtype}.pygpt"
        if not path.exists():
            write_model(path, dtype=dtype, **SHAPES[shape])
        return _core.ModelFile(str(path), verify="full")

    return file


def run(engine: _core.Engine, requests: Sequence[_core.Request]) -> list[_core.Event]:
    ticket = engine.submit(list(requests))
    for _ in range(60):
        events = ticket.poll(2, until_done=True)
        if events:
            assert [event.index for event in events] == list(range(len(requests)))
            assert all(event.finish_reason != "error" for event in events)
            return events
    raise AssertionError("the engine does not answer")


def prompt(length: int, seed: int, vocab: int = 37) -> list[int]:
    return np.random.default_rng(seed).integers(0, vocab, length).tolist()


def everything(event: _core.Event) -> tuple[Any, ...]:
    """All that a request can get, bit for bit."""
    logits = None if event.logits is None else event.logits.tobytes()
    logprobs = [(each.token_id, each.logprob, each.top) for each in event.logprobs]
    prompt_logprobs = [(each.token_id, each.logprob, each.top) for each in event.prompt_logprobs]
    return event.token_ids, event.finish_reason, logits, logprobs, prompt_logprobs


def asked(k: int, longest: int, **more: Any) -> _core.Request:
    """Request k of a batch: prompts of all lengths, sampled with a seed of its own."""
    length = min(longest, (longest, 1, 33, 2, 20, 7, 35, 16)[k])
    rules = {"max_tokens": 5, "temperature": 0.9, "top_k": 20, "seed": k, "sample": k % 2}
    wanted = {"logprobs": 2, "prompt_logprobs": 1, "logits": True}
    return _core.Request(prompt=prompt(length, k), **(rules | wanted | more))


@ISAS
@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_nothing_depends_on_batch_threads_or_chunk(shape: str, dtype: str, isa: str, files: Files) -> None:
    file = files(shape, dtype)
    longest = SHAPES[shape]["context_length"] - 5
    requests = [asked(k, longest) for k in range(max(BATCHES))]
    alone_engine = _core.Engine(file, threads=1, isa=isa, max_running=1)
    alone = [everything(run(alone_engine, [request])[0]) for request in requests]
    alone_engine.close()
    assert len({logits for _, _, logits, _, _ in alone}) == len(alone)
    for threads, chunk in itertools.product(THREADS, CHUNKS):
        engine = _core.Engine(file, threads=threads, isa=isa, prefill_chunk=chunk)
        assert engine.info["threads"] == threads
        for batch in BATCHES:
            together = [everything(event) for event in run(engine, requests[:batch])]
            assert together == alone[:batch], (threads, chunk, batch)
        engine.close()


@ISAS
@pytest.mark.parametrize("kv_dtype", _core.kv_dtypes())
@pytest.mark.parametrize(("shape", "dtype"), [("wide", "f32"), ("groups", "q4"), ("long", "q8")])
def test_nothing_depends_on_chunks_with_any_type_of_cache(
    shape: str, dtype: str, kv_dtype: str, isa: str, files: Files
) -> None:
    requests = [asked(k, SHAPES[shape]["context_length"] - 5) for k in range(3)]
    results = []
    for threads, chunk in ((1, 1), (1, 1 << 20), (2, 7), (3, 100)):
        engine = _core.Engine(
            files(shape, dtype), threads=threads, isa=isa, kv_dtype=kv_dtype, prefill_chunk=chunk
        )
        assert engine.info["kv_dtype"] == kv_dtype
        results.append([everything(event) for event in run(engine, requests)])
        engine.close()
    assert results.count(results[0]) == len(results)


def test_every_type_of_cache_rounds_as_it_says(files: Files) -> None:
    """Else they might all be the same one. Relatively to f32; int8 has 7 bits of each position's largest."""
    request = asked(0, 275)
    logits = {}
    for kv_dtype in _core.kv_dtypes():
        engine = _core.Engine(files("long", "f32"), kv_dtype=kv_dtype)
        (event,) = run(engine, [request])
        assert event.logits is not None
        logits[kv_dtype] = event.logits.astype(np.float64)
        engine.close()
    size = np.abs(logits["f32"]).max()
    off = {name: np.abs(each - logits["f32"]).max() / size for name, each in logits.items()}
    assert 0 < off["f16"] < 2e-3
    assert off["f16"] < off["bf16"] < 1.6e-2
    assert off["f16"] < off["int8"] < 3e-2


@pytest.mark.parametrize(
    ("dtype", "kv_dtype"),
    [("f32", "f32"), ("f16", "f16"), ("bf16", "bf16"), *((dtype, "f16") for dtype in QUANTISED)],
)
def test_the_cache_is_what_the_weights_are_and_f16_beside_bytes(
    dtype: str, kv_dtype: str, files: Files
) -> None:
    engine = _core.Engine(files("tied", dtype))
    assert engine.info["kv_dtype"] == kv_dtype
    engine.close()


@ISAS
@pytest.mark.parametrize(("dtype", "kv_dtype"), [("f16", "auto"), ("q4", "int8"), ("q8", "auto")])
def test_a_prompt_and_a_continuation_of_it_have_the_same_logits(
    dtype: str, kv_dtype: str, isa: str, files: Files
) -> None:
    """What was decoded token by token is what a prefill of the whole text says."""
    engine = _core.Engine(files("long", dtype), threads=2, isa=isa, kv_dtype=kv_dtype)
    (grown,) = run(engine, [_core.Request(prompt=prompt(250, 1), max_tokens=25, logprobs=3, seed=3)])
    text = prompt(250, 1) + grown.token_ids
    (whole,) = run(engine, [_core.Request(prompt=text, max_tokens=0, prompt_logprobs=3)])
    decoded = [(each.token_id, each.logprob, each.top) for each in grown.logprobs]
    read = [(each.token_id, each.logprob, each.top) for each in whole.prompt_logprobs]
    assert decoded == read[249:]
    engine.close()


@ISAS
def test_request_k_of_a_sampled_batch_equals_the_lone_request(isa: str, files: Files) -> None:
    rules: list[dict[str, Any]] = [
        {"temperature": 1.0},
        {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.2},
        {"temperature": 1.5, "min_p": 0.05, "frequency_penalty": 0.3},
        {"temperature": 0.0},
        {"allowed_token_ids": [1, 2, 3], "logit_bias": [(2, 1.0)]},
    ]
    requests = [
        _core.Request(
            prompt=prompt(1 + 4 * k, k), max_tokens=20, seed=7, sample=k, stop_token_ids=[9], **rule
        )
        for k, rule in enumerate(rules)
    ]
    for max_running in (2, 8):
        engine = _core.Engine(files("tied", "bf16"), threads=2, isa=isa, max_running=max_running)
        together = [everything(event) for event in run(engine, requests)]
        assert together == [everything(run(engine, [request])[0]) for request in requests]
        assert together == [everything(event) for event in run(engine, requests[::-1])][::-1]
        engine.close()


@ISAS
def test_asking_for_more_changes_no_token(isa: str, files: Files) -> None:
    engine = _core.Engine(files("wide", "f16"), threads=2, isa=isa, prefill_chunk=9)
    tokens = set()
    for more in ({}, {"logprobs": 0}, {"logprobs": 5}, {"prompt_logprobs": 2}, {"logits": True}):
        request = _core.Request(prompt=prompt(20, 1), max_tokens=15, seed=4, temperature=1.3, **more)
        tokens.add(tuple(run(engine, [request])[0].token_ids))
    assert len(tokens) == 1
    engine.close()


def last_logits(engine: _core.Engine, window: list[int]) -> NDArray[np.float32]:
    (event,) = run(engine, [_core.Request(prompt=window, max_tokens=0, logits=True)])
    assert event.logits is not None
    return event.logits[-1]


def naive_slide(tokens: list[int], context: int) -> list[int]:
    """PyTorch's idx[:, -block_size:]."""
    return tokens[-context:]


def naive_loop(
    engine: _core.Engine, request: _core.Request, count: int, crop: Callable[[list[int]], list[int]]
) -> list[int]:
    """Crop, run anew, choose, append."""
    tokens, output = list(request.prompt), []
    for _ in range(count):
        tokens = crop(tokens)
        token = testing.choose(last_logits(engine, tokens), request, output)
        output.append(token)
        tokens.append(token)
    return output


@ISAS
@pytest.mark.parametrize("length", [1, 39, 40, 41, 100])
def test_slide_is_cropping_and_running_anew_bit_for_bit(length: int, isa: str, files: Files) -> None:
    engine = _core.Engine(files("tied", "f32"), threads=2, isa=isa, prefill_chunk=16)
    request = _core.Request(
        prompt=prompt(length, 5), max_tokens=50, overflow="slide", temperature=0.8, top_k=10, seed=11
    )
    (event,) = run(engine, [request])
    assert event.token_ids == naive_loop(engine, request, 50, lambda tokens: naive_slide(tokens, 40))
    assert event.prompt_tokens_dropped == max(0, length - 40)
    engine.close()


@ISAS
@pytest.mark.parametrize("n_keep", [0, 3, 39])
def test_shift_is_dropping_half_and_running_anew_bit_for_bit(n_keep: int, isa: str, files: Files) -> None:
    engine = _core.Engine(files("tied", "f32"), threads=2, isa=isa, prefill_chunk=16)
    request = _core.Request(
        prompt=prompt(39, 6), max_tokens=60, overflow="shift", n_keep=n_keep, temperature=0.8, seed=12
    )

    def crop(tokens: list[int]) -> list[int]:
        if len(tokens) <= 40:
            return tokens
        rest = tokens[n_keep:]
        return tokens[:n_keep] + rest[max(1, (40 - n_keep) // 2) :]

    (event,) = run(engine, [request])
    assert event.token_ids == naive_loop(engine, request, 60, crop)
    engine.close()


@ISAS
@pytest.mark.parametrize("dtype", ["bf16", "q4"])
def test_two_openings_of_a_file_give_the_same_bits(dtype: str, isa: str, tmp_path: Path) -> None:
    results = []
    for mmap in (True, False):
        write_model(tmp_path / "model.pygpt", dtype=dtype, **SHAPES["wide"])
        engine = _core.Engine(_core.ModelFile(str(tmp_path / "model.pygpt"), mmap=mmap), threads=2, isa=isa)
        results.append(everything(run(engine, [asked(0, 30)])[0]))
        engine.close()
    assert results[0] == results[1]
