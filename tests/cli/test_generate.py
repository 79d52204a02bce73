"""`pygpt generate`: what goes where, and the vocabulary of its flags."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import small_models

from pygpt import Engine
from pygpt.cli.main import main
from pygpt.params import SamplingParams
from pygpt.tokenizer import Tokenizer

Capture = pytest.CaptureFixture[str]


def text_of(model: Path, prompt: str, **keywords: Any) -> str:
    with Engine(model) as engine:
        return engine.generate(prompt, **keywords).text


def test_the_text_goes_to_stdout_and_nothing_else_anywhere(small_model: Path, capsys: Capture) -> None:
    assert main(["generate", str(small_model), "-p", "abc", "-n", "20", "-s", "1", "-t", "0.9"]) == 0
    shown = capsys.readouterr()
    assert shown.out == text_of(small_model, "abc", max_tokens=20, seed=1, temperature=0.9) + "\n"
    assert shown.err == ""


def test_the_prompt_may_come_from_stdin(
    small_model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"abc\n")))
    assert main(["generate", str(small_model), "-", "-n", "9", "-s", "1"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == text_of(small_model, "abc\n", max_tokens=9, seed=1).rstrip(
        "\n"
    )


def test_json_holds_everything(small_model: Path, capsys: Capture) -> None:
    assert (
        main(["generate", str(small_model), "-p", "abc", "-n", "5", "--n", "2", "--logprobs", "1", "--json"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "pygpt.generate/1"
    first, second = found["completions"]
    assert first["seed"] == second["seed"]
    assert first["text"] == text_of(small_model, "abc", max_tokens=5, seed=first["seed"])
    assert len(first["logprobs"]) == first["usage"]["completion_tokens"] == 5


def test_several_samples_are_set_apart(small_model: Path, capsys: Capture) -> None:
    assert main(["generate", str(small_model), "-p", "abc", "-n", "5", "--n", "3", "-s", "1"]) == 0
    assert len(capsys.readouterr().out.split("\n---------------\n")) == 3


def test_verbose_tells_seed_and_speed_on_stderr(small_model: Path, capsys: Capture) -> None:
    assert main(["generate", str(small_model), "-p", "abc", "-n", "5", "-s", "7", "-v"]) == 0
    assert "3 prompt tokens, 5 new in" in (told := capsys.readouterr().err)
    assert told.endswith("seed 7\n")


@pytest.mark.parametrize("field", fields(SamplingParams), ids=lambda field: field.name)
def test_every_parameter_has_its_flag(field: Any, small_model: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    flag = "--" + field.name.replace("_", "-")
    assert f"{flag} " in capsys.readouterr().out.replace(",", " ").replace("\n", " ")
    values = {
        "max_tokens": ["4"], "stop": ["e", '["th", "x"]'], "logit_bias": ["3=5,4=-5", "5=1"], "seed": ["3"],
        "allowed_token_ids": ["20,21", "22"], "stop_token_ids": ["5"], "on_overflow": ["stop"], "n": ["2"],
        "temperature": ["0.5"], "repetition_penalty": ["1.1"],
    }  # fmt: skip
    given = values.get(
        field.name, [] if field.name in _SWITCHES else ["0" if "logprobs" in field.name else "1"]
    )
    words = [word for value in given for word in (flag, value)] or [flag]
    limit = [] if field.name == "max_tokens" else ["--max-tokens", "4"]
    assert main(["generate", str(small_model), "-p", "abc", *limit, *words]) == 0


_SWITCHES = {"top_k_ties", "include_stop_str_in_output", "ignore_eos", "echo", "skip_special_tokens"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--temperature", "nan"], 2, "temperature: must be a finite number"),
        (["--temperature", "hot"], 2, "temperature: must be a number"),
        (["--top-k", "1.5"], 2, "top_k: must be an integer"),
        (["-p", "7"], 2, "prompt: the character '7'"),
        (["--on-overflow", "wrap"], 2, "on_overflow: must be one of"),
        (["--kv-dtype", "f8"], 2, "kv_dtype: must be one of"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_2(
    small_model: Path, capsys: Capture, words: list[str], code: int, message: str
) -> None:
    assert main(["generate", str(small_model), *words]) == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert message in shown.err


def test_a_prompt_that_does_not_fit_is_exit_code_2(small_model: Path, capsys: Capture) -> None:
    assert main(["generate", str(small_model), "-p", "a" * 65, "--on-overflow", "error"]) == 2
    assert "65 tokens do not fit into the context of 64" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["missing", "directory", "text"])
def test_a_bad_model_file_is_exit_code_3(tmp_path: Path, capsys: Capture, kind: str) -> None:
    path = tmp_path / "model.pygpt"
    if kind == "directory":
        path.mkdir()
    if kind == "text":
        path.write_text("hello")
    assert main(["generate", str(path)]) == 3
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("encoding", "euro"), [("ascii", rb"\u20ac"), ("latin-1", rb"\u20ac"), ("cp1252", b"\x80")]
)
def test_H4_what_stdout_cannot_encode_is_escaped(tmp_path: Path, encoding: str, euro: bytes) -> None:
    script = [0, 1, 0, 1, 0]
    tokenizer = Tokenizer.from_characters("a\u20ac")
    path = small_models.reciting_model(tmp_path / "euro.pygpt", script, tokenizer)
    done = subprocess.run(
        [sys.executable, "-m", "pygpt", "generate", str(path), "-p", "a", "-t", "0"],
        capture_output=True, check=False, timeout=60, env=os.environ | {"PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == euro + b"a" + euro + b"\n"
