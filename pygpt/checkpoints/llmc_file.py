"""A reader of llm.c's model files: a header of 256 int32, then tensors by kind, each over all layers.

Source: https://github.com/karpathy/llm.c, train_gpt2.py (write_model) and train_gpt2.c (which reads it).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pygpt.checkpoints.base import MAX_HEADS, MAX_LAYERS, Source, StoredTensor
from pygpt.checkpoints.safetensors_file import file_reader
from pygpt.errors import ModelFileError

MAGIC = (20240326).to_bytes(4, "little")
HEADER_BYTES = 1024
_VERSIONS = {3: ("f32", 4), 5: ("bf16", 2)}  # dtype and bytes of a value
# The header's fields behind the version, and the largest that each may be (docs/format.md).
_FIELDS = {
    "context_length": 1 << 24, "vocab_size": 1 << 24, "n_layer": MAX_LAYERS, "n_head": MAX_HEADS,
    "width": 1 << 17, "padded_vocab_size": 1 << 24,
}  # fmt: skip


def load(path: Path) -> Source:
    """The file as a checkpoint with nanoGPT's names; `extras["llmc"]` holds the header's fields.

    Raises:
        ModelFileError: the header is impossible, or the file is not as long as it says. Nothing is allocated
            before that is known.
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        raise ModelFileError(str(path), "truncated", f"has {len(header)} bytes; llm.c's header has 1024")
    words = np.frombuffer(header, "<i4")
    fields, version = _checked(path, [int(word) for word in words[1:8]])
    dtype, value_bytes = _VERSIONS[version]
    tensors: dict[str, StoredTensor] = {}
    at = HEADER_BYTES
    for name, shape in _layout(fields):
        tensors[name] = StoredTensor(shape, dtype, file_reader(path, dtype, shape, at), (at, shape))
        at += math.prod(shape) * value_bytes
    found = path.stat().st_size
    if found != at:
        raise ModelFileError(str(path), "wrong_size", f"has {found} bytes, but its header implies {at}")
    return Source(str(path), tensors, path, {"llmc": fields}, files=(path,))


def _checked(path: Path, words: list[int]) -> tuple[Mapping[str, int], int]:
    version, *values = words
    if version not in _VERSIONS:
        known = " and ".join(f"{each} ({dtype})" for each, (dtype, _) in _VERSIONS.items())
        message = f"is llm.c's version {version}; there are {known}"
        raise ModelFileError(str(path), "unsupported_version", message, "header")
    fields = dict(zip(_FIELDS, values, strict=True))
    for key, value in fields.items():
        if not 1 <= value <= _FIELDS[key]:
            message = f"{key} is {value}, and must be from 1 to {_FIELDS[key]}"
            raise ModelFileError(str(path), "invalid_header", message, "header")
    if fields["width"] % fields["n_head"] or fields["padded_vocab_size"] < fields["vocab_size"]:
        message = "the heads do not divide the width, or the padded vocabulary is smaller than the vocabulary"
        raise ModelFileError(str(path), "invalid_header", f"{message}: {fields}", "header")
    return fields, version


def _layout(fields: Mapping[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor in the file's order, by nanoGPT's name."""
    width, layers = fields["width"], range(fields["n_layer"])
    kinds = {
        "ln_1.weight": (width,), "ln_1.bias": (width,),
        "attn.c_attn.weight": (3 * width, width), "attn.c_attn.bias": (3 * width,),
        "attn.c_proj.weight": (width, width), "attn.c_proj.bias": (width,),
        "ln_2.weight": (width,), "ln_2.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width), "mlp.c_proj.bias": (width,),
    }  # fmt: skip
    yield "transformer.wte.weight", (fields["padded_vocab_size"], width)
    yield "transformer.wpe.weight", (fields["context_length"], width)
    for kind, shape in kinds.items():
        for layer in layers:
            yield f"transformer.h.{layer}.{kind}", shape
    yield "transformer.ln_f.weight", (width,)
    yield "transformer.ln_f.bias", (width,)
