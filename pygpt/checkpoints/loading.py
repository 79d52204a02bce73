"""From a path, a state_dict or a module to a `Source`. Nothing is executed, and read only when asked for."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pygpt.checkpoints import llama2c_file, llmc_file, nanochat_files, torch_file
from pygpt.checkpoints.base import Source, StoredTensor
from pygpt.checkpoints.safetensors_file import read_safetensors
from pygpt.errors import InvalidRequestError, ModelFileError

WRAPPERS = ("model", "state_dict", "model_state_dict")
MAX_CONFIG_BYTES = 16 << 20

# Files that people pass by mistake, by their first bytes.
_FOREIGN = (
    (b"pygpt ", "is a pygpt model file already: run it with gpt-chat, look into it with `pygpt inspect`"),
    (b"GGUF", "is a GGUF file; export the PyTorch checkpoint that it was made from"),
    (b"version https://git-lfs", "is a git-lfs pointer, not the file itself: run `git lfs pull`"),
    (b"<", "is a web page, not a checkpoint: the download went wrong"),
)


def load(source: object) -> Source:
    """Open a checkpoint: a path of a .pt, .pth or .safetensors file or of a directory, a state_dict, a torch
    module.

    Raises:
        ModelFileError: there is no such file, it is not a checkpoint, or loading it would run code.
        InvalidRequestError: `source` is none of these.
    """
    if isinstance(source, str | os.PathLike):
        return _load_path(Path(source))
    if isinstance(source, Mapping):
        return _from_mapping("state_dict", source, None)
    if hasattr(source, "state_dict"):
        module = torch_file.unwrap_module(source)
        tensors = _tensors("module", module.state_dict())
        return Source(f"{type(module).__name__} module", tensors, module=module)
    raise InvalidRequestError(
        "source", f"must be a path, a state_dict or a torch module, not {type(source).__name__}"
    )


def _load_path(path: Path) -> Source:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ModelFileError(str(path), "missing", f"cannot be opened: {error}") from error
    if stat.S_ISDIR(mode):
        return _load_directory(path)
    if not stat.S_ISREG(mode):
        raise ModelFileError(str(path), "not_a_file", "is neither a file nor a directory")
    with path.open("rb") as file:
        start = file.read(64)
    begins_as_safetensors = start[8:9] == b"{"  # after the header's length in eight bytes
    for magic, what in _FOREIGN:
        if start.startswith(magic) and not begins_as_safetensors:
            raise ModelFileError(str(path), "not_a_checkpoint", what)
    if start.startswith(llama2c_file.MAGIC) or llama2c_file.is_first_version(path, start):
        return llama2c_file.load(path)
    if start.startswith(llmc_file.MAGIC):
        return llmc_file.load(path)
    if begins_as_safetensors or path.suffix == ".safetensors":
        tensors = _strip(str(path), read_safetensors(path))
        files = (path, path.parent / "config.json")
        return Source(str(path), tensors, path, _sibling_config(path), files=files)
    opened = _from_mapping(str(path), torch_file.load(path), path)
    if path.suffix == ".bin":  # Hugging Face's, before safetensors
        return replace(opened, extras=_sibling_config(path), files=(path, path.parent / "config.json"))
    if (meta := nanochat_files.meta_file(path)) is None:
        return replace(opened, files=(path,))
    return replace(opened, files=(path, meta), extras={**opened.extras, "meta": read_json(meta)})


def _load_directory(path: Path) -> Source:
    index = path / "model.safetensors.index.json"
    if index.is_file() and not (path / "model.safetensors").is_file():
        return _load_shards(path, index)
    for name in ("model.safetensors", "ckpt.pt", "pytorch_model.bin"):
        if (path / name).is_file():
            found = _load_path(path / name)
            return replace(found, path=path)
    if (newest := nanochat_files.newest_model(path)) is not None:
        found = _load_path(newest)
        return replace(found, extras={**found.extras, "chosen_of": str(path)})
    files = sorted(file for file in path.iterdir() if file.suffix in (".pt", ".pth", ".safetensors"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:5]) or "no .pt, .pth or .safetensors file"
        raise ModelFileError(str(path), "not_a_checkpoint", f"holds {names}; name the file to export")
    return _load_path(files[0])


def _load_shards(path: Path, index: Path) -> Source:
    """A model in several safetensors files, of which the index tells which tensor lies in which."""
    places = read_json(index).get("weight_map")
    places = places if isinstance(places, dict) else {}
    names = sorted({name if isinstance(name, str) else repr(name) for name in places.values()})
    tensors: dict[str, StoredTensor] = {}
    for name in names:
        if Path(name).name != name or "\0" in name:
            message = f"names {name!r}, which is no file of its own directory"
            raise ModelFileError(str(index), "damaged", message)
        if not (path / name).is_file():
            message = f"names the file {name!r}, which is not there: fetch it, too"
            raise ModelFileError(str(index), "missing", message)
        tensors |= read_safetensors(path / name)
    missing = sorted(places.keys() - tensors.keys())
    if missing or not tensors:
        message = f"names tensors that are in none of its files: {', '.join(missing[:5]) or 'none at all'}"
        raise ModelFileError(str(index), "damaged", message)
    files = (index, path / "config.json", *(path / name for name in names))
    return Source(str(path), _strip(str(path), tensors), path, _sibling_config(index), files=files)


def config_beside(source: Source) -> Mapping[str, Any]:
    """The fields of the config.json beside a checkpoint of torch, for families that write one; else empty."""
    return _sibling_config(source.directory / "config.json") if source.directory else {}


def _sibling_config(path: Path) -> Mapping[str, Any]:
    """The config.json beside a safetensors file, which has room for tensors only."""
    config = path.parent / "config.json"
    return read_json(config) if config.is_file() else {}


def json_beside(source: Source, name: str) -> Mapping[str, Any]:
    """The object in a file beside a checkpoint; empty where there is none.

    Raises:
        ModelFileError: it is too large, or not JSON.
    """
    file = source.directory / name if source.directory else None
    return read_json(file) if file and file.is_file() else {}


def read_json(path: Path) -> Mapping[str, Any]:
    """The object that a JSON file holds; empty if it holds something else.

    Raises:
        ModelFileError: it is no JSON, or too large.
    """
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ModelFileError(str(path), "damaged", f"is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        fields = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(str(path), "damaged", f"is not JSON: {error}") from error
    return fields if isinstance(fields, dict) else {}


def _from_mapping(name: str, top: Mapping[str, Any], path: Path | None) -> Source:
    """Open the wrapper dicts around a state_dict; what lay beside it becomes `extras`."""
    extras: dict[str, Any] = {}
    for _ in range(len(WRAPPERS) + 1):  # a hostile file may nest a dict in itself
        key = next((key for key in WRAPPERS if isinstance(top.get(key), Mapping)), None)
        if key is None:
            return Source(name, _tensors(name, top), path, extras)
        extras |= {other: value for other, value in top.items() if other != key}
        top = top[key]
    raise ModelFileError(name, "not_a_checkpoint", f"{' and '.join(WRAPPERS)} are nested too deeply")


def _tensors(name: str, state: Mapping[str, Any]) -> dict[str, StoredTensor]:
    tensors = {}
    for key, value in state.items():
        if isinstance(value, np.ndarray):
            tensors[key] = _from_numpy(value)
        elif torch_file.is_tensor(value):
            tensors[key] = torch_file.stored(value)
    if not tensors:
        raise ModelFileError(
            name, "not_a_checkpoint", "holds no tensors: expected a state_dict, or one wrapped in a dict"
        )
    return _strip(name, tensors)


def _from_numpy(array: np.ndarray[Any, Any]) -> StoredTensor:
    dtype = {"float32": "f32", "float16": "f16", "float64": "f64"}.get(array.dtype.name, array.dtype.name)
    where = (array.__array_interface__["data"][0], array.strides)
    return StoredTensor(array.shape, dtype, lambda: array.astype(np.float32), (where, array.shape))


# What torch.compile, DistributedDataParallel, FSDP and checkpointing put before the names of what they wrap.
_PREFIX = re.compile(r"^(?:(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")
_WITHIN = re.compile(r"(?<=\.)(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")


def _strip(name: str, tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Names without the prefixes of wrapping modules, in any order and as often as they stand there."""
    stripped: dict[str, StoredTensor] = {}
    for key, tensor in tensors.items():
        short = _WITHIN.sub("", _PREFIX.sub("", str(key)))
        if short in stripped:
            raise ModelFileError(
                name, "repeated_tensor", f"two tensors are called {short} but for their prefixes"
            )
        stripped[short] = tensor
    return stripped


def without_common_part(source: Source) -> Source | None:
    """The source without the first part of its names, where all of them share it, as where a LightningModule
    keeps the network as `self.model`; None where they do not."""
    parts = {name.partition(".")[::2] for name in source.tensors}
    if len({first for first, _ in parts}) != 1 or not all(rest for _, rest in parts):
        return None
    shorter = {name.partition(".")[2]: tensor for name, tensor in source.tensors.items()}
    return replace(source, tensors=_strip(source.name, shorter))
