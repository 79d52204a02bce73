"""Requests of the core's engine, and all that comes of them, to be compared bit for bit."""

from __future__ import annotations

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
