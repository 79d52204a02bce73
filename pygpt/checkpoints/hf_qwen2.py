"""Hugging Face's Qwen2ForCausalLM (Qwen 2 and 2.5): Llama's decoder, q, k and v with biases.

Source: https://github.com/huggingface/transformers, modeling_qwen2.py and configuration_qwen2.py;
arXiv:2407.10671.
"""

from __future__ import annotations

from dataclasses import replace

from pygpt.checkpoints.hf_config import Fields
from pygpt.checkpoints.hf_decoder import Relative, Variant, windows

# Of Qwen3 too.
DEFAULTS = {"sliding_window": 4096, "max_window_layers": 28, "max_position_embeddings": 32768}


def upper_windows(fields: Fields, n_layer: int) -> Variant:
    """Windows where use_sliding_window is on, from layer max_window_layers up; Qwen3's too."""
    first = fields.values["max_window_layers"]
    if type(first) is not int or first < 0:
        raise fields.error(f"max_window_layers is {first!r}")
    return windows(fields, n_layer, lambda layer: layer >= first)


def _variant(fields: Fields, n_layer: int) -> Variant:
    return replace(upper_windows(fields, n_layer), qkv_bias=True)


FAMILY = Relative(
    title="Hugging Face's Qwen2",
    model_type="qwen2",
    variant=_variant,
    shape=Variant(qkv_bias=True),
    defaults=DEFAULTS,
).family()
