"""The models that everyone runs: their shapes, and their weights at random from a fixed seed.

The weights are written once, as a Hugging Face directory; every engine reads or converts that one. The
activation is tanh GELU, the only one that all engines have.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 1
EPSILON = 1e-5
ROPE_BASE = 10000.0

# Large enough that every layer shows in the logits, and that greedy text does not repeat one token.
EMBEDDING_STD = 0.05
BIAS_STD = 0.02
GAIN_STD = 0.1


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's architecture, and how much of it a run measures.

    Attributes:
        family: "gpt2" (tied head, biases) or "llama" (RMS norm, rotary positions, SwiGLU, no biases).
        stored: type of the weights' file, which every engine starts from: "float32" or "float16".
        tokens: decoded one by one in the cell "decode". batch_tokens: the same for each row of a batch.
        prefill: tokens of the prompt that is read in the cell "prefill".
        resident: whether all engines fit into memory at once; else each is loaded for its turn.
    """

    name: str
    title: str
    family: str
    layers: int
    heads: int
    kv_heads: int
    width: int
    ff: int
    context: int
    vocab: int
    stored: str = "float32"
    tokens: int = 128
    batch_tokens: int = 128
    prefill: int = 512
    resident: bool = True

    @property
    def head_size(self) -> int:
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """Weights; the head counts with the embedding where they are one."""
        return sum(int(np.prod(dims)) for _, dims, _ in tensor_plan(self))


def _gpt2(name: str, title: str, sizes: tuple[int, int, int], context: int, vocab: int, **run: Any) -> Shape:
    layers, heads, width = sizes
    return Shape(name, title, "gpt2", layers, heads, heads, width, 4 * width, context, vocab, **run)


SHAPES = {
    shape.name: shape
    for shape in (
        _gpt2("S", "the lecture's 10.7M", (6, 6, 384), 256, 65, prefill=200),
        _gpt2("M", "GPT-2 124M", (12, 12, 768), 1024, 50257, batch_tokens=32),
        _gpt2("G", "GPT-2 124M with a context of 4096", (12, 12, 768), 4096, 50257, batch_tokens=32),
        Shape(
            "X", "Llama 1.1B", "llama", 22, 32, 4, 2048, 5632, 2048, 32000,
            stored="float16", tokens=32, batch_tokens=8, resident=False,
        ),
    )
}  # fmt: skip

Plan = Iterator[tuple[str, tuple[int, ...], str]]


def tensor_plan(shape: Shape) -> Plan:
    """Every tensor: (Hugging Face's name, shape, kind); kind: "embedding", "matrix_in_out" [in, out],
    "matrix_out_in" [out, in], "gain" or "bias"."""
    return _gpt2_plan(shape) if shape.family == "gpt2" else _llama_plan(shape)


def _gpt2_plan(shape: Shape) -> Plan:
    c, ff = shape.width, shape.ff
    yield "transformer.wte.weight", (shape.vocab, c), "embedding"
    yield "transformer.wpe.weight", (shape.context, c), "embedding"
    for i in range(shape.layers):
        block = f"transformer.h.{i}"
        for norm in ("ln_1", "ln_2"):
            yield f"{block}.{norm}.weight", (c,), "gain"
            yield f"{block}.{norm}.bias", (c,), "bias"
        linears = (
            ("attn.c_attn", c, 3 * c),
            ("attn.c_proj", c, c),
            ("mlp.c_fc", c, ff),
            ("mlp.c_proj", ff, c),
        )
        for name, inner, outer in linears:
            yield f"{block}.{name}.weight", (inner, outer), "matrix_in_out"
            yield f"{block}.{name}.bias", (outer,), "bias"
    yield "transformer.ln_f.weight", (c,), "gain"
    yield "transformer.ln_f.bias", (c,), "bias"


def _llama_plan(shape: Shape) -> Plan:
    c, kv = shape.width, shape.kv_heads * shape.head_size
    yield "model.embed_tokens.weight", (shape.vocab, c), "embedding"
    for i in range(shape.layers):
        block = f"model.layers.{i}"
        yield f"{block}.input_layernorm.weight", (c,), "gain"
        yield f"{block}.post_attention_layernorm.weight", (c,), "gain"
        for name, rows in (("q_proj", c), ("k_proj", kv), ("v_proj", kv), ("o_proj", c)):
            yield f"{block}.self_attn.{name}.weight", (rows, c), "matrix_out_in"
        for name, dims in (("gate", (shape.ff, c)), ("up", (shape.ff, c)), ("down", (c, shape.ff))):
            yield f"{block}.mlp.{name}_proj.weight", dims, "matrix_out_in"
    yield "model.norm.weight", (c,), "gain"
    yield "lm_head.weight", (shape.vocab, c), "matrix_out_in"


def tensors(shape: Shape, seed: int = SEED) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every tensor with its values, float32, the same for a shape and seed everywhere."""
    rng = np.random.default_rng(seed)
    for name, dims, kind in tensor_plan(shape):
        noise = rng.standard_normal(dims, np.float32)
        if kind == "gain":
            yield name, 1 + np.float32(GAIN_STD) * noise
        elif kind in ("embedding", "bias"):
            yield name, np.float32(EMBEDDING_STD if kind == "embedding" else BIAS_STD) * noise
        else:
            fan_in = dims[0] if kind == "matrix_in_out" else dims[1]
            yield name, np.float32(fan_in**-0.5) * noise


def config(shape: Shape) -> dict[str, Any]:
    """Hugging Face's config.json."""
    shared = {"vocab_size": shape.vocab, "dtype": shape.stored, "bos_token_id": None, "eos_token_id": None}
    if shape.family == "gpt2":
        return shared | {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_layer": shape.layers,
            "n_head": shape.heads,
            "n_embd": shape.width,
            "n_inner": shape.ff,
            "n_positions": shape.context,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": EPSILON,
            "tie_word_embeddings": True,
        }
    return shared | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "hidden_size": shape.width,
        "intermediate_size": shape.ff,
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "rms_norm_eps": EPSILON,
        "rope_theta": ROPE_BASE,
        "tie_word_embeddings": False,
    }


def write(shape: Shape, folder: Path) -> Path:
    """The Hugging Face directory of a shape; what is there already is kept."""
    weights = folder / "model.safetensors"
    if not weights.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config(shape), indent=1))
        stored = {name: values.astype(shape.stored) for name, values in tensors(shape)}
        unfinished = weights.with_suffix(".unfinished")
        importlib.import_module("safetensors.numpy").save_file(stored, unfinished, metadata={"format": "pt"})
        unfinished.rename(weights)
    return folder


def read(folder: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every tensor of a Hugging Face directory in float32, one at a time."""
    safetensors: Any = importlib.import_module("safetensors")
    with safetensors.safe_open(folder / "model.safetensors", framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118  # not a mapping
            yield name, file.get_tensor(name).astype(np.float32)


def prompt(shape: Shape, length: int, row: int = 0, serial: int = 0) -> list[int]:
    """Token ids [length] at random, the same for these arguments everywhere."""
    rng = np.random.default_rng((SEED, length, row, serial))
    return [int(token) for token in rng.integers(0, shape.vocab, length)]
