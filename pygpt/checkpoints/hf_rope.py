"""Rotary positions as transformers configures them: plain, or with frequencies that are scaled.

Source: https://github.com/huggingface/transformers, modeling_rope_utils.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pygpt.checkpoints.base import Array
from pygpt.checkpoints.hf_config import Fields


@dataclass(frozen=True, slots=True)
class Rope:
    """Either a base, whose powers the frequencies are, or frequencies of their own (and a base of 0).

    Attributes:
        kind: default, linear or llama3.
        frequencies: [1, head_dim / 2], radians a position.
    """

    kind: str
    theta: float
    frequencies: Array | None = None


def rope(fields: Fields, head_dim: int, context_length: int, default_theta: float) -> Rope:
    """The rotary positions of a config.json: rope_parameters, or rope_theta and rope_scaling in older ones.

    Raises:
        ModelFileError: a kind that is not supported, or values that cannot be.
    """
    settings = _settings(fields)
    theta = settings.real("rope_theta", default_theta)
    kind = settings.values.get("rope_type") or settings.values.get("type") or "default"
    if kind == "default":
        return Rope(kind, theta)
    scale = {"linear": _linear, "llama3": _llama3}.get(kind) if isinstance(kind, str) else None
    if scale is None:
        message = f"rope_type is {kind!r}: rotary positions of this kind are not supported; "
        raise fields.unsupported(message + "default, linear and llama3 are")
    plain = theta ** (-2.0 * np.arange(head_dim // 2) / head_dim)
    return Rope(kind, 0.0, scale(settings, plain, context_length).astype(np.float32).reshape(1, -1))


def _settings(fields: Fields) -> Fields:
    """Old and new spellings in one object; newer versions keep rope_theta beside what scales it."""
    keys = ("rope_theta", "partial_rotary_factor")
    values = {key: fields.values[key] for key in keys if fields.values.get(key) is not None}
    for key in ("rope_scaling", "rope_parameters"):
        values |= fields.inside(key).values
    if any(isinstance(value, Mapping) for value in values.values()):
        raise fields.unsupported("rope_parameters differ between layers, which is not supported")
    if values.get("partial_rotary_factor", 1.0) != 1.0:
        raise fields.unsupported("partial_rotary_factor is not 1, which is not supported")
    return replace(fields, values=values, section=f"{fields.section} rope_parameters")


def _linear(settings: Fields, plain: NDArray[np.float64], _: int) -> NDArray[np.float64]:
    """As if positions were `factor` times as close."""
    return plain / settings.real("factor")


def _llama3(settings: Fields, plain: NDArray[np.float64], context_length: int) -> NDArray[np.float64]:
    """Llama 3.1's: long waves are stretched by `factor`, short ones stay, those between by a share of it."""
    factor, low, high = (settings.real(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    if not low < high:
        raise settings.error(f"low_freq_factor is {low}, high_freq_factor {high}")
    trained = settings.integer("original_max_position_embeddings", context_length)
    waves = trained * plain / (2 * math.pi)  # how many fit into the context of the first training
    share = np.clip((waves - low) / (high - low), 0.0, 1.0)  # 0: all of the stretch, 1: none
    scaled: NDArray[np.float64] = (1 - share) * plain / factor + share * plain
    return scaled
