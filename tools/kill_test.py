"""Kill a training run at random moments, resume it, and compare what it comes to with a run left alone.

    python tools/kill_test.py --kills 30 /tmp/kill_test

Each kill is SIGKILL, at a time drawn from the whole length of a run: as it starts, trains, evaluates, saves.
A run that was killed some times is resumed to its end; its best weights, its last checkpoint (weights, both
means of AdamW) and its losses must be those of the run left alone, bit for bit. Exit code 1 if any differ.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

import safetensors.torch
import torch

from pygpt.train import checkpoint, resume, saved_steps
from pygpt.train.metrics import read_metrics

_KILLS_A_RUN = 5
_FLAGS = [
    "--n-layers=2",
    "--h=2",
    "--d-model=32",
    "--context-length=32",
    "--batch-size=4",
    "--dropout=0.1",
    "--eval-interval=5",
    "--eval-windows=8",
    "--save-interval=3",
    "--sample-length=5",
    "--threads=1",
    "--device=cpu",
    "--resume",
    "-q",
]
_PROGRAM = "import sys; from pygpt.cli.main import main; sys.exit(main())"


def command(directory: Path, steps: int) -> list[str]:
    """A run that goes on where it can."""
    train = ["train", "python-docs", "-o", str(directory), f"--steps={steps}"]
    return [sys.executable, "-c", _PROGRAM, *train, *_FLAGS]


def killed(directory: Path, steps: int, after_s: float) -> bool:
    """Start a run and kill it; whether it was still there to be killed."""
    process = subprocess.Popen(command(directory, steps), stdout=subprocess.DEVNULL)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    if process.returncode != 0:
        raise SystemExit(f"the run failed by itself, with exit code {process.returncode}")
    return False


def difference(one: Path, two: Path) -> str:
    """What of two finished runs is not the same; empty if nothing."""
    last = [saved_steps.saved(directory)[0] for directory in (one, two)]
    if last[0].name != last[1].name:
        return f"the last checkpoints are {last[0].name} and {last[1].name}"
    pairs = {"best weights": (one, two), "last weights": (last[0], last[1])}
    for what, (a, b) in pairs.items():
        if (a / checkpoint.WEIGHTS).read_bytes() != (b / checkpoint.WEIGHTS).read_bytes():
            return what
    means = [safetensors.torch.load_file(directory / resume.OPTIMIZER) for directory in last]
    for name, tensor in means[0].items():
        if not torch.equal(tensor, means[1][name]):
            return f"optimizer {name}"
    losses = [[(line["step"], line["validation_loss"]) for line in read_metrics(run)] for run in (one, two)]
    return "" if losses[0] == losses[1] else "losses"


def main() -> int:
    """Kill, resume, compare, and say what came of it."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    parser.add_argument("directory", type=Path, help="where the runs are written; not there, or empty")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    args = parser.parse_args()
    moments = random.Random(args.seed)  # noqa: S311
    whole = args.directory / "whole"
    began_s = time.monotonic()
    subprocess.run(command(whole, args.steps), check=True, stdout=subprocess.DEVNULL)
    length_s = time.monotonic() - began_s
    kills, runs, different = 0, 0, 0
    while kills < args.kills:
        runs += 1
        run = args.directory / f"run_{runs}"
        here = 0
        while here < _KILLS_A_RUN and kills < args.kills:
            if not killed(run, args.steps, moments.uniform(0, length_s)):
                break
            here, kills = here + 1, kills + 1
        subprocess.run(command(run, args.steps), check=True, stdout=subprocess.DEVNULL)
        found = difference(whole, run)
        different += bool(found)
        print(f"run {runs}: killed {here} times; {found or 'the same bits'}", flush=True)
    print(f"{kills} kills in {runs} runs of {args.steps} steps; {different} runs differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
