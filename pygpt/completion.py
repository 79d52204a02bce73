"""What a generation gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """How likely the model found a token. Natural logarithms of its own distribution, before any sampling
    rule."""

    token_id: int
    logprob: float
    top: tuple[
        tuple[int, float], ...
    ]  # the likeliest tokens with their logprobs, best first, as many as asked for


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request took. What lies behind a stop is not counted."""

    prompt_tokens: int  # that the model read, without those dropped
    completion_tokens: int
    prompt_tokens_dropped: int = (
        0  # from the start of a prompt that did not fit (on_overflow slide and shift)
    )
    cached_tokens: int = 0  # of prompt_tokens: not computed for this request, because another had read them

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a request's time went, in seconds."""

    queue_s: float  # until it started
    prefill_s: float  # reading the prompt
    decode_s: float  # writing


@dataclass(frozen=True, slots=True)
class Completion:
    """One sample. `str(completion)` is its text.

    Attributes:
        text: what was written, up to the stop.
        token_ids: the tokens that begin in `text`.
        finish_reason: "stop" (a stop string or token), "length" (max_tokens or the context's end),
        "cancelled". stop_reason: the stop string, or the id of the stop token, that ended it.
        logprobs: one for each of token_ids, where asked for.
        prompt_logprobs: one for each prompt token but the first, where asked for.
        seed: what repeats this text, also where none was given; with `sample`, the place among the n samples.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    stop_reason: str | int | None
    logprobs: list[TokenLogprobs] | None
    prompt_token_ids: list[int]
    prompt_logprobs: list[TokenLogprobs] | None
    usage: Usage
    timings: Timings
    seed: int
    sample: int = 0

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of a stream: whole characters, and never a part of a stop string.

    The texts, tokens and logprobs of a sample's pieces, joined, are those of its Completion.
    """

    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None
    sample: int = 0
    finish_reason: FinishReason | None = None  # on the last piece of a sample
    completion: Completion | None = None  # on the last piece too: the whole

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Score:
    """How likely the model finds a text. The first token has nothing before it and is not scored.

    Attributes:
        token_ids: the text's tokens.
        logprobs: of each token but the first.
        nll: minus the sum of the logprobs, in nats.
        perplexity: exp(nll / scored tokens).
        bits_per_byte: nll in bits over the UTF-8 bytes of the scored tokens.
    """

    token_ids: list[int]
    logprobs: list[float]
    nll: float
    perplexity: float
    bits_per_byte: float
