"""What a checkpoint holds, and how a run goes on from it: on a CPU bit for bit as if it had never ended.

model.safetensors, config.json, tokenizer.json    as in the training directory, so that export reads them
optimizer.safetensors                             AdamW's two means and its count, by parameter
state.json                                        `State`, the hyper-parameters, and which text was read
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.model import Model
from pygpt.train import checkpoint, saved_steps
from pygpt.train.config import FIXED, SHAPE, TrainConfig
from pygpt.train.state import State

if TYPE_CHECKING:
    from pygpt.train.trainer import Trainer

OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Saved:
    """What state.json of a checkpoint says.

    Attributes:
        directory: the checkpoint.
        source, text_sha256: the text that the run reads.
    """

    directory: Path
    state: State
    config: TrainConfig
    source: str
    text_sha256: str


def save(trainer: Trainer) -> None:
    """Save a checkpoint of the step that the run is at, then remove older ones than it keeps.

    Raises:
        OSError: the disk is full or fails; the checkpoints that were there are untouched.
    """
    facts = {
        "state": trainer.state.to_json(),
        "config": asdict(trainer.config),
        "source": trainer.corpus.source,
        "text_sha256": trainer.corpus.text_sha256,
        "torch": torch.__version__,
    }
    with saved_steps.saving(trainer.directory, trainer.state.step) as directory:
        checkpoint.save_description(directory, trainer.model.config, trainer.corpus.tokenizer)
        checkpoint.save_weights(directory, trainer.model, step=trainer.state.step)
        checkpoint.save_tensors(directory / OPTIMIZER, _moments(trainer))
        checkpoint.write_atomically(directory / STATE, checkpoint.as_json(facts))
    saved_steps.prune(trainer.directory, trainer.config.keep_checkpoints)


def newest(run: Path) -> Saved:
    """The newest checkpoint, which is whole: `--resume=strict`. Nothing is touched.

    Raises:
        ModelFileError: it is damaged, or there is none.
    """
    found = saved_steps.saved(run)
    if not found:
        raise ModelFileError(
            str(run), "not_resumable", "holds no checkpoint; --resume, without =strict, begins the run"
        )
    try:
        saved_steps.verify(found[0])
    except ModelFileError as error:
        before = "; --resume, without =strict, takes the one before" if len(found) > 1 else ""
        raise ModelFileError(error.path, error.code, f"{error.message}{before}") from error
    return read(found[0])


def find(run: Path, noted: Callable[[str], None]) -> Saved | None:
    """The newest checkpoint that is whole; None where a run never came to save one.

    Args:
        noted: is told of a damaged checkpoint, which is set aside.

    Raises:
        ModelFileError: all are damaged, or the directory is of a pygpt that saved weights only.
    """

    def skip(directory: Path, error: ModelFileError) -> None:
        damaged.append(directory)
        noted(f"a damaged checkpoint is skipped: {error}")

    damaged: list[Path] = []
    directory = saved_steps.newest_whole(run, skip)
    if directory is not None:
        found = read(directory)
        for path in damaged:
            saved_steps.set_aside(path)
        return found
    if damaged:
        raise ModelFileError(
            str(run / saved_steps.FOLDER),
            "damaged",
            f"none of its {len(damaged)} checkpoints is whole; begin another run, from the best weights: "
            f"--init-from {run} -o OTHER",
        )
    _refuse_weights_only(run)
    return None


def read(directory: Path) -> Saved:
    """What a checkpoint says about its run.

    Raises:
        ModelFileError: state.json is of another version of pygpt.
    """
    try:
        facts = json.loads((directory / STATE).read_text("utf-8"))
        known = {item.name for item in fields(TrainConfig)}
        config = TrainConfig(**{name: value for name, value in facts["config"].items() if name in known})
        state = State.from_json(facts["state"])
        return Saved(directory, state, config, str(facts["source"]), str(facts["text_sha256"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(str(directory / STATE), "damaged", f"cannot be read: {error}") from error


def changed(config: TrainConfig, changes: Mapping[str, Any], noted: Callable[[str], None]) -> TrainConfig:
    """The hyper-parameters of a run that goes on with changes, each of which is told.

    Raises:
        InvalidRequestError: the architecture or the vocabulary would change, or a value is out of its range.
    """
    if config.init_from is not None:  # then the shape is that of the weights it began from
        changes = {name: value for name, value in changes.items() if name not in SHAPE}
    differing = {name: value for name, value in changes.items() if value != getattr(config, name)}
    for name, value in differing.items():
        before = getattr(config, name)
        if name in FIXED:
            raise InvalidRequestError(
                name,
                f"is {before!r} in the run that --resume goes on with, and cannot become {value!r}; begin "
                "another run (--init-from takes weights along)",
            )
        noted(f"changed on resuming: {name} {before} -> {value}")
    return replace(config, **differing)


def restore(saved: Saved, trainer: Trainer) -> None:
    """Put a run, whose model has the checkpoint's weights, where the checkpoint was.

    Raises:
        ModelFileError: the checkpoint does not fit the model.
    """
    model, optimizer = trainer.model, trainer.optimizer
    try:
        moments = safetensors.torch.load_file(saved.directory / OPTIMIZER)
        names = _optimized(model, optimizer)
        state = {i: _under(moments, name) for i, name in enumerate(names)}
        optimizer.load_state_dict({
            "state": {i: values for i, values in state.items() if values},
            "param_groups": optimizer.state_dict()["param_groups"],
        })  # fmt: skip
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise ModelFileError(str(saved.directory), "damaged", f"cannot be resumed: {error}") from error
    trainer.state = saved.state


def _optimized(model: Model, optimizer: torch.optim.Optimizer) -> list[str]:
    """The names of the parameters, in the optimizer's order."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _moments(trainer: Trainer) -> dict[str, Tensor]:
    named = dict(trainer.model.named_parameters())
    state = trainer.optimizer.state
    return {f"{name}/{key}": value for name, p in named.items() for key, value in state.get(p, {}).items()}


def _under(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.partition("/")[2]: value for key, value in tensors.items() if key.startswith(f"{name}/")}


def _refuse_weights_only(run: Path) -> None:
    """A directory of weights without the optimizer's state: of an older pygpt, or of something else."""
    if not (run / checkpoint.WEIGHTS).is_file() and not (run / "ckpt.pt").is_file():
        return
    try:
        ours = json.loads((run / checkpoint.TRAINING).read_text("utf-8"))["schema"] == checkpoint.SCHEMA
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise ModelFileError(
            str(run),
            "not_resumable",
            "holds weights and no checkpoint to resume from (an older pygpt saved none); begin another run "
            f"from its weights: --init-from {run} -o OTHER",
        )
