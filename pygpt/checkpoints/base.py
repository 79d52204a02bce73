"""What every checkpoint family takes (`Source`, `Options`) and gives (`Imported`)."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from pygpt.architecture import Architecture
from pygpt.checkpoints.tokenizer_files import files_of
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.kinds import checked_int, shown
from pygpt.tokenizer import Tokenizer

Array = NDArray[np.float32]
Read = Callable[[], Array]

READABLE = ("f32", "f16", "bf16", "f64")
MAX_HEADS = 1024  # docs/format.md
MAX_HEAD_DIM = 1024  # docs/format.md
MAX_LAYERS = 4096  # docs/format.md; caps what a name like blocks.999999999.x can make us list


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a checkpoint, still where it lies."""

    shape: tuple[int, ...]
    dtype: str  # one of READABLE, or the checkpoint's own word for what cannot be read
    read: Read  # its values as float32
    identity: Hashable  # equal for two names of one storage: tied weights


@dataclass(frozen=True, slots=True)
class Source:
    """An opened checkpoint of a family not yet known.

    Attributes:
        name: what errors call it: its path, or what kind of object it is.
        tensors: by name, without the prefixes of torch.compile and DistributedDataParallel.
        path: the file or directory, where there is one.
        extras: what else it holds: `model_args`, `config`, or the fields of a config.json.
        module: the live torch module, where that is the source.
        files: every file that it was read from.
    """

    name: str
    tensors: Mapping[str, StoredTensor]
    path: Path | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    module: Any = None
    files: tuple[Path, ...] = ()

    @property
    def directory(self) -> Path | None:
        """Where the files beside the weights lie; None for what is in memory."""
        return self.path if self.path is None or self.path.is_dir() else self.path.parent

    def error(self, code: str, message: str, section: str = "") -> ModelFileError:
        """The error to raise about this checkpoint."""
        return ModelFileError(self.name, code, message, section)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor that must be there."""
        if name not in self.tensors:
            raise self.error("missing_tensors", f"the tensor {name} is missing")
        return self.tensors[name].shape

    def matrix_shape(self, name: str) -> tuple[int, int]:
        """The shape of a tensor that must be there and have two dimensions."""
        shape = self.shape(name)
        if len(shape) != 2 or 0 in shape:
            raise self.error("wrong_shape", f"expected a matrix, found the shape {list(shape)}", name)
        return shape[0], shape[1]

    def reader(self, name: str, *shape: int) -> Read:
        """A function that reads the tensor, which must be there with this shape and a dtype we know.

        Reading it raises ModelFileError if a value is not finite.
        """
        if self.shape(name) != shape:
            found = list(self.shape(name))
            raise self.error("wrong_shape", f"expected the shape {list(shape)}, found {found}", name)
        tensor = self.tensors[name]
        if tensor.dtype not in READABLE:
            raise self.error(
                "unsupported_dtype",
                f"its values are {tensor.dtype}; export reads {', '.join(READABLE)}: convert it first, "
                f"as in state[{name!r}].float()",
                name,
            )

        checked = False

        def read() -> Array:
            nonlocal checked
            values = tensor.read()
            if not (checked or np.isfinite(values).all()):
                message = "holds NaN or infinity: training diverged; export an earlier checkpoint"
                raise self.error("not_finite", message, name)
            checked = True
            return values

        return read

    def same(self, name: str, other: str) -> bool:
        """Whether two tensors are one storage, or hold the same."""
        a, b = self.tensors[name], self.tensors[other]
        if a.identity == b.identity:
            return True
        return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a.read(), b.read())

    def check_recorded(self, where: str, recorded: Mapping[str, Any], **found: int) -> None:
        """Hold what the checkpoint records about itself to what its tensors show.

        Raises:
            ModelFileError: one of the values contradicts the tensors.
        """
        for key, value in found.items():
            said = recorded.get(key)
            if said is not None and (type(said) is not int or said != value):
                message = f"{where} says {key} {shown(said)}, but the tensors have {value}"
                raise self.error("contradiction", message, where)

    def count(self, prefix: str) -> int:
        """One more than the largest number that follows the prefix in a tensor's name; 0 if none does."""
        pattern = re.compile(re.escape(prefix) + r"\.(\d{1,9})\.", re.ASCII)
        matches = (pattern.match(name) for name in self.tensors)
        count = max((int(match[1]) + 1 for match in matches if match), default=0)
        if count > MAX_LAYERS:
            raise self.error(
                "too_many_layers", f"{prefix}.{count - 1} is more than {MAX_LAYERS} can be counted"
            )
        return count

    def dtype(self) -> str:
        """The dtype of most of its values."""
        values: Counter[str] = Counter()
        for tensor in self.tensors.values():
            if tensor.dtype in READABLE:
                values[tensor.dtype] += int(np.prod(tensor.shape))
        return values.most_common(1)[0][0] if values else "f32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller of `export` adds to what the checkpoint says."""

    tokenizer: Any = None  # of pygpt, tokenizers, transformers or tiktoken, a path of one, or "none"
    text: str | os.PathLike[str] | None = None
    chars: str | Sequence[str] | None = None
    meta: str | os.PathLike[str] | None = None
    n_head: int | None = None
    attention_scale: str | None = None
    nanochat_gen: str | None = None  # where two generations of nanochat have the same tensors
    calibrate: str | os.PathLike[str] | None = None
    lora: str | os.PathLike[str] | None = None
    run_original: bool = True  # the known answers come from the original's library, where it is installed

    def __post_init__(self) -> None:
        """Hold every value to its type. Raises InvalidRequestError that names the option."""
        if self.n_head is not None:  # numpy's integers become Python's, which headers and JSON know
            object.__setattr__(self, "n_head", checked_int("n_head", self.n_head, 1, MAX_HEADS))
        for name in ("text", "meta", "calibrate", "lora"):
            value = getattr(self, name)
            if not (value is None or is_path(value)):
                raise InvalidRequestError(name, f"must be a text or a path, got {shown(value)}")
        chars: object = self.chars
        if chars is not None and (isinstance(chars, bytes) or not isinstance(chars, Sequence)):
            raise InvalidRequestError("chars", f"must be a text or a list of characters, got {shown(chars)}")
        if chars is not None and not all(isinstance(each, str) for each in chars):
            raise InvalidRequestError("chars", f"must hold characters only, got {shown(chars)}")
        if self.attention_scale not in (None, "head", "width"):
            message = f"must be head or width, got {shown(self.attention_scale)}"
            raise InvalidRequestError("attention_scale", message)

    def files(self) -> tuple[Path, ...]:
        """The files that the caller names."""
        named = [
            os.fspath(each)
            for each in (self.text, self.meta, self.tokenizer, self.calibrate)
            if is_path(each)
        ]
        paths = [*map(Path, named), *(file for each in named for file in files_of(Path(each)))]
        return tuple(path for path in paths if os.path.isfile(path))

    def check_heads(self, recorded: int) -> None:
        """n_head is for checkpoints that do not record it; one that contradicts the record is a mistake."""
        if self.n_head not in (None, recorded):
            message = f"is given as {self.n_head}, but the checkpoint has {recorded} heads"
            raise InvalidRequestError("n_head", message)

    def refuse_width_scale(self, family: str) -> None:
        """Only the lecture's older code scales by the width; everyone else by the head's size."""
        if self.attention_scale not in (None, "head"):
            raise InvalidRequestError(
                "attention_scale",
                f"a {family} checkpoint always scales by the head size, not {self.attention_scale!r}",
            )


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Something that decides what a model computes and that its checkpoint does not record.

    Attributes:
        what: its name, as in docs/format.md.
        variants: by a word for each, what it makes of the architecture; the family's default comes first.
    """

    what: str
    variants: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A checkpoint in pygpt's own words.

    Attributes:
        tensors: every tensor of docs/format.md that the architecture implies, by name; each function reads
            one, [rows, cols], so that no more than one need be in memory.
        defaults: sampling defaults of the family.
        provenance: where the weights came from, for provenance.json.
        source_dtype: f32, f16, bf16 or f64.
        blobs: further blobs of the file, by name.
        original_logits: logits [T, padded_vocab_size] of the original model itself, computed in float64 by
            someone else's code; None where only the weights are at hand.
        notes: what the person who exports should know, a line each.
        assumptions: how `unrecorded` was settled, a line each.
        unrecorded: what had to be assumed, with what else it may be.
        files: every file that was read, which the export must not replace.
    """

    architecture: Architecture
    tensors: Mapping[str, Read]
    provenance: Mapping[str, Any]
    source_dtype: str
    tokenizer: Tokenizer | None = None
    defaults: Mapping[str, float | int | bool] = field(default_factory=dict)
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    original_logits: Callable[[Sequence[int]], NDArray[np.float64]] | None = None
    notes: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    unrecorded: tuple[Unrecorded, ...] = ()
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """How one kind of checkpoint is recognised and read. {i} in a name counts blocks, {h} heads."""

    title: str  # for messages
    required: tuple[str, ...]
    optional: tuple[str, ...]
    recognise: Callable[[Source], bool]
    read: Callable[[Source, Options], Imported]
    told_by: str = ""  # what recognise looks at, in words
    beside: str = ""  # what must lie beside the weights or be given, in words


def is_path(value: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether the value is a path, or a text that may be one."""
    return isinstance(value, str) or (isinstance(value, os.PathLike) and isinstance(os.fspath(value), str))
