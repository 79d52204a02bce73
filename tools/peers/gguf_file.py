"""GGUF files of our models in float32, for llama.cpp, without a tokenizer.

Names and keys as llama.cpp's convert_hf_to_gguf.py writes them (https://github.com/ggml-org/llama.cpp).
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peers import shapes
from peers.shapes import Shape

_GPT2 = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_LLAMA = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_IN_BLOCK = re.compile(r"(?:transformer\.h|model\.layers)\.(\d+)\.(.+)\.(weight|bias)")


def renamed(name: str) -> str:
    """GGUF's name of a tensor with Hugging Face's name."""
    names = _GPT2 | _LLAMA
    if found := _IN_BLOCK.fullmatch(name):
        return f"blk.{found[1]}.{names[found[2]]}.{found[3]}"
    stem, _, kind = name.rpartition(".")
    return f"{names[stem]}.{kind}"


def converted(shape: Shape, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values in GGUF's order: matrices [out, in]; Llama's rotated pairs side by side."""
    if shape.family == "gpt2" and ".c_" in name and values.ndim == 2:
        return np.ascontiguousarray(values.T)
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        heads = shape.heads if "q_proj" in name else shape.kv_heads
        halves = values.reshape(heads, 2, shape.head_size // 2, -1)
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
    return values


def write(shape: Shape, source: Path, target: Path) -> None:
    """The weights of a Hugging Face directory as a GGUF file."""
    gguf: Any = importlib.import_module("gguf")
    writer = gguf.GGUFWriter(target, shape.family, use_temp_file=shape.parameters > 5e8)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("no_vocab")
    if shape.family == "llama":
        writer.add_head_count_kv(shape.kv_heads)
        writer.add_layer_norm_rms_eps(shapes.EPSILON)
        writer.add_rope_dimension_count(shape.head_size)
        writer.add_rope_freq_base(shapes.ROPE_BASE)
    else:
        writer.add_layer_norm_eps(shapes.EPSILON)
    for name, values in shapes.read(source):
        writer.add_tensor(renamed(name), converted(shape, name, values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
