"""What steps cost, counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pygpt import _core
from pygpt.bench.work import Costs, Work, costs

# 2 layers, 3 heads of 16, context 64, d_model 48, d_ff 192, 63 or so characters: tests/small_models.py.
BY_HAND = Costs(
    weight_bytes=1000, row=Work(0, 200, 100), head=Work(0, 50, 0), kv_bytes=10.0, position_flops=7
)


def test_a_decode_step_reads_the_weights_once_and_every_sequences_cache() -> None:
    # Rows at positions 4 and 5 see 5 and 6 positions; three sequences.
    assert BY_HAND.decode(3, 4, 2) == Work(2 * 1000 + 10 * 3 * 11, 6 * 250 + 7 * 33, 600)


def test_prefill_reads_the_weights_once_a_chunk_and_heads_the_last_row_only() -> None:
    # Chunks of 4, 4 and 2 rows see 4, 8 and 10 positions; rows see 1 + 2 + ... + 10.
    assert BY_HAND.prefill(10, 4) == Work(3 * 1000 + 10 * 22, 10 * 200 + 50 + 7 * 55, 1000)


def test_a_window_ends_what_a_layer_reads() -> None:
    # Two layers, one with a window of 3: rows at positions 4 and 5 see 5 and 3, then 6 and 3.
    windowed = replace(BY_HAND, windows=(64, 3))
    assert windowed.decode(1, 4, 2) == Work(2 * 1000 + 10 * 8.5, 2 * 250 + 7 * 8.5, 200)
    # Chunks of 4, 4 and 2 rows: the second layer reads the chunk and up to 2 positions before it.
    cached = ((4 + 4) + (8 + 6) + (10 + 4)) / 2
    seen = (55 + 1 + 2 + 8 * 3) / 2
    assert windowed.prefill(10, 4) == Work(3 * 1000 + 10 * cached, 10 * 200 + 50 + 7 * seen, 1000)


def test_intensity_is_operations_for_each_byte() -> None:
    assert Work(4, 2, 6).intensity == 2.0


def test_costs_of_a_real_file_are_those_of_its_shapes(small_model: Path) -> None:
    file = _core.ModelFile(str(small_model))
    engine = _core.Engine(file, kv_dtype="f32", threads=1)
    found = costs(file, engine.info)
    vocab = file.config["padded_vocab_size"]
    qkv, proj, up_and_down = 3 * 3 * 16 * 48, 48 * 48, 2 * 192 * 48
    assert found.row == Work(0, 2 * 2 * (qkv + proj + up_and_down), 0)
    assert found.head == Work(0, 2 * vocab * 48, 0)
    assert found.kv_bytes == 2 * 2 * 3 * 16 * 4  # k and v, layers, heads, elements, bytes
    assert found.position_flops == 4 * 2 * 3 * 16
    assert found.weight_bytes == sum(each.bytes for each in file.tensors if each.kind == "matrix")
    engine.close()


@pytest.mark.parametrize("format", ["q8", "q4"])
def test_matrices_of_bytes_are_multiplied_as_bytes(format: str, small_model: Path) -> None:
    class Tensor:
        def __init__(self, name: str, format: str) -> None:
            self.name, self.format, self.kind, self.rows, self.cols = name, format, "matrix", 16, 8

    class File:
        config = _core.ModelFile(str(small_model)).config
        tensors = (Tensor("wte", "f16"), Tensor("h.0.attn.qkv", format), Tensor("h.0.attn.proj", "f16"))

    found = costs(File(), {"weight_bytes": 1, "kv_page_bytes": 32})  # type: ignore[arg-type]
    assert found.row == Work(0, 256, 256)
    assert found.head == Work(0, 256, 0)
