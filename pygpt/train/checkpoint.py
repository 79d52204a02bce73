"""The training directory: what a run leaves behind, each file written whole or not at all.

model.safetensors   the weights of the lowest validation loss, f32, named as in pygpt.model.Model
config.json         {"family": "pygpt", "pygpt_version": ..., "model": the fields of ModelConfig}
tokenizer.json      of the `tokenizers` library
training.json       hyper-parameters, how the run stands, the loss of the weights kept
metrics.jsonl       one line an evaluation; a crash may tear the last line
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from pygpt.atomic import replacing
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.model import Model, ModelConfig
from pygpt.tokenizer import Tokenizer

FAMILY = "pygpt"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TRAINING = "training.json"
METRICS = "metrics.jsonl"


@contextmanager
def claim(directory: Path, *, force: bool = False) -> Iterator[None]:
    """Make the directory and hold it for one new run; with `force`, a run that is in it is removed first.

    Raises:
        InvalidRequestError: it holds files (and not force), is no directory, or another run is writing it.
        OSError: it cannot be made or written.
    """
    if directory.exists() and not directory.is_dir():
        raise InvalidRequestError("output", f"{directory} is a file; name a directory")
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however it ends
        except BlockingIOError as error:
            raise InvalidRequestError("output", f"another run is writing {directory}") from error
        if any(directory.iterdir()) and not force:
            raise InvalidRequestError(
                "output", f"{directory} is not empty; name another, or replace the run in it with --force"
            )
        for name in (WEIGHTS, CONFIG, TOKENIZER, TRAINING, METRICS):
            (directory / name).unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file by these bytes: a crash at any moment leaves the old file or the new one."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def save_description(directory: Path, config: ModelConfig, tokenizer: Tokenizer) -> None:
    """Write what does not change during a run: the architecture and the tokenizer."""
    description = {"family": FAMILY, "pygpt_version": _version(), "model": asdict(config)}
    write_atomically(directory / CONFIG, _json(description))
    write_atomically(directory / TOKENIZER, tokenizer.to_json().encode())


def save_weights(directory: Path, model: Model) -> None:
    """Write the weights; those of a tied head are left out, since they are the embedding's."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_weights:
        del state["head.weight"]
    write_atomically(directory / WEIGHTS, safetensors.torch.save(state, {"format": "pt"}))


def save_training(directory: Path, record: Mapping[str, Any]) -> None:
    """Write training.json."""
    write_atomically(directory / TRAINING, _json(record))


def load(directory: Path) -> tuple[Model, Tokenizer]:
    """The model of a training directory, on the CPU and in evaluation mode, and its tokenizer.

    Raises:
        ModelFileError: a file is missing or damaged, or the weights do not fit the architecture.
    """
    for name in (CONFIG, TOKENIZER, WEIGHTS):
        if not (directory / name).is_file():
            raise ModelFileError(str(directory / name), "missing", "is not there; was the run ever saved?")
    try:
        description = json.loads((directory / CONFIG).read_text("utf-8"))
        model = Model.from_config(ModelConfig(**description["model"]))
        tokenizer = Tokenizer.from_json((directory / TOKENIZER).read_text("utf-8"))
        state = safetensors.torch.load_file(directory / WEIGHTS)
        if model.config.tie_weights:
            state["head.weight"] = state["wte.weight"]
        model.load_state_dict(state)
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(str(directory), "damaged", f"cannot be loaded: {error}") from error
    return model.eval(), tokenizer


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _version() -> str:
    try:
        return metadata.version("pygpt")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return "unknown"
