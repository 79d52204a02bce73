"""Hyper-parameters and presets."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pygpt.errors import InvalidRequestError
from pygpt.train.config import PRESETS, TrainConfig


def test_the_presets_are_the_documented_ones() -> None:
    shapes = {name: (p.n_layers, p.h, p.d_model, p.context_length) for name, p in PRESETS.items()}
    assert shapes == {"lecture": (6, 6, 384, 256), "cpu": (4, 4, 128, 64)}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0), ("batch_size", -1), ("learning_rate", 0.0), ("learning_rate", math.nan),
        ("learning_rate", math.inf), ("dropout", 1.0), ("attention_dropout", -0.1), ("beta2", 1.0),
        ("weight_decay", -1.0), ("max_minutes", 0.0), ("threads", 0), ("precision", "f16"), ("seed", -1),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        replace(TrainConfig(), **{field: value})
    assert caught.value.param == field
