"""Where a text begins and ends, and how it is sampled: generation_config.json, else config.json.

Source: https://github.com/huggingface/transformers, generation/configuration_utils.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pygpt.checkpoints.base import Source
from pygpt.checkpoints.hf_config import Fields
from pygpt.checkpoints.loading import json_beside
from pygpt.kinds import shown

FILE = "generation_config.json"
_MAX_STOPS = 16  # docs/format.md

# Sampling defaults that both know, their types, and their ranges in docs/format.md.
_RANGES: Mapping[str, tuple[type, float, float]] = {
    "temperature": (float, 0.0, 100.0),
    "top_k": (int, 0, 2**31 - 1),
    "top_p": (float, 1e-6, 1.0),
    "min_p": (float, 0.0, 1.0),
    "repetition_penalty": (float, 0.01, 100.0),
}


@dataclass(frozen=True, slots=True)
class Generation:
    """How the model's authors let it speak."""

    start_token: int | None
    stop_tokens: tuple[int, ...]
    defaults: Mapping[str, float | int | bool]


def generation(source: Source, config: Fields, vocab_size: int) -> Generation:
    """What is recorded beside the weights; generation_config.json overrules config.json.

    Raises:
        ModelFileError: an id that the vocabulary does not have, a value that is no such setting.
    """
    recorded = Fields(source, _recorded(source), FILE)
    either = {**config.values, **{key: value for key, value in recorded.values.items() if value is not None}}
    starts = _ids(config, either, "bos_token_id", vocab_size)
    return Generation(
        start_token=starts[0] if len(starts) == 1 else None,
        stop_tokens=_ids(config, either, "eos_token_id", vocab_size),
        defaults=_defaults(recorded),
    )


def _recorded(source: Source) -> Mapping[str, Any]:
    to_dict = getattr(getattr(source.module, "generation_config", None), "to_dict", None)
    if callable(to_dict):
        found: Mapping[str, Any] = to_dict()
        return found
    return json_beside(source, FILE)


def _ids(config: Fields, either: Mapping[str, Any], key: str, vocab_size: int) -> tuple[int, ...]:
    value = either.get(key)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if len(ids) > _MAX_STOPS or not all(type(i) is int and 0 <= i < vocab_size for i in ids):
        raise config.error(f"{key} is {shown(ids)}, the vocabulary has {vocab_size} tokens")
    return tuple(dict.fromkeys(ids))


def _defaults(recorded: Fields) -> dict[str, float | int | bool]:
    """The sampling settings, unless sampling is off: then the authors do not mean them."""
    if not recorded.boolean("do_sample", True):
        return {}
    defaults: dict[str, float | int | bool] = {}
    for key, (kind, low, high) in _RANGES.items():
        value = recorded.values.get(key)
        if value is None:
            continue
        if type(value) not in (int, kind) or not low <= value <= high:
            message = f"{key} is {shown(value)}, expected a number from {low} to {high}"
            raise recorded.error(f"{message}; correct {FILE}, or take it away")
        defaults[key] = kind(value)
    return defaults
