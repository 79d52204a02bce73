"""The engine on a GPU: what needs one. Its kernels are tested without one too (tests/csrc/kernels/cuda)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_models import write_model

import pygpt
from pygpt import _core
from pygpt.dtypes import DTYPES
from pygpt.errors import DeviceError
from pygpt.file import Contents
from pygpt.model import Model
from pygpt.parity import stored_budget
from pygpt.reference import forward

BUDGET = 1e-4  # of the largest |logit|: the promise

GPT2: dict[str, Any] = {
    "n_layer": 2, "n_head": 4, "head_dim": 24, "d_model": 96, "d_ff": 200, "context_length": 300,
    "vocab_size": 500, "padded_vocab_size": 512, "activation": "gelu_tanh", "tied_head": True,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "n_layer": 2, "n_head": 6, "n_kv_head": 2, "head_dim": 10, "d_model": 50, "d_ff": 90,
    "context_length": 70, "vocab_size": 131, "norm": "rms_norm", "position": "rotary", "rope_theta": 1e4,
    "activation": "silu", "gate": True, "biases": False,
}  # fmt: skip


def missing_gpu() -> str:
    """Why there is none; empty where there is one."""
    try:
        _core.gpu()
    except DeviceError as error:
        return str(error)
    return ""


def test_D8_a_gpu_is_found_or_the_reason_and_the_way_out_are_told(tmp_path: Path) -> None:
    write_model(tmp_path / "model.pygpt")
    missing = missing_gpu()
    with pygpt.Engine(tmp_path / "model.pygpt") as engine:
        assert engine.info["device"] == ("cpu" if missing else "cuda")
    if missing:
        assert 'device="cpu"' in missing
        with pytest.raises(DeviceError) as caught:
            pygpt.Engine(tmp_path / "model.pygpt", device="cuda")
        assert str(caught.value) == missing


@pytest.fixture(scope="module")
def gpu() -> None:
    if missing := missing_gpu():
        pytest.skip(f"no GPU: {missing}")


def run(engine: _core.Engine, requests: list[_core.Request]) -> list[_core.Event]:
    events = engine.submit(requests).poll(60, until_done=True)
    assert len(events) == len(requests)
    assert all(event.error is None for event in events), [event.message for event in events]
    return events


def prompt(length: int, seed: int, vocab: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, vocab, length).tolist()


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("case", range(4))
def test_f32_logits_are_those_of_pytorch(case: int, tmp_path: Path) -> None:
    torch.manual_seed(case)
    rng = np.random.default_rng(case)
    shape = {
        "context_length": int(rng.integers(20, 301)), "d_model": 12 * int(rng.integers(3, 30)), "h": 6,
        "n_layers": 3, "n_vocab": int(rng.integers(11, 3000)), "activation": "gelu_tanh", "bias": True,
    }  # fmt: skip
    model = Model(**shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    path = pygpt.export(model, tmp_path / "model.pygpt", dtype="f32", tokenizer="none", verify=False)
    ids = rng.integers(0, shape["n_vocab"], shape["context_length"]).tolist()
    with torch.no_grad():
        wanted = model(torch.tensor([ids]))[0].numpy()
    with pygpt.Engine(path, device="cuda") as engine:
        got = engine.logits(ids)
    assert np.abs(got - wanted).max() <= BUDGET * np.abs(wanted).max()


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_every_format_agrees_with_the_float64_forward(
    shape: dict[str, Any], dtype: str, tmp_path: Path
) -> None:
    architecture = write_model(tmp_path / "model.pygpt", seed=3, dtype=dtype, **shape)
    file = _core.ModelFile(str(tmp_path / "model.pygpt"), verify="full")
    ids = prompt(architecture.context_length, 4, architecture.vocab_size)
    contents = Contents(architecture=architecture, dtype=dtype, weights=file.tensor)
    wanted = forward(architecture, file.tensor, ids, rounding=contents.rounding).logits[
        :, : architecture.vocab_size
    ]
    engine = _core.Engine(file, kv_dtype="f32", device="cuda")
    (event,) = run(engine, [_core.Request(prompt=ids, max_tokens=0, logits=True)])
    engine.close()
    assert event.logits is not None
    off = np.abs(event.logits - wanted).max(axis=1) / np.abs(wanted).max()
    assert off.max() <= stored_budget(dtype, architecture.n_layer)
    assert np.median(off) <= BUDGET


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("dtype", ["f32", "bf16", "q8"])
def test_batches_and_chunks_give_the_same_bits(dtype: str, tmp_path: Path) -> None:
    write_model(tmp_path / "model.pygpt", dtype=dtype, **GPT2)
    file = _core.ModelFile(str(tmp_path / "model.pygpt"))
    requests = [
        _core.Request(prompt=prompt(1 + 37 * k, k, 500), max_tokens=30, top_k=50, seed=k, logits=True)
        for k in range(8)
    ]

    def everything(event: _core.Event) -> tuple[list[int], bytes]:
        assert event.logits is not None
        return event.token_ids, event.logits.tobytes()

    alone = _core.Engine(file, device="cuda", max_running=1)
    wanted = [everything(run(alone, [request])[0]) for request in requests]
    alone.close()
    for chunk in (1, 7, 128, 300):
        engine = _core.Engine(file, device="cuda", prefill_chunk=chunk)
        for count in (1, 2, 3, 5, 8):
            assert [everything(event) for event in run(engine, requests[:count])] == wanted[:count], (
                chunk,
                count,
            )
        engine.close()


@pytest.mark.usefixtures("gpu")
def test_the_device_chooses_as_the_host_does(tmp_path: Path) -> None:
    """A request that reads logprobs is answered step by step, and its logits are chosen from by the host."""
    write_model(tmp_path / "model.pygpt", dtype="f16", **GPT2)
    file = _core.ModelFile(str(tmp_path / "model.pygpt"))
    engine = _core.Engine(file, device="cuda")
    rules: list[dict[str, Any]] = [
        {"temperature": 0.0}, {"temperature": 0.8}, {"top_k": 40}, {"top_p": 0.9}, {"min_p": 0.05},
        {"top_k": 40, "top_p": 0.9}, {"temperature": 1.5, "top_k": 5, "top_k_ties": True},
    ]  # fmt: skip
    for seed, rule in enumerate(rules):
        asked = {"prompt": prompt(20, seed, 500), "max_tokens": 100, "seed": seed, **rule}
        on_device = run(engine, [_core.Request(**asked)])[0].token_ids
        # A bias of nothing is a rule that the device does not have.
        by_host = run(engine, [_core.Request(**asked, logit_bias=[(0, 0.0)])])[0].token_ids
        assert on_device == by_host, rule
    engine.close()
