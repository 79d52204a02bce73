"""Data parallel training: the loss of one process on the same batch, and one voice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pygpt.errors import InvalidRequestError
from pygpt.train import checkpoint, saved_steps
from pygpt.train.config import TrainConfig
from pygpt.train.metrics import read_metrics
from pygpt.train.processes import Processes
from pygpt.train.run import prepare, train
from pygpt.train.trainer import Trainer

if not torch.distributed.is_available():
    pytest.skip("this torch comes without torch.distributed", allow_module_level=True)

FLAGS = [
    "--n-layers=1", "--h=2", "--d-model=32", "--context-length=16", "--batch-size=8", "--learning-rate=0.01",
    "--warmup-steps=5", "--sample-length=5", "--threads=1", "--device=cpu", "--eval-interval=10",
]  # fmt: skip


def start(processes: int, *arguments: object) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    line = [sys.executable, *(launcher if processes > 1 else ["-m"]), "pygpt", "train"]
    return subprocess.Popen(
        [*line, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(checkpoint.__file__).parents[2])},
    )


def run(processes: int, *arguments: object) -> tuple[str, str]:
    """What it wrote to stdout and to stderr."""
    process = start(processes, *arguments)
    out, shown = process.communicate(timeout=300)
    assert process.returncode == 0, out + shown
    return out, shown


def losses(directory: Path) -> list[list[float]]:
    return [[line["train_loss"], line["validation_loss"]] for line in read_metrics(directory)]


def test_I8_one_process_goes_on_as_two_and_then_as_one_with_the_losses_of_one(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    tiny = replace(tiny, eval_interval=10, min_learning_rate=tiny.learning_rate)  # whatever the steps to come
    train(alphabet, one, replace(tiny, steps=30))
    train(alphabet, two, replace(tiny, steps=10))
    out, shown = run(2, "--resume", "-o", two, "--steps=20", "--accumulate=2")
    assert out == f"{two}\n"
    assert shown.count("tokens to train on") == 1  # one voice
    assert "in 2 processes" in shown
    assert "goes on behind step 10" in shown
    train(None, two, tiny, resume=True, changes={"steps": 30})
    assert len(losses(two)) == 3
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-4)


def rank_pid(launcher: int, rank: int) -> int:
    """The process that has this rank among the launcher's children."""
    wanted = f"RANK={rank}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and wanted in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:  # it ended meanwhile
            continue
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the ranks in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_I10_a_rank_that_dies_ends_the_run_which_goes_on_from_its_checkpoint(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig, rank: int
) -> None:
    out = tmp_path / "out"
    process = start(2, alphabet, "-o", out, *FLAGS, "--steps=1000000")
    while process.poll() is None and not saved_steps.saved(out):
        time.sleep(0.05)
    os.kill(rank_pid(process.pid, rank), signal.SIGKILL)
    process.communicate(timeout=120)  # the others do not wait for it
    assert process.returncode not in (0, None)
    reached = saved_steps.step_of(saved_steps.saved(out)[0])
    train(None, out, tiny, resume=True, changes={"steps": reached + 20})  # nobody holds the directory
    assert saved_steps.step_of(saved_steps.saved(out)[0]) == reached + 20


def test_I9_a_signal_to_all_processes_saves_once(alphabet: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(2, alphabet, "-o", out, *FLAGS, "--steps=1000000")
    while process.poll() is None and not saved_steps.saved(out):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, shown = process.communicate(timeout=120)
    assert process.returncode != 0
    assert shown.count("stopped after") == 1, shown
    saved_steps.verify(saved_steps.saved(out)[0])


def test_a_batch_is_shared_out_whole() -> None:
    items = np.arange(12)
    parts = [Processes(rank, 3).share(items) for rank in range(3)]
    assert np.concatenate(parts).tolist() == items.tolist()


def test_a_batch_that_cannot_be_shared_out_is_refused(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig
) -> None:
    trainer = prepare(alphabet, tmp_path, tiny)
    with pytest.raises(InvalidRequestError, match="8 does not divide among 3 processes"):
        Trainer(trainer.model, trainer.corpus, tiny, tmp_path, Processes(0, 3))
