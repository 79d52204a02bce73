"""Speed of the engine on a GPU: decoding alone and in batches, and reading prompts, on random weights.

    python tools/bench_cuda.py                           # GPT-2 124M and 355M in bf16
    python tools/bench_cuda.py --shapes 124M,355M,774M,1.5B,llama-1B --dtype q8 --json result.json

Greedy, sampling included. Decoding alone: 240 tokens behind a prompt of 16, so the context is at most 256;
the batch: 64 tokens behind prompts of 64, context 128. Speed is (n - 1) / (t(n) - t(1)) tokens a second,
the median of the repeats; its share is of the read bandwidth that a PyTorch with CUDA reaches on 2 GiB in
the same run, where there is one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pygpt
from pygpt import _core
from pygpt.architecture import Architecture
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
        return (
            values * 0.1 + 1 if name.endswith("gain") else values * (0.1 if kind == "vector" else cols**-0.5)
        )

    path.touch()
    write(path, Contents(architecture=architecture, dtype=dtype, weights=weights))


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def rate(engine: pygpt.Engine, prompts: list[list[int]], tokens: int, repeats: int) -> float:
    """Tokens a second behind the first ones, all prompts together."""

    def run(count: int) -> float:
        return seconds(lambda: engine.generate(prompts, max_tokens=count, temperature=0))

    run(tokens)  # what is recorded at the first time is not measured
    rates = [len(prompts) * (tokens - 1) / (run(tokens) - run(1)) for _ in range(repeats)]
    return statistics.median(rates)


def bandwidth() -> float | None:
    """GB/s that a sum over 2 GiB reads, the best of 20; None without a PyTorch that has CUDA."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    memory = torch.ones(1 << 29, device="cuda")
    times = []
    for _ in range(20):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        memory.sum()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return memory.numel() * 4 / min(times) / 1e9


def measure(name: str, path: Path, arguments: argparse.Namespace, read: float | None) -> dict[str, Any]:
    """All figures of one model."""
    rng = np.random.default_rng(1)
    with pygpt.Engine(path, device="cuda", verify="off", prefix_cache=False) as engine:
        info = engine.info
        vocab, context = info["config"]["vocab_size"], info["context_length"]
        prompts = [rng.integers(0, vocab, 64).tolist() for _ in range(64)]
        alone = rate(engine, [prompts[0][:16]], 240, arguments.repeats)
        batch = rate(engine, prompts, 64, arguments.repeats)
        long = rng.integers(0, vocab, context - 8).tolist()
        prefill = [
            seconds(lambda: engine.generate(long, max_tokens=1, temperature=0))
            for _ in range(arguments.repeats)
        ]
        return {
            "model": name, "dtype": arguments.dtype, "device": info["isa"], "decode": alone,
            "batch_64": batch, "prefill": len(long) / statistics.median(prefill),
            "share": info["weight_bytes"] * alone / (read * 1e9) if read else None,
        }  # fmt: skip


def main() -> None:
    """Measure the shapes that are asked for, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", default="124M,355M", help=f"of {', '.join(SHAPES)} (default: 124M,355M)")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    read = bandwidth()
    print(f"{_core.gpu()['name']}; read bandwidth {read or 0:.0f} GB/s (0: not measured)")
    print(f"{'model':<10}{'decode tok/s':>14}{'of bandwidth':>14}{'batch 64 tok/s':>16}{'prefill tok/s':>15}")
    found = []
    for name in arguments.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pygpt"
            random_model(path, SHAPES[name](), arguments.dtype)
            got = measure(name, path, arguments, read)
        share = f"{100 * got['share']:.0f} %" if got["share"] else ""
        print(
            f"{name:<10}{got['decode']:>14.0f}{share:>14}{got['batch_64']:>16.0f}{got['prefill']:>15.0f}",
            flush=True,
        )
        found.append(got)
    if arguments.json:
        arguments.json.write_text(json.dumps({"read_gb_s": read, "models": found}, indent=1))


if __name__ == "__main__":
    main()
