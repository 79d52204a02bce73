"""A reader of safetensors files that needs neither torch nor the safetensors package: a header of JSON, then
bytes.

The format: https://github.com/huggingface/safetensors#format. The sizes are checked before anything is read.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from pygpt.checkpoints.base import Array, Read, StoredTensor
from pygpt.errors import ModelFileError

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_NAMES = {"F32": "f32", "F16": "f16", "BF16": "bf16", "F64": "f64"}
_TYPES = {"f32": "<f4", "f16": "<f2", "bf16": "<u2", "f64": "<f8"}


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Every tensor of the file, by name; its bytes are read when it is asked for.

    Raises:
        ModelFileError: the file is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
            raise ModelFileError(
                str(path), "damaged", "is not a whole safetensors file: the header does not fit into it"
            )
        header = file.read(length)
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        return {name: _entry(path, entry, 8 + length, size) for name, entry in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelFileError(
            str(path), "damaged", f"has a safetensors header that cannot be read: {error!r}"
        ) from error


def _entry(path: Path, entry: dict[str, Any], data: int, size: int) -> StoredTensor:
    shape = tuple(int(n) for n in entry["shape"])
    begin, end = (int(n) for n in entry["data_offsets"])
    dtype = _NAMES.get(entry["dtype"], str(entry["dtype"]))
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= size - data:
        raise ValueError(f"the range {begin}..{end} of a tensor does not lie in the file")
    if dtype in _TYPES and end - begin != math.prod(shape) * np.dtype(_TYPES[dtype]).itemsize:
        raise ValueError(f"{end - begin} bytes do not hold the shape {list(shape)} of {entry['dtype']}")
    return StoredTensor(
        shape, dtype, file_reader(path, dtype, shape, data + begin), (data + begin, dtype, shape)
    )


def file_reader(path: Path, dtype: str, shape: tuple[int, ...], offset: int) -> Read:
    """A function that reads a tensor of f32, f16, bf16 or f64 that lies in a file, from an offset on."""

    def read() -> Array:
        count = math.prod(shape)
        values = np.fromfile(path, _TYPES[dtype], count, offset=offset)
        if len(values) != count:
            raise ModelFileError(str(path), "truncated", "became shorter while it was read", offset=offset)
        if dtype == "bf16":  # the upper half of a binary32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32, copy=False).reshape(shape)

    return read
