"""The loop: it learns, keeps the best, repeats itself, stops for NaN and when asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from pygpt.errors import InvalidRequestError
from pygpt.model import Model
from pygpt.train import checkpoint
from pygpt.train.config import TrainConfig
from pygpt.train.data import load_text, split
from pygpt.train.evaluation import evaluate
from pygpt.train.optimizer import check_precision, choose_device, make_optimizer
from pygpt.train.progress import Evaluation, Reporter, Step
from pygpt.train.run import prepare, train


class Recorder(Reporter):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.evaluations: list[Evaluation] = []
        self.samples: list[str] = []
        self.steps = 0

    def stepped(self, step: Step) -> None:
        self.steps = step.step

    def evaluated(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)

    def sampled(self, text: str) -> None:
        self.samples.append(text)


def test_it_learns_a_certain_text(alphabet: Path, tmp_path: Path, tiny: TrainConfig) -> None:
    recorder = Recorder()
    result = train(alphabet, tmp_path / "out", tiny, reporter=recorder)
    assert result.validation_loss < 0.1  # from ln 27 = 3.3
    assert (result.step, result.stopped) == (60, False)
    assert [evaluation.step for evaluation in recorder.evaluations] == [20, 40, 60]
    assert [len(sample) for sample in recorder.samples] == [6, 6, 6]
    model, tokenizer = checkpoint.load(tmp_path / "out")
    ids = model.generate(torch.tensor([tokenizer.encode("abc")]), 10, temperature=0)
    assert tokenizer.decode(ids[0].tolist()) == "abcdefghijklm"


def test_what_is_kept_has_the_loss_that_is_reported(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig
) -> None:
    result = train(alphabet, tmp_path / "out", replace(tiny, steps=25))
    model, tokenizer = checkpoint.load(tmp_path / "out")
    _, validation = split(torch.tensor(tokenizer.encode(load_text(alphabet))), 16)
    assert evaluate(model, validation, 16) == pytest.approx(result.validation_loss, rel=1e-6)
    record = json.loads((tmp_path / "out" / checkpoint.TRAINING).read_text())
    assert record["state"] == "done"
    assert record["best"]["validation_loss"] == result.validation_loss
    lines = (tmp_path / "out" / checkpoint.METRICS).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [20, 25]


def test_the_same_seed_gives_the_same_weights(alphabet: Path, tmp_path: Path, tiny: TrainConfig) -> None:
    config = replace(tiny, steps=12, dropout=0.2)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(alphabet, tmp_path / name, replace(config, seed=seed))
    a, b, c = ((tmp_path / name / checkpoint.WEIGHTS).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_the_best_weights_are_kept_when_later_ones_are_worse(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig
) -> None:
    trainer = prepare(alphabet, tmp_path / "out", replace(tiny, eval_interval=30))
    recorder = Recorder()
    rates = iter([1e-2] * 30 + [3.0] * 30)  # good steps, then ruinous ones
    step = trainer.train_step
    trainer.train_step = lambda _rate: step(next(rates))  # type: ignore[method-assign]
    with checkpoint.claim(tmp_path / "out"):
        result = trainer.run(recorder)
    good, bad = recorder.evaluations
    assert bad.validation_loss > good.validation_loss
    assert (good.best, bad.best) == (True, False)
    assert result.validation_loss == pytest.approx(good.validation_loss, rel=1e-6)


def test_a_run_ends_annealed_when_its_time_is_over(alphabet: Path, tmp_path: Path, tiny: TrainConfig) -> None:
    config = replace(tiny, steps=10**9, max_minutes=0.02, eval_interval=10**9)
    result = train(alphabet, tmp_path / "out", config)
    assert 1 <= result.step < 10**6
    assert not result.stopped
    (line,) = (tmp_path / "out" / checkpoint.METRICS).read_text().splitlines()
    assert json.loads(line)["learning_rate"] < 5e-3


def test_patience_ends_a_run_that_no_longer_improves(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig
) -> None:
    config = replace(tiny, steps=1000, eval_interval=5, patience=2, learning_rate=1e-9, weight_decay=0.0)
    recorder = Recorder()
    result = train(alphabet, tmp_path / "out", config, reporter=recorder)
    assert [evaluation.best for evaluation in recorder.evaluations[-3:]] == [True, False, False]
    assert result.step == 5 * len(recorder.evaluations) < 1000
    assert not result.stopped


def test_the_parts_of_a_batch_add_up_to_the_whole(alphabet: Path, tmp_path: Path, tiny: TrainConfig) -> None:
    whole = train(alphabet, tmp_path / "a", replace(tiny, steps=20))
    parts = train(alphabet, tmp_path / "b", replace(tiny, steps=20, accumulate=4))
    assert parts.validation_loss == pytest.approx(whole.validation_loss, rel=1e-4)
    with pytest.raises(InvalidRequestError, match="3 does not divide"):
        replace(tiny, accumulate=3)


def test_a_request_to_stop_saves_what_was_learnt(alphabet: Path, tmp_path: Path, tiny: TrainConfig) -> None:
    recorder = Recorder()
    result = train(
        alphabet, tmp_path / "out", tiny, reporter=recorder, should_stop=lambda: recorder.steps >= 7
    )
    assert (result.step, result.stopped) == (7, True)
    assert json.loads((tmp_path / "out" / checkpoint.TRAINING).read_text())["state"] == "stopped"
    checkpoint.load(tmp_path / "out")


def test_bf16_arithmetic_keeps_the_weights_f32_and_learns(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig
) -> None:
    result = train(alphabet, tmp_path / "out", replace(tiny, precision="bf16"))
    assert result.validation_loss < 0.5
    model, _ = checkpoint.load(tmp_path / "out")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_python_docs_can_be_learnt_from(tmp_path: Path, tiny: TrainConfig) -> None:
    result = train("python-docs", tmp_path / "out", replace(tiny, steps=30, eval_windows=20))
    assert result.validation_loss < 4.0  # from ln 103 = 4.6


def test_only_matrices_decay() -> None:
    model = Model(n_layers=1, d_model=16, h=2)
    optimizer = make_optimizer(model, TrainConfig(weight_decay=0.3))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (0.3 if name.endswith("weight") and "ln_" not in name else 0.0), name


def test_evaluation_is_the_mean_over_full_windows() -> None:
    torch.manual_seed(0)
    model = Model(5, 16, 2, 1, 7, 0.5).double().train()
    ids = torch.randint(7, (23,))  # four windows of 5 and their successors; two tokens are left out
    model.eval()
    losses = [
        cross_entropy(model(ids[None, i : i + 5])[0], ids[i + 1 : i + 6], reduction="none")
        for i in (0, 5, 10, 15)
    ]
    model.train()
    assert evaluate(model, ids, 5) == pytest.approx(torch.cat(losses).mean().item())
    assert evaluate(model, ids, 5, windows=2) == pytest.approx(
        torch.cat([losses[0], losses[2]]).mean().item()
    )
    assert model.training
    with pytest.raises(InvalidRequestError, match="too few"):
        evaluate(model, ids[:5], 5)


def test_a_precision_that_the_device_lacks_is_refused_before_the_text_is_read(
    tmp_path: Path, tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidRequestError, match="tf32 is for NVIDIA's GPUs") as caught:
        train("missing.txt", tmp_path / "out", replace(tiny, precision="tf32"))
    assert caught.value.param == "precision"
    old_gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    for precision in ("tf32", "bf16"):
        with pytest.raises(InvalidRequestError):
            check_precision(precision, old_gpu)
    check_precision("f32", old_gpu)


def test_a_device_that_is_not_here_is_refused() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(InvalidRequestError, match=r"'abacus'.*try 'cpu'"):
        choose_device("abacus")
