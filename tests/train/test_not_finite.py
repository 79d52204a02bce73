"""A loss that is not finite stops the run, or costs it a batch, or some steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pygpt.errors import NumericalError
from pygpt.train import checkpoint, not_finite, saved_steps
from pygpt.train import trainer as trainer_module
from pygpt.train.config import TrainConfig
from pygpt.train.data import window_starts
from pygpt.train.metrics import read_metrics
from pygpt.train.progress import Reporter, Step
from pygpt.train.run import prepare, train


class Noting(Reporter):
    """Remembers what it was told, and ends the run at a step, as a crash would."""

    def __init__(self, crash_at: int = -1) -> None:
        self.notes: list[str] = []
        self.crash_at = crash_at

    def noted(self, text: str) -> None:
        self.notes.append(text)

    def stepped(self, step: Step) -> None:
        if step.step == self.crash_at:
            raise Crash


class Crash(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def config(tiny: TrainConfig) -> TrainConfig:
    """Evaluations between checkpoints and beside them."""
    return replace(tiny, eval_interval=10, save_interval=15, steps=50, sample_length=0)


def failed_steps(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / checkpoint.FAILED_STEPS).read_text().splitlines()]


def outcome(run: Path) -> tuple[bytes, bytes, list[tuple[int, float]]]:
    """The best weights, the last ones, the losses."""
    last = saved_steps.saved(run)[0]
    losses = [(line["step"], line["validation_loss"]) for line in read_metrics(run)]
    return (run / checkpoint.WEIGHTS).read_bytes(), (last / checkpoint.WEIGHTS).read_bytes(), losses


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Container[int]], None]:
    """Makes the loss of these batches NaN."""
    loss = trainer_module.cross_entropy

    def spoil(batches: Container[int]) -> None:
        reading = -1

        def starts(*arguments: int) -> Any:
            nonlocal reading
            reading = arguments[-1]
            return window_starts(*arguments)

        def spoilt(*arguments: Any) -> torch.Tensor:
            return loss(*arguments) * (float("nan") if reading in batches else 1.0)

        monkeypatch.setattr(trainer_module, "window_starts", starts)
        monkeypatch.setattr(trainer_module, "cross_entropy", spoilt)

    return spoil


def run_on(batches: list[int], text: Path, out: Path, config: TrainConfig, monkeypatch: Any) -> None:
    """A run of which step i reads batches[i]."""

    def starts(*arguments: int) -> Any:
        return window_starts(*arguments[:-1], batches[arguments[-1]])

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "window_starts", starts)
        train(text, out, config)


def test_I11_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_best(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig
) -> None:
    trainer = prepare(alphabet, tmp_path / "out", replace(tiny, steps=30))

    def poison() -> bool:
        if trainer.state.step == 25:
            with torch.no_grad():
                trainer.model.ln_f.weight.fill_(float("nan"))
        return False

    with (
        checkpoint.claim(tmp_path / "out"),
        pytest.raises(
            NumericalError,
            match=r"step 25.* is nan.*step 20 are kept.*step 20 for --resume.*from tokens \d+, ",
        ),
    ):
        trainer.run(should_stop=poison)
    for directory in (tmp_path / "out", *saved_steps.saved(tmp_path / "out")):
        model, _ = checkpoint.load(directory)
        assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    failed = failed_steps(tmp_path / "out")[-1]
    starts = window_starts(len(trainer.corpus.train), 16, 8, 1, 25).tolist()
    assert (failed["step"], failed["window_starts"]) == (25, starts)


def test_I11_weights_that_turn_nan_are_never_the_best(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig
) -> None:
    config = replace(tiny, learning_rate=1e30, warmup_steps=0, steps=1)
    with pytest.raises(NumericalError, match="nothing is saved yet"):
        train(alphabet, tmp_path / "out", config)
    assert not (tmp_path / "out" / checkpoint.WEIGHTS).exists()


def test_I11_a_gradient_that_is_not_finite_changes_no_weight(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig
) -> None:
    trainer = prepare(alphabet, tmp_path, tiny)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.model.head.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NumericalError, match="gradient of step 0"):
        trainer.train_step(1e-3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())


@pytest.mark.parametrize(
    ("on_nan", "bad", "batches"),
    [
        ("skip", {0, 25, 26, 40}, [*range(1, 25), *range(27, 40), *range(41, 54)]),
        ("rollback", {17, 38}, [*range(15), *range(18, 33), *range(39, 59)]),  # to 15, to 30
    ],
)
def test_I11_the_run_goes_on_with_the_batches_behind_the_bad_one(
    alphabet: Path, tmp_path: Path, config: TrainConfig, spoil: Callable[[Container[int]], None],
    monkeypatch: pytest.MonkeyPatch, on_nan: str, bad: set[int], batches: list[int],
) -> None:  # fmt: skip
    run_on(batches, alphabet, tmp_path / "wanted", config, monkeypatch)
    spoil(bad)
    reporter = Noting()
    result = train(alphabet, tmp_path / "out", replace(config, on_nan=on_nan), reporter=reporter)
    assert result.step == 50
    assert outcome(tmp_path / "out") == outcome(tmp_path / "wanted")
    assert {line["batch"] for line in failed_steps(tmp_path / "out")} == bad
    assert len(reporter.notes) == len(bad)
    assert all("is nan; " in note for note in reporter.notes)


@pytest.mark.parametrize("on_nan", ["skip", "rollback"])
def test_I1_a_crash_after_a_bad_batch_comes_to_the_same_bits(
    alphabet: Path, tmp_path: Path, config: TrainConfig, spoil: Callable[[Container[int]], None], on_nan: str
) -> None:
    config = replace(config, on_nan=on_nan, dropout=0.2)
    spoil({17, 33, 38})
    train(alphabet, tmp_path / "whole", config)
    for step in (16, 34, 36):
        with pytest.raises(Crash):
            train(alphabet, tmp_path / "cut", config, resume=True, reporter=Noting(step))
    train(alphabet, tmp_path / "cut", config, resume=True)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_I11_better_weights_outlive_the_steps_that_were_taken_back(
    alphabet: Path, tmp_path: Path, config: TrainConfig, spoil: Callable[[Container[int]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    losses = iter([3.0, 1.0, 2.0, 2.5, 2.6, 2.7, 1.0])  # at 10, 20, back to 15, 20, ..., and in full
    monkeypatch.setattr(trainer_module, "evaluate", lambda *_, **__: next(losses))
    spoil({22})
    train(alphabet, tmp_path / "out", replace(config, on_nan="rollback", patience=10))
    assert checkpoint.kept(tmp_path / "out") == (20, 1.0)


@pytest.mark.parametrize("on_nan", ["skip", "rollback"])
def test_I11_a_run_whose_batches_all_fail_gives_up(
    alphabet: Path, tmp_path: Path, config: TrainConfig, spoil: Callable[[Container[int]], None], on_nan: str
) -> None:
    spoil(range(20, 10**9))
    reporter = Noting()
    with pytest.raises(NumericalError, match=rf"is nan.*--on-nan {on_nan} gives up: 10 failures"):
        train(alphabet, tmp_path / "out", replace(config, on_nan=on_nan), reporter=reporter)
    assert len(reporter.notes) == not_finite.MOST
    saved_steps.verify(saved_steps.saved(tmp_path / "out")[0])


def test_I11_without_a_checkpoint_there_is_no_way_back(
    alphabet: Path, tmp_path: Path, config: TrainConfig, spoil: Callable[[Container[int]], None]
) -> None:
    spoil({12})
    with pytest.raises(NumericalError, match=r"step 12.*nothing was saved yet to go back to"):
        train(alphabet, tmp_path / "out", replace(config, on_nan="rollback"))


def test_I11_a_validation_loss_that_is_not_finite_can_be_taken_back_and_not_skipped(
    alphabet: Path, tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([2.0, float("nan")] * 2 + [1.9] * 9)
    monkeypatch.setattr(trainer_module, "evaluate", lambda *_, **__: next(losses))
    with pytest.raises(NumericalError, match="the validation loss after step 20 is nan"):
        train(alphabet, tmp_path / "a", replace(config, on_nan="skip"))
    reporter = Noting()
    assert train(alphabet, tmp_path / "b", replace(config, on_nan="rollback"), reporter=reporter).step == 50
    (note,) = reporter.notes
    assert "validation loss after step 20 is nan; back at step 15" in note
    assert [line["step"] for line in read_metrics(tmp_path / "b")] == [10, 20, 30, 40, 50]
