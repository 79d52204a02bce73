"""Names that people know from elsewhere: aliases, names that are taken but not built yet, and near misses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pygpt.errors import InvalidRequestError, UnknownParameterError

ALIASES = {
    "max_new_tokens": "max_tokens",
    "n_predict": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "repeat_penalty": "repetition_penalty",
    "stop_strings": "stop",
    "eos_token_id": "stop_token_ids",
    "end_token": "stop_token_ids",
    "num_return_sequences": "n",
    "num_samples": "n",
    "top_logprobs": "logprobs",
    "n_probs": "logprobs",
}

# Part of the vocabulary, without effect yet: what to use meanwhile.
NOT_BUILT = {
    "typical_p": "top_p",
    "typ_p": "top_p",
    "repetition_window": "repetition_penalty",
    "repeat_last_n": "repetition_penalty",
    "no_repeat_ngram_size": "repetition_penalty",
    "dry_multiplier": "repetition_penalty",
    "dry_base": "repetition_penalty",
    "dry_allowed_length": "repetition_penalty",
    "dry_penalty_last_n": "repetition_penalty",
    "dry_sequence_breakers": "repetition_penalty",
    "xtc_probability": "top_p",
    "xtc_threshold": "min_p",
    "mirostat": "top_p",
    "mirostat_mode": "top_p",
    "mirostat_tau": "top_p",
    "mirostat_eta": "top_p",
    "bad_words": "logit_bias",
    "suppress_tokens": "logit_bias",
    "best_of": "n",
    "num_beams": "n",
    "beam_size": "n",
    "length_penalty": "n",
    "json_schema": "allowed_token_ids",
    "regex": "allowed_token_ids",
    "choice": "allowed_token_ids",
    "grammar": "allowed_token_ids",
    "max_time": "max_tokens",
    "output_hidden_states": "logprobs",
    "output_attentions": "logprobs",
    "prompt_lookup_num_tokens": "max_tokens",
    "draft_model": "max_tokens",
}


def canonical(name: str, value: Any, known: Iterable[str]) -> tuple[str, Any]:
    """The parameter that a name means ("": none), and the value in that parameter's terms.

    Raises:
        UnknownParameterError: a name that means nothing, or something that is not built yet.
    """
    if name in NOT_BUILT:
        raise UnknownParameterError(
            name, f"is not built yet in this version of pygpt; the nearest that works is {NOT_BUILT[name]}"
        )
    if name == "stream":
        raise UnknownParameterError(name, "is a method here: for piece in engine.stream(prompt, ...)")
    if name == "do_sample":
        if not isinstance(value, bool):
            raise InvalidRequestError(name, f"must be True or False, got {value!r}")
        return ("", None) if value else ("temperature", 0.0)
    if name == "n_predict" and value == -1:
        value = None  # llama.cpp's "no limit"
    if name in ALIASES:
        return ALIASES[name], value
    if name not in (names := list(known)):
        nearest = did_you_mean(name, [*names, *ALIASES, "do_sample"])
        raise UnknownParameterError(name, f"no such parameter{nearest}")
    return name, value


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message: the known words nearest to a mistyped one, or nothing."""
    import difflib  # needed for a mistake only

    near = [ALIASES.get(match, match) for match in difflib.get_close_matches(word, list(known), n=1)]
    return f"; did you mean {near[0]}?" if near else ""
