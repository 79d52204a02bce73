"""`pygpt doctor`: one screen that tells the truth and no secrets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pygpt import _core
from pygpt.cli import doctor
from pygpt.cli.main import main

Capture = pytest.CaptureFixture[str]


def facts_of(capsys: Capture, *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", "--json", *words])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


def test_a_healthy_installation_is_one_screen_and_exit_code_0(capsys: Capture) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert len(lines) <= 24
    assert lines[-1] == "all is well"
    for word in ("pygpt", "Python", _core.isas()[0], "affinity", "cgroup", "torch", "known answers ok"):
        assert word in out


def test_D4_it_shows_the_limits_that_the_engine_obeys(capsys: Capture) -> None:
    affinity = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(affinity)})
        _, found = facts_of(capsys)
    finally:
        os.sched_setaffinity(0, affinity)
    assert found["machine"]["affinity"] == [min(affinity)]
    assert found["core"]["usable_cpus"] == 1
    assert found["model"]["threads"] == 1


def test_json_has_what_programs_need(capsys: Capture, small_model: Path) -> None:
    code, found = facts_of(capsys, str(small_model))
    assert code == 0
    assert found["schema"] == "pygpt.doctor/1"
    assert (found["well"], found["problems"]) == (True, [])
    assert found["core"]["version"] == _core.__version__
    assert found["packages"]["base"]["numpy"]
    gpu = found["core"]["gpu"]  # or why there is none
    assert gpu["name"] if isinstance(gpu, dict) else "device=" in gpu
    assert len(found["model"]["fingerprint"]) == 64


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_secrets_are_not_printed_and_home_is_shortened(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, as_json: list[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("API_KEY", "sesame")
    monkeypatch.setenv("PYGPT_HOME", str(tmp_path / "mine"))
    main(["doctor", str(tmp_path / "none.pygpt"), *as_json])
    out = capsys.readouterr().out
    assert "sesame" not in out
    assert str(tmp_path) not in out
    assert "~/mine" in out
    assert "~/none.pygpt" in out


def test_what_is_broken_is_named_and_exit_code_1(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, small_model: Path, tmp_path: Path
) -> None:
    damaged = bytearray(small_model.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged.pygpt").write_bytes(damaged)
    code, found = facts_of(capsys, str(tmp_path / "damaged.pygpt"))
    assert code == 1
    assert "checksum" in found["problems"][0]
    monkeypatch.setenv("PYGPT_ISA", "vax")
    monkeypatch.setattr(doctor, "_PACKAGES", {"base": ("no-such-package",)})
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "PROBLEM: no-such-package is not installed" in out
    assert "vax" in out
    assert "all is well" not in out
