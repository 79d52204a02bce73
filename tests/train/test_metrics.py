"""What a run writes down; and that it never fails for want of it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pygpt.errors import MissingExtraError
from pygpt.train import checkpoint, metrics
from pygpt.train.config import TrainConfig
from pygpt.train.metrics import Metrics, read_metrics
from pygpt.train.progress import Reporter
from pygpt.train.run import train


class Noting(Reporter):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def noted(self, text: str) -> None:
        self.notes.append(text)


def test_a_run_leaves_a_picture_of_its_losses(alphabet: Path, tmp_path: Path, tiny: TrainConfig) -> None:
    train(alphabet, tmp_path / "out", tiny)
    assert (tmp_path / "out" / checkpoint.CURVE).read_bytes().startswith(b"\x89PNG")


def test_I16_metrics_that_cannot_be_written_do_not_end_the_run(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig
) -> None:
    reporter = Noting()

    class Blocking(Noting):
        """Puts a directory where the file would be."""

        def started(self, _: str) -> None:
            (tmp_path / "out" / checkpoint.METRICS).mkdir()

    reporter = Blocking()
    assert train(alphabet, tmp_path / "out", tiny, reporter=reporter).step == 60
    (note,) = reporter.notes
    assert f"{checkpoint.METRICS} cannot be written, and training goes on" in note


def test_I16_no_fault_of_a_tracker_or_of_the_picture_ends_the_run(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Down:
        """TensorBoard's writer, whose thread has died, say."""

        def add_scalar(self, *_: object) -> None:
            raise RuntimeError("the queue is closed")

        def close(self) -> None:
            raise ValueError("write to closed file")

    def fault(_: Path) -> None:
        raise KeyError("font")

    monkeypatch.setattr(metrics, "_board", lambda _: Down())
    monkeypatch.setattr(metrics, "draw_curve", fault)
    reporter = Noting()
    assert train(alphabet, tmp_path / "out", replace(tiny, tensorboard=True), reporter=reporter).step == 60
    assert [note.partition(" cannot")[0] for note in reporter.notes] == [checkpoint.BOARD, checkpoint.CURVE]
    assert len(read_metrics(tmp_path / "out")) == 3  # the lines are the truth


def test_I16_a_torn_line_is_left_out_and_lines_behind_the_step_come_again(
    tmp_path: Path, tiny: TrainConfig
) -> None:
    path = tmp_path / checkpoint.METRICS
    path.write_text('{"step": 20}\n{"step": 40}\n{"step": 6')
    assert [line["step"] for line in read_metrics(tmp_path)] == [20, 40]
    Metrics(tmp_path, tiny, Reporter(), 20).add({"step": 40, "train_loss": 1.5})
    assert path.read_text() == '{"step": 20}\n{"step": 40, "train_loss": 1.5}\n'


def test_tensorboard_that_is_not_installed_is_told_before_the_first_step(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match="pip install tensorboard"):
        train(alphabet, tmp_path / "out", replace(tiny, tensorboard=True))


def test_tensorboard_gets_every_evaluation(alphabet: Path, tmp_path: Path, tiny: TrainConfig) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    train(alphabet, tmp_path / "out", replace(tiny, tensorboard=True))
    assert list((tmp_path / "out" / checkpoint.BOARD).iterdir())
