"""Make a Llama with random weights, for benchmarks: a directory as Hugging Face's `save_pretrained` leaves.

    python tools/random_llama.py out/llama-1.1b         # 1.1 billion parameters in float16, 2.2 GB
    pygpt export out/llama-1.1b --dtype q8 --no-verify -o llama-1.1b-q8.pygpt

Needs no torch; one tensor is in memory at a time. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 24  # numbers that are drawn at once


def shapes(c: argparse.Namespace) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of LlamaForCausalLM with an untied head."""
    kv_width = c.kv_heads * c.head_dim
    yield "model.embed_tokens.weight", (c.vocab, c.width)
    for i in range(c.layers):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", (c.width,)
        yield layer + "self_attn.q_proj.weight", (c.heads * c.head_dim, c.width)
        yield layer + "self_attn.k_proj.weight", (kv_width, c.width)
        yield layer + "self_attn.v_proj.weight", (kv_width, c.width)
        yield layer + "self_attn.o_proj.weight", (c.width, c.heads * c.head_dim)
        yield layer + "post_attention_layernorm.weight", (c.width,)
        yield layer + "mlp.gate_proj.weight", (c.ff, c.width)
        yield layer + "mlp.up_proj.weight", (c.ff, c.width)
        yield layer + "mlp.down_proj.weight", (c.width, c.ff)
    yield "model.norm.weight", (c.width,)
    yield "lm_head.weight", (c.vocab, c.width)


def config(c: argparse.Namespace) -> dict[str, object]:
    """The fields of config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": c.width,
        "intermediate_size": c.ff,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_dim,
        "vocab_size": c.vocab,
        "max_position_embeddings": c.context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": None,  # random text would meet it, and the run end
        "torch_dtype": "float16",
    }


def parts(rng: np.random.Generator, shape: tuple[int, ...]) -> Iterator[NDArray[np.float16]]:
    """A tensor's numbers: gains of about 1, matrices that keep the size of what they multiply."""
    left = math.prod(shape)
    while left > 0:
        numbers = rng.standard_normal(min(left, CHUNK), np.float32)
        left -= len(numbers)
        if len(shape) == 1:
            yield (1 + 0.1 * numbers).astype(np.float16)
        else:
            yield (numbers * np.float32(shape[1] ** -0.5)).astype(np.float16)


def write(file: BinaryIO, c: argparse.Namespace) -> None:
    """The safetensors file: a header of JSON with every tensor's place, then their bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes(c):
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text = text.ljust(-(-len(text) // 8) * 8)
    file.write(len(text).to_bytes(8, "little") + text)
    rng = np.random.default_rng(c.seed)
    for _, shape in shapes(c):
        for part in parts(rng, shape):
            file.write(part.tobytes())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    sizes = {
        "layers": 22, "width": 2048, "heads": 32, "kv-heads": 4, "ff": 5632, "vocab": 32000, "context": 2048,
        "seed": 0,
    }  # fmt: skip
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--head-dim", type=int, help="width / heads if not given")
    arguments = parser.parse_args()
    arguments.head_dim = arguments.head_dim or arguments.width // arguments.heads
    arguments.directory.mkdir(parents=True, exist_ok=True)
    (arguments.directory / "config.json").write_text(json.dumps(config(arguments), indent=2) + "\n", "utf-8")
    with (arguments.directory / "model.safetensors").open("wb") as file:
        write(file, arguments)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
