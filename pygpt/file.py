"""The writer of `.pygpt` files (docs/format.md). `pygpt.atomic.replacing` puts what it wrote in place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.architecture import DEFAULT_TYPES, Architecture, format_value
from pygpt.dtypes import QUANTISED, rounded_activations, tensor_format
from pygpt.errors import InvalidRequestError

MAGIC = "pygpt 1"
ALIGNMENT = 64
HEADER_LIMIT = 1 << 20
BLOCK = 2 << 20  # a huge page

# In header order (docs/format.md, section Header).
BLOB_NAMES = ("tokenizer.json", "chat_template.jinja", "chat.json", "provenance.json", "known_answers.json")

Progress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Everything that a file holds.

    Attributes:
        dtype: one of DTYPES: how matrices and tables are stored.
        weights: a tensor [rows, cols] by its name in docs/format.md; asked for one at a time.
        copy_of: a file whose tensors are taken as they lie there; dtype and weights are not asked then.
        defaults: sampling defaults, by their keys in docs/format.md.
        blobs: by their names in docs/format.md.
    """

    architecture: Architecture
    dtype: str
    weights: Callable[[str], NDArray[np.float32]]
    copy_of: _core.ModelFile | None = None
    defaults: Mapping[str, float | int | bool] = field(default_factory=dict)
    blobs: Mapping[str, bytes] = field(default_factory=dict)

    def format_of(self, name: str, kind: str) -> str:
        """How a tensor is stored."""
        if self.copy_of is not None:
            return next(tensor.format for tensor in self.copy_of.tensors if tensor.name == name)
        return tensor_format(self.dtype, name, kind)

    def rounding(self, name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the matrix of this name sees of its input, once it is stored."""
        return rounded_activations(x) if self.format_of(name, "matrix") in QUANTISED else x


@dataclass(slots=True)
class _Part:
    """One blob or tensor: where it lies, and its header line but for the checksum."""

    line: str
    offset: int
    size: int
    data: Callable[[], bytes]
    crc32c: int = 0


def packed(contents: Contents, name: str, kind: str) -> bytes:
    """A tensor's bytes as they lie in the file.

    Raises:
        InvalidRequestError: a value does not fit into the format.
    """
    if contents.copy_of is not None:
        return contents.copy_of.packed(name)
    weights = contents.weights(name)
    try:
        return _core.pack(weights, kind, contents.format_of(name, kind))
    except ValueError as error:
        largest = float(np.abs(weights).max())
        raise InvalidRequestError(
            "dtype",
            f"the tensor {name} has values of up to {largest:.6g}, which {contents.dtype} cannot hold; "
            'use dtype="bf16" or dtype="f32"',
        ) from error


def write(path: Path, contents: Contents, progress: Progress | None = None) -> None:
    """Write the file into the existing, empty `path` and bring it to the disk; memory: about one tensor.

    Raises:
        InvalidRequestError: a value does not fit into the format, or the header is too large.
        ModelFileError: the architecture is impossible.
        OSError: the disk is full or fails.
    """
    parts = list(_layout(contents))
    header = len(_header(contents, parts))
    data_start = _aligned(header)
    total = parts[-1].offset + parts[-1].size
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        blocks = _Blocks(fd)
        # The header holds the checksums, so it comes last; until then the file begins with zeros: no model.
        blocks.write(bytes(data_start))
        end = 0
        for part in parts:
            data = part.data()
            part.crc32c = _core.crc32c(data)
            blocks.write(bytes(part.offset - end))
            blocks.write(data)
            end = part.offset + part.size
            if progress:
                progress("writing", end, total)
        blocks.flush()
        os.lseek(fd, 0, os.SEEK_SET)
        _write_all(fd, _header(contents, parts).ljust(data_start, b"\0"))
        os.fsync(fd)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report
            os.close(fd)
        raise
    os.close(fd)  # may report, late, that a write failed


def _layout(contents: Contents) -> Iterator[_Part]:
    """Blobs and tensors with their places; nothing is packed yet but one panel of each, for its size."""
    offset = 0
    for name in BLOB_NAMES:
        if name in contents.blobs:
            size = len(contents.blobs[name])
            yield _Part(
                f"blob {name} {offset} {size}", offset, size, partial(contents.blobs.__getitem__, name)
            )
            offset = _aligned(offset + size)
    for name, kind, rows, cols in _core.tensor_specs(contents.architecture.to_config()):
        stored_as = contents.format_of(name, kind)
        size = _packed_size(kind, stored_as, rows, cols)
        line = f"tensor {name} {stored_as} {rows} {cols} {offset} {size}"
        yield _Part(line, offset, size, partial(packed, contents, name, kind))
        offset = _aligned(offset + size)


def _packed_size(kind: str, format: str, rows: int, cols: int) -> int:
    """Bytes of a packed tensor. Panels and rows are all alike, so one tells: formats are the core's."""
    unit = 16 if kind == "matrix" else 1
    return -(-rows // unit) * len(_core.pack(np.zeros((unit, cols), np.float32), kind, format))


def _header(contents: Contents, parts: list[_Part]) -> bytes:
    lines = [MAGIC, *contents.architecture.to_lines()]
    defaults = (key for key in DEFAULT_TYPES if key in contents.defaults)
    lines += [f"default {key} {format_value(contents.defaults[key])}" for key in defaults]
    lines += [f"{part.line} {part.crc32c:08x}" for part in parts]
    text = ("\n".join(lines) + "\n").encode("ascii")
    text += f"end {_core.crc32c(text):08x}\n".encode("ascii")
    if len(text) > HEADER_LIMIT:
        raise InvalidRequestError(
            "source", f"the header would take {len(text)} bytes; the format allows {HEADER_LIMIT}"
        )
    return text


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


class _Blocks:
    """Writes a file from its beginning, `BLOCK` bytes at a time.

    Linux keeps what one call writes in one page of its cache, as large as the place allows. In huge pages, a
    model that is mapped right after its export runs as fast as one that was read from the disk.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._block = bytearray(BLOCK)
        self._filled = 0

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            count = min(len(rest), BLOCK - self._filled)
            self._block[self._filled : self._filled + count] = rest[:count]
            rest = rest[count:]
            self._filled += count
            if self._filled == BLOCK:
                self.flush()

    def flush(self) -> None:
        _write_all(self._fd, memoryview(self._block)[: self._filled])
        self._filled = 0


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
