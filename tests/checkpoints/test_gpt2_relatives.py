"""minGPT, build-nanogpt and llm.c, which share nanoGPT's layout and not its GELU."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import NanoGPT, NanoGPTConfig, prefixed, randomise
from in_the_engine import assert_exported
from relatives import GPTConfig, save_build_nanogpt, save_llmc, save_mingpt

from pygpt.checkpoints import torch_file
from pygpt.checkpoints.base import Options
from pygpt.checkpoints.recognise import read
from pygpt.cli.main import main
from pygpt.errors import InvalidRequestError, ModelFileError

IDS_ONLY = Options(tokenizer="none")
CONFIG = NanoGPTConfig(n_layer=3, n_head=3, n_embd=36, block_size=19, bias=True, vocab_size=53)


def make(config: NanoGPTConfig = CONFIG, **kind: bool) -> NanoGPT:
    model = NanoGPT(config, **({"tanh": True} | kind))
    randomise(model)
    return model


# minGPT ----------------------------------------------------------------------------------------------------


def test_every_logit_equals_that_of_mingpt(tmp_path: Path) -> None:
    model = make(tied=False, mask=True)
    path = save_mingpt(tmp_path / "out", model)
    assert_exported(path, model, tmp_path / "m.pygpt", context=19, vocab=53)


def test_the_heads_of_mingpt_are_those_of_its_model_type(tmp_path: Path) -> None:
    path = save_mingpt(tmp_path / "out", make(tied=False), model_type="gpt-nano", n_head=None)
    assert read(path, IDS_ONLY).architecture.n_head == 3


def test_a_bare_mingpt_needs_its_heads_and_a_vocabulary() -> None:
    state = make(tied=False).state_dict()
    with pytest.raises(InvalidRequestError) as caught:
        read(state, IDS_ONLY)
    assert caught.value.param == "n_head"
    with pytest.raises(InvalidRequestError) as caught:
        read(state, Options(n_head=3))
    assert caught.value.param == "text"
    assert read(state, Options(tokenizer="none", n_head=3)).provenance["family"] == "mingpt"


@pytest.mark.parametrize("change", [{"n_layer": 2}, {"n_embd": 35}, {"block_size": 20}, {"n_head": 5}])
def test_a_config_of_mingpt_that_contradicts_the_tensors_is_refused(
    change: dict[str, int], tmp_path: Path
) -> None:
    path = save_mingpt(tmp_path / "out", make(tied=False), **change)
    with pytest.raises(ModelFileError, match=next(iter(change))):
        read(path, IDS_ONLY)


# build-nanogpt ---------------------------------------------------------------------------------------------


def test_every_logit_equals_that_of_build_nanogpt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    path = save_build_nanogpt(tmp_path / "model_19072.pt", model, monkeypatch)
    assert_exported(path, model, tmp_path / "m.pygpt", context=19, vocab=53)
    assert read(path, IDS_ONLY).provenance == {"family": "build_nanogpt", "step": 19072}


def test_a_checkpoint_of_build_nanogpt_in_memory_is_read() -> None:
    state = make().state_dict()
    imported = read({"model": state, "config": GPTConfig(), "step": 3}, IDS_ONLY)
    assert imported.architecture.activation == "gelu_tanh"


def test_a_config_of_build_nanogpt_that_contradicts_the_tensors_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for change in ({"n_layer": 2}, {"n_head": 5}, {"vocab_size": 52}):
        path = save_build_nanogpt(tmp_path / "m.pt", make(), monkeypatch, **change)
        with pytest.raises(ModelFileError, match=next(iter(change))):
            read(path, IDS_ONLY)


class TrainConfig:
    """Pickles as a call with arguments: more than settings."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (TrainConfig, (self.path,))


class BuildConfig:
    """Pickles as its own class and, beside it, a function that runs a program."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def test_B9_a_config_class_that_would_be_called_is_refused_and_not_run(tmp_path: Path) -> None:
    held = [TrainConfig(str(tmp_path / "ran")), BuildConfig(tmp_path / "ran"), [TrainConfig("x"), print]]
    for config in held:
        torch.save({"model": make().state_dict(), "config": config, "step": 1}, tmp_path / "m.pt")
        with pytest.raises(ModelFileError) as caught:
            read(tmp_path / "m.pt", IDS_ONLY)
        assert caught.value.code == "unsafe_pickle"
        assert not (tmp_path / "ran").exists()


def test_an_inert_object_has_attributes_and_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_build_nanogpt(tmp_path / "m.pt", make(), monkeypatch)
    config = torch_file.load(path)["config"]
    assert isinstance(config, torch_file.Inert)
    assert vars(config) == {"block_size": 19, "vocab_size": 53, "n_layer": 3, "n_head": 3, "n_embd": 36}


# Which is which --------------------------------------------------------------------------------------------


def test_the_three_are_told_apart_by_what_wraps_them() -> None:
    state, untied = make().state_dict(), make(tied=False).state_dict()
    given = Options(tokenizer="none", n_head=3)
    args = {"n_layer": 3, "n_head": 3, "n_embd": 36, "block_size": 19, "bias": True, "vocab_size": 53}
    families = {
        "nanogpt": [{"model": state, "model_args": args}, {"model": untied, "model_args": args}, state],
        "build_nanogpt": [{"model": state, "config": GPTConfig(), "step": 1}],
        "mingpt": [untied, {"state_dict": untied}],
    }
    for family, held in families.items():
        for source in held:
            assert read(source, given).provenance["family"] == family


def test_a_live_module_s_gelu_is_seen() -> None:
    for tanh, name in ((True, "gelu_tanh"), (False, "gelu")):
        imported = read(make(tanh=tanh), IDS_ONLY)
        assert imported.architecture.activation == name
        assert imported.unrecorded == ()


@pytest.mark.parametrize("prefix", ["model.", "model._orig_mod.", "net.module.", "a.b.c."])
def test_B11_a_part_that_all_names_share_is_taken_away(prefix: str) -> None:
    state = {
        "state_dict": prefixed(make().state_dict(), prefix),
        "epoch": 3,
        "pytorch-lightning_version": "2",
    }
    assert read(state, Options(tokenizer="none", n_head=3)).provenance["family"] == "nanogpt"
    with pytest.raises(ModelFileError, match="nearest"):  # the loss's own weights: names no longer share it
        read(dict(state["state_dict"]) | {"loss.weight": torch.ones(3)}, IDS_ONLY)


def test_B11_compiled_blocks_inside_a_model_are_read() -> None:
    state = {name.replace(".h.1.", ".h.1._orig_mod."): value for name, value in make().state_dict().items()}
    assert read(state, Options(tokenizer="none", n_head=3)).architecture.n_layer == 3


# llm.c -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 5])
def test_every_logit_equals_that_of_llm_c(version: int, tmp_path: Path) -> None:
    model = make()
    path = save_llmc(tmp_path / "gpt2.bin", model, version=version, vocab_size=50)
    if version == 5:  # the weights themselves are rounded
        model = model.to(torch.bfloat16).float()
    done = assert_exported(path, model, tmp_path / "m.pygpt", context=19, vocab=50)
    assert read(path, IDS_ONLY).source_dtype == ("f32" if version == 3 else "bf16")
    assert done.dtype == "f32"


def test_A25_the_padding_of_llm_c_is_not_sampled(tmp_path: Path) -> None:
    a = read(save_llmc(tmp_path / "gpt2.bin", make(), vocab_size=50), IDS_ONLY).architecture
    assert (a.vocab_size, a.padded_vocab_size, a.activation) == (50, 53, "gelu_tanh")


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (1, 1, "version"), (1, 0, "version"), (2, 0, "context_length"), (2, -1, "context_length"),
        (2, 2**31 - 1, "context_length"), (3, 54, "vocabulary"), (4, 5000, "n_layer"), (4, 4, "bytes"),
        (5, 0, "n_head"), (5, 5, "heads"), (6, 2**30, "width"), (6, 33, "bytes"), (7, -5, "padded"),
        (7, 2**24, "bytes"),
    ],
)  # fmt: skip
def test_a_header_of_llm_c_that_lies_is_refused_before_anything_is_read(
    place: int, value: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_llmc(tmp_path / "gpt2.bin", make())
    data = bytearray(path.read_bytes())
    data[4 * place : 4 * place + 4] = struct.pack("<i", value)
    path.write_bytes(data)
    assert main(["export", str(path), "--tokenizer", "none"]) == 3
    assert says in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["gpt2.bin"]


@pytest.mark.parametrize("length", [4, 1023, 1024, 5000, -1])
def test_a_file_of_llm_c_that_is_cut_short_is_refused(length: int, tmp_path: Path) -> None:
    path = save_llmc(tmp_path / "gpt2.bin", make())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelFileError, match="bytes"):
        read(path, IDS_ONLY)


def test_values_of_llm_c_are_where_they_were_put(tmp_path: Path) -> None:
    model = make()
    imported = read(save_llmc(tmp_path / "gpt2.bin", model), IDS_ONLY)
    expected = model.state_dict()["transformer.h.2.mlp.c_proj.weight"].numpy()
    np.testing.assert_array_equal(imported.tensors["h.2.mlp.down"](), expected)
