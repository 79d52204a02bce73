"""Checkpoints are whole or invisible, whatever happens and whenever."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pygpt.errors import ModelFileError
from pygpt.train import saved_steps


def save(run: Path, step: int, content: bytes = b"weights") -> Path:
    with saved_steps.saving(run, step) as directory:
        (directory / "a").write_bytes(content)
        (directory / "b").write_bytes(content * 2)
    return saved_steps.directory_of(run, step)


def newest(run: Path) -> int | None:
    found = saved_steps.newest_whole(run, lambda *_: None)
    return None if found is None else saved_steps.step_of(found)


class Killed(BaseException):
    """Stands for kill -9: no handler of the code under test catches it, and none may clean up."""


def kill_at(count: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make the count-th call that changes the disk the last; a list of those made."""
    made: list[str] = []

    def watched(module: object, name: str) -> None:
        original: Callable[..., object] = getattr(module, name)

        def call(*arguments: object, **keywords: object) -> object:
            if len(made) >= count:
                raise Killed
            made.append(name)
            return original(*arguments, **keywords)

        monkeypatch.setattr(module, name, call)

    for name in ("mkdir", "rename", "fsync", "rmdir", "unlink"):
        watched(os, name)
    watched(shutil, "rmtree")
    return made


def test_I2_a_kill_between_any_two_changes_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = False
    count = 0
    while not ended:
        run = tmp_path / str(count)
        run.mkdir()
        save(run, 10)
        save(run, 20)
        with monkeypatch.context() as patch:
            made = kill_at(count, patch)
            try:
                save(run, 30, b"newer")
                saved_steps.prune(run, 1)
                ended = True
            except Killed:
                pass
        assert newest(run) in (20, 30), made
        saved_steps.sweep(run)
        for directory in saved_steps.saved(run):
            saved_steps.verify(directory)  # nothing visible is half there
        save(run, 40)
        assert newest(run) == 40
        count += 1
    assert count > 10  # it was really cut at many places


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "empty manifest", "other step"])
def test_I4_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 10)
    bad = save(tmp_path, 20)
    if damage == "flip":
        (bad / "b").write_bytes(b"weightsweightt")
    elif damage == "truncate":
        (bad / "b").write_bytes(b"weights")
    elif damage == "missing":
        (bad / "b").unlink()
    elif damage == "empty manifest":
        (bad / saved_steps.MANIFEST).write_bytes(b"")
    else:
        shutil.rmtree(bad)
        shutil.copytree(saved_steps.directory_of(tmp_path, 10), bad)
    told: list[tuple[Path, ModelFileError]] = []
    found = saved_steps.newest_whole(tmp_path, lambda path, error: told.append((path, error)))
    assert found == saved_steps.directory_of(tmp_path, 10)
    ((path, error),) = told
    assert path == bad
    assert error.code in ("damaged", "missing")
    assert error.path.startswith(str(bad))


def test_I5_nothing_is_pruned_before_the_newest_is_known_to_be_whole(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step)
    (saved_steps.directory_of(tmp_path, 30) / "a").write_bytes(b"damaged")
    with pytest.raises(ModelFileError):
        saved_steps.prune(tmp_path, 1)
    assert len(saved_steps.saved(tmp_path)) == 3
    save(tmp_path, 30)  # takes the place of the damaged one
    saved_steps.prune(tmp_path, 2)
    assert [saved_steps.step_of(path) for path in saved_steps.saved(tmp_path)] == [30, 20]
    saved_steps.prune(tmp_path, 1)
    assert newest(tmp_path) == 30


def test_I3_a_write_that_fails_leaves_the_checkpoints_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 10)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 20)
    assert newest(tmp_path) == 10
    assert os.listdir(tmp_path / saved_steps.FOLDER) == ["step_00000010"]  # no leftovers fill the disk


def test_I15_the_newest_is_the_one_of_the_highest_step_whatever_the_clock_says(tmp_path: Path) -> None:
    for step, time_s in ((9, 3e9), (100_000_000, 1.0), (20, 2e9)):
        os.utime(save(tmp_path, step), (time_s, time_s))
    assert newest(tmp_path) == 100_000_000


def test_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    save(tmp_path, 10)
    saved_steps.set_aside(save(tmp_path, 20))
    for name in ("step_7", "step_00000030.old", ".tmp-step_00000040-ab", "notes"):
        (tmp_path / saved_steps.FOLDER / name).mkdir()
    assert newest(tmp_path) == 10
    saved_steps.sweep(tmp_path)
    assert not (tmp_path / saved_steps.FOLDER / ".tmp-step_00000040-ab").exists()
    assert (tmp_path / saved_steps.FOLDER / "notes").exists()
