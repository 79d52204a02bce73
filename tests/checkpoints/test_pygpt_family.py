"""pygpt's own training directories and live models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pygpt.checkpoints.base import Imported, Options
from pygpt.checkpoints.recognise import read
from pygpt.errors import ModelFileError
from pygpt.model import Model
from pygpt.reference import forward
from pygpt.tokenizer import Tokenizer
from pygpt.train import checkpoint

CHARS = "\n abcdefghijklmnopqrstuvwxyz"
SHAPES = [
    {"context_length": 9, "d_model": 30, "h": 3, "n_layers": 2, "n_vocab": len(CHARS)},
    {"context_length": 5, "d_model": 32, "h": 2, "n_layers": 1, "n_vocab": len(CHARS), "bias": False},
    {"context_length": 7, "d_model": 21, "h": 1, "n_layers": 3, "n_vocab": len(CHARS), "activation": "gelu"},
    {"context_length": 4, "d_model": 16, "h": 4, "n_layers": 2, "n_vocab": len(CHARS), "tie_weights": True},
    {
        "context_length": 4,
        "d_model": 20,
        "h": 2,
        "n_layers": 1,
        "n_vocab": len(CHARS),
        "activation": "gelu_tanh",
    },
]


def make(**shape: Any) -> Model:
    torch.manual_seed(0)
    model = Model(**shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def save(directory: Path, model: Model) -> Path:
    directory.mkdir(exist_ok=True)
    checkpoint.save_description(directory, model.config, Tokenizer.from_characters(CHARS))
    checkpoint.save_weights(directory, model)
    return directory


def assert_same_logits(imported: Imported, model: Model) -> None:
    ids = list(range(model.config.context_length))
    ours = forward(imported.architecture, lambda name: imported.tensors[name](), ids).logits
    with torch.no_grad():
        theirs = model.double()(torch.tensor([ids]))[0].numpy()
    model.float()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_logit_of_a_training_directory_equals_the_model_s(
    shape: dict[str, Any], tmp_path: Path
) -> None:
    model = make(**shape)
    assert_same_logits(read(save(tmp_path / "run", model), Options()), model)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_logit_of_a_live_model_equals_its_own(shape: dict[str, Any]) -> None:
    model = make(**shape)
    assert_same_logits(read(model, Options()), model)
    assert_same_logits(read(torch.nn.DataParallel(model), Options()), model)


def test_what_the_directory_says_is_kept(tmp_path: Path) -> None:
    directory = save(tmp_path / "run", make(**SHAPES[0]))
    (directory / "chat.json").write_text('{"stop": ["\\n\\n"]}', "utf-8")
    config = json.loads((directory / "config.json").read_text("utf-8"))
    (directory / "config.json").write_text(json.dumps(config | {"defaults": {"temperature": 0.7}}), "utf-8")
    imported = read(directory, Options())
    assert imported.tokenizer is not None
    assert imported.tokenizer.encode("\nab") == [0, 2, 3]
    assert imported.blobs == {"chat.json": b'{"stop": ["\\n\\n"]}'}
    assert imported.defaults == {"temperature": 0.7}
    assert imported.architecture.start_token == 0
    assert imported.provenance["family"] == "pygpt"


@pytest.mark.parametrize("defaults", [{"temprature": 1}, {"temperature": "hot"}, {"top_k": 1.5}, [1]])
def test_defaults_that_mean_nothing_are_refused(defaults: object, tmp_path: Path) -> None:
    directory = save(tmp_path / "run", make(**SHAPES[0]))
    config = json.loads((directory / "config.json").read_text("utf-8"))
    (directory / "config.json").write_text(json.dumps(config | {"defaults": defaults}), "utf-8")
    with pytest.raises(ModelFileError, match="defaults"):
        read(directory, Options())


def test_the_directory_s_model_answers_for_itself_when_torch_is_there(tmp_path: Path) -> None:
    model = make(**SHAPES[3])
    imported = read(save(tmp_path / "run", model), Options())
    assert imported.original_logits is not None
    with torch.no_grad():
        theirs = model.double()(torch.tensor([[1, 2, 3]]))[0].numpy()
    np.testing.assert_array_equal(imported.original_logits([1, 2, 3]), theirs)


def test_a_training_directory_is_exported_without_torch(tmp_path: Path) -> None:
    directory = save(tmp_path / "run", make(**SHAPES[0]))
    code = f"""
import sys
sys.modules["torch"] = None  # any import of it fails
import pygpt
from pygpt import parity, _core
path = pygpt.export({str(directory)!r}, {str(tmp_path / "gpt.pygpt")!r})
assert parity.replay(_core.ModelFile(str(path))).method.startswith("pygpt's float64 forward")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_model_of_the_same_weights_and_another_activation_says_so(tmp_path: Path) -> None:
    directory = save(tmp_path / "run", make(**SHAPES[0]))
    relu = read(directory, Options()).architecture
    config = json.loads((directory / "config.json").read_text("utf-8"))
    config["model"]["activation"] = "gelu"
    (directory / "config.json").write_text(json.dumps(config), "utf-8")
    assert (relu.activation, read(directory, Options()).architecture.activation) == ("relu", "gelu")


@pytest.mark.parametrize(
    "change",
    [{"h": 7}, {"h": 0}, {"d_model": "30"}, {"n_layers": 10**9}, {"bias": 1}, {"context_length": None}],
)
def test_A21_a_config_that_lies_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    directory = save(tmp_path / "run", make(**SHAPES[0]))
    config = json.loads((directory / "config.json").read_text("utf-8"))
    config["model"] |= change
    (directory / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ModelFileError):
        read(directory, Options())
