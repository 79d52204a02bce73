"""`pygpt bench`: what goes where, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pygpt.bench import caches, limits, reading
from pygpt.bench.model_tables import MODEL_SCHEMA
from pygpt.bench.tables import MACHINE_SCHEMA
from pygpt.cli.bench import _batches
from pygpt.cli.main import main

Capture = pytest.CaptureFixture[str]
SHORT = ("--tokens", "4", "--prompt-tokens", "8", "--batch", "2", "--repeats", "1", "-j", "2")


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure little memory: what comes out says nothing about this machine."""
    monkeypatch.setattr(limits, "dram_bytes", lambda _: 1 << 20)
    monkeypatch.setattr(caches.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(reading, "LEAST_READ", 1 << 18)
    monkeypatch.setattr(limits, "FMA_ITERATIONS", 1000)
    monkeypatch.setattr(limits, "SPREAD_ITERATIONS", 1000)


def test_a_models_table_goes_to_stdout(small_model: Path, capsys: Capture) -> None:
    assert main(["bench", str(small_model), *SHORT]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.startswith(str(small_model))
    for row in ("decode", "batch 2", "prefill", "file to engine", "new process to first token", "limits:"):
        assert f"\n{row}" in shown.out


def test_a_models_json_and_picture(small_model: Path, tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "roofline.png"
    words = ["bench", str(small_model), *SHORT, "--batch", "3", "--picture", str(picture), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == MODEL_SCHEMA
    assert [each["name"] for each in found["figures"]] == ["decode", "batch 2", "batch 3", "prefill"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(words) == 2
    assert "exists; --force replaces it" in capsys.readouterr().err


def test_the_machine_as_a_table_and_as_json(capsys: Capture) -> None:
    assert main(["bench", "--machine", "--repeats", "1", "-j", "2"]) == 0
    assert "read DRAM, GB/s" in capsys.readouterr().out
    assert main(["bench", "--machine", "--repeats", "1", "-j", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == MACHINE_SCHEMA
    assert list(found["dram_gb_s"]) == list(found["barrier_ns"]) == ["2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--repeats", "0"], "repeats: must be an integer from 1"),
        (["--batch", "0"], "batch: must be at least 1"),
        (["--batch", "99999"], "batch: must be an integer from 1 to"),
        (["--tokens", "1"], "tokens: must be an integer from 2 to"),
        (["--tokens", "1000"], "tokens: must be an integer from 2 to"),
        (["--prompt-tokens", "64"], "prompt-tokens: must be an integer from 1 to 63"),
        (["-j", "0"], "threads: must be an integer from 1"),
        (["--machine"], "--machine: measures no model"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_2(
    small_model: Path, capsys: Capture, words: list[str], message: str
) -> None:
    assert main(["bench", str(small_model), *words]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert message in shown.err


def test_a_missing_model_is_exit_code_3(tmp_path: Path, capsys: Capture) -> None:
    assert main(["bench", str(tmp_path / "none.pygpt")]) == 3
    assert "none.pygpt" in capsys.readouterr().err


def test_too_little_memory_is_exit_code_4(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(limits, "dram_bytes", lambda _: 1 << 60)
    assert main(["bench", "--machine", "--repeats", "1"]) == 4
    assert "free some memory" in capsys.readouterr().err


def test_a_picture_in_a_folder_that_is_not_there_is_told_before_anything_is_measured(
    small_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["bench", str(small_model), "--picture", str(tmp_path / "none" / "x.png")]) == 1
    assert "No such file or directory" in capsys.readouterr().err


def test_batches_on_the_way_are_drawn() -> None:
    assert _batches(8, drawn=False) == (8,)
    assert _batches(8, drawn=True) == (2, 4, 8)
    assert _batches(12, drawn=True) == (2, 4, 8, 12)
    assert _batches(1, drawn=True) == ()


def test_ctrl_c_ends_it_with_130(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(limits, "_barriers", interrupted)
    assert main(["bench", "--machine", "--repeats", "1", "-j", "1"]) == 130
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "interrupted\n")
