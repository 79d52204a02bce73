"""`pygpt train` as a process and by its flags."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
import torch

from pygpt.cli import train as command
from pygpt.cli.main import main
from pygpt.errors import InvalidRequestError
from pygpt.train import checkpoint, saved_steps
from pygpt.train.config import TrainConfig

TINY_FLAGS = [
    "--n-layers=1", "--h=2", "--d-model=16", "--context-length=8", "--batch-size=2", "--sample-length=3",
    "--threads=1", "--device=cpu",
]  # fmt: skip
PROGRAM = "import sys\nfrom pygpt.cli.main import main\nsys.exit(main())"


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    command.add_parser(parser.add_subparsers())
    return parser.parse_args(["train", *arguments])


def run(*arguments: str) -> int:
    return main(["train", *arguments, *TINY_FLAGS])


def start(*arguments: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", PROGRAM, "train", *map(str, arguments), *TINY_FLAGS]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_I9_a_signal_saves_and_ends_with_its_exit_code(
    alphabet: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    process = start(alphabet, "-o", out, "--steps=1000000", "--eval-interval=1000000", "--save-interval=50")
    while process.poll() is None and not saved_steps.saved(out):
        time.sleep(0.02)  # until the run has begun; it would go on for hours
    process.send_signal(number)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == code, shown
    assert "stopping behind this step" in shown
    assert "stopped after" in shown
    assert json.loads((out / checkpoint.TRAINING).read_text())["state"] == "stopped"
    checkpoint.load(out)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 143)])
def test_I9_a_signal_before_the_first_step_ends_at_once_with_its_exit_code(
    alphabet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    def tokenising(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    monkeypatch.setattr("pygpt.train.run.load_corpus", tokenising)
    assert run(str(alphabet), "-o", str(tmp_path / "out")) == code
    assert not (tmp_path / "out").exists()


def test_stdout_is_the_directory_and_progress_is_on_stderr(
    alphabet: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(str(alphabet), "-o", str(tmp_path / "out"), "--steps=2") == 0
    shown = capfd.readouterr()
    assert shown.out == f"{tmp_path / 'out'}\n"
    assert "validation" in shown.err


def test_quiet_and_json_leave_one_object(
    alphabet: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(str(alphabet), "-o", str(tmp_path / "out"), "--steps=2", "-q", "--json") == 0
    shown = capfd.readouterr()
    assert shown.err == ""
    assert json.loads(shown.out)["step"] == 2


def test_a_dry_run_says_what_a_run_takes_and_writes_nothing(
    alphabet: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.listdir(tmp_path))
    assert run(str(alphabet), "-o", str(tmp_path / "out"), "--dry-run", "--steps=2000") == 0
    assert sorted(os.listdir(tmp_path)) == before
    shown = capfd.readouterr().out
    assert "2,000 steps, 32,000 tokens" in shown
    assert "goes on" not in shown
    assert "minutes at" in shown
    assert "MiB" in shown


def test_a_long_run_is_told_in_hours_and_days() -> None:
    durations = [command._duration(minutes) for minutes in (0.5, 119.0, 150.0, 26351.3)]
    assert durations == ["0.5 minutes", "119.0 minutes", "2.5 hours", "18.3 days"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.txt", "-o", "{out}"], "missing.txt does not exist"),
        (["{text}"], "-o DIR"),
        (["{text}", "-o", "{text}"], "is a file"),
        (["{text}", "-o", "{out}", "--steps=0"], "steps: must be >= 1"),
        (["{text}", "-o", "{out}", "--activation=swish"], "activation: must be one of relu"),
        (["{text}", "-o", "{full}"], "is not empty"),
    ],
)
def test_wrong_arguments_end_with_2_and_one_line(
    alphabet: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    names = {"text": str(alphabet), "out": str(tmp_path / "out"), "full": str(tmp_path)}
    assert run(*(argument.format(**names) for argument in arguments)) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--init-from=x.pt", "--n-layers=2"], "n_layers: comes from the checkpoint of --init-from"),
        (["--init-from=x.pt", "--no-bias"], "bias: comes from the checkpoint"),
        (["--init-from=missing.pt"], "missing.pt: cannot be opened"),
        (["--vocab-size=300"], "vocab_size: is for --tokenizer bpe"),
        (["--accumulate=5"], "accumulate: 5 does not divide a batch_size of 12"),
        (["--tokenizer=missing.json"], "missing.json' cannot be read"),
        (["--cache={text}"], "cache: {text} is a file"),
        (["--precision=tf32", "--device=cpu"], "precision: tf32 is for NVIDIA's GPUs"),
    ],
)
def test_flags_that_cannot_be_used_are_refused_and_nothing_is_made(
    alphabet: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    flags = [flag.format(text=alphabet) for flag in flags]
    assert main(["train", str(alphabet), "-o", str(tmp_path / "out"), *flags]) in (2, 3)
    assert message.format(text=alphabet) in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_job_script_may_always_say_resume(
    alphabet: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["train", "-o", out, "--resume"]) == 2
    assert "there is no checkpoint that tells" in capfd.readouterr().err
    assert run(str(alphabet), "-o", out, "--resume", "--steps=2", "-q") == 0
    assert run(str(alphabet), "-o", out, "--resume", "--steps=4") == 0
    shown = capfd.readouterr().err
    assert "changed on resuming: steps 2 -> 4" in shown
    assert "goes on behind step 2" in shown
    assert main(["train", "-o", out, "--resume", "--steps=5", "-q"]) == 0  # all else is as it was


def test_errors_are_json_and_have_tracebacks_where_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(tmp_path / "missing.txt"), "-o", str(tmp_path / "out")]
    assert main([*words, "--json"]) == 2
    assert json.loads(capfd.readouterr().err)["error"]["code"] == "invalid_request_error"
    with pytest.raises(InvalidRequestError):
        main([*words, "--debug"])


def test_without_torch_the_way_to_install_it_is_one_line(tmp_path: Path, alphabet: Path) -> None:
    program = "import sys\nsys.modules['torch'] = None\n" + PROGRAM
    line = [sys.executable, "-c", program, "train", str(alphabet), "-o", str(tmp_path / "out")]
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "training needs torch: pip install 'pygpt[train]'\n"


def test_without_a_compiler_the_way_out_is_one_line(
    alphabet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=fail))
    assert run(str(alphabet), "-o", str(tmp_path / "out"), "--compile") == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("compile: torch cannot compile here: ")
    assert error.endswith("no compiler; leave it out")


def test_a_model_that_memory_does_not_hold_is_refused_before_it_is_made(
    alphabet: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(alphabet), "-o", str(tmp_path / "out"), "--device=cpu", "--d-model=400000"]
    assert main(arguments) == 4
    assert "MiB to be trained" in capfd.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_that_runs_out_is_exit_code_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("pygpt.train.run.train", fail)
    assert main(["train", "text.txt", "-o", str(tmp_path / "out")]) == 4
    assert "out of memory; try a smaller batch-size" in capfd.readouterr().err


def test_help_needs_no_torch() -> None:
    program = "import sys\nsys.modules['torch'] = None\n" + PROGRAM
    line = [sys.executable, "-c", program, "train", "--help"]
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "pygpt train python-docs -o" in result.stdout


def test_every_field_of_the_config_is_a_flag_of_its_type() -> None:
    given = parse("text", "--no-bias", "--max-minutes=1.5", "--threads=2", "-s", "7", "--precision=bf16")
    assert (given.bias, given.max_minutes, given.threads, given.seed) == (False, 1.5, 2, 7)
    assert given.precision == "bf16"
    for item in fields(TrainConfig):
        value = item.default if isinstance(item.default, (int, float, str)) else 1
        flag = f"--{item.name.replace('_', '-')}"
        args = parse("text", flag) if isinstance(value, bool) else parse("text", f"{flag}={value}")
        assert hasattr(args, item.name)
    assert not hasattr(parse("text"), "steps")  # so that a preset's value holds where no flag is given
