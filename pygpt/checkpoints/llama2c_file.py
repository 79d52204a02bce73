"""A reader of llama2.c's model files: a header, then tensors by kind, each over all layers.

Source: https://github.com/karpathy/llama2.c, export.py (legacy_export, version1_export, version2_export).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pygpt.checkpoints.base import MAX_HEADS, MAX_LAYERS, Array, Read, Source, StoredTensor
from pygpt.checkpoints.safetensors_file import file_reader
from pygpt.errors import ModelFileError

MAGIC = (0x616B3432).to_bytes(4, "little")  # of versions 1 and 2; the first one has none
_NAMED_HEADER_BYTES = 256
_FIRST_HEADER_BYTES = 28
# The header's fields, and the largest that each may be (docs/format.md).
_FIELDS = {
    "dim": 1 << 17, "hidden_dim": 1 << 20, "n_layers": MAX_LAYERS, "n_heads": MAX_HEADS,
    "n_kv_heads": MAX_HEADS, "vocab_size": 1 << 24, "max_seq_len": 1 << 24,
}  # fmt: skip
_MAX_GROUP = 1 << 17

Shapes = Iterator[tuple[str, tuple[int, ...]]]  # llama2.c's names of tensors, in the file's order


@dataclass(frozen=True, slots=True)
class _Header:
    """Of any version, checked.

    Attributes:
        fields: what train.py calls model_args, and hidden_dim.
        group_size: of version 2: weights that share a scale.
    """

    version: int
    fields: dict[str, int]
    tied: bool
    group_size: int = 0

    def norms(self) -> Shapes:
        for kind in ("attention_norm", "ffn_norm"):
            yield from self._kind(kind)
        yield "norm.weight", (self.fields["dim"],)

    def matrices(self) -> Shapes:
        for kind in ("wq", "wk", "wv", "wo"):
            yield from self._kind(f"attention.{kind}")
        for kind in ("w1", "w2", "w3"):
            yield from self._kind(f"feed_forward.{kind}")

    def embedding(self) -> Shapes:
        yield "tok_embeddings.weight", (self.fields["vocab_size"], self.fields["dim"])

    def head(self) -> Shapes:
        if not self.tied:
            yield "output.weight", (self.fields["vocab_size"], self.fields["dim"])

    def first_version(self) -> Shapes:
        """Everything in the order of legacy_export; the tables of cosines and sines are skipped."""
        norms, matrices = list(self.norms()), list(self.matrices())
        layers = self.fields["n_layers"]
        angles = (self.fields["max_seq_len"], self.fields["dim"] // self.fields["n_heads"] // 2)
        yield from self.embedding()
        yield from norms[:layers]
        yield from matrices[: 4 * layers]
        yield from norms[layers : 2 * layers]
        yield from matrices[4 * layers :]
        yield norms[-1]
        yield "freqs_cos", angles
        yield "freqs_sin", angles
        yield from self.head()

    def _kind(self, kind: str) -> Shapes:
        dim, hidden = self.fields["dim"], self.fields["hidden_dim"]
        kv = dim // self.fields["n_heads"] * self.fields["n_kv_heads"]
        shape = {
            "attention.wq": (dim, dim), "attention.wk": (kv, dim), "attention.wv": (kv, dim),
            "attention.wo": (dim, dim), "feed_forward.w1": (hidden, dim), "feed_forward.w2": (dim, hidden),
            "feed_forward.w3": (hidden, dim),
        }.get(kind, (dim,))  # fmt: skip
        for layer in range(self.fields["n_layers"]):
            yield f"layers.{layer}.{kind}.weight", shape


def is_first_version(path: Path, start: bytes) -> bool:
    """Whether a .bin file begins as the first version's, which has no magic: seven plausible numbers."""
    if path.suffix != ".bin" or len(start) < _FIRST_HEADER_BYTES:
        return False
    values = np.frombuffer(start[:_FIRST_HEADER_BYTES], "<i4").tolist()
    return all(1 <= abs(value) <= most for value, most in zip(values, _FIELDS.values(), strict=True))


def load(path: Path) -> Source:
    """The file as the checkpoint that it was made of; `extras["model_args"]` holds the header's fields.

    Raises:
        ModelFileError: the header is impossible, or the file is not as long as it says. Nothing is allocated
            before that is known.
    """
    with path.open("rb") as file:
        start = file.read(_NAMED_HEADER_BYTES)
    header = _header(path, start)
    size = path.stat().st_size
    tensors: dict[str, StoredTensor] = {}
    at = _FIRST_HEADER_BYTES if header.version == 0 else _NAMED_HEADER_BYTES
    plain = list(header.first_version() if header.version == 0 else header.norms())
    if header.version == 1:
        plain += [*header.embedding(), *header.matrices(), *header.head()]
    for name, shape in plain:
        tensors[name] = StoredTensor(shape, "f32", file_reader(path, "f32", shape, at), (at, shape))
        at += 4 * math.prod(shape)
    if header.version == 2:
        for name, shape in (*header.embedding(), *header.matrices(), *header.head()):
            count, groups = math.prod(shape), -(-math.prod(shape) // header.group_size)
            read = _groups_reader(path, shape, at, header.group_size)
            tensors[name] = StoredTensor(shape, "f32", read, (at, shape))
            at += count + 4 * groups
    if size != at:
        message = f"has {size} bytes, but its header, as llama2.c writes it, implies {at}"
        raise ModelFileError(str(path), "wrong_size", message)
    extras = {"model_args": header.fields, "llama2c_version": header.version}
    return Source(str(path), tensors, path, extras, files=(path,))


def _header(path: Path, start: bytes) -> _Header:
    if not start.startswith(MAGIC):
        values = np.frombuffer(start[:_FIRST_HEADER_BYTES], "<i4").tolist()
        values[5] = abs(values[5])  # the vocabulary's sign says whether the head is the embedding
        tied = int(np.frombuffer(start, "<i4", 1, 20)[0]) > 0
        return _Header(0, _checked(path, values), tied)
    if len(start) < _NAMED_HEADER_BYTES:
        message = f"has {len(start)} bytes; llama2.c's header has {_NAMED_HEADER_BYTES}"
        raise ModelFileError(str(path), "truncated", message)
    version, *values = np.frombuffer(start, "<i4", 8, 4).tolist()
    if version not in (1, 2):
        message = f"is llama2.c's version {version}; there are 0, 1 and 2"
        raise ModelFileError(str(path), "unsupported_version", message, "header")
    fields = _checked(path, values)
    group_size = int.from_bytes(start[37:41], "little", signed=True) if version == 2 else 0
    if version == 2 and not 1 <= group_size <= _MAX_GROUP:
        message = f"group_size is {group_size}, and must be from 1 to {_MAX_GROUP}"
        raise ModelFileError(str(path), "invalid_header", message, "header")
    if version == 2 and (fields["dim"] % group_size or fields["hidden_dim"] % group_size):
        message = f"group_size {group_size} divides not both dim and hidden_dim: {fields}"
        raise ModelFileError(str(path), "invalid_header", message, "header")
    return _Header(version, fields, start[36] != 0, group_size)


def _checked(path: Path, values: list[int]) -> dict[str, int]:
    fields = dict(zip(_FIELDS, values, strict=True))
    for key, value in fields.items():
        if not 1 <= value <= _FIELDS[key]:
            message = f"{key} is {value}, and must be from 1 to {_FIELDS[key]}"
            raise ModelFileError(str(path), "invalid_header", message, "header")
    heads = fields["n_heads"]
    if fields["dim"] % (2 * heads) or heads % fields["n_kv_heads"]:
        message = f"the heads do not divide dim into pairs, or n_kv_heads not the heads: {fields}"
        raise ModelFileError(str(path), "invalid_header", message, "header")
    return fields


def _groups_reader(path: Path, shape: tuple[int, ...], offset: int, group: int) -> Read:
    """Bytes, then a scale of f32 for each group of them."""
    count = math.prod(shape)

    def read() -> Array:
        whole = np.fromfile(path, np.int8, count, offset=offset)
        scales = np.fromfile(path, "<f4", count // group, offset=offset + count)
        if len(whole) != count or len(scales) != count // group:
            raise ModelFileError(str(path), "truncated", "became shorter while it was read", offset=offset)
        values: Array = whole.reshape(-1, group).astype(np.float32) * scales[:, None]
        return values.reshape(shape)

    return read
