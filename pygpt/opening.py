"""What the options of `Engine` mean: defaults, the environment, and what this build cannot do."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

from pygpt import _core
from pygpt.blobs import json_blob
from pygpt.errors import DeviceError, InvalidRequestError, ModelFileError
from pygpt.kinds import Choice, Flag, Integer, shown
from pygpt.params import SamplingParams

FULL_VERIFY_BYTES = 64 << 20  # verify="auto": checksums of files up to this size are all checked

KV_DTYPES = Choice(("auto", "f32", "f16", "bf16", "int8"))
VERIFY = Choice(("auto", "full", "header", "off"))
THREADS = Integer(1, 1024)


def absolute(path: str | bytes | PathLike[str] | PathLike[bytes]) -> str | bytes:
    """The path from the root on. Raises InvalidRequestError: it is none."""
    try:
        found = os.fspath(path)
    except TypeError:
        raise InvalidRequestError("path", f"must be the path of a file, got {shown(path)}") from None
    if not found or (b"\0" if isinstance(found, bytes) else "\0") in found:  # type: ignore[operator]
        raise InvalidRequestError("path", f"{shown(found)} can be no file's name")
    return os.path.abspath(found)


def open_file(path: str | bytes, *, mmap: bool, verify: str) -> _core.ModelFile:
    """The model file, checked as far as `verify` says."""
    mmap = Flag().check("mmap", mmap)
    how: Any = VERIFY.check("verify", verify)
    if how == "auto":
        how = "full" if _size(path) <= FULL_VERIFY_BYTES else "header"
    return _core.ModelFile(path, mmap=mmap, verify=how)


def open_core(
    file: _core.ModelFile,
    *,
    device: str,
    threads: int | None,
    max_context: int | None,
    kv_dtype: str,
    max_running: int | None = None,
    max_waiting: int | None = None,
    prefix_cache: bool = True,
) -> _core.Engine:
    """The core's engine on a file, with PYGPT_THREADS and PYGPT_ISA where nothing else is said."""
    device = _chosen_device(device)
    longest = Integer(1, file.config["context_length"])
    return _core.Engine(
        file,
        threads=_threads(threads, os.environ),
        isa=os.environ.get("PYGPT_ISA", ""),
        kv_dtype=KV_DTYPES.check("kv_dtype", kv_dtype),
        max_context=0 if max_context is None else longest.check("max_context", max_context),
        max_running=0 if max_running is None else Integer(1, 4096).check("max_running", max_running),
        prefix_cache=Flag().check("prefix_cache", prefix_cache),
        max_waiting=-1 if max_waiting is None else Integer(0, 2**31 - 1).check("max_waiting", max_waiting),
        device=device,
    )


def recorded_defaults(file: _core.ModelFile) -> dict[str, Any]:
    """The file's sampling defaults in their normal form, held to what a request may ask for.

    Raises:
        ModelFileError: a value that no request may have.
    """
    try:
        return {name: getattr(SamplingParams(**{name: value}), name) for name, value in file.defaults.items()}
    except InvalidRequestError as error:
        raise ModelFileError(file.path, "invalid_default", error.message, f"default {error.param}") from error


def describe(file: _core.ModelFile, core: _core.Engine) -> dict[str, Any]:
    """What is open and how it runs, in data that outlives both.

    Raises:
        ModelFileError: the provenance is not what docs/format.md says.
    """
    tensors = file.tensors
    return {
        "path": file.path,
        "file_bytes": file.bytes,
        "parameters": sum(each.rows * each.cols for each in tensors),
        "formats": sorted({each.format for each in tensors if each.kind == "matrix"}),
        "config": dict(file.config),
        "defaults": dict(file.defaults),
        "provenance": json_blob(file, "provenance.json", dict) or {},
        "fingerprint": _fingerprint(file),
        **core.info,
    }


def _fingerprint(file: _core.ModelFile) -> str:
    """Tells models apart: a hash of the architecture and of the checksums of all weights."""
    tensors = [
        (each.name, each.kind, each.format, each.rows, each.cols, each.crc32c) for each in file.tensors
    ]
    return hashlib.sha256(json.dumps([dict(file.config), tensors]).encode()).hexdigest()


def _chosen_device(device: str) -> str:
    """The device by its name; "auto" is the CPU until the kernels have been run on a GPU (docs/cuda.md)."""
    if device == "auto":
        return "cpu"
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"unknown device {device!r}; pygpt knows 'auto', 'cpu' and 'cuda'")
    return device


def _threads(threads: int | None, environment: Mapping[str, str]) -> int:
    """The number of workers; 0 lets the core choose."""
    if threads is not None:
        return THREADS.check("threads", threads)
    said = environment.get("PYGPT_THREADS", "")
    if not said:
        return 0
    try:
        return THREADS.check("threads", int(said))
    except ValueError as error:
        raise InvalidRequestError(
            "threads", f"PYGPT_THREADS={said!r} is not a number from 1 to 1024"
        ) from error


def _size(path: str | bytes) -> Literal[0] | int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0  # the core says what is wrong with it
