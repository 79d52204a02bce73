"""Hugging Face's Qwen3ForCausalLM: Llama's decoder, each head's q and k normed before they are turned.

Source: https://github.com/huggingface/transformers, modeling_qwen3.py and configuration_qwen3.py;
arXiv:2505.09388.
"""

from __future__ import annotations

from dataclasses import replace

from pygpt.checkpoints.hf_config import Fields
from pygpt.checkpoints.hf_decoder import Relative, Variant
from pygpt.checkpoints.hf_qwen2 import DEFAULTS, upper_windows


def _variant(fields: Fields, n_layer: int) -> Variant:
    bias = fields.boolean("attention_bias")
    return replace(upper_windows(fields, n_layer), qk_norm="before_rotary", qkv_bias=bias, proj_bias=bias)


FAMILY = Relative(
    title="Hugging Face's Qwen3",
    model_type="qwen3",
    variant=_variant,
    shape=Variant(qk_norm="before_rotary"),
    defaults=DEFAULTS | {"head_dim": 128},
).family()
