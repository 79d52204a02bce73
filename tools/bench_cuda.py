"""Speed of the engine on a GPU for the shapes that people run, on random weights.

    python tools/bench_cuda.py                           # GPT-2 124M and 355M in bf16
    python tools/bench_cuda.py --shapes 124M,355M,774M,1.5B,llama-1B --dtype q8 --json result.json

Greedy, choosing included: 240 tokens behind a prompt of 16, so the context is at most 256; batches of 8 and
64; prompts of 1000 tokens. What `pygpt bench MODEL --device cuda` measures of one model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pygpt
from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.bench.gpu import copy_gb_s, gpu_json, gpu_lines, measure
from pygpt.file import Contents, write


def gpt2(n_layer: int, n_head: int) -> dict[str, Any]:
    """GPT-2's architecture of so many layers and heads of 64."""
    width = 64 * n_head
    flags = {f"{part}_bias": True for part in ("qkv", "proj", "mlp", "norm")}
    return flags | {
        "n_layer": n_layer, "n_head": n_head, "head_dim": 64, "d_model": width, "d_ff": 4 * width,
        "context_length": 1024, "vocab_size": 50257, "padded_vocab_size": 50257, "activation": "gelu_tanh",
        "attention_scale": 0.125, "tied_head": True, "head_bias": False,
    }  # fmt: skip


def llama() -> dict[str, Any]:
    """The shape of Llama 3.2 1B."""
    flags = {f"{part}_bias": False for part in ("qkv", "proj", "mlp", "norm", "head")}
    return flags | {
        "n_layer": 16, "n_head": 32, "n_kv_head": 8, "head_dim": 64, "d_model": 2048, "d_ff": 8192,
        "context_length": 2048, "vocab_size": 128256, "padded_vocab_size": 128256, "norm": "rms_norm",
        "position": "rotary", "rope_theta": 5e5, "activation": "silu", "gate": True, "attention_scale": 0.125,
        "tied_head": True,
    }  # fmt: skip


SHAPES: dict[str, Callable[[], dict[str, Any]]] = {
    "124M": lambda: gpt2(12, 12),
    "355M": lambda: gpt2(24, 16),
    "774M": lambda: gpt2(36, 20),
    "1.5B": lambda: gpt2(48, 25),
    "llama-1B": llama,
}


def random_model(path: Path, shape: dict[str, Any], dtype: str) -> None:
    """A file of this shape. A million random numbers, over and over again: no kernel minds."""
    architecture = Architecture(**shape)
    noise = np.random.default_rng(0).standard_normal(1 << 20, np.float32)
    specs = {
        name: (kind, rows, cols) for name, kind, rows, cols in _core.tensor_specs(architecture.to_config())
    }

    def weights(name: str) -> NDArray[np.float32]:
        kind, rows, cols = specs[name]
        values = np.resize(noise, (rows, cols))
        if name.endswith("gain"):
            return values * np.float32(0.1) + 1
        return values * np.float32(0.1 if kind == "vector" else cols**-0.5)

    path.touch()
    write(path, Contents(architecture=architecture, dtype=dtype, weights=weights))


def main() -> None:
    """Measure the shapes that are asked for, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", default="124M,355M", help=f"of {', '.join(SHAPES)} (default: 124M,355M)")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: to try this program")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    bandwidth = copy_gb_s() if arguments.device == "cuda" else 0.0
    found = {}
    for name in arguments.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pygpt"
            random_model(path, SHAPES[name](), arguments.dtype)
            with pygpt.Engine(path, device=arguments.device, verify="off", prefix_cache=False) as engine:
                report = measure(
                    engine, tokens=240, prompt_tokens=1000, batches=(8, 64), repeats=arguments.repeats,
                    copy_gb_s=bandwidth,
                )  # fmt: skip
        print(f"== {name}", *gpu_lines(report), "", sep="\n", flush=True)
        found[name] = gpu_json(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
