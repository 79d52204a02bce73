"""The writer of `.pygpt` files (docs/format.md). `pygpt.atomic.replacing` puts what it wrote in place."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.architecture import DEFAULT_TYPES, PANEL, Architecture, format_value
from pygpt.dtypes import QUANTISED, rounded_activations, tensor_format
from pygpt.errors import InvalidRequestError

MAGIC = "pygpt 1"
ALIGNMENT = 64
HEADER_LIMIT = 1 << 20
BLOCK = 2 << 20  # a huge page
PIECE = 1 << 21  # weights that are packed at once

# In header order (docs/format.md, section Header).
BLOB_NAMES = ("tokenizer.json", "chat_template.jinja", "chat.json", "provenance.json", "known_answers.json")

Progress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Everything that a file holds.

    Attributes:
        dtype: one of DTYPES: how matrices and tables are stored.
        weights: a tensor [rows, cols] by its name in docs/format.md; asked for one at a time.
        defaults: sampling defaults, by their keys in docs/format.md.
        blobs: by their names in docs/format.md.
    """

    architecture: Architecture
    dtype: str
    weights: Callable[[str], NDArray[np.float32]]
    defaults: Mapping[str, float | int | bool] = field(default_factory=dict)
    blobs: Mapping[str, bytes] = field(default_factory=dict)

    def format_of(self, name: str, kind: str) -> str:
        """How a tensor is stored."""
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
    pieces: Callable[[], Iterable[bytes]]
    crc32c: int = 0


class Stored:
    """A tensor [rows, cols] as a file of these contents holds it: bytes, or back in floats, rows at a time.

    Raises:
        InvalidRequestError: a value does not fit into the format; by whatever packs it.
    """

    def __init__(self, contents: Contents, name: str, kind: str) -> None:
        self._weights = contents.weights(name)
        self._name, self._kind, self._format = name, kind, contents.format_of(name, kind)
        self._dtype = contents.dtype
        self.shape: tuple[int, int] = self._weights.shape

    def __len__(self) -> int:
        return self.shape[0]

    def pieces(self) -> Iterator[bytes]:
        """All of its bytes, in pieces that stay in a cache."""
        step = max(PANEL, PIECE // self.shape[1] // PANEL * PANEL)
        return (self._packed(start, start + step) for start in range(0, len(self), step))

    def __getitem__(self, rows: int | slice | list[int]) -> NDArray[np.float32]:
        if isinstance(rows, int):
            row: NDArray[np.float32] = self._back(rows, rows + 1)[0]
            return row
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            return self._back(start, stop)
        return np.stack([self[row] for row in rows])

    def _back(self, start: int, stop: int) -> NDArray[np.float32]:
        first = start // PANEL * PANEL  # what is packed on its own begins with a panel
        packed = self._packed(first, stop)
        return _core.unpack(packed, self._kind, self._format, stop - first, self.shape[1])[start - first :]

    def _packed(self, start: int, stop: int) -> bytes:
        rows = self._weights[start:stop]
        try:
            return _core.pack(rows, self._kind, self._format)
        except ValueError as error:
            largest = float(np.abs(rows).max())
            raise InvalidRequestError(
                "dtype",
                f"the tensor {self._name} has values of up to {largest:.6g}, which {self._dtype} "
                'cannot hold; use dtype="bf16" or dtype="f32"',
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
        with _Behind(_Blocks(fd)) as blocks:
            # The header holds the checksums, so it comes last; till then the file begins with zeros.
            blocks.write(bytes(data_start))
            end = 0
            for part in parts:
                blocks.write(bytes(part.offset - end))
                for piece in part.pieces():
                    part.crc32c = _core.crc32c(piece, part.crc32c)
                    blocks.write(piece)
                end = part.offset + part.size
                if progress:
                    progress("writing", end, total)
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
            yield _Part(f"blob {name} {offset} {size}", offset, size, partial(_blob, contents, name))
            offset = _aligned(offset + size)
    for name, kind, rows, cols in _core.tensor_specs(contents.architecture.to_config()):
        stored_as = contents.format_of(name, kind)
        size = _packed_size(kind, stored_as, rows, cols)
        line = f"tensor {name} {stored_as} {rows} {cols} {offset} {size}"
        yield _Part(line, offset, size, partial(_tensor, contents, name, kind))
        offset = _aligned(offset + size)


def _blob(contents: Contents, name: str) -> list[bytes]:
    return [contents.blobs[name]]


def _tensor(contents: Contents, name: str, kind: str) -> Iterator[bytes]:
    return Stored(contents, name, kind).pieces()


def _packed_size(kind: str, format: str, rows: int, cols: int) -> int:
    """Bytes of a packed tensor. Panels and rows are all alike, so one tells: formats are the core's."""
    unit = PANEL if kind == "matrix" else 1
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
        """Write what is left of the last block."""
        _write_all(self._fd, memoryview(self._block)[: self._filled])
        self._filled = 0


class _Behind:
    """Writes pieces on a thread of its own, in order, while the next are packed; two of them wait at most.

    The end of the `with` writes the rest; what fails there, or before, is raised.
    """

    def __init__(self, blocks: _Blocks) -> None:
        self._blocks = blocks
        self._thread = ThreadPoolExecutor(1, "pygpt-write")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> _Behind:
        return self

    def write(self, piece: bytes) -> None:
        while len(self._waiting) > 1:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._blocks.write, piece))

    def __exit__(self, kind: object, *_: object) -> None:
        self._thread.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for written in self._waiting:
                written.result()
            self._blocks.flush()


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
