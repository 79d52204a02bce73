"""`pygpt watch`: each new checkpoint answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pygpt.cli.main import main
from pygpt.errors import ModelFileError
from pygpt.model import Model
from pygpt.tokenizer import Tokenizer
from pygpt.train import checkpoint, saved_steps
from pygpt.watch import Watcher

PROGRAM = "import sys\nfrom pygpt.cli.main import main\nsys.exit(main())"


def save(run: Path, step: int, letter: int) -> None:
    """A checkpoint of a model that answers everything with one letter."""
    model = Model(8, 16, 2, 1, 3, 0.0)
    with torch.no_grad():
        model.head.bias[letter] = 100.0
    with saved_steps.saving(run, step) as directory:
        checkpoint.save_description(directory, model.config, Tokenizer.from_characters("abc"))
        checkpoint.save_weights(directory, model, step=step)


def test_the_newest_checkpoint_is_exported_once(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path, tmp_path / "newest.pygpt")
    assert not watcher.update()
    save(tmp_path, 10, 0)
    save(tmp_path, 20, 1)
    assert watcher.update()
    assert watcher.step == 20
    assert not watcher.update()
    save(tmp_path, 30, 2)
    assert watcher.update()
    assert watcher.step == 30


def test_a_run_that_takes_the_place_of_another_is_followed(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path, tmp_path / "newest.pygpt")
    save(tmp_path, 20, 0)
    watcher.update()
    before = watcher.target.read_bytes()
    checkpoint.remove_run(tmp_path)  # train --force
    save(tmp_path, 20, 1)
    assert watcher.update()
    assert watcher.target.read_bytes() != before
    checkpoint.remove_run(tmp_path)
    save(tmp_path, 5, 2)
    assert watcher.update()
    assert watcher.step == 5


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), ModelFileError("a", "missing", "b")])
def test_a_checkpoint_that_the_run_removes_meanwhile_is_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    watcher = Watcher(tmp_path, tmp_path / "newest.pygpt")
    save(tmp_path, 10, 0)

    def removed(directory: Path) -> None:
        shutil.rmtree(directory)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(saved_steps, "verify", removed)
        assert not watcher.update()
    save(tmp_path, 20, 1)
    assert watcher.update()


def test_a_damaged_checkpoint_is_told_and_the_file_stays(tmp_path: Path) -> None:
    save(tmp_path, 10, 0)
    watcher = Watcher(tmp_path, tmp_path / "newest.pygpt")
    watcher.update()
    before = watcher.target.read_bytes()
    save(tmp_path, 20, 1)
    (saved_steps.directory_of(tmp_path, 20) / checkpoint.WEIGHTS).write_bytes(b"")
    with pytest.raises(ModelFileError, match="not what its manifest says"):
        watcher.update()
    assert watcher.target.read_bytes() == before
    assert watcher.step == 10


def test_a_chat_goes_on_with_each_new_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 10, 0)
    line = [sys.executable, "-c", PROGRAM, "watch", str(tmp_path), "-n", "4", "-t", "0"]
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        target = tmp_path / "newest.pygpt"

        def say(text: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            return process.stdout.readline()

        assert say("ab") == "aaaa\n"
        before = target.read_bytes()
        save(tmp_path, 20, 2)
        while process.poll() is None and target.read_bytes() == before:
            time.sleep(0.05)  # until it is exported
        deadline = time.monotonic() + 60
        while (answer := say("ab")) == "aaaa\n" and time.monotonic() < deadline:
            time.sleep(0.1)  # the file is there a moment before it is told
        assert answer == "cccc\n"
        process.stdin.close()
        assert process.stderr is not None
        shown = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert "step 10 answers" in shown
    assert "step 20 answers" in shown


def test_a_directory_that_is_not_there_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path / "missing")]) == 2
    assert "missing is no directory" in capfd.readouterr().err
