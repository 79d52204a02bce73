"""Where nanochat keeps things: <base>/chatsft_checkpoints/d20/model_000700.pt, its meta_000700.json, and
<base>/tokenizer/tokenizer.pkl."""

from __future__ import annotations

import re
from pathlib import Path

from pygpt.errors import ModelFileError

# The stages of a base directory; the first that is there is taken, as nanochat's chat does.
STAGES = ("chatsft_checkpoints", "chatrl_checkpoints", "mid_checkpoints", "base_checkpoints")

_MODEL = re.compile(r"model_(\d{1,12})\.pt", re.ASCII)
_DEPTH = re.compile(r"d(\d{1,6})", re.ASCII)


def newest_model(directory: Path) -> Path | None:
    """The model that nanochat itself would choose in its base directory, in that of a stage or in that of a
    run: of the deepest run (d20 before d12) the one of most steps. None where the directory is none of these.

    Raises:
        ModelFileError: there are several runs, and none is called d<depth>.
    """
    stages = [directory / stage for stage in STAGES if (directory / stage).is_dir()]
    for stage in stages:
        if (model := newest_model(stage)) is not None:
            return model
    if stages:
        return None
    if models := _models(directory):
        return models[-1]
    # What may not be read is no run.
    runs = {each.parent.name: each.parent for each in directory.glob("*/model_*.pt") if _models(each.parent)}
    deepest = max((name for name in runs if _DEPTH.fullmatch(name)), key=_depth, default=None)
    if deepest is None and len(runs) > 1:
        names = ", ".join(sorted(runs)[:5])
        message = f"holds several runs of nanochat ({names}); name the one to export"
        raise ModelFileError(str(directory), "not_a_checkpoint", message)
    run = runs.get(deepest) if deepest else next(iter(runs.values()), None)
    return _models(run)[-1] if run else None


def meta_file(model: Path) -> Path | None:
    """The meta_000700.json beside model_000700.pt, if it is there."""
    match = _MODEL.fullmatch(model.name)
    meta = model.with_name(f"meta_{match[1]}.json") if match else None
    return meta if meta and meta.is_file() else None


def tokenizer_directory(model: Path) -> Path:
    """Where the tokenizer.pkl of a model that lies in its place is: <base>/tokenizer."""
    above = model.absolute().parents
    return above[min(2, len(above) - 1)] / "tokenizer"


def _models(directory: Path) -> list[Path]:
    """The models of a run, those of most steps last."""
    found = [(match, each) for each in directory.iterdir() if (match := _MODEL.fullmatch(each.name))]
    # A model without its meta.json is someone else's: build-nanogpt has the same names.
    return [each for _, each in sorted((int(match[1]), each) for match, each in found) if meta_file(each)]


def _depth(name: str) -> int:
    return int(name[1:])
