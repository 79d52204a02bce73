"""The reader of safetensors files against the library that defines them, and against damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pygpt.checkpoints.loading import load
from pygpt.checkpoints.safetensors_file import read_safetensors
from pygpt.errors import ModelFileError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_values_are_those_that_the_library_wrote(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5).to(dtype),
        "b": torch.randn(7).to(dtype),
        "empty": torch.zeros(0, 4, dtype=dtype),
    }
    save_file(tensors, tmp_path / "m.safetensors", {"format": "pt"})
    stored = read_safetensors(tmp_path / "m.safetensors")
    for name, tensor in tensors.items():
        assert stored[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(stored[name].read(), tensor.float().numpy())


def craft(path: Path, header: object, data: bytes = bytes(64)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        b"{not json",
        [1, 2],
        {"a": 3},
        {"a": {"dtype": "F32", "shape": [4]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 12]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [64, 80]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
        {"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": "4", "data_offsets": [0]}},
        b"[" * 100_000,
    ],
    ids=lambda header: str(header)[:40],
)
def test_a_header_that_lies_is_refused(header: object, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        load(craft(tmp_path / "m.safetensors", header))
    assert caught.value.code == "damaged"


@pytest.mark.parametrize(
    "content", [b"", b"\x01", (2**63).to_bytes(8, "little"), (100).to_bytes(8, "little") + b"{}"]
)
def test_a_file_cut_short_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError):
        load(tmp_path / "m.safetensors")


def test_a_type_that_cannot_be_read_is_kept_by_name(tmp_path: Path) -> None:
    header = {"mask": {"dtype": "BOOL", "shape": [4], "data_offsets": [0, 4]}}
    assert read_safetensors(craft(tmp_path / "m.safetensors", header))["mask"].dtype == "BOOL"
