"""Opening checkpoints: nothing is executed, everything unusable is named."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import NanoGPT, NanoGPTConfig, randomise

from pygpt.checkpoints.base import Options
from pygpt.checkpoints.loading import load
from pygpt.checkpoints.recognise import read
from pygpt.errors import InvalidRequestError, ModelFileError

GIVEN = Options(tokenizer="none", n_head=3)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """A state_dict of nanoGPT with biases."""
    model = NanoGPT(NanoGPTConfig(bias=True))
    randomise(model)
    return dict(model.state_dict())


class _Runs:
    """Pickles as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def attacks(marker: Path) -> dict[str, Any]:
    """Checkpoints that would create the marker if their pickle ran."""
    return {
        "os.system": {"model": {"a": _Runs(os.system, f"touch {marker}")}},
        "eval": {"model": {"a": _Runs(eval, f"open({str(marker)!r}, 'w')")}},
        "top": _Runs(Path.touch, marker),
        "key": OrderedDict({"a": torch.zeros(2), "b": _Runs(os.mkdir, str(marker))}),
    }


@pytest.mark.parametrize("name", ["os.system", "eval", "top", "key"])
def test_B9_a_pickle_that_would_run_code_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(attacks(tmp_path / "ran")[name], path)
    with pytest.raises(ModelFileError, match=r"torch\.save\(model\.state_dict\(\)") as caught:
        load(path)
    assert caught.value.code == "unsafe_pickle"
    assert not (tmp_path / "ran").exists()


def test_B9_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(_Runs(Path.touch, tmp_path / "ran")))
    with pytest.raises(ModelFileError):
        load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_B9_an_archive_in_an_archive_is_refused_and_not_run(tmp_path: Path) -> None:
    inner = io.BytesIO()
    torch.save(_Runs(Path.touch, tmp_path / "ran"), inner)
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as outer:
        outer.writestr("archive/data.pkl", pickle.dumps(_Runs(Path.touch, tmp_path / "ran")))
        outer.writestr("archive/version", "3")
        outer.writestr("archive/inner.pt", inner.getvalue())
    with pytest.raises(ModelFileError):
        load(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("version", "warned"), [("2.9.1+cu128", 1), ("2.10.0", 0), ("3.0.0a0", 0)])
def test_B10_a_torch_whose_loading_can_be_tricked_is_named(
    version: str, warned: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": {"a": torch.zeros(2)}}, tmp_path / "model.pt")
    monkeypatch.setattr(torch, "__version__", version)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(tmp_path / "model.pt")
    said = [str(each.message) for each in caught if "CVE-2026-24747" in str(each.message)]
    assert len(said) == warned
    assert all("update torch to 2.10" in each for each in said)


def test_a_whole_pickled_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(NanoGPT(NanoGPTConfig()), tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match="state_dict"):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "keys", [("model",), ("state_dict",), ("model_state_dict",), ("state_dict", "model")]
)
def test_B11_wrapper_dicts_are_opened(
    keys: tuple[str, ...], state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    wrapped: dict[str, Any] = dict(state)
    for key in keys:
        wrapped = {key: wrapped, "epoch": 3}
    torch.save(wrapped, tmp_path / "model.pth")
    source = load(tmp_path / "model.pth")
    assert source.tensors.keys() == state.keys()
    assert source.extras["epoch"] == 3


def test_wrappers_nested_without_end_are_refused() -> None:
    endless: dict[str, Any] = {"a": torch.zeros(1)}
    endless["model"] = endless
    with pytest.raises(ModelFileError, match="nested"):
        load(endless)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float32])
def test_B11_every_float_type_is_read(
    dtype: torch.dtype, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save({name: tensor.to(dtype) for name, tensor in state.items()}, tmp_path / "model.pt")
    imported = read(tmp_path / "model.pt", GIVEN)
    expected = state["transformer.h.1.mlp.c_fc.weight"].to(dtype).float().numpy()
    np.testing.assert_array_equal(imported.tensors["h.1.mlp.up"](), expected)
    names = {torch.float16: "f16", torch.bfloat16: "bf16", torch.float64: "f64", torch.float32: "f32"}
    assert imported.source_dtype == names[dtype]


def _unreadable(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "complex64": weight.to(torch.complex64),
        "float8_e4m3fn": weight.to(torch.float8_e4m3fn),
        "int64": weight.long(),
        "sparse": weight.to_sparse(),
        "quantized": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "meta": weight.to("meta"),
    }


@pytest.mark.parametrize("kind", ["complex64", "float8_e4m3fn", "int64", "sparse", "quantized", "meta"])
@pytest.mark.filterwarnings("ignore")
def test_B11_a_type_that_cannot_be_read_names_the_tensor(kind: str, state: dict[str, torch.Tensor]) -> None:
    name = "transformer.h.0.mlp.c_proj.weight"
    state[name] = _unreadable(state[name])[kind]
    with pytest.raises(ModelFileError, match=kind) as caught:
        read(state, GIVEN)
    assert caught.value.section == name
    assert caught.value.code == "unsupported_dtype"


def test_B11_strided_tied_and_trainable_tensors_are_read(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    name = "transformer.h.0.mlp.c_fc.weight"
    expected = state[name].clone().numpy()
    big = torch.zeros(48 * 2, 192 * 3)
    big[::2, ::3] = state[name].T
    state[name] = big[::2, ::3].T  # neither contiguous nor alone in its storage
    state = {key: torch.nn.Parameter(tensor) for key, tensor in state.items()}
    torch.save(state, tmp_path / "model.pt")
    for source in (state, tmp_path / "model.pt"):
        imported = read(source, GIVEN)
        np.testing.assert_array_equal(imported.tensors["h.0.mlp.up"](), expected)
        assert imported.architecture.tied_head


def test_numpy_arrays_will_do_for_a_state_dict(state: dict[str, torch.Tensor]) -> None:
    imported = read({name: tensor.numpy() for name, tensor in state.items()}, GIVEN)
    np.testing.assert_array_equal(imported.tensors["wpe"](), state["transformer.wpe.weight"].numpy())


def test_two_names_that_differ_in_their_prefix_only_are_refused(state: dict[str, torch.Tensor]) -> None:
    state["module.transformer.wte.weight"] = state["transformer.wte.weight"]
    with pytest.raises(ModelFileError, match=r"transformer\.wte\.weight"):
        read(state, GIVEN)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "neither"),
        (b"pygpt 1\nconfig n_layer 1\n", "already"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "web page"),
        (b"\x80\x02}q\x00.", "neither"),
        (b"PK\x03\x04 but not really", "cannot load"),
    ],
)
def test_A4_other_files_are_called_what_they_are(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=says):
        load(path)


def test_a_truncated_checkpoint_is_an_error(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "model.pt")
    data = (tmp_path / "model.pt").read_bytes()
    for length in (5, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "model.pt").write_bytes(data[:length])
        with pytest.raises(ModelFileError):
            load(tmp_path / "model.pt")


def test_A27_odd_paths_are_errors_that_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for path in (
        tmp_path / "fifo",
        tmp_path / "missing.pt",
        tmp_path / "loop",
        Path("/dev/null"),
        Path("a\0b"),
    ):
        with pytest.raises(ModelFileError):
            load(path)
    with pytest.raises(InvalidRequestError):
        load(3)


def test_a_directory_is_searched_for_its_one_checkpoint(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match="name the file"):
        load(tmp_path)
    torch.save(state, tmp_path / "a.pt")
    assert load(tmp_path).tensors.keys() == state.keys()
    torch.save(state, tmp_path / "b.pt")
    with pytest.raises(ModelFileError, match=r"a\.pt, b\.pt"):
        load(tmp_path)
    torch.save({"model": state, "model_args": {}}, tmp_path / "ckpt.pt")
    assert load(tmp_path).path == tmp_path


def test_an_unknown_family_is_compared_with_the_nearest() -> None:
    state = {
        "wte.weight": torch.zeros(3, 4),
        "wpe.weight": torch.zeros(3, 4),
        "blocks.0.mixer.weight": torch.zeros(2),
    }
    with pytest.raises(
        ModelFileError, match=r"nearest is pygpt's own.*missing: .*extra: blocks\.\*\.mixer\.weight"
    ):
        read(state, Options())


def test_a_pt_file_without_torch_names_the_install_command(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "m.pt")
    code = """
import sys
sys.modules["torch"] = None  # any import of it fails
import pygpt
try:
    pygpt.export(sys.argv[1])
except pygpt.MissingExtraError as error:
    assert 'pip install "pygpt[export]"' in str(error)
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.pt")], check=True, timeout=60)


def test_names_that_count_to_a_billion_cost_nothing() -> None:
    state = {"token_embedding_table.weight": torch.zeros(3, 4), "blocks.999999999.ln1.weight": torch.zeros(4)}
    with pytest.raises(ModelFileError):
        read(state, Options(text="abc"))
    many = {f"transformer.h.{i}.attn.c_attn.weight": torch.zeros(12, 4) for i in (0, 4000)}
    with pytest.raises(ModelFileError):
        read(many, GIVEN)
