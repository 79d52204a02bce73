"""LoRA adapters of PEFT, merged into the weights that they were trained on: W + (alpha / r) B A.

Hu et al. 2021, arXiv:2106.09685; with rank-stabilised scaling alpha / sqrt(r): Kalajdzievski 2023,
arXiv:2312.03732. The files: https://huggingface.co/docs/peft/developer_guides/checkpoint.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pygpt.checkpoints.base import READABLE, Array, Source, StoredTensor
from pygpt.checkpoints.canonical import shorten
from pygpt.checkpoints.loading import load, read_json
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.kinds import shown

_KEY = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight")
_MERGED = "lora"  # begins the identity of a tensor that an adapter has changed
_EMBEDDINGS = ("model.embed_tokens.weight", "transformer.wte.weight", "wte.weight")
_FILES = ("adapter_model.safetensors", "adapter_model.bin")

# Fields of adapter_config.json that change what an adapter computes, each with the values that do not.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, []),
    "alora_invocation_tokens": (None, []),
    "arrow_config": (None,),
    # PiSSA, OLoRA, CorDA and LoftQ change the weights that the adapter is added to.
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
}


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two factors of a module: A [r, in], B [out, r]."""

    module: str
    a: StoredTensor
    b: StoredTensor


def merged(source: Source, adapter: str | os.PathLike[str]) -> Source:
    """The checkpoint with the adapter's changes added, each tensor when it is read, in float64.

    Args:
        adapter: the directory of adapter_config.json and adapter_model.safetensors (or .bin).

    Raises:
        ModelFileError: the adapter is missing, damaged, of a kind that is not merged, or of another model.
        InvalidRequestError: the source is a live module.
    """
    if source.module is not None:
        message = "is merged into checkpoints; a live module merges its own: model.merge_and_unload()"
        raise InvalidRequestError("lora", message)
    directory = Path(adapter)
    config_file = directory / "adapter_config.json"
    if not config_file.is_file():
        raise ModelFileError(str(directory), "missing", "holds no adapter_config.json: is it a PEFT adapter?")
    config = read_json(config_file)
    _check(config_file, config)
    weights = next((directory / name for name in _FILES if (directory / name).is_file()), None)
    if weights is None:
        raise ModelFileError(str(directory), "missing", f"holds neither {' nor '.join(_FILES)}")
    tensors = dict(source.tensors)
    for pair in _pairs(load(weights), config):
        name, base = _base(source, weights, pair.module)
        tensors[name] = _changed(base, pair, config, weights)
    return replace(source, tensors=tensors, files=(*source.files, config_file, weights))


def _check(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse by name what computes something else than plain LoRA."""
    for key, plain in _PLAIN.items():
        value = config.get(key, plain[0])
        if not any(value == each and type(value) is type(each) for each in plain):
            message = f"{key} is {shown(value)}: not plain LoRA; merge it with PEFT's merge_and_unload"
            raise ModelFileError(str(path), "unsupported_adapter", message, key)
    for key in ("r", "lora_alpha"):
        if not _is_size(config.get(key)):
            raise ModelFileError(str(path), "damaged", f"{key} is {shown(config.get(key))}", key)
    for key in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(key) or {}
        usable = isinstance(patterns, dict) and all(
            re.fullmatch(r"[\w.]+", module) and _is_size(value) for module, value in patterns.items()
        )
        if not usable:
            message = f"{key} is {shown(patterns)}; plain names of modules with numbers are read"
            raise ModelFileError(str(path), "unsupported_adapter", message, key)


def is_changed(tensor: StoredTensor | None) -> bool:
    """Whether an adapter was merged into it."""
    return tensor is not None and isinstance(tensor.identity, tuple) and tensor.identity[:1] == (_MERGED,)


def _is_size(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6


def _pairs(adapter: Source, config: Mapping[str, Any]) -> list[_Pair]:
    """The factors of every module, which must be whole and be the modules that the config names."""
    halves: dict[str, dict[str, StoredTensor]] = {}
    strange = []
    for name, tensor in adapter.tensors.items():
        match = _KEY.fullmatch(name) if tensor.dtype in READABLE else None
        if match is None:
            strange.append(name)
        else:
            halves.setdefault(match[1], {})[match[2]] = tensor
    if strange:
        message = f"has tensors that are no lora_A or lora_B of a layer in floats: {shorten(sorted(strange))}"
        raise adapter.error("unsupported_adapter", message)
    broken = [module for module, parts in sorted(halves.items()) if len(parts) != 2]
    if broken:
        raise adapter.error("missing_tensors", f"lora_A or lora_B is missing of {shorten(broken)}")
    targets = config.get("target_modules")
    if isinstance(targets, list):
        unused = [each for each in targets if not any(_is_named(module, str(each)) for module in halves)]
        if unused:
            raise adapter.error("missing_tensors", f"holds nothing for the target_modules {shorten(unused)}")
    return [_Pair(module, parts["A"], parts["B"]) for module, parts in sorted(halves.items())]


def _is_named(module: str, name: str) -> bool:
    """Whether a module's path ends with the name, as PEFT compares them."""
    return module == name or module.endswith(f".{name}")


def _base(source: Source, adapter: Path, module: str) -> tuple[str, StoredTensor]:
    """The tensor that a module's factors change, by its name; GPT-2's files may lack `transformer.` in front,
    and files of tied models the head, which then is the embedding."""
    for name in (f"{module}.weight", f"{module.removeprefix('transformer.')}.weight"):
        if name in source.tensors:
            return name, source.tensors[name]
    if module == "lm_head":
        for embedding in _EMBEDDINGS:
            if embedding in source.tensors:
                return f"{module}.weight", source.tensors[embedding]
    message = f"changes {module}.weight, which {source.name} does not have: it is an adapter of another model"
    raise ModelFileError(str(adapter), "missing_tensors", message, module)


def _changed(base: StoredTensor, pair: _Pair, config: Mapping[str, Any], path: Path) -> StoredTensor:
    """The base tensor plus scale B A; with fan_in_fan_out it is stored as [in, out]."""
    rank, shapes = pair.a.shape[0] if pair.a.shape else 0, (pair.a.shape, pair.b.shape)
    turned = bool(config.get("fan_in_fan_out"))
    outputs, inputs = (base.shape[::-1] if turned else base.shape) if len(base.shape) == 2 else (0, 0)
    if rank < 1 or shapes != ((rank, inputs), (outputs, rank)):
        message = (
            f"lora_A {list(shapes[0])} and lora_B {list(shapes[1])} do not fit {list(base.shape)} of "
            f"{pair.module}" + (" (fan_in_fan_out)" if turned else "")
        )
        raise ModelFileError(str(path), "wrong_shape", message, pair.module)
    expected = _by_pattern(config, "rank_pattern", pair.module, config["r"])
    if rank != expected:
        message = f"lora_A has rank {rank}, but adapter_config.json says {expected}"
        raise ModelFileError(str(path), "contradiction", message, pair.module)
    alpha = float(_by_pattern(config, "alpha_pattern", pair.module, config["lora_alpha"]))
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)

    def read() -> Array:
        change = scale * (pair.b.read().astype(np.float64) @ pair.a.read().astype(np.float64))
        total: Array = (base.read() + (change.T if turned else change)).astype(np.float32)
        return total

    return replace(base, read=read, identity=(_MERGED, pair.module, base.identity))


def _by_pattern(config: Mapping[str, Any], key: str, module: str, default: float) -> float:
    """The value of the first pattern that is the module's name or the end of it."""
    patterns: Mapping[str, float] = config.get(key) or {}
    return next((value for name, value in patterns.items() if _is_named(module, name)), default)
