"""The original of a Hugging Face checkpoint, for its known answers: the live module, or the one that
transformers makes of the directory. Nothing is fetched, and no code that lies in the directory is run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.checkpoints import torch_file
from pygpt.checkpoints.base import Options, Source

FIRST_VERSION = 5  # of transformers, which reads rope_parameters as well as what they were called before
_SPARE = 1.5  # of memory, beside the float64 copy: what is read meanwhile, and the activations

Logits = Callable[[Sequence[int]], NDArray[np.float64]]


def original_logits(source: Source, options: Options) -> Logits | None:
    """What runs the original in float64: ids to logits [T, rows of the embedding]. None where the weights to
    be exported are not those of an original at hand: transformers is missing or old, the weights are not a
    directory of safetensors, an adapter is merged into them, or memory is short."""
    if source.module is not None:
        return torch_file.module_logits(source.module)
    directory = source.path
    if options.lora is not None or not options.run_original or directory is None:
        return None
    if not _is_whole(directory) or not _installed() or not _fits(source):
        return None
    return partial(_run, directory)


def _is_whole(directory: Path) -> bool:
    """Whether transformers reads the same weights here as we do, and no others: it would add an adapter."""
    names = ("model.safetensors", "model.safetensors.index.json")
    weights = any((directory / name).is_file() for name in names)
    has_config = (directory / "config.json").is_file()
    return weights and has_config and not (directory / "adapter_config.json").exists()


def _installed() -> bool:
    if util.find_spec("torch") is None or util.find_spec("transformers") is None:
        return False
    try:
        major = metadata.version("transformers").partition(".")[0]
    except metadata.PackageNotFoundError:
        return False
    return major.isdecimal() and int(major) >= FIRST_VERSION


def _fits(source: Source) -> bool:
    parameters = sum(math.prod(tensor.shape) for tensor in source.tensors.values())
    return parameters * 8 * _SPARE < _core.bench.available_memory()


def _run(directory: Path, ids: Sequence[int]) -> NDArray[np.float64]:
    import torch

    transformers: Any = import_module("transformers")  # whose types differ from version to version
    with _quiet():
        model, loaded = transformers.AutoModelForCausalLM.from_pretrained(
            directory,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,  # of which nothing can be run
            attn_implementation="eager",
            dtype=torch.float64,
            output_loading_info=True,
        )
    if any(loaded[kind] for kind in ("missing_keys", "mismatched_keys")):
        raise ValueError("transformers made up weights that it did not find")
    return torch_file.logits_of(model.double().eval(), ids)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and the progress bars of transformers, which export speaks instead of."""
    logging: Any = import_module("transformers.utils.logging")
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
