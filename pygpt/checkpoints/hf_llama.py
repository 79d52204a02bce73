"""Hugging Face's LlamaForCausalLM: a directory of config.json, safetensors and tokenizer.json, or the module.

Source: https://github.com/huggingface/transformers, modeling_llama.py and configuration_llama.py.
"""

from __future__ import annotations

from dataclasses import replace

from pygpt.checkpoints.base import Source
from pygpt.checkpoints.hf_config import Fields
from pygpt.checkpoints.hf_decoder import Relative, Variant, has_names

_RELATIVES = "llama, mistral, qwen2, qwen3, smollm3"


def _variant(fields: Fields, _: int) -> Variant:
    kind = fields.values.get("model_type", "llama")
    if kind != "llama":
        message = f"model_type is {kind!r}: of the models with these names, {_RELATIVES} are supported"
        raise fields.unsupported(message)
    bias = fields.boolean("attention_bias")
    return Variant(qkv_bias=bias, proj_bias=bias, mlp_bias=fields.boolean("mlp_bias"))


def _recognise(source: Source) -> bool:
    """Whoever has these names and was not recognised before: config.json tells who it is."""
    return has_names(source)


FAMILY = replace(
    Relative(
        title="Hugging Face's Llama",
        model_type="llama",
        variant=_variant,
        defaults={"max_position_embeddings": 2048},
    ).family(),
    recognise=_recognise,
)
