"""Tokens a second on one GPU: PyTorch eager, PyTorch with CUDA graphs, transformers, and pygpt where it can.

    python tools/bench_cuda_peers.py --json peers.json          # five models, batches of 1 and 64
    python tools/bench_cuda_peers.py --models 124M --batches 1 8 --engines graphs pygpt
    python tools/bench_cuda_peers.py --device cpu --tiny        # does it all run? Its figures mean nothing

Random weights, greedy, every sequence from a prompt of 16 tokens up to the context's end. Speed is
rows (n - 1) / (t(n) - t(1)). Engines take turns, round by round; figures are medians. Eager and graphs share
their weights and must write the same first tokens. pygpt takes part where this build has device="cuda": it
exports a random model of the same shape, which takes minutes for the large ones (--work keeps the files).

Exit codes: 0 done, 1 the tokens of eager and graphs differ, 2 usage, 4 no GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import shapes
from peers.base import CHECKED_TOKENS, PROMPT_TOKENS, Runner, UnavailableError
from peers.figures import agreeing, decode_speed, spread
from peers.measure import note
from peers.shapes import SHAPES, Shape

SCHEMA = "pygpt.bench_cuda_peers/1"
DIFFERENT, NO_DEVICE = 1, 4
DTYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}


def _gpt2(name: str, layers: int, heads: int, width: int) -> Shape:
    sizes = {"layers": layers, "heads": heads, "kv_heads": heads, "width": width, "ff": 4 * width}
    return dataclasses.replace(SHAPES["M"], name=name, title=f"GPT-2 {name}", **sizes)


MODELS = {
    shape.name: shape
    for shape in (
        _gpt2("124M", 12, 12, 768),
        _gpt2("355M", 24, 16, 1024),
        _gpt2("774M", 36, 20, 1280),
        _gpt2("1.5B", 48, 25, 1600),
        # The head is a matrix of its own here: as many bytes a token as with the real one, which is tied.
        Shape("llama-1B", "Llama 3.2 1B", "llama", 16, 32, 8, 2048, 8192, 2048, 128256, stored="float16"),
    )
}
TINY = {
    "gpt2": Shape("tiny", "tiny GPT-2", "gpt2", 2, 2, 2, 16, 64, 64, 97),
    "llama": Shape("tiny-llama", "tiny Llama", "llama", 2, 4, 2, 32, 64, 64, 97),
}


@dataclass(slots=True)
class Cell:
    """One engine with one model and batch: tokens a second of all rows, a value a round."""

    model: str
    batch: int
    engine: str
    version: str = ""
    weight_bytes: int | None = None
    rates: list[float | None] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    skipped: str = ""


Make = Callable[[Shape, argparse.Namespace, Path], Runner]


def make_eager(shape: Shape, args: argparse.Namespace, _: Path) -> Runner:
    import torch
    from peers.torch_decoder import Eager, made

    return Eager(made(shape, args.context, args.device, getattr(torch, DTYPES[args.dtype])))


def make_graphs(shape: Shape, args: argparse.Namespace, _: Path) -> Runner:
    import torch
    from peers.torch_decoder import Graphed, made

    return Graphed(made(shape, args.context, args.device, getattr(torch, DTYPES[args.dtype])))


def make_transformers(shape: Shape, args: argparse.Namespace, _: Path) -> Runner:
    try:
        import torch
        import transformers
        from peers.hf import Transformers
    except ImportError as error:
        raise UnavailableError(f"needs {error.name}: pip install transformers") from error
    values = shapes.config(shape)
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.device(args.device):
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, DTYPES[args.dtype])
        )
    return Transformers(model, sum(each.numel() * each.element_size() for each in model.parameters()))


def make_pygpt(shape: Shape, args: argparse.Namespace, work: Path) -> Runner:
    try:
        from peers import own

        from pygpt.errors import DeviceError
    except ImportError as error:
        raise UnavailableError(f"needs {error.name}: a built pygpt on PYTHONPATH") from error
    folder = work / shape.name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        source = shapes.write(shape, folder / "weights")
        path = own.prepare(shape, args.dtype, source, folder / f"pygpt {args.dtype}")
        return own.PyGPT(path, None, args.device)
    except DeviceError as error:
        raise UnavailableError(str(error)) from error


ENGINES: dict[str, Make] = {
    "eager": make_eager,
    "graphs": make_graphs,
    "transformers": make_transformers,
    "pygpt": make_pygpt,
}


def seconds(runner: Runner, shape: Shape, rows: int, tokens: int, serial: int) -> tuple[float, list[int]]:
    """How long prompts and so many tokens take, and the first row's tokens."""
    prompts = [shapes.prompt(shape, PROMPT_TOKENS, row, serial) for row in range(rows)]
    start = time.perf_counter()
    written = runner.generate(prompts, tokens).tokens  # on the host: the device is done
    return time.perf_counter() - start, written[0]


def rate(runner: Runner, shape: Shape, rows: int, tokens: int, serial: int) -> float | None:
    first, _ = seconds(runner, shape, rows, 1, serial)
    whole, _ = seconds(runner, shape, rows, tokens, serial + 1)
    return decode_speed(first, whole, tokens, rows)


def warmed(cell: Cell, runner: Runner, shape: Shape, tokens: int) -> None:
    """Everything that only the first call does, and the first tokens of a prompt that all have."""
    cell.version, cell.weight_bytes = runner.version, runner.weight_bytes
    _, cell.tokens = seconds(runner, shape, cell.batch, min(CHECKED_TOKENS, tokens), 0)
    seconds(runner, shape, cell.batch, tokens, 1)


def attempt(cell: Cell, step: Callable[[], object]) -> bool:
    """Whether a step went well; an engine that fails takes no further part in this cell."""
    try:
        step()
    except UnavailableError as error:
        cell.skipped = str(error)
    except (RuntimeError, MemoryError) as error:  # an engine's own, such as a device that is full
        cell.skipped = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if cell.skipped:
        note(f"{cell.model}, batch {cell.batch}, {cell.engine}: {cell.skipped}")
    return not cell.skipped


def measure(shape: Shape, args: argparse.Namespace, work: Path) -> list[Cell]:
    """Every engine and batch of one model, interleaved."""
    tokens = args.context - PROMPT_TOKENS
    runners: dict[str, Runner] = {}
    cells: list[Cell] = []
    for name in args.engines:
        note(f"{shape.name}: loading {name}")
        probe = Cell(shape.name, 0, name)
        loaded = attempt(probe, lambda name=name: runners.update({name: ENGINES[name](shape, args, work)}))
        cells += [Cell(shape.name, batch, name, skipped=probe.skipped) for batch in args.batches]
        for cell in cells[-len(args.batches) :] if loaded else ():
            attempt(cell, lambda cell=cell, name=name: warmed(cell, runners[name], shape, tokens))
    for round_ in range(args.rounds):
        note(f"{shape.name}: round {round_ + 1}/{args.rounds}")
        for cell in cells:
            if cell.skipped:
                continue
            serial = 2 + 2 * round_
            attempt(cell, lambda cell=cell, serial=serial: cell.rates.append(
                rate(runners[cell.engine], shape, cell.batch, tokens, serial)
            ))  # fmt: skip
    return cells


def differing(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of graphs whose first tokens are not those of eager: the same weights and operations."""
    eager = {(each.model, each.batch): each.tokens for each in cells if each.engine == "eager"}
    return [
        each
        for each in cells
        if each.engine == "graphs" and each.tokens and (wanted := eager.get((each.model, each.batch)))
        if agreeing(each.tokens, wanted) < len(wanted)
    ]


def line(cell: Cell, cells: Sequence[Cell]) -> str:
    """A row of the table."""
    head = f"| {cell.model} | {cell.batch} | {cell.engine} {cell.version} |"
    found = spread(cell.rates)
    if cell.skipped or found is None:
        return f"{head} skipped: {cell.skipped or 'noise ate it'} | | |"
    read = f"{cell.weight_bytes * found.median / cell.batch / 1e9:,.0f}" if cell.weight_bytes else ""
    alike = (each for each in cells if (each.model, each.batch) == (cell.model, cell.batch))
    ours = next((spread(each.rates) for each in alike if each.engine == "pygpt" and not each.skipped), None)
    ratio = f"{ours.median / found.median:.2f}" if ours and cell.engine != "pygpt" else ""
    return f"{head} {found.median:,.1f} ({found.low:,.1f} to {found.high:,.1f}) | {read} | {ratio} |"


def report(record: dict[str, Any]) -> str:
    """The Markdown of what --json holds."""
    cells = [Cell(**each) for each in record["cells"]]
    lines = [
        f"{record['gpu']}, {record['dtype']}, prompt {PROMPT_TOKENS}, context {record['context']}",
        "",
        "| model | batch | engine | tok/s | weights read, GB/s | pygpt is times faster |",
        "|---|---|---|---|---|---|",
        *(line(each, cells) for each in cells),
    ]
    if record["tiny"]:
        lines.insert(0, "**--tiny: these figures mean nothing.**\n")
    lines += [f"\n**{each.model}, batch {each.batch}: graphs write other tokens than eager.**" for each in
              differing(cells)]  # fmt: skip
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; impossible values end the program with a message."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter, allow_abbrev=False)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--dtype", choices=list(DTYPES), default="bf16")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="two tiny models: to see that everything runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="keep pygpt's models here, and use them again")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    args = parser.parse_args(arguments)
    if args.rounds < 1 or min(args.batches) < 1:
        parser.error("--rounds and --batches must be at least 1")
    if args.tiny:
        args.context = min(args.context, *(shape.context for shape in TINY.values()))
    if not PROMPT_TOKENS + 2 <= args.context <= 1024:
        parser.error(f"--context must be {PROMPT_TOKENS + 2} to 1024")
    if args.json and not args.json.resolve().parent.is_dir():  # said now, not after the measurement
        parser.error(f"there is no directory {args.json.parent}")
    return args


def gpu(device: str) -> str | None:
    """The device's name; None where PyTorch sees none."""
    import torch

    if device == "cpu":
        return "CPU"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def main() -> int:
    args = parse()
    name = gpu(args.device)
    if name is None:
        note("bench_cuda_peers: PyTorch sees no GPU here; --device cpu --tiny shows that everything runs")
        return NO_DEVICE
    record: dict[str, Any] = {"schema": SCHEMA, "gpu": name, "dtype": args.dtype, "context": args.context}
    record |= {"rounds": args.rounds, "tiny": args.tiny, "cells": []}
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.work or Path(temporary)).resolve()
        for shape in TINY.values() if args.tiny else (MODELS[each] for each in args.models):
            record["cells"] += [dataclasses.asdict(each) for each in measure(shape, args, work)]
            if args.json:
                args.json.write_text(json.dumps(record, indent=1))
    print(report(record))
    return DIFFERENT if differing([Cell(**each) for each in record["cells"]]) else 0


if __name__ == "__main__":
    sys.exit(main())
