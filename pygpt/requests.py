"""From what people ask to what the core runs: prompts and parameters become requests and their
transcripts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pygpt import _core
from pygpt.completion import Completion
from pygpt.errors import ContextLengthError, InvalidRequestError
from pygpt.kinds import checked_int, shown
from pygpt.params import SamplingParams
from pygpt.tokenizer import Tokenizer
from pygpt.transcript import Transcript

Prompt: TypeAlias = str | bytes | Sequence[int]
Prompts: TypeAlias = Sequence[str] | Sequence[bytes] | Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a request must know of the model. `context`: tokens of prompt and completion at most."""

    config: Mapping[str, Any]
    recorded: Mapping[str, Any]  # sampling defaults of the model file
    context: int
    tokenizer: Tokenizer | None

    def sampled_ids(self) -> frozenset[int]:
        """The only ids that are sampled unless a request names others; empty where all are.

        A model may have more ids than its tokenizer has tokens: those would be no text. Its stop tokens end
        one, so they count.
        """
        if self.tokenizer is None or len(self.tokenizer.token_ids) == self.config["vocab_size"]:
            return frozenset()
        return self.tokenizer.token_ids.union(self.config["stop_tokens"] or ())


def listed(prompt: object) -> tuple[list[Any], bool]:
    """The prompts that are meant, and whether they came as a list of prompts. [] is one empty prompt."""
    if hasattr(prompt, "tolist"):  # numpy arrays and tensors, of one dimension or two
        prompt = prompt.tolist()
    if isinstance(prompt, str | bytes):
        return [prompt], False
    if not isinstance(prompt, Sequence):
        raise InvalidRequestError(
            "prompt", f"must be a text, token ids, or a list of them, got {shown(prompt)}"
        )
    many = len(prompt) > 0 and (
        isinstance(prompt[0], str | bytes | Sequence) or hasattr(prompt[0], "__len__")
    )
    return (list(prompt), True) if many else ([prompt], False)


def one_prompt(prompt: object) -> Any:
    """The prompt of a stream.

    Raises:
        InvalidRequestError: it is a list of prompts.
    """
    prompts, many = listed(prompt)
    if many:
        raise InvalidRequestError("prompt", "a stream takes one prompt; open one stream for each")
    return prompts[0]


def grouped(completions: list[Completion], n: int) -> list[Any]:
    """One entry a prompt: its completion, or the list of its n samples."""
    if n == 1:
        return list(completions)
    return [completions[first : first + n] for first in range(0, len(completions), n)]


def token_ids(prompt: object, facts: Facts) -> list[int]:
    """The prompt's token ids, at least one: an empty prompt starts from the model's start token.

    Raises:
        InvalidRequestError: a character or an id that the vocabulary lacks; an empty prompt without a start
            token.
    """
    if hasattr(prompt, "tolist"):
        prompt = prompt.tolist()
    if isinstance(prompt, str | bytes):
        ids = _encode(prompt, facts.tokenizer)
    elif isinstance(prompt, Sequence):
        last = facts.config["vocab_size"] - 1
        ids = [checked_int("prompt", item, 0, last, f"index {i}") for i, item in enumerate(prompt)]
    else:
        raise InvalidRequestError("prompt", f"must be a text or a list of token ids, got {shown(prompt)}")
    start: int | None = facts.config["start_token"]
    if not ids and start is None:
        raise InvalidRequestError(
            "prompt",
            "is empty, and the model records no token that a text starts from; give at least one token",
        )
    return ids if ids or start is None else [start]


def build(
    prompts: Sequence[object], params: SamplingParams, facts: Facts, stops: Sequence[str] = ()
) -> tuple[list[_core.Request], list[Transcript]]:
    """A request and a transcript for each sample of each prompt, prompt by prompt.

    Args:
        stops: stop strings beside those of `params`.

    Raises:
        InvalidRequestError, ContextLengthError: see `SamplingParams`; nothing has been started.
    """
    shared, policy = _shared_fields(params, facts)
    requests, transcripts = [], []
    for prompt in prompts:
        ids = token_ids(prompt, facts)
        _check_fit(ids, params, policy, facts.context)
        # Without a seed, equal prompts of a list are to differ; with one, each equals the lone request.
        seed = secrets.randbits(64) if params.seed is None else params.seed
        prefix = _echo(prompt, ids, facts.tokenizer) if params.echo else ""
        for sample in range(params.n):
            requests.append(_core.Request(prompt=ids, seed=seed, sample=sample, **shared))
            transcripts.append(
                Transcript(ids, params, facts.tokenizer, seed=seed, sample=sample, stops=stops, prefix=prefix)
            )
    return requests, transcripts


def _shared_fields(params: SamplingParams, facts: Facts) -> tuple[dict[str, Any], str]:
    """The fields that all requests of a call have in common, and the overflow policy by its name here."""
    rules = params.rules(facts.recorded, facts.config["vocab_size"])
    if params.max_tokens is not None and params.min_tokens > params.max_tokens:
        raise InvalidRequestError(
            "min_tokens", f"{params.min_tokens} is more than max_tokens={params.max_tokens}"
        )
    if params.stop and facts.tokenizer is None:
        raise InvalidRequestError(
            "stop", "the model file has no tokenizer, so there is no text; use stop_token_ids"
        )
    own_stops = () if params.ignore_eos else facts.config["stop_tokens"] or ()
    policy = params.on_overflow or ("slide" if facts.config["position"] == "learned" else "stop")
    if not params.allowed_token_ids and (sampled := facts.sampled_ids()):
        rules["allowed_token_ids"] = sorted(sampled.union(params.stop_token_ids))
    fields = rules | {
        "max_tokens": -1 if params.max_tokens is None else params.max_tokens,
        "n_keep": params.n_keep,
        "logprobs": -1 if params.logprobs is None else params.logprobs,
        "prompt_logprobs": -1 if params.prompt_logprobs is None else params.prompt_logprobs,
        "stop_token_ids": sorted({*params.stop_token_ids, *own_stops}),
        "overflow": "stop" if policy == "error" else policy,
    }
    return fields, policy


def _check_fit(ids: Sequence[int], params: SamplingParams, policy: str, context: int) -> None:
    """Refuse what the overflow policy does not allow."""
    whole = params.prompt_logprobs is not None or policy in ("stop", "error")  # none of the prompt may go
    if whole and len(ids) > context:
        way_out = "" if params.prompt_logprobs is not None else ", or use on_overflow='slide' or 'shift'"
        raise ContextLengthError(
            "prompt", f"{len(ids)} tokens do not fit into the context of {context}; shorten it{way_out}"
        )
    if policy == "error" and params.max_tokens is not None and len(ids) + params.max_tokens > context:
        raise ContextLengthError(
            "max_tokens",
            f"{len(ids)} prompt tokens and max_tokens={params.max_tokens} are more than the context of "
            f"{context}; lower max_tokens, or choose another on_overflow",
        )
    if params.n_keep >= context:
        raise InvalidRequestError(
            "n_keep", f"must be less than the context of {context}, got {params.n_keep}"
        )


def _encode(text: str | bytes, tokenizer: Tokenizer | None) -> list[int]:
    if tokenizer is None:
        raise InvalidRequestError(
            "prompt", "the model file has no tokenizer: give token ids, or export again with tokenizer="
        )
    return tokenizer.encode(text, param="prompt")


def _echo(prompt: object, ids: Sequence[int], tokenizer: Tokenizer | None) -> str:
    if isinstance(prompt, str):
        return prompt
    return "" if tokenizer is None else tokenizer.text_of(ids)
