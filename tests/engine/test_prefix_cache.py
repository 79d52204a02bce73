"""What has been read is not read again, and no bit changes by it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from odd_models import write_model

from pygpt import _core

CONTEXT, VOCAB = 280, 37
SHAPE: dict[str, Any] = {
    "n_layer": 2, "n_head": 4, "head_dim": 24, "d_model": 40, "d_ff": 50, "context_length": CONTEXT,
    "vocab_size": VOCAB, "padded_vocab_size": 48, "activation": "gelu_tanh",
}  # fmt: skip
PAGE = 32  # positions


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> _core.ModelFile:
    path = tmp_path_factory.mktemp("prefix") / "model.pygpt"
    write_model(path, dtype="f16", **SHAPE)
    return _core.ModelFile(str(path))


def run(engine: _core.Engine, requests: Sequence[_core.Request]) -> list[_core.Event]:
    ticket = engine.submit(list(requests))
    for _ in range(60):
        if events := ticket.poll(2, until_done=True):
            assert all(event.finish_reason == "length" for event in events)
            return events
    raise AssertionError("the engine does not answer")


def text(length: int, seed: int = 0) -> list[int]:
    return [(i * 7 + i * i * (seed + 3) + seed) % VOCAB for i in range(length)]


def asked(prompt: list[int], **more: Any) -> _core.Request:
    return _core.Request(prompt=prompt, **({"max_tokens": 6, "seed": 3, "logprobs": 3} | more))


def bits(event: _core.Event) -> list[Any]:
    return [event.token_ids, [(each.token_id, each.logprob, each.top) for each in event.logprobs]]


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("kv_dtype", _core.kv_dtypes())
def test_a_prefix_from_the_cache_gives_the_same_bits(file: _core.ModelFile, kv_dtype: str, isa: str) -> None:
    """Prompts that share whole pages, parts of one, all, and nothing; then what was generated goes on."""
    options: dict[str, Any] = {"kv_dtype": kv_dtype, "isa": isa, "threads": 2}
    cold = _core.Engine(file, prefix_cache=False, **options)
    warm = _core.Engine(file, prefix_cache=True, **options)
    base = text(200)
    run(warm, [asked(base)])
    prompts = [
        base, base[:199], base[:192], base[:193], base[:33], base[:32], base[:31], base[:2], base[:1],
        base + text(40, 1), base[:100] + text(90, 2), base[:70] + text(3, 3), text(150, 4), text(150, 4),
    ]  # fmt: skip
    for prompt, chunk in itertools.product(prompts, (3, 20)):
        (one,), (two,) = (run(engine, [asked(prompt, max_tokens=chunk)]) for engine in (cold, warm))
        assert bits(one) == bits(two)
        assert one.cached_tokens == 0
        goes_on = prompt + one.token_ids + text(2, 5)
        (one,), (two,) = (run(engine, [asked(goes_on)]) for engine in (cold, warm))
        assert bits(one) == bits(two)
        if len(prompt) > 2:
            assert two.cached_tokens > len(prompt) - 3
    cold.close()
    warm.close()


@pytest.mark.parametrize("length", [1, 2, 20, 31, 32, 33, 64, 65, 200])
@pytest.mark.parametrize("overflow", ["stop", "slide"])
@pytest.mark.parametrize("chunk", [16, 128])
def test_n_samples_pay_one_prefill(file: _core.ModelFile, length: int, overflow: str, chunk: int) -> None:
    """Each computes at most its last row anew; also where it may outgrow the context and so shares none."""
    more: dict[str, Any] = {"overflow": overflow, "temperature": 1.0}
    requests = [asked(text(length), max_tokens=90, sample=k, **more) for k in range(8)]
    cold = _core.Engine(file, prefix_cache=False, threads=2, prefill_chunk=chunk)
    warm = _core.Engine(file, threads=2, prefill_chunk=chunk)
    first, second = run(cold, requests), run(warm, requests)
    assert [bits(each) for each in first] == [bits(each) for each in second]
    assert len({tuple(each.token_ids) for each in first}) == 8
    cached = sorted(each.cached_tokens for each in second)
    assert cached == [0, *[length - 1 if length > 2 else 0] * 7]
    cold.close()
    warm.close()


def test_prompts_that_come_together_read_their_common_beginning_once(file: _core.ModelFile) -> None:
    requests = [asked(text(160) + text(20, k)) for k in range(1, 9)]
    cold, warm = (_core.Engine(file, prefix_cache=on, threads=2, prefill_chunk=64) for on in (False, True))
    first, second = run(cold, requests), run(warm, requests)
    assert [bits(each) for each in first] == [bits(each) for each in second]
    assert [each.cached_tokens for each in second][1:] == [160] * 7
    cold.close()
    warm.close()


def test_who_asks_for_the_prompt_gets_all_of_it(file: _core.ModelFile) -> None:
    engine = _core.Engine(file, threads=2)
    found = []
    for _ in range(2):
        (event,) = run(engine, [asked(text(100), prompt_logprobs=2, logits=True)])
        assert event.logits is not None
        assert event.cached_tokens == 0
        found.append((bits(event), event.logits.tobytes(), [each.logprob for each in event.prompt_logprobs]))
    assert found[0] == found[1]
    assert len(found[0][2]) == 99
    engine.close()


def test_pages_that_are_kept_never_delay_who_could_start(file: _core.ModelFile) -> None:
    """Far more prefixes than there are pages, then sequences that need all of them."""
    engine = _core.Engine(file, threads=1, max_running=2)
    assert engine.info["kv_pages"] == 2 * -(-CONTEXT // PAGE)
    for seed in range(30):
        run(engine, [asked(text(250, seed))])
    whole = [asked(text(5, k), max_tokens=CONTEXT - 5) for k in (40, 41)]
    assert [len(event.token_ids) for event in run(engine, whole)] == [CONTEXT - 5] * 2
    engine.close()


@pytest.mark.parametrize("seed", range(6))
def test_random_requests_get_the_same_bits(file: _core.ModelFile, seed: int, tmp_path: Path) -> None:
    """Few pages, many beginnings in common, cancellations in between."""
    del tmp_path
    state = seed + 1

    def random(below: int) -> int:
        nonlocal state
        state = (state * 1664525 + 1013904223) % 2**32
        return (state >> 16) % below

    cold = _core.Engine(file, prefix_cache=False, threads=1)
    warm = _core.Engine(
        file, threads=1, max_running=1 + random(5), max_context=200, prefill_chunk=1 + random(60)
    )
    requests = []
    for k in range(40):
        prompt = (text(random(120), random(3)) + text(random(70), random(9)) + [1])[:180]
        overflow = ("stop", "slide", "shift")[random(3)]
        requests.append(
            asked(prompt, max_tokens=random(19), sample=k % 3, overflow=overflow, temperature=1.0)
        )
    tickets = [warm.submit([each]) for each in requests]
    doomed = [warm.submit([asked(text(150), max_tokens=100)]) for _ in range(5)]
    for ticket in doomed:
        ticket.cancel()
    alone = [bits(run(cold, [each])[0]) for each in requests]
    together = [ticket.poll(60, until_done=True)[0] for ticket in tickets]
    assert [bits(each) for each in together] == alone
    assert sum(each.cached_tokens for each in together) > 100
    cold.close()
    warm.close()
