"""What a model's steps cost at least: bytes that must be read, operations that must be done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pygpt.architecture import Architecture

if TYPE_CHECKING:
    from pygpt._core import ModelFile

INT8_FORMATS = frozenset({"q8", "q4"})  # multiplied as bytes; the others as f32
PAGE_POSITIONS = 32  # of the KV cache (docs/architecture.md, Words)


@dataclass(frozen=True, slots=True)
class Work:
    """Of some steps.

    Attributes:
        bytes: of weights, once a step, and of the KV cache.
        flops: multiplications and additions in f32: of weights, and of attention.
        int8_ops: those of weights that are stored as q8 or q4.
    """

    bytes: float
    flops: float
    int8_ops: float

    def __add__(self, other: Work) -> Work:
        return Work(self.bytes + other.bytes, self.flops + other.flops, self.int8_ops + other.int8_ops)

    def __mul__(self, factor: float) -> Work:
        return Work(self.bytes * factor, self.flops * factor, self.int8_ops * factor)

    @property
    def operations(self) -> float:
        return self.flops + self.int8_ops

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.operations / self.bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a model's steps are made of.

    Attributes:
        weight_bytes: of all matrices that a step multiplies with.
        row: operations of one row through every matrix but the head.
        head: operations of one row through the head.
        kv_bytes: of one position in the KV cache.
        position_flops: of attention, for each position that a row sees.
        windows: of each layer, how many positions a row sees at most.
    """

    weight_bytes: int
    row: Work
    head: Work
    kv_bytes: float
    position_flops: int
    windows: tuple[int, ...] = (1 << 24,)

    def seen(self, position: int, rows: int = 1) -> float:
        """Positions that `rows` rows read together, the last of them at `position`: the mean over layers."""
        return sum(min(position, window + rows - 1) for window in self.windows) / len(self.windows)

    def decode(self, batch: int, first: int, steps: int) -> Work:
        """`steps` steps of `batch` sequences, one row each; the first rows stand at position `first`."""
        seen = batch * sum(map(self.seen, range(first + 1, first + steps + 1)))  # the row's own among them
        rows = (self.row + self.head) * (batch * steps)
        return rows + Work(self.weight_bytes * steps + self.kv_bytes * seen, self.position_flops * seen, 0)

    def prefill(self, tokens: int, chunk: int) -> Work:
        """A prompt, in chunks of rows, and the logits of its last position. The cache is read once each."""
        chunks = [min(chunk, tokens - first) for first in range(0, tokens, chunk)]
        cached = sum(self.seen(chunk * index + rows, rows) for index, rows in enumerate(chunks))
        read = self.weight_bytes * len(chunks) + self.kv_bytes * cached
        seen = sum(map(self.seen, range(1, tokens + 1)))
        return self.row * tokens + self.head + Work(read, self.position_flops * seen, 0)


def costs(file: ModelFile, info: Mapping[str, Any]) -> Costs:
    """Of a model as its file stores it and as the engine runs it."""
    matrices = [tensor for tensor in file.tensors if tensor.kind == "matrix"]
    head = next((tensor for tensor in matrices if tensor.name == "head"), None)
    head = head or next(tensor for tensor in matrices if tensor.name == "wte")
    a = Architecture.from_config(file.config)
    return Costs(
        weight_bytes=info["weight_bytes"],
        row=_sum(_product(each.format, each.rows * each.cols) for each in matrices if each is not head),
        head=_product(head.format, head.rows * head.cols),
        kv_bytes=info["kv_page_bytes"] / PAGE_POSITIONS,
        # q k^T and p v: a multiplication and an addition for each element of k and of v
        position_flops=4 * a.n_layer * a.n_head * a.head_dim,
        windows=tuple(map(a.window_of, range(a.n_layer))),
    )


def _product(format: str, weights: int) -> Work:
    return Work(0, 0, 2 * weights) if format in INT8_FORMATS else Work(0, 2 * weights, 0)


def _sum(parts: Iterable[Work]) -> Work:
    total = Work(0, 0, 0)
    for part in parts:
        total += part
    return total
