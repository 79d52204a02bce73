"""The figures of a GPU: that they are there and consistent. It does not matter whose engine is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import pygpt
from pygpt import InvalidRequestError, _core
from pygpt.bench.gpu import GPU_SCHEMA, GpuReport, gpu_json, gpu_lines, measure
from pygpt.cli.main import main
from pygpt.errors import DeviceError


@pytest.fixture
def report(small_model: Path) -> GpuReport:
    with pygpt.Engine(small_model, device="cpu", prefix_cache=False) as engine:
        return measure(engine, tokens=10, prompt_tokens=20, batches=(3,), repeats=2, copy_gb_s=50.0)


def test_every_figure_is_positive_and_the_share_is_of_the_copies(report: GpuReport) -> None:
    assert list(report.rates) == ["decode", "batch 3", "prefill"]
    for rate in report.rates.values():
        assert 0 < rate.worst <= rate.median <= rate.best
        assert rate.repeats == 2
    read = report.info["weight_bytes"] * report.rates["decode"].median
    assert report.share == pytest.approx(read / 50e9)


def test_people_and_programs_get_the_same(report: GpuReport) -> None:
    found = json.loads(json.dumps(gpu_json(report)))
    assert found["schema"] == GPU_SCHEMA
    assert found["rates"]["decode"]["median"] == report.rates["decode"].median
    text = "\n".join(gpu_lines(report))
    for name in (*report.rates, "50 GB/s", "10 tokens from a prompt of 16"):
        assert name in text


@pytest.mark.parametrize(
    ("settings", "param"),
    [({"tokens": 64}, "tokens"), ({"prompt_tokens": 64}, "prompt-tokens"), ({"batches": (65,)}, "batch")],
)
def test_what_does_not_fit_is_refused(small_model: Path, settings: dict[str, int], param: str) -> None:
    asked = {"tokens": 10, "prompt_tokens": 20, "batches": (), "repeats": 1, "copy_gb_s": 1.0} | settings
    with (
        pygpt.Engine(small_model, device="cpu") as engine,
        pytest.raises(InvalidRequestError) as caught,
    ):
        measure(engine, **asked)  # type: ignore[arg-type]
    assert caught.value.param == param


def test_the_command_says_why_there_is_no_gpu(small_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = ""
    try:
        _core.gpu()
    except DeviceError as error:
        missing = str(error)
    words = ["--tokens", "8", "--prompt-tokens", "9", "--batch", "2", "--repeats", "1", "--json"]
    assert main(["bench", str(small_model), "--device", "cuda", *words]) == (4 if missing else 0)
    shown = capsys.readouterr()
    if missing:
        assert json.loads(shown.err)["error"]["message"] == missing
    else:
        assert json.loads(shown.out)["info"]["device"] == "cuda"
