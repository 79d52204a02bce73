"""Hyper-parameters and presets."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from pygpt.errors import InvalidRequestError
from pygpt.model import Model
from pygpt.train.config import PRESETS, TrainConfig
from pygpt.train.initial import model_config


def test_the_presets_are_the_documented_ones() -> None:
    shapes = {name: (p.n_layers, p.h, p.d_model, p.context_length) for name, p in PRESETS.items()}
    finetune = shapes.pop("finetune")  # its shape is that of the weights it begins with, cut to this context
    assert finetune[-1] == 1024
    assert shapes == {
        "cpu": (4, 4, 128, 64),
        "lecture": (6, 6, 384, 256),
        "story": (8, 8, 512, 512),
        "gpt2": (12, 12, 768, 1024),
    }


def test_the_largest_preset_has_the_size_of_gpt2() -> None:
    with torch.device("meta"):
        model = Model.from_config(model_config(PRESETS["gpt2"], 50257))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == 124_439_808 + 50257  # the head's bias, which GPT-2 does without


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0), ("batch_size", -1), ("learning_rate", 0.0), ("learning_rate", math.nan),
        ("learning_rate", math.inf), ("dropout", 1.0), ("attention_dropout", -0.1), ("beta2", 1.0),
        ("weight_decay", -1.0), ("max_minutes", 0.0), ("threads", 0), ("precision", "f16"),
        ("accumulate", 5), ("vocab_size", 255), ("patience", 0), ("seed", -1),
        ("seed", 1 << 63), ("on_nan", "explode"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        replace(TrainConfig(), **{field: value})
    assert caught.value.param == field
