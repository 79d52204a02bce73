"""Hugging Face's SmolLM3ForCausalLM: Llama's decoder, every fourth layer without rotary positions.

Source: https://github.com/huggingface/transformers, modeling_smollm3.py and configuration_smollm3.py. Layers
without positions: arXiv:2501.18795.
"""

from __future__ import annotations

from dataclasses import replace

from pygpt.checkpoints.hf_config import Fields
from pygpt.checkpoints.hf_decoder import Relative, Variant, windows


def _variant(fields: Fields, n_layer: int) -> Variant:
    bias = fields.boolean("attention_bias")
    turns = _turns(fields, n_layer)
    return replace(
        windows(fields, n_layer, lambda layer: not turns[layer]),
        turns=turns,
        qkv_bias=bias,
        proj_bias=bias,
        mlp_bias=fields.boolean("mlp_bias"),
    )


def _turns(fields: Fields, n_layer: int) -> tuple[bool, ...]:
    """no_rope_layers holds 1 where a layer has rotary positions, whatever its name says."""
    listed = fields.layers("no_rope_layers", n_layer, (0, 1))
    if listed is None:
        interval = fields.integer("no_rope_layer_interval")
        listed = [(layer + 1) % interval != 0 for layer in range(n_layer)]
    if not any(listed):
        raise fields.unsupported("no_rope_layers: a model without rotary positions is not supported")
    return tuple(map(bool, listed))


FAMILY = Relative(
    title="Hugging Face's SmolLM3",
    model_type="smollm3",
    variant=_variant,
    defaults={
        "no_rope_layer_interval": 4,
        "rope_theta": 2000000.0,
        "tie_word_embeddings": True,
        "max_position_embeddings": 32768,
    },
).family()
