"""What a model's steps cost at least: bytes that must be read, operations that must be done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    """

    weight_bytes: int
    row: Work
    head: Work
    kv_bytes: float
    position_flops: int

    def decode(self, batch: int, first: int, steps: int) -> Work:
        """`steps` steps of `batch` sequences, one row each; the first rows stand at position `first`."""
        seen = batch * sum(range(first + 1, first + steps + 1))  # positions, the row's own among them
        rows = (self.row + self.head) * (batch * steps)
        return rows + Work(self.weight_bytes * steps + self.kv_bytes * seen, self.position_flops * seen, 0)

    def prefill(self, tokens: int, chunk: int) -> Work:
        """A prompt, in chunks of rows, and the logits of its last position. The cache is read once each."""
        chunks = -(-tokens // chunk)
        cached = sum(min(tokens, chunk * (index + 1)) for index in range(chunks))
        read = self.weight_bytes * chunks + self.kv_bytes * cached
        return self.row * tokens + self.head + Work(read, self.position_flops * tokens * (tokens + 1) / 2, 0)


def costs(file: ModelFile, info: Mapping[str, Any]) -> Costs:
    """Of a model as its file stores it and as the engine runs it."""
    matrices = [tensor for tensor in file.tensors if tensor.kind == "matrix"]
    head = next((tensor for tensor in matrices if tensor.name == "head"), None)
    head = head or next(tensor for tensor in matrices if tensor.name == "wte")
    config = file.config
    return Costs(
        weight_bytes=info["weight_bytes"],
        row=_sum(_product(each.format, each.rows * each.cols) for each in matrices if each is not head),
        head=_product(head.format, head.rows * head.cols),
        kv_bytes=info["kv_page_bytes"] / PAGE_POSITIONS,
        # q k^T and p v: a multiplication and an addition for each element of k and of v
        position_flops=4 * config["n_layer"] * config["n_head"] * config["head_dim"],
    )


def _product(format: str, weights: int) -> Work:
    return Work(0, 0, 2 * weights) if format in INT8_FORMATS else Work(0, 2 * weights, 0)


def _sum(parts: Iterable[Work]) -> Work:
    total = Work(0, 0, 0)
    for part in parts:
        total += part
    return total
