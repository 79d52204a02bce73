"""The training directory: whole files, no overwriting, errors that name what is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.model import Model
from pygpt.tokenizer import Tokenizer
from pygpt.train import checkpoint


def save(directory: Path, *, tie_weights: bool = False) -> Model:
    torch.manual_seed(0)
    model = Model(8, 16, 2, 1, 3, tie_weights=tie_weights)
    checkpoint.save_description(directory, model.config, Tokenizer.from_characters("abc"))
    checkpoint.save_weights(directory, model)
    return model


@pytest.mark.parametrize("tie_weights", [False, True])
def test_what_is_saved_comes_back(tmp_path: Path, tie_weights: bool) -> None:
    model = save(tmp_path, tie_weights=tie_weights)
    again, tokenizer = checkpoint.load(tmp_path)
    assert again.config == model.config
    assert not again.training
    assert tokenizer.encode("cab") == [2, 0, 1]
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_the_config_names_its_family_and_every_field(tmp_path: Path) -> None:
    save(tmp_path)
    description = json.loads((tmp_path / checkpoint.CONFIG).read_text())
    assert description["family"] == "pygpt"
    assert description["model"] == {
        "context_length": 8, "d_model": 16, "h": 2, "n_layers": 1, "n_vocab": 3, "dropout": 0.2,
        "activation": "relu", "bias": True, "tie_weights": False,
    }  # fmt: skip


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    file = tmp_path / "file"
    checkpoint.write_atomically(file, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_old_file_is_whole_until_the_new_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    checkpoint.write_atomically(file, b"old")
    seen = []
    replace = os.replace

    def watch(source: Path, target: Path) -> None:
        seen.append((Path(target).read_bytes(), Path(source).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    checkpoint.write_atomically(file, b"new")
    assert seen == [(b"old", b"new")]
    assert file.read_bytes() == b"new"


def test_a_directory_with_files_is_refused_without_force(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidRequestError, match=r"is not empty.*--force"), checkpoint.claim(tmp_path):
        pass
    checkpoint.load(tmp_path)  # untouched
    with checkpoint.claim(tmp_path, force=True):
        checkpoint.remove_run(tmp_path)
        assert os.listdir(tmp_path) == ["notes.txt"]  # the run is gone, what is not ours stays


def test_a_directory_is_made_with_its_parents_and_may_be_empty(tmp_path: Path) -> None:
    for _ in range(2):
        with checkpoint.claim(tmp_path / "a" / "b"):
            assert (tmp_path / "a" / "b").is_dir()


def test_a_directory_that_was_made_for_nothing_goes_again(tmp_path: Path) -> None:
    with checkpoint.claim(tmp_path / "a"):
        assert (tmp_path / "a").is_dir()
    assert not (tmp_path / "a").exists()


def test_I13_two_runs_never_share_a_directory(tmp_path: Path) -> None:
    with (
        checkpoint.claim(tmp_path),
        pytest.raises(InvalidRequestError, match="another run"),
        checkpoint.claim(tmp_path, force=True),
    ):
        pass


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequestError, match="is a file"), checkpoint.claim(tmp_path / "file"):
        pass


@pytest.mark.parametrize("name", [checkpoint.CONFIG, checkpoint.TOKENIZER, checkpoint.WEIGHTS])
def test_a_missing_or_damaged_file_is_a_model_file_error(tmp_path: Path, name: str) -> None:
    save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError) as caught:
        checkpoint.load(tmp_path)
    assert caught.value.code == "damaged"
    (tmp_path / name).unlink()
    with pytest.raises(ModelFileError, match=name) as caught:
        checkpoint.load(tmp_path)
    assert caught.value.code == "missing"
