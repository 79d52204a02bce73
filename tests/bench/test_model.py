"""What a model reaches: that every figure is there and consistent, never how fast it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import small_models

import pygpt
from pygpt import Error, InvalidRequestError
from pygpt.bench import model
from pygpt.bench.model import ModelReport, Settings
from pygpt.bench.startup import fresh_process, resident_bytes


def test_every_figure_is_positive_and_consistent(report: ModelReport) -> None:
    assert [each.name for each in report.figures] == ["decode", "batch 2", "prefill"]
    for each in report.figures:
        assert 0 < each.tokens_per_s.worst <= each.tokens_per_s.best
        assert each.gops == pytest.approx(each.gb_s * each.intensity)
    assert 0 < report.figures[0].intensity < report.figures[1].intensity < report.figures[2].intensity
    for wait in (report.first_token_s, report.open_s, report.process_s):
        assert 0 < wait.best <= wait.median <= wait.worst
    assert report.process_s.best > report.open_s.best
    assert report.set_bytes > report.info["weight_bytes"]
    assert report.read_gb_s.best > 0
    assert report.fma_gflops.best > 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (Settings(tokens=64), "tokens"),  # and 16 of the prompt: more than the context of 64
        (Settings(tokens=1), "tokens"),
        (Settings(prompt_tokens=64), "prompt-tokens"),
        (Settings(batches=(100_000,)), "batch"),
        (Settings(repeats=0), "repeats"),
    ],
)
def test_what_the_model_cannot_do_is_refused(small_model: Path, settings: Settings, named: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        model.measure(lambda: pygpt.Engine(small_model, threads=1), {}, settings)
    assert caught.value.param == named


@pytest.mark.usefixtures("quick")
def test_a_short_context_shortens_the_defaults(tmp_path: Path) -> None:
    path = small_models.random_model(tmp_path / "short.pygpt", context=8)
    found = model.measure(
        lambda: pygpt.Engine(path, threads=1), {"threads": 1}, Settings(batches=(), repeats=1)
    )
    assert (found.short_prompt, found.tokens, found.prompt_tokens) == (6, 2, 7)
    assert [each.name for each in found.figures] == ["decode", "prefill"]


@pytest.mark.usefixtures("quick")
def test_a_context_too_short_to_measure_is_refused(small_model: Path) -> None:
    with pytest.raises(InvalidRequestError, match="too short"):
        model.measure(lambda: pygpt.Engine(small_model, max_context=2), {}, Settings())


def test_a_process_of_its_own_writes_a_token(small_model: Path) -> None:
    found = fresh_process(os.fspath(small_model), {"threads": 1})
    assert found.seconds > 0
    assert (found.resident_bytes is None) == (resident_bytes() is None)


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"missing\.pygpt"):
        fresh_process(os.fspath(tmp_path / "missing.pygpt"), {})
