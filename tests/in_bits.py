"""Requests of the core's engine, and all that comes of them, to be compared bit for bit."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from pygpt import _core


def run(engine: _core.Engine, requests: list[_core.Request]) -> list[_core.Event]:
    ticket = engine.submit(requests)
    events = ticket.poll(120, until_done=True)
    assert [event.index for event in events] == list(range(len(requests)))
    assert all(event.finish_reason != "error" for event in events)
    return events


def prompt(length: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 11, length).tolist()


def asked(k: int, longest: int) -> _core.Request:
    """Request k of a batch: prompts of all lengths, sampled with a seed of its own."""
    length = min(longest, (longest, 1, 11)[k])
    return _core.Request(
        prompt=prompt(length, k),
        max_tokens=5,
        temperature=0.9,
        seed=k,
        logprobs=2,
        prompt_logprobs=1,
        logits=True,
    )


def everything(event: _core.Event) -> tuple[Any, ...]:
    """All that a request can get, bit for bit."""
    logits = None if event.logits is None else event.logits.tobytes()
    logprobs = [(each.token_id, each.logprob, each.top) for each in event.logprobs]
    prompt_logprobs = [(each.token_id, each.logprob, each.top) for each in event.prompt_logprobs]
    return event.token_ids, event.finish_reason, logits, logprobs, prompt_logprobs


def check_nothing_matters_but_the_request(file: _core.ModelFile, isa: str, longest: int) -> None:
    """The same bits alone and together, whatever the threads and the chunks."""
    requests = [asked(k, longest) for k in range(3)]
    alone_engine = _core.Engine(file, threads=1, isa=isa, max_running=1)
    alone = [everything(run(alone_engine, [request])[0]) for request in requests]
    alone_engine.close()
    assert len({logits for _, _, logits, _, _ in alone}) == len(alone)
    for threads, chunk in itertools.product((1, 2, 3), (1, 7, 1 << 20)):
        engine = _core.Engine(file, threads=threads, isa=isa, prefill_chunk=chunk)
        for batch in (1, 2, 3):
            together = [everything(event) for event in run(engine, requests[:batch])]
            assert together == alone[:batch], (threads, chunk, batch)
        engine.close()
