"""A run that ended in any way goes on, on a CPU to the same bits."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import pygpt
from pygpt.cli.main import main
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.model import Model
from pygpt.train import checkpoint, resume, saved_steps
from pygpt.train.config import TrainConfig
from pygpt.train.evaluation import evaluate
from pygpt.train.metrics import read_metrics
from pygpt.train.progress import Reporter, Step
from pygpt.train.run import prepare, train

PROGRAM = "import sys\nfrom pygpt.cli.main import main\nsys.exit(main())"


class Crash(BaseException):
    """Stands for the end of the process."""


class Crashing(Reporter):
    """Ends the run in the middle of a step, as far as the directory can tell."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.notes: list[str] = []

    def stepped(self, step: Step) -> None:
        if step.step == self.step:
            raise Crash

    def noted(self, text: str) -> None:
        self.notes.append(text)


def crash(text: Path, out: Path, config: TrainConfig, step: int, **keywords: Any) -> None:
    with pytest.raises(Crash):
        train(text, out, config, reporter=Crashing(step), **keywords)


def outcome(run: Path) -> dict[str, Any]:
    """Everything that a run comes to: the best weights, the last checkpoint, the losses."""
    newest = saved_steps.saved(run)[0]
    lines = read_metrics(run)
    for line in lines:
        del line["elapsed_s"]
    return {
        "best": (run / checkpoint.WEIGHTS).read_bytes(),
        "step": newest.name,
        "weights": (newest / checkpoint.WEIGHTS).read_bytes(),
        "optimizer": safetensors.torch.load_file(newest / resume.OPTIMIZER),
        "metrics": lines,
    }


def differences(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    """The names of what differs: the values are too long for pytest to show, or to compare line by line."""
    a, b = ({**outcome, **outcome["optimizer"]} for outcome in (one, two))
    both = [name for name in a.keys() & b.keys() if name != "optimizer"]
    same = {
        name: torch.equal(a[name], b[name]) if name in one["optimizer"] else a[name] == b[name]
        for name in both
    }
    return sorted(a.keys() ^ b.keys()) + sorted(name for name in both if not same[name])


@pytest.fixture
def config(tiny: TrainConfig) -> TrainConfig:
    """Dropout, so that its random numbers count; evaluations between checkpoints and beside them."""
    return replace(tiny, dropout=0.2, eval_interval=10, save_interval=15, steps=50)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_I1_a_run_that_crashed_comes_to_the_same_bits(
    alphabet: Path, tmp_path: Path, config: TrainConfig, accumulate: int
) -> None:
    config = replace(config, accumulate=accumulate)
    train(alphabet, tmp_path / "whole", config)
    crash(alphabet, tmp_path / "cut", config, 7)  # before anything is saved
    crash(alphabet, tmp_path / "cut", config, 29, resume=True)
    crash(alphabet, tmp_path / "cut", config, 31, resume=True)
    train(None, tmp_path / "cut", config, resume=True)
    assert differences(outcome(tmp_path / "whole"), outcome(tmp_path / "cut")) == []


def test_I1_kill_9_at_any_moment_comes_to_the_same_bits(tmp_path: Path) -> None:
    """As tools/kill_test.py does by the dozen."""
    script = Path(__file__).parents[2] / "tools" / "kill_test.py"
    line = [sys.executable, script, "--kills", "3", "--steps", "60", "--seed", "5"]
    result = subprocess.run([*map(str, line), str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 kills" in result.stdout


def test_I1_a_run_that_was_stopped_comes_to_the_same_bits(
    alphabet: Path, tmp_path: Path, config: TrainConfig
) -> None:
    train(alphabet, tmp_path / "whole", config)
    reporter = Stepping()
    stopped = train(
        alphabet, tmp_path / "cut", config, reporter=reporter, should_stop=lambda: reporter.step == 23
    )
    assert (stopped.step, stopped.stopped) == (23, True)
    checkpoint.load(tmp_path / "cut")
    train(None, tmp_path / "cut", config, resume=True)
    assert differences(outcome(tmp_path / "whole"), outcome(tmp_path / "cut")) == []


class Stepping(Reporter):
    """Knows the step."""

    step = 0

    def stepped(self, step: Step) -> None:
        self.step = step.step


def forget(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change state.json of the newest checkpoint, and its manifest with it."""
    directory = saved_steps.saved(run)[0]
    step = saved_steps.step_of(directory)
    facts = json.loads((directory / resume.STATE).read_text())
    change(facts["state"])
    files = {
        path.name: path.read_bytes() for path in directory.iterdir() if path.name != saved_steps.MANIFEST
    }
    files[resume.STATE] = json.dumps(facts).encode()
    with saved_steps.saving(run, step) as again:
        for name, data in files.items():
            (again / name).write_bytes(data)


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("step", 20), ("best_loss", None), ("waited", 0), ("loss_sum", 0.0), ("loss_count", 9),
        ("passed_over", 1),
    ],
)  # fmt: skip
def test_I6_each_item_of_the_state_matters(
    alphabet: Path,
    tmp_path: Path,
    config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    item: str,
    value: object,
) -> None:
    """The first evaluation is the best, patience runs out, the checkpoint lies between two evaluations."""

    def growth(model: Model, *_: object, **__: object) -> float:
        return model.head.weight.norm().item()  # from little to more, as the model learns

    monkeypatch.setattr("pygpt.train.trainer.evaluate", growth)
    config = replace(config, patience=3, save_interval=25)
    train(alphabet, tmp_path / "whole", config)
    whole = outcome(tmp_path / "whole")
    assert [line["step"] for line in whole["metrics"]] == [10, 20, 30, 40]
    crash(alphabet, tmp_path / "cut", config, 26)
    forget(tmp_path / "cut", lambda state: state.update({item: value}))
    train(None, tmp_path / "cut", config, resume=True)
    assert differences(whole, outcome(tmp_path / "cut"))


def test_I6_the_time_and_the_best_step_come_along(
    alphabet: Path, tmp_path: Path, config: TrainConfig
) -> None:
    """What a run limited in time, and its record, need of the state."""
    crash(alphabet, tmp_path / "cut", config, 40)
    forget(tmp_path / "cut", lambda state: state.update(elapsed_s=3600.0, best_step=7))
    reporter = Stepping()
    limited = {"max_minutes": 60.0, "steps": 10**6}
    assert train(None, tmp_path / "cut", config, resume=True, changes=limited, reporter=reporter).step == 30
    assert reporter.step == 0  # its time was over
    with pytest.raises(Crash):
        changes = {"max_minutes": 10**6}
        train(None, tmp_path / "cut", config, resume=True, changes=changes, reporter=Crashing(31))
    record = json.loads((tmp_path / "cut" / checkpoint.TRAINING).read_text())
    assert (record["best"]["step"], record["elapsed_s"]) == (7, 3600.0)


@pytest.mark.parametrize("item", ["exp_avg", "exp_avg_sq", "step"])
def test_I6_each_item_of_the_optimizer_matters(
    alphabet: Path, tmp_path: Path, config: TrainConfig, item: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(alphabet, tmp_path / "whole", config)
    crash(alphabet, tmp_path / "cut", config, 40)
    load = safetensors.torch.load_file

    def without(path: Path) -> dict[str, torch.Tensor]:
        return {
            name: torch.zeros_like(tensor) if name.endswith(f"/{item}") else tensor
            for name, tensor in load(path).items()
        }

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "load_file", without)
        train(None, tmp_path / "cut", config, resume=True)
    assert differences(outcome(tmp_path / "whole"), outcome(tmp_path / "cut"))


def test_I4_a_damaged_newest_checkpoint_is_skipped_with_a_warning(
    alphabet: Path, tmp_path: Path, config: TrainConfig
) -> None:
    train(alphabet, tmp_path / "whole", config)
    crash(alphabet, tmp_path / "cut", config, 40)
    newest = saved_steps.saved(tmp_path / "cut")[0]
    data = bytearray((newest / resume.OPTIMIZER).read_bytes())
    data[-1] ^= 1
    (newest / resume.OPTIMIZER).write_bytes(data)
    reporter = Crashing(0)
    train(None, tmp_path / "cut", config, resume=True, reporter=reporter)
    (note,) = reporter.notes
    assert "damaged checkpoint is skipped" in note
    assert f"{newest.name}/{resume.OPTIMIZER}" in note
    assert differences(outcome(tmp_path / "whole"), outcome(tmp_path / "cut")) == []


def test_I4_where_all_are_damaged_the_way_out_is_told(
    alphabet: Path, tmp_path: Path, config: TrainConfig
) -> None:
    crash(alphabet, tmp_path / "cut", config, 40)
    for directory in saved_steps.saved(tmp_path / "cut"):
        (directory / saved_steps.MANIFEST).unlink()
    with pytest.raises(ModelFileError, match=r"none of its 2 checkpoints is whole.*--init-from"):
        train(None, tmp_path / "cut", config, resume=True)


def test_I4_strict_fails_where_the_newest_is_damaged_and_touches_nothing(
    alphabet: Path, tmp_path: Path, config: TrainConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cut"
    crash(alphabet, out, config, 40)
    newest, before = saved_steps.saved(out)
    (newest / resume.OPTIMIZER).write_bytes(b"")
    assert main(["train", "--resume=strict", "-o", str(out), "-q"]) == 3
    error = capfd.readouterr().err
    assert f"{newest.name}/{resume.OPTIMIZER}: is not what its manifest says; --resume, without" in error
    assert saved_steps.saved(out) == [newest, before]
    shutil.rmtree(newest)
    assert train(None, out, config, resume="strict").step == 50
    assert main(["train", str(alphabet), "--resume=strict", "-o", str(tmp_path / "none"), "-q"]) == 3
    assert "holds no checkpoint" in capfd.readouterr().err
    assert not (tmp_path / "none").exists()


def test_I7_the_architecture_stays_and_other_changes_are_told(
    alphabet: Path, tmp_path: Path, config: TrainConfig
) -> None:
    crash(alphabet, tmp_path / "cut", config, 20)
    for name, value in (("n_layers", 2), ("context_length", 8), ("tokenizer", "bpe")):
        with pytest.raises(InvalidRequestError, match="in the run that --resume goes on with") as caught:
            train(None, tmp_path / "cut", config, resume=True, changes={name: value})
        assert caught.value.param == name
    reporter = Crashing(0)
    changes = {"steps": 60, "learning_rate": 5e-3, "h": config.h}
    result = train(None, tmp_path / "cut", config, resume=True, changes=changes, reporter=reporter)
    assert result.step == 60
    assert reporter.notes == [
        "changed on resuming: steps 50 -> 60",
        "changed on resuming: learning_rate 0.01 -> 0.005",
    ]


def test_I7_I12_another_text_is_refused_unless_forced(
    alphabet: Path, tmp_path: Path, config: TrainConfig
) -> None:
    crash(alphabet, tmp_path / "cut", config, 20)
    alphabet.write_text("abcdefghijklmnopqrstuvwxyz\n" * 50)
    with pytest.raises(InvalidRequestError, match="is not the text that the run was trained on; --force"):
        train(None, tmp_path / "cut", config, resume=True)
    assert train(None, tmp_path / "cut", config, resume=True, force=True).step == 50


def test_a_run_that_is_done_can_be_made_longer(alphabet: Path, tmp_path: Path, config: TrainConfig) -> None:
    train(alphabet, tmp_path / "out", config)
    again = train(None, tmp_path / "out", config, resume=True)
    assert again.step == 50
    assert train(None, tmp_path / "out", config, resume=True, changes={"steps": 70}).step == 70


def test_a_directory_of_an_older_pygpt_says_what_to_do(
    alphabet: Path, tmp_path: Path, config: TrainConfig
) -> None:
    """It held these files; export reads it as before."""
    train(alphabet, tmp_path / "out", config)
    old = tmp_path / "old"
    old.mkdir()
    for name in (checkpoint.WEIGHTS, checkpoint.CONFIG, checkpoint.TOKENIZER):
        (old / name).write_bytes((tmp_path / "out" / name).read_bytes())
    (old / checkpoint.TRAINING).write_text('{"state": "done", "step": 50}')
    with pytest.raises(ModelFileError, match=r"an older pygpt saved none.*--init-from"):
        train(alphabet, old, config, resume=True)
    pygpt.export(old, tmp_path / "old.pygpt")


def test_the_best_weights_that_are_lost_are_told(alphabet: Path, tmp_path: Path, config: TrainConfig) -> None:
    crash(alphabet, tmp_path / "cut", config, 20)
    (tmp_path / "cut" / checkpoint.WEIGHTS).unlink()
    reporter = Crashing(0)
    train(None, tmp_path / "cut", config, resume=True, reporter=reporter)
    assert "is lost" in reporter.notes[0]


def test_I3_a_full_disk_is_a_clear_error_and_the_checkpoint_before_is_whole(
    alphabet: Path, tmp_path: Path, tiny: TrainConfig
) -> None:
    """No file may grow beyond what the weights need: the optimizer's does."""
    out = tmp_path / "out"
    train(alphabet, out, replace(tiny, steps=5))
    weights = (out / checkpoint.WEIGHTS).stat().st_size

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (weights * 3 // 2, weights * 3 // 2))

    line = [sys.executable, "-c", PROGRAM, "train", "--resume", "-o", str(out), "--steps=50", "-q"]
    result = subprocess.run(line, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert result.returncode == 4, result.stderr
    assert "File too large" in result.stderr
    assert resume.OPTIMIZER in result.stderr
    found = saved_steps.newest_whole(out, lambda *_: None)
    assert found == saved_steps.directory_of(out, 5)
    assert not list((out / saved_steps.FOLDER).glob(".*"))
    assert train(None, out, tiny, resume=True, changes={"steps": 10}).step == 10


def test_I13_a_second_trainer_refuses_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    out = tmp_path / "out"
    hold = (
        "import os, sys, time\nfrom pathlib import Path\nfrom pygpt.train import checkpoint\n"
        "with checkpoint.claim(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    line = [sys.executable, "-c", hold, str(out)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(InvalidRequestError, match="another run is writing"), checkpoint.claim(out):
            pass
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with checkpoint.claim(out):
            pass


def test_I14_a_directory_behind_a_link_is_the_directory(
    alphabet: Path, tmp_path: Path, config: TrainConfig
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    crash(alphabet, tmp_path / "link", config, 20)
    with (
        checkpoint.claim(tmp_path / "real", resume=True),
        pytest.raises(InvalidRequestError, match="another run"),  # by whichever name
    ):
        train(None, tmp_path / "link", config, resume=True)
    assert train(None, tmp_path / "real", config, resume=True).step == 50
    assert (tmp_path / "link").is_symlink()


def test_I14_a_directory_that_cannot_be_written_is_told_before_the_text_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["train", "missing.txt", "-o", str(tmp_path / "out")]) == 1
    error = capfd.readouterr().err
    assert "Read-only file system" in error
    assert str(tmp_path / "out") in error
    assert error.count("\n") == 1


def test_I17_a_compiled_model_goes_on_to_the_same_bits(
    alphabet: Path, tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backend that needs no compiler."""
    compiled = partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", compiled)
    config = replace(config, compile=True, accumulate=2)
    train(alphabet, tmp_path / "whole", config)
    crash(alphabet, tmp_path / "cut", config, 31)
    train(None, tmp_path / "cut", config, resume=True)
    assert differences(outcome(tmp_path / "whole"), outcome(tmp_path / "cut")) == []
    pygpt.export(tmp_path / "cut", tmp_path / "model.pygpt")  # its names are not the wrapper's


def test_I17_bf16_goes_on_to_the_same_bits(alphabet: Path, tmp_path: Path, config: TrainConfig) -> None:
    config = replace(config, precision="bf16", accumulate=2)
    train(alphabet, tmp_path / "whole", config)
    crash(alphabet, tmp_path / "cut", config, 31)
    train(None, tmp_path / "cut", config, resume=True)
    assert differences(outcome(tmp_path / "whole"), outcome(tmp_path / "cut")) == []


def test_I18_the_engine_has_the_loss_of_the_checkpoint_and_of_the_run(
    alphabet: Path, tmp_path: Path, config: TrainConfig
) -> None:
    result = train(alphabet, tmp_path / "out", config)
    corpus = prepare(alphabet, tmp_path, config).corpus
    window = config.context_length
    for source in (tmp_path / "out", saved_steps.saved(tmp_path / "out")[0]):
        path = pygpt.export(source, tmp_path / "model.pygpt", dtype="f32")
        model, _ = checkpoint.load(source)
        ids = np.asarray(corpus.validation, np.int64)
        with pygpt.Engine(path) as engine:
            losses = []
            for first in range(0, len(ids) - window, window):
                logits = engine.logits(ids[first : first + window].tolist()).astype(np.float64)
                shifted = logits - logits.max(-1, keepdims=True)
                logp = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
                losses.append(-logp[np.arange(window), ids[first + 1 : first + window + 1]].mean())
        expected = evaluate(model, corpus.validation, window)
        assert np.mean(losses) == pytest.approx(expected, abs=1e-5)
        if source == tmp_path / "out":
            assert expected == pytest.approx(result.validation_loss, abs=1e-6)
