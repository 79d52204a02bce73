"""How fast `pygpt train` trains: beside a plain PyTorch loop, and in two processes.

    python tools/bench_train.py tinyshakespeare.txt                # the loop: 2 x 2,000 steps, minutes
    python tools/bench_train.py tinyshakespeare.txt --processes    # one and two processes

The plain loop has nanoGPT's documented settings for characters on a CPU: 4 layers, 4 heads, width 128,
context 64, batch 12, 2,000 steps, learning rate 1e-3 with warm-up and cosine, beta2 0.99, no dropout; GELU,
no biases, a tied head. `pygpt train` has its preset cpu, which differs in the last three: ReLU, biases, a
head of its own. Both make slices of steps in turn, in this process, so that whatever else the machine does
hits both; speeds are medians over the slices, and so are the CPU seconds, which neighbours disturb less.
Losses are means over all windows of the same validation text.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F  # noqa: N812  (the name that everyone knows)
from torch import Tensor, nn

from pygpt.train.config import PRESETS, TrainConfig
from pygpt.train.evaluation import evaluate
from pygpt.train.initial import fresh
from pygpt.train.processes import joined
from pygpt.train.run import prepare
from pygpt.train.schedule import learning_rate, progress
from pygpt.train.tokens import load_corpus
from pygpt.train.trainer import Trainer

# Large enough that a step is worth sharing out.
SHARED = replace(
    PRESETS["cpu"], n_layers=6, h=4, d_model=256, context_length=128, batch_size=16, threads=1, device="cpu"
)


class PlainBlock(nn.Module):
    """A block as people write it down."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.ln_1(x)).split(width, dim=2)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).contiguous().view(batch, length, width))
        return x + self.down(F.gelu(self.up(self.ln_2(x))))


class PlainGPT(nn.Module):
    """The model of the plain loop. Its initial weights are those that nanoGPT documents."""

    def __init__(self, vocab: int, layers: int = 4, heads: int = 4, width: int = 128) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(64, width)
        self.blocks = nn.ModuleList(PlainBlock(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                deep = name.endswith(("proj.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * layers) if deep else 1))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)


def plain_loop(data: Tensor, vocab: int, config: TrainConfig) -> tuple[PlainGPT, Callable[[], float]]:
    """A model and a function that makes its next step."""
    torch.manual_seed(1337)
    model = PlainGPT(vocab)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    done = 0

    def step() -> float:
        nonlocal done
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, done, progress(config, done, 0.0))
        starts = torch.randint(len(data) - 64, (12,))
        x = torch.stack([data[i : i + 64] for i in starts])
        y = torch.stack([data[i + 1 : i + 65] for i in starts])
        logits = model(x)
        loss = F.cross_entropy(logits.view(-1, logits.size(-1)), y.view(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done += 1
        return loss.item()

    return model, step


@dataclass(slots=True)
class Slices:
    """Times of slices of steps."""

    tokens: int
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def measure(self, step: Callable[[], object], steps: int) -> None:
        """Make a slice."""
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step()
        self.wall_s.append(time.perf_counter() - wall)
        self.cpu_s.append(time.process_time() - cpu)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / median(self.wall_s)


def stepping(trainer: Trainer) -> Callable[[], float]:
    """A function that makes the trainer's next step at its own learning rate."""

    def step() -> float:
        done = progress(trainer.config, trainer.state.step, 0.0)
        return trainer.train_step(learning_rate(trainer.config, trainer.state.step, done))

    return step


def compare(text: Path, steps: int, slice_steps: int, threads: int) -> None:
    """`pygpt train` beside the plain loop."""
    config = replace(PRESETS["cpu"], steps=steps, threads=threads, device="cpu")
    trainer = prepare(text, Path(), config)
    corpus = trainer.corpus
    data = torch.tensor(corpus.train.tolist())
    model, plain_step = plain_loop(data, corpus.tokenizer.vocab_size, config)
    tokens = slice_steps * config.batch_size * config.context_length
    ours, plain = Slices(tokens), Slices(tokens)
    for _ in range(steps // slice_steps):
        ours.measure(stepping(trainer), slice_steps)
        plain.measure(plain_step, slice_steps)
    validation = corpus.validation
    print(f"torch {torch.__version__}, {threads} threads, slices of {slice_steps} of {steps} steps\n")
    print("| | tokens/s | CPU seconds a slice | validation loss |\n|---|---|---|---|")
    for name, slices, trained in (("pygpt train", ours, trainer.model), ("plain loop", plain, model)):
        loss = evaluate(trained, validation, 64)  # type: ignore[arg-type]  # it has a wte, which is all
        print(f"| {name} | {slices.tokens_per_s:,.0f} | {median(slices.cpu_s):.2f} | {loss:.4f} |")
    paired = [p / o for p, o in zip(plain.wall_s, ours.wall_s, strict=True)]
    paired_cpu = [p / o for p, o in zip(plain.cpu_s, ours.cpu_s, strict=True)]
    print(f"\nspeed beside the plain loop: {median(paired):.2f}x wall, {median(paired_cpu):.2f}x CPU time")


def work(text: Path, steps: int, slice_steps: int) -> None:
    """What each process of `share` does: train, and tell the median slice and the losses."""
    with joined(torch.device("cpu")) as processes:
        torch.set_num_threads(1)
        start = fresh(str(text), SHARED, lambda *_: None)
        corpus = load_corpus(str(text), start.tokenizer, SHARED.context_length, None, lambda *_: None)
        torch.manual_seed(SHARED.seed)
        trainer = Trainer(start.model(), corpus, replace(SHARED, steps=steps), Path(), processes)
        step = stepping(trainer)
        slices = Slices(slice_steps * SHARED.batch_size * SHARED.context_length)
        losses: list[float] = []
        for _ in range(steps // slice_steps):
            slices.measure(lambda: losses.append(step()), slice_steps)
        if processes.is_first:
            facts = {"tokens_per_s": slices.tokens_per_s, "cpu_s": median(slices.cpu_s), "losses": losses}
            print(json.dumps(facts))


def share(text: Path, steps: int, slice_steps: int, repeats: int) -> None:
    """One process and two, in turn."""
    speeds: dict[int, list[float]] = {1: [], 2: []}
    cpu_s: dict[int, list[float]] = {1: [], 2: []}
    losses: dict[int, list[float]] = {}
    arguments = [str(text), "--work", "--steps", str(steps), "--slice", str(slice_steps)]
    for _ in range(repeats):
        for count in speeds:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
            line = [sys.executable, *launcher, __file__, *arguments]
            done = subprocess.run(line, check=True, capture_output=True, text=True)
            facts = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
            speeds[count].append(facts["tokens_per_s"])
            cpu_s[count].append(facts["cpu_s"])
            losses[count] = facts["losses"]
    one, two = (median(speeds[count]) for count in (1, 2))
    furthest = max(abs(a - b) for a, b in zip(losses[1], losses[2], strict=True))
    print(f"one process {one:,.0f} tokens/s, two {two:,.0f}: {two / one:.2f}x, a thread each")
    one, two = (median(cpu_s[count]) for count in (1, 2))
    print(f"CPU seconds of the first process a slice: {one:.2f} alone, {two:.2f} of two: {one / two:.2f}x")
    print(f"losses of {steps} steps differ by {furthest:.1e} nats at most; the last is {losses[1][-1]:.4f}")


def main() -> int:
    """Measure and print."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    parser.add_argument("text", type=Path, help="the training text")
    parser.add_argument("--steps", type=int, help="of each (2000, or 60 with --processes)")
    parser.add_argument("--slice", type=int, help="steps that are timed together (50, or 5)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", action="store_true", help="one process and two, instead of the loop")
    parser.add_argument("--repeats", type=int, default=3, help="of --processes")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.text, args.steps, args.slice)
    elif args.processes:
        share(args.text, args.steps or 60, args.slice or 5, args.repeats)
    else:
        compare(args.text, args.steps or 2000, args.slice or 50, args.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
