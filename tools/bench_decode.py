"""Decode speed of the engine beside PyTorch, on the lecture's shape with random weights.

    python tools/bench_decode.py                    # the table
    python tools/bench_decode.py --json result.json

Every contender continues the same 16-token prompt by 128 sampled tokens with the same rules (temperature
0.8, top-k 200), in one process, interleaved and repeated. Speed is (n - 1) / (t(n) - t(1)) tokens a second:
reading the prompt does not count. The figures are medians, the ratios medians of the ratios within a round,
since both then met the same machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

import pygpt
from pygpt.model import Model

PROMPT = list(range(16))
TEMPERATURE = 0.8
TOP_K = 200


def sample(logits: torch.Tensor) -> torch.Tensor:
    """nanoGPT's rule on the last position's logits [1, vocab] -> [1, 1]."""
    logits = logits / TEMPERATURE
    threshold = torch.topk(logits, min(TOP_K, logits.size(-1))).values[:, [-1]]
    logits[logits < threshold] = -float("inf")
    return torch.multinomial(functional.softmax(logits, dim=-1), num_samples=1)


@torch.inference_mode()
def without_cache(model: Model, tokens: int) -> None:
    """nanoGPT's way: the whole window anew for each token."""
    ids = torch.tensor([PROMPT])
    for _ in range(tokens):
        logits = model(ids[:, -model.config.context_length :])[:, -1, :]
        ids = torch.cat((ids, sample(logits)), dim=1)


class StaticCache:
    """PyTorch with keys and values kept in memory of a fixed size: what a careful user writes."""

    def __init__(self, model: Model) -> None:
        self.model = model
        config = model.config
        self.head_size = config.d_model // config.h
        shape = (1, config.h, config.context_length, self.head_size)
        self.keys = [torch.zeros(shape) for _ in model.blocks]
        self.values = [torch.zeros(shape) for _ in model.blocks]

    def forward(self, ids: torch.Tensor, start: int) -> torch.Tensor:
        """ids [1, time] at positions start.. -> logits [1, vocab] of the last."""
        time_ = ids.size(1)
        model = self.model
        x = model.wte(ids) + model.wpe(torch.arange(start, start + time_))
        for layer, block in enumerate(model.blocks):
            q, k, v = (
                block.attn.qkv(block.ln_1(x)).view(1, time_, 3, -1, self.head_size).permute(2, 0, 3, 1, 4)
            )
            self.keys[layer][:, :, start : start + time_] = k
            self.values[layer][:, :, start : start + time_] = v
            seen = slice(0, start + time_)
            y = functional.scaled_dot_product_attention(
                q, self.keys[layer][:, :, seen], self.values[layer][:, :, seen], is_causal=time_ > 1
            )
            x = x + block.attn.proj(y.transpose(1, 2).reshape(1, time_, -1))
            x = x + block.ffn(block.ln_2(x))
        return model.head(model.ln_f(x[:, -1]))

    @torch.inference_mode()
    def generate(self, tokens: int) -> None:
        token = sample(self.forward(torch.tensor([PROMPT]), 0))
        for position in range(len(PROMPT), len(PROMPT) + tokens - 1):
            token = sample(self.forward(token, position))


def check_static_cache(model: Model) -> None:
    """The rival must compute the same thing, or its speed says nothing."""
    with torch.inference_mode():
        cache = StaticCache(model)
        cache.forward(torch.tensor([PROMPT]), 0)
        got = cache.forward(torch.tensor([[3]]), len(PROMPT))
        want = model(torch.tensor([[*PROMPT, 3]]))[:, -1]
    if not torch.allclose(got, want, atol=1e-4):
        raise SystemExit("the PyTorch static cache does not compute what the model does")


def speed(run: Callable[[int], None], tokens: int) -> float:
    """Decoded tokens a second."""
    times = []
    for count in (1, tokens):
        start = time.perf_counter()
        run(count)
        times.append(time.perf_counter() - start)
    return (tokens - 1) / (times[1] - times[0])


def engine_run(engine: pygpt.Engine) -> Callable[[int], None]:
    def run(tokens: int) -> None:
        engine.generate(PROMPT, max_tokens=tokens, temperature=TEMPERATURE, top_k=TOP_K, seed=1)

    return run


def measure(args: argparse.Namespace) -> dict[str, list[float]]:
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = Model(n_vocab=65, context_length=256).eval()
    check_static_cache(model)
    contenders: dict[str, Callable[[int], None]] = {
        "PyTorch, no cache (nanoGPT's way)": lambda n: without_cache(model, n),
        "PyTorch, static cache": lambda n: StaticCache(model).generate(n),
    }
    with tempfile.TemporaryDirectory() as folder:
        for dtype in args.dtypes:
            path = pygpt.export(
                model, Path(folder) / f"{dtype}.pygpt", dtype=dtype, chars=[chr(48 + i) for i in range(65)]
            )
            contenders[f"pygpt {dtype}"] = engine_run(
                pygpt.Engine(path, threads=args.threads, prefix_cache=False)
            )
        results: dict[str, list[float]] = {name: [] for name in contenders}
        for round_ in range(args.rounds + 1):
            for name, run in contenders.items():
                figure = speed(run, args.tokens)
                if round_ > 0:  # the first round warms up
                    results[name].append(figure)
            print(f"\rround {round_}/{args.rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return results


def report(results: dict[str, list[float]]) -> str:
    names = list(results)
    rivals = names[:2]
    lines = ["| engine | tok/s (median) | range | x no cache | x static cache |", "|---|---|---|---|---|"]
    for name in names:
        figures = results[name]
        ratios = [
            statistics.median(a / b for a, b in zip(figures, results[rival], strict=True)) for rival in rivals
        ]
        spread = f"{min(figures):.0f}-{max(figures):.0f}"
        lines.append(
            f"| {name} | {statistics.median(figures):.0f} | {spread} | {ratios[0]:.1f} | {ratios[1]:.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("-j", "--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--dtypes", nargs="+", default=["f32", "f16"])
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    args = parser.parse_args()
    results = measure(args)
    versions = f"torch {torch.__version__}, pygpt {pygpt.__version__}"
    print(f"10.7M lecture shape, {args.threads} threads, {platform.machine()}, {versions}")
    print(report(results))
    if args.json:
        record = {"schema": "pygpt.bench_decode/1", "threads": args.threads, "tok_per_s": results}
        args.json.write_text(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
