"""The training directory: what a run leaves behind, each file written whole or not at all.

model.safetensors   the weights of the lowest validation loss, f32, named as in pygpt.model.Model
config.json         {"family": "pygpt", "pygpt_version": ..., "model": the fields of ModelConfig}
tokenizer.json      of the `tokenizers` library
training.json       hyper-parameters, how the run stands, the loss of the weights kept
metrics.jsonl       one line an evaluation; a crash may tear the last line
checkpoints/        what a run resumes from: see pygpt.train.saved_steps and pygpt.train.resume
tokens/             the tokenised text, where it is large: see pygpt.train.tokens
curve.png           losses over tokens
failed_steps.jsonl  the batches whose loss or gradient was not finite, a line each
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pygpt.atomic import replacing
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.model import Model, ModelConfig
from pygpt.tokenizer import Tokenizer
from pygpt.train import saved_steps

FAMILY = "pygpt"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TRAINING = "training.json"
METRICS = "metrics.jsonl"
CURVE = "curve.png"
FAILED_STEPS = "failed_steps.jsonl"
TOKENS = "tokens"
BOARD = "tensorboard"
SCHEMA = "pygpt.training/1"


@contextmanager
def claim(directory: Path, *, force: bool = False, resume: bool = False) -> Iterator[None]:
    """Make the directory and hold it for one run until the body or the process ends, however it ends.

    With `force` or `resume` there may be files in it, of which none is touched but what a run that was killed
    left half written.

    Raises:
        InvalidRequestError: it holds files (and neither flag is set), is no directory, or another run is
            writing it.
        OSError: it cannot be made or written.
    """
    if directory.exists() and not directory.is_dir():
        raise InvalidRequestError("output", f"{directory} is a file; name a directory")
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however it ends
        except BlockingIOError as error:
            raise InvalidRequestError("output", f"another run is writing {directory}") from error
        if not resume and not force and any(directory.iterdir()):
            raise InvalidRequestError(
                "output",
                f"{directory} is not empty; name another, replace the run in it with --force, or go on "
                "with it with --resume",
            )
        saved_steps.sweep(directory)
        yield
    finally:
        os.close(descriptor)
        if made:
            with contextlib.suppress(OSError):  # a run that failed before it wrote anything leaves nothing
                directory.rmdir()


def remove_run(directory: Path, *, keep: Path | None = None) -> None:
    """Remove what a run wrote but `keep`, and nothing else. Only who has claimed the directory may."""
    for name in (saved_steps.FOLDER, TOKENS, BOARD):
        if (directory / name).is_dir() and directory / name != keep:
            shutil.rmtree(directory / name)
    for name in (WEIGHTS, CONFIG, TOKENIZER, TRAINING, METRICS, CURVE, FAILED_STEPS):
        (directory / name).unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file by these bytes: a crash at any moment leaves the old file or the new one."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
        _sync(temporary)


def save_description(directory: Path, config: ModelConfig, tokenizer: Tokenizer) -> None:
    """Write what does not change during a run: the architecture and the tokenizer."""
    description = {"family": FAMILY, "pygpt_version": _version(), "model": asdict(config)}
    write_atomically(directory / CONFIG, as_json(description))
    write_atomically(directory / TOKENIZER, tokenizer.to_json().encode())


def save_weights(directory: Path, model: Model, *, step: int = 0, loss: float = math.inf) -> None:
    """Write the weights, with their step and validation loss in the same file, so that they never disagree.

    Those of a tied head are left out, since they are the embedding's.
    """
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if model.config.tie_weights:
        del state["head.weight"]
    # One entry: safetensors writes several in random order, and equal runs shall give equal files.
    facts = {"step": step, "validation_loss": loss if math.isfinite(loss) else None}
    with replacing(directory / WEIGHTS) as temporary:
        save_tensors(temporary, state, {"pygpt": json.dumps(facts)})
        _sync(temporary)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file.

    Raises:
        OSError: the disk is full or fails.
    """
    try:
        safetensors.torch.save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, path, metadata)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))  # how Rust shows the system's errors
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def kept(directory: Path) -> tuple[int, float] | None:
    """Step and validation loss of the weights kept; None if there are none, or they do not say."""
    try:
        with safetensors.safe_open(directory / WEIGHTS, "pt") as file:
            facts = json.loads((file.metadata() or {})["pygpt"])
        loss = facts["validation_loss"]
        return int(facts["step"]), math.inf if loss is None else float(loss)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def save_training(directory: Path, record: Mapping[str, Any]) -> None:
    """Write training.json."""
    write_atomically(directory / TRAINING, as_json({"schema": SCHEMA, **record}))


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


def as_json(value: object) -> bytes:
    """A file of JSON that people can read."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _version() -> str:
    try:
        return metadata.version("pygpt")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return "unknown"
