"""From a scored prompt to how likely its text is."""

from __future__ import annotations

import math

from pygpt.completion import Completion, Score
from pygpt.errors import InvalidRequestError, NumericalError
from pygpt.tokenizer import Tokenizer


def scored(completion: Completion, tokenizer: Tokenizer | None) -> Score:
    """The score of the prompt that a completion with prompt_logprobs read.

    Raises:
        InvalidRequestError: the prompt has fewer than two tokens.
        NumericalError: a token's log-probability is not finite.
    """
    ids = completion.prompt_token_ids
    if len(ids) < 2:
        raise InvalidRequestError(
            "texts", f"a text of {len(ids)} token: the first of a text is not predicted"
        )
    logprobs = [each.logprob for each in completion.prompt_logprobs or ()]
    if not all(map(math.isfinite, logprobs)):
        raise NumericalError(
            "the model's log-probabilities are not finite: its weights are damaged or too large"
        )
    nll = -math.fsum(logprobs)
    size = 0 if tokenizer is None else tokenizer.extent(ids[1:])[0]
    return Score(
        token_ids=ids,
        logprobs=logprobs,
        nll=nll,
        perplexity=math.exp(min(nll / len(logprobs), 700.0)),  # exp overflows binary64 above 709
        bits_per_byte=nll / math.log(2) / size if size else math.nan,
    )
