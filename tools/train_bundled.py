"""Train the model that comes with pygpt: the lecture's family on the characters of one text.

    python tools/train_bundled.py tinyshakespeare.txt build/bundled                 # two cores, 85 minutes
    python tools/train_bundled.py tinyshakespeare.txt build/bundled --recipe gpu    # one GPU, some minutes
    python tools/train_bundled.py tinyshakespeare.txt build/bundled --report        # of a run that is there

Uses the trainer of `pygpt train`. Writes a training directory (see pygpt.train.checkpoint) and in it
curve.svg, and prints the result as it stands in docs/bundled_model.md, where the recipes are explained.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from pygpt.train.checkpoint import METRICS, TRAINING
from pygpt.train.config import TrainConfig
from pygpt.train.progress import ConsoleReporter
from pygpt.train.run import train
from pygpt.train.stop import polite_signals

RECIPES = {
    "cpu": TrainConfig(
        n_layers=6, h=4, d_model=256, context_length=256, dropout=0.1, attention_dropout=0.0,
        steps=1_000_000, max_minutes=85, batch_size=12, learning_rate=1.5e-3, min_learning_rate=1e-5,
        warmup_steps=200, beta2=0.99, weight_decay=0.1, precision="bf16",
        eval_interval=250, eval_windows=145, sample_length=120,
    ),
    "gpu": TrainConfig(
        n_layers=6, h=6, d_model=384, context_length=256, dropout=0.2,
        steps=5000, batch_size=64, learning_rate=1e-3, min_learning_rate=1e-5,
        warmup_steps=100, beta2=0.99, weight_decay=0.1, precision="bf16", device="cuda",
    ),
}  # fmt: skip


def draw_curve(lines: list[dict[str, Any]], path: Path) -> None:
    """Losses over tokens, as an SVG of some 15 kB."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text as text: a tenth of the size
    matplotlib.rcParams["svg.hashsalt"] = "pygpt"  # the same curve, the same bytes
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    millions = [line["tokens"] / 1e6 for line in lines]
    axes.plot(millions, [line["train_loss"] for line in lines], label="training, with dropout")
    axes.plot(millions, [line["validation_loss"] for line in lines], label="validation")
    axes.set(xlabel="million characters read", ylabel="loss, nats a character", ylim=(1.2, 2.6))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")


def table(lines: list[dict[str, Any]], record: dict[str, Any]) -> str:
    """The result and some ten points of the curve, in Markdown."""
    best = record["best"]
    rows = [
        f"validation loss **{best['validation_loss']:.4f}** nats a character, of the weights of step "
        f"{best['step']:,} of {record['step']:,}; {lines[-1]['tokens'] / 1e6:.1f} million characters in "
        f"{record['elapsed_s'] / 60:.0f} minutes, torch {record['torch']}\n",
        "| minutes | million characters | training loss | validation loss |",
        "|---|---|---|---|",
    ]
    every = max(1, len(lines) // 10)
    for line in sorted([*lines[every - 1 :: every], lines[-1]], key=lambda line: int(line["step"])):
        row = (
            f"| {line['elapsed_s'] / 60:.0f} | {line['tokens'] / 1e6:.1f} "
            f"| {line['train_loss']:.3f} | {line['validation_loss']:.3f} |"
        )
        if row != rows[-1]:
            rows.append(row)
    return "\n".join(rows)


def report(directory: Path) -> None:
    """Draw the curve of a run and print its tables."""
    lines = [json.loads(line) for line in (directory / METRICS).read_text("utf-8").splitlines()]
    draw_curve(lines, directory / "curve.svg")
    print(table(lines, json.loads((directory / TRAINING).read_text("utf-8"))))


def main() -> int:
    """Train and report. Exit code 0, or 130 when stopped early."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    parser.add_argument("text", type=Path, help="the text file")
    parser.add_argument("output", type=Path, help="training directory to write")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="cpu")
    parser.add_argument("--max-minutes", type=float, help="wall time, where it differs from the recipe's")
    parser.add_argument("--force", action="store_true", help="replace the run in the output directory")
    parser.add_argument("--report", action="store_true", help="only report on the run that is there")
    args = parser.parse_args()
    stopped = False
    if not args.report:
        config = RECIPES[args.recipe]
        if args.max_minutes is not None:
            config = replace(config, max_minutes=args.max_minutes)
        with polite_signals() as stop:
            reporter = ConsoleReporter()
            result = train(
                args.text, args.output, config, force=args.force, reporter=reporter, should_stop=stop
            )
        stopped = result.stopped
    report(args.output)
    return 130 if stopped else 0


if __name__ == "__main__":
    sys.exit(main())
