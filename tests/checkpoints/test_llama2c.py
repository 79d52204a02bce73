"""llama2.c's checkpoints and files: every logit equal to an independent PyTorch forward; what is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from llama2c import ModelArgs, Transformer, header, random_transformer, save_bin, save_checkpoint

import pygpt
from pygpt import _core
from pygpt.checkpoints.base import Options
from pygpt.checkpoints.recognise import read
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.reference import forward

BUDGET = 1e-4  # of the largest |logit|: the promise
NO_TOKENIZER = Options(tokenizer="none")

ARGS = {
    "groups": ModelArgs(),
    "heads": ModelArgs(n_kv_heads=None, n_heads=3, n_layers=1),
    "long": ModelArgs(dim=32, n_heads=4, max_seq_len=300),
}


def ids_of(args: ModelArgs) -> list[int]:
    return [i * 17 % args.vocab_size for i in range(args.max_seq_len)]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ARGS)
def test_the_float64_forward_is_the_original(name: str, tied: bool, tmp_path: Path) -> None:
    model = random_transformer(ARGS[name], tied=tied)
    imported = read(save_checkpoint(model, tmp_path / "ckpt.pt"), NO_TOKENIZER)
    assert imported.architecture.tied_head == tied
    ids = ids_of(model.args)
    ours = forward(imported.architecture, lambda tensor: imported.tensors[tensor](), ids).logits
    with torch.no_grad():
        theirs = model.double()(torch.tensor([ids]))[0].numpy()
    assert np.abs(ours - theirs).max() <= 1e-12 * np.abs(theirs).max()


@pytest.mark.parametrize("name", ARGS)
def test_f32_logits_are_those_of_pytorch(name: str, tmp_path: Path) -> None:
    model = random_transformer(ARGS[name])
    source = save_checkpoint(model, tmp_path / "ckpt.pt")
    path = pygpt.export(source, tmp_path / "m.pygpt", dtype="f32", tokenizer="none", verify=False)
    with torch.no_grad():
        wanted = model(torch.tensor([ids_of(model.args)]))[0].numpy()
    with pygpt.Engine(path, threads=2) as engine:
        got = engine.logits(ids_of(model.args))
    assert np.abs(got - wanted).max() <= BUDGET * np.abs(wanted).max()


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("tied", [True, False])
def test_a_bin_is_the_checkpoint_that_it_was_made_of(version: int, tied: bool, tmp_path: Path) -> None:
    model = random_transformer(tied=tied)
    whole = read(save_checkpoint(model, tmp_path / "ckpt.pt"), NO_TOKENIZER)
    imported = read(save_bin(model, tmp_path / "m.bin", version, tied=tied), NO_TOKENIZER)
    assert imported.architecture == whole.architecture
    for name, tensor in whole.tensors.items():
        np.testing.assert_array_equal(imported.tensors[name](), tensor(), err_msg=name)


@pytest.mark.parametrize("tied", [True, False])
def test_bytes_with_scales_are_within_half_a_step(tied: bool, tmp_path: Path) -> None:
    model = random_transformer(ModelArgs(dim=32, n_heads=4, multiple_of=16), tied=tied)
    whole = read(save_checkpoint(model, tmp_path / "ckpt.pt"), NO_TOKENIZER)
    imported = read(save_bin(model, tmp_path / "m.bin", 2, tied=tied, group=16), NO_TOKENIZER)
    assert imported.architecture == whole.architecture
    for name, tensor in whole.tensors.items():
        exact = tensor()
        off = np.abs(imported.tensors[name]() - exact).max()
        assert off <= 0.51 * np.abs(exact).max() / 127, name


def test_a_live_module_answers_for_itself(tmp_path: Path) -> None:
    """The original keeps its ModelArgs as `params`."""
    model = random_transformer()
    model.params = model.args
    path = pygpt.export(model, tmp_path / "m.pygpt", dtype="f32", tokenizer="none")
    assert b"the original PyTorch module" in _core.ModelFile(str(path)).blob("known_answers.json")


def test_texts_begin_and_end_at_bos(tmp_path: Path) -> None:
    imported = read(save_checkpoint(random_transformer(), tmp_path / "ckpt.pt"), Options())
    assert (imported.architecture.start_token, imported.architecture.stop_tokens) == (1, (1, 2))
    assert "sentencepiece" in imported.notes[0]


def test_what_records_no_heads_or_contradicts_itself_is_refused() -> None:
    model = random_transformer()
    with pytest.raises(ModelFileError, match="no model_args"):
        read(model.state_dict(), NO_TOKENIZER)
    args = vars(model.args)
    for change, message in (
        ({"dim": 40}, "dim is 40, but the tensors have 36"),
        ({"n_layers": 3}, "n_layers is 3"),
        ({"n_heads": 5}, "n_heads is 5"),
        ({"n_heads": 10**12}, "n_heads is 1000000000000"),
        ({"n_kv_heads": 3}, "expected the shape"),
        ({"max_seq_len": "long"}, "max_seq_len is 'long'"),
    ):
        with pytest.raises(ModelFileError, match=message):
            read({"model": model.state_dict(), "model_args": args | change}, NO_TOKENIZER)
    with pytest.raises(InvalidRequestError, match="6 heads"):
        read({"model": model.state_dict(), "model_args": args}, Options(tokenizer="none", n_head=3))


def cut(data: bytes) -> bytes:
    return data[:-1]


def at(offset: int, value: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:offset] + struct.pack("<i", value) + data[offset + 4 :]


@pytest.mark.parametrize(
    ("version", "bend", "message"),
    [
        *((version, cut, "implies") for version in (0, 1, 2)),
        *((version, lambda data: data + b"\0", "implies") for version in (0, 1, 2)),
        *((version, lambda data: data[:30], "implies|truncated") for version in (0, 1, 2)),
        (0, at(8, 4096), "implies"),
        (0, at(24, 1 << 24), "implies"),
        (0, at(12, 5), "n_kv_heads|heads do not divide"),
        (1, at(4, 3), "version 3; there are 0, 1 and 2"),
        (1, at(8, -1), "dim is -1"),
        (1, at(8, 2**31 - 1), "dim is 2147483647"),
        (1, at(16, 2**30), "n_layers is"),
        (1, at(16, 4096), "implies"),
        (1, at(24, 3), "n_kv_heads not the heads"),
        (1, at(28, 0), "vocab_size is 0"),
        (2, at(37, 0), "group_size is 0"),
        (2, at(37, 7), "group_size 7"),
        (2, at(37, 2**31 - 1), "group_size is"),
    ],
)
def test_a_hostile_header_is_refused_before_anything_is_read(
    version: int, bend: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    model = random_transformer(ModelArgs(dim=32, n_heads=4, multiple_of=16))
    path = save_bin(model, tmp_path / "m.bin", version, group=16)
    path.write_bytes(bend(path.read_bytes()))
    with pytest.raises(ModelFileError, match=message):
        read(path, NO_TOKENIZER)


def test_the_header_of_the_first_version_says_by_a_sign_whether_the_head_is_tied() -> None:
    model = Transformer(ModelArgs())
    assert header(model, tied=False, sign=True)[20:24] == struct.pack("<i", -61)
