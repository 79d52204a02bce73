"""The roofline as a picture."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from pygpt import MissingExtraError
from pygpt.bench.model import ModelReport
from pygpt.bench.picture import ceilings, check_matplotlib, draw, roofs


def test_it_is_a_png(report: ModelReport, tmp_path: Path) -> None:
    draw(report, tmp_path / "roofline.png")
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_a_name_is_no_formula(report: ModelReport, tmp_path: Path) -> None:
    draw(replace(report, info={**report.info, "path": "/a/$x^{$.pygpt"}), tmp_path / "odd.png")
    assert (tmp_path / "odd.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_its_lines_are_the_measured_limits(report: ModelReport) -> None:
    assert roofs(report)["DRAM"] == report.bandwidths.dram.median
    assert ceilings(report)["f32 FMA"] == report.fma_gflops.median
    bare = replace(
        report,
        bandwidths=replace(report.bandwidths, llc=None),
        int8_gops=replace(report.int8_gops, median=0.0),
    )
    assert list(roofs(bare)) == ["DRAM"]
    assert list(ceilings(bare)) == ["f32 FMA"]


def test_without_matplotlib_the_message_is_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r'pip install "pygpt\[train\]"'):
        check_matplotlib()
