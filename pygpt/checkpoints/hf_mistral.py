"""Hugging Face's MistralForCausalLM: Llama's decoder, every layer with a sliding window.

Source: https://github.com/huggingface/transformers, modeling_mistral.py and configuration_mistral.py;
arXiv:2310.06825.
"""

from __future__ import annotations

from pygpt.checkpoints.hf_config import Fields
from pygpt.checkpoints.hf_decoder import Relative, Variant


def _variant(fields: Fields, n_layer: int) -> Variant:
    if fields.values.get("layer_types") is not None:
        raise fields.unsupported("layer_types: a Mistral with layers of several kinds is not supported")
    if fields.values["sliding_window"] is None:
        return Variant()
    return Variant(window=fields.integer("sliding_window"), windows=(True,) * n_layer)


FAMILY = Relative(
    title="Hugging Face's Mistral",
    model_type="mistral",
    variant=_variant,
    defaults={"sliding_window": 4096, "max_position_embeddings": 131072},
).family()
