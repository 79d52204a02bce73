"""`pygpt export`, `inspect` and `verify`, as a shell sees them."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.cli.main import main
from pygpt.dtypes import DTYPES
from pygpt.engine import Engine
from pygpt.errors import ModelFileError
from pygpt.file import Contents, write
from pygpt.model import Model, ModelConfig
from pygpt.tokenizer import Tokenizer
from pygpt.train import checkpoint

CHARS = "\n abcdefghijklmnopqrstuvwxyz"

# A training directory needs no torch, and the test no two seconds to import it.
NO_TORCH = 'import sys; sys.modules["torch"] = None\n'


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """A training directory."""
    torch.manual_seed(0)
    config = ModelConfig(context_length=12, d_model=36, h=3, n_layers=2, n_vocab=28)
    directory = tmp_path / "run"
    directory.mkdir()
    checkpoint.save_description(directory, config, Tokenizer.from_characters(CHARS))
    checkpoint.save_weights(directory, Model.from_config(config))
    return directory


@pytest.fixture
def model_file(run_directory: Path) -> Path:
    """Its export."""
    assert main(["export", str(run_directory), "--dtype", "f32"]) == 0
    return run_directory.with_suffix(".pygpt")


def test_export_writes_the_file_and_shows_the_proof(
    run_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run_directory)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith(f"{run_directory}.pygpt  f16, ")
    assert [line.split()[-1] for line in lines[2:4]] == ["ok", "ok"]
    assert "float64" in lines[-1]
    assert err == ""


def test_export_json_is_one_object(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run_directory), "-o", str(run_directory / "m.pygpt"), "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["schema"] == "pygpt.export/1"
    assert fields["path"] == str(run_directory / "m.pygpt")
    assert fields["parity"]["passed"] is True
    assert fields["parity"]["stored"]["max_rel"] <= fields["parity"]["stored"]["budget"]


def test_export_replaces_a_file_only_by_force(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(model_file.with_suffix(""))
    before = model_file.read_bytes()
    assert main(["export", source]) == 2
    assert "--force" in capsys.readouterr().err
    assert model_file.read_bytes() == before
    assert main(["export", source, "--force"]) == 0
    assert model_file.read_bytes() != before


@pytest.mark.parametrize("dtype", DTYPES)
def test_export_to_every_dtype_and_back_by_verify(
    dtype: str, run_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run_directory), "--dtype", dtype, "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["dtype"] == fields["parity"]["dtype"] == dtype
    path = str(run_directory.with_suffix(".pygpt"))
    assert main(["verify", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parity"]["dtype"] == dtype
    assert main(["inspect", path]) == 0
    words = capsys.readouterr().out.split()
    assert set(dtype.split("_")[:1]) <= {word.strip(",") for word in words}


def test_the_help_names_every_dtype(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["export", "--help"])
    assert leaving.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{', '.join(DTYPES)}, or auto" in said


def test_export_says_what_to_know_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Model(context_length=4, d_model=12, h=2, n_layers=1).state_dict(), tmp_path / "m.pt")
    assert main(["export", str(tmp_path / "m.pt"), "--n-head", "2", "--no-verify"]) == 0
    out, err = capsys.readouterr()
    assert "no tokenizer" in err
    assert "not verified" in out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["missing.pt"], 3),
        (["run", "--dtype", "q8_0"], 2),
        (["run", "--dtpye", "f16"], 2),
        (["run", "-o", "nowhere/m.pygpt"], 1),
        (["run", "--chars", "abc"], 3),
        (["run", "--chars", "abb"], 2),
        (["run", "--tokenizer", "missing.json"], 2),
        (["run", "--attention-scale", "width"], 2),
    ],
)
def test_mistakes_have_an_exit_code_and_one_line(
    arguments: list[str],
    code: int,
    run_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(run_directory.parent)
    before = sorted(os.listdir())
    try:
        got = main(["export", *arguments])
    except SystemExit as leaving:  # argparse
        got = int(leaving.code or 0)
    assert got == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert sorted(os.listdir()) == before


def test_B1_a_full_disk_is_exit_code_4_and_leaves_the_old_file(run_directory: Path) -> None:
    target = run_directory.with_suffix(".pygpt")
    target.write_bytes(b"old")
    code = NO_TORCH + "from pygpt.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "export", str(run_directory), "--force"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 4
    assert "File too large" in done.stderr
    assert target.read_bytes() == b"old"
    assert sorted(os.listdir(run_directory.parent)) == ["run", "run.pygpt"]


def test_B8_ctrl_c_is_exit_code_130_and_leaves_the_old_file(run_directory: Path) -> None:
    target = run_directory.with_suffix(".pygpt")
    target.write_bytes(b"old")
    code = f"""{NO_TORCH}
import time
import pygpt.exporter
from pygpt.cli.main import main
from pygpt.dtypes import DTYPES
real = pygpt.exporter.write
def slow(*args):
    real(*args)
    print("written", flush=True)
    time.sleep(30)
pygpt.exporter.write = slow
sys.exit(main(["export", sys.argv[1], "--force"]))
"""
    command = [sys.executable, "-c", code, str(run_directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"written\n"
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=20)
    assert child.returncode == 130
    assert target.read_bytes() == b"old"
    assert sorted(os.listdir(run_directory.parent)) == ["run", "run.pygpt"]


def test_inspect_shows_the_architecture_and_the_tensors(
    model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["inspect", str(model_file)]) == 0
    text = capsys.readouterr().out
    for words in (
        "n_layer            2",
        "WordLevel, 28 tokens",
        "attention_scale    0.2886751",
        "family pygpt",
    ):
        assert words in text
    assert main(["inspect", str(model_file), "--tensors"]) == 0
    assert "h.1.mlp.down" in capsys.readouterr().out


def test_inspect_json_is_the_file_s_own_values(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["inspect", str(model_file), "--json", "--tensors"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["config"] == _core.ModelFile(str(model_file)).config
    # 2 tables, 2 blocks, the last norm and the head; the rows of heads padded from 12 to 16
    parameters = 28 * 36 + 12 * 36 + 2 * (144 * 36 + 144 + 36 * 36 + 36 + 2 * 144 * 36 + 144 + 36 + 4 * 36)
    assert fields["parameters"] == parameters + 2 * 36 + 28 * 36 + 28
    assert fields["tokenizer"] == {"model": "WordLevel", "tokens": 28}
    assert fields["tensors"][0]["name"] == "wte"


def test_inspect_shows_escape_sequences_and_does_not_obey_them(
    tmp_path: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _core.ModelFile(str(model_file))
    evil = Contents(
        architecture=Architecture.from_config(file.config),
        dtype="f32",
        weights=file.tensor,
        blobs={"provenance.json": json.dumps({"family": "\x1b]0;owned\x07", "\u202ex": "\x9b2J"}).encode()},
    )
    (tmp_path / "evil.pygpt").touch()
    write(tmp_path / "evil.pygpt", evil)
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "evil.pygpt")]) == 0
    assert capsys.readouterr().out.replace("\n", "").isprintable()


@pytest.mark.parametrize("isa", _core.isas())
def test_verify_replays_the_known_answers(
    isa: str, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["verify", str(model_file), "--isa", isa, "--threads", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("checksums ok\n")
    assert f"isa {isa}" in out
    assert main(["verify", str(model_file), "--isa", isa, "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["passed"] is True
    assert fields["parity"]["isa"] == isa


def test_verify_tells_a_damaged_file_from_a_wrong_one(
    tmp_path: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(model_file.read_bytes())
    data[-3] ^= 1
    (tmp_path / "damaged.pygpt").write_bytes(data)
    assert main(["verify", str(tmp_path / "damaged.pygpt")]) == 3

    file = _core.ModelFile(str(model_file))
    wrong = Contents(
        architecture=Architecture.from_config(file.config),
        dtype="f32",
        weights=lambda name: file.tensor(name) * (1.05 if name == "h.1.mlp.up" else 1),
        blobs={"known_answers.json": file.blob("known_answers.json")},
    )
    (tmp_path / "wrong.pygpt").touch()
    write(tmp_path / "wrong.pygpt", wrong)
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "wrong.pygpt")]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_what_is_no_model_file_is_exit_code_3(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.pygpt").write_text("hello", "utf-8")
    for name in ("text.pygpt", "missing.pygpt", "."):
        assert main([command, str(tmp_path / name)]) == 3
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit) as leaving:
        main([command])
    assert leaving.value.code == 2


def crafted(model_file: Path, **blobs: str | bytes) -> str:
    """The path of the same model with other blobs; `chat__json` is chat.json."""
    file = _core.ModelFile(str(model_file))
    named = {name.replace("__", "."): text for name, text in blobs.items()}
    path = model_file.with_name("crafted.pygpt")
    path.touch()
    contents = Contents(
        architecture=Architecture.from_config(file.config),
        dtype="f32",
        weights=file.tensor,
        blobs={name: text if isinstance(text, bytes) else text.encode() for name, text in named.items()},
    )
    write(path, contents)
    return str(path)


def known_answers(**change: Any) -> str:
    """The blob, with answers that are wrong but whole."""
    answer = {"ids": [0, 1], "logits": [1.0, 0.5], "log_sum_exp": 2.0}
    return json.dumps(
        {"prompt": [0, 1], "positions": [1], "original": [answer], "stored": [answer], "method": "m"} | change
    )


def strictly(text: str) -> Any:
    """What the text says, if it is JSON to the letter: without NaN and Infinity."""

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("command", ["inspect", "verify"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("provenance__json", "{"),
        ("provenance__json", "[1]"),
        ("provenance__json", '{"a":' + "[" * 985 + "]" * 985 + "}"),
        ("provenance__json", "[" * 100_000),
        ("provenance__json", '{"best_val_loss": NaN}'),
        ("provenance__json", b"\xff"),
        ("tokenizer__json", "hello"),
        ("tokenizer__json", '{"model": []}'),
        ("tokenizer__json", b"\xff"),
    ],
)
def test_a_blob_that_is_none_is_exit_code_3_and_named(
    command: str, name: str, content: str | bytes, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = crafted(model_file, **{name: content})
    capsys.readouterr()
    assert main([command, path]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert f"[blob {name.replace('__', '.')}]" in err
    assert main([command, path, "--json"]) == 3
    assert strictly(capsys.readouterr().err)["error"]["code"] in ("invalid_blob", "invalid_tokenizer")


@pytest.mark.parametrize(
    "blob",
    [
        "[1]",
        "{",
        "[" * 100_000,
        known_answers(method=5),
        known_answers(positions=5),
        known_answers(prompt={"0": 1}),
        known_answers(stored=[{"ids": [[0]], "logits": [1], "log_sum_exp": 1}]),
        known_answers(stored=[{"ids": [0], "logits": [10**400], "log_sum_exp": 1}]),
        known_answers(stored=[{"ids": [0], "logits": [1e308], "log_sum_exp": -1e308}]),
        known_answers(stored=[{"ids": [0], "logits": [1e308], "log_sum_exp": 1e308}]),
        known_answers(stored=[{"ids": [0], "logits": [2.0], "log_sum_exp": 1.0}]),
    ],
    ids=lambda blob: blob[:40],
)
@pytest.mark.filterwarnings("error")
def test_known_answers_that_are_none_are_exit_code_3(
    blob: str, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = crafted(model_file, known_answers__json=blob)
    capsys.readouterr()
    assert main(["verify", path, "--json"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert strictly(err)["error"]["code"] == "invalid_blob"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [3.4028234e38, 1e-45])
def test_json_is_json_whatever_the_known_answers_are(
    size: float, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"ids": [0, 1], "logits": [-size, size], "log_sum_exp": size}
    path = crafted(model_file, known_answers__json=known_answers(stored=[answer]))
    capsys.readouterr()
    assert main(["verify", path, "--json"]) == 1
    assert strictly(capsys.readouterr().out)["passed"] is False
    assert main(["verify", path]) == 1


@pytest.mark.parametrize(
    ("blobs", "section"),
    [
        ({"chat_template__jinja": "{% if"}, "blob chat_template.jinja"),
        ({"chat__json": "{garbage"}, "blob chat.json"),
        ({"chat_template__jinja": "x", "chat__json": "{garbage"}, "blob chat.json"),
        ({"chat_template__jinja": "x", "chat__json": '{"stop": 5}'}, "blob chat.json"),
    ],
)
def test_verify_opens_the_chat_template(
    blobs: dict[str, str], section: str, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = crafted(model_file, **blobs)
    capsys.readouterr()
    assert main(["verify", path]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert f"[{section}]" in err


def test_verify_shows_escape_sequences_and_does_not_obey_them(
    model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    method = "\x1b]0;owned\x07\x9b2J\u202e\nchecksums ok\r\u2028  the original"
    path = crafted(model_file, known_answers__json=known_answers(method=method))
    capsys.readouterr()
    main(["verify", path])
    lines = capsys.readouterr().out.split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines[-2].startswith("original: ")
    assert len(lines) == 7


def test_export_shows_escape_sequences_and_does_not_obey_them(
    run_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = run_directory / "\x1b[31mred.pygpt"
    assert main(["export", str(run_directory), "-o", str(target)]) == 0
    assert "\x1b" not in capsys.readouterr().out
    torch.save({"\x1b[31mred": torch.zeros(2)}, run_directory / "red.pt")
    assert main(["export", str(run_directory / "red.pt")]) == 3
    assert "\x1b" not in capsys.readouterr().err


def test_verify_obeys_the_environment_as_an_engine_does(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYGPT_THREADS", "3")
    monkeypatch.setenv("PYGPT_ISA", "generic")
    capsys.readouterr()
    assert main(["verify", str(model_file)]) == 0
    assert "isa generic, 3 threads" in capsys.readouterr().out
    assert main(["verify", str(model_file), "-j", "2", "--isa", _core.isas()[0]]) == 0
    assert f"isa {_core.isas()[0]}, 2 threads" in capsys.readouterr().out
    monkeypatch.setenv("PYGPT_THREADS", "many")
    assert main(["verify", str(model_file)]) == 2
    assert "PYGPT_THREADS" in capsys.readouterr().err
    assert main(["verify", str(model_file), "-j", "0"]) == 2


def test_verify_refuses_defaults_that_an_engine_refuses(
    model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _core.ModelFile(str(model_file))
    architecture = Architecture.from_config(file.config)
    defaults = {"repetition_penalty": 0.001}
    path = model_file.with_name("odd.pygpt")
    path.touch()
    write(path, Contents(architecture=architecture, dtype="f32", weights=file.tensor, defaults=defaults))
    with pytest.raises(ModelFileError):
        Engine(path)
    capsys.readouterr()
    assert main(["verify", str(path)]) == 3
    assert capsys.readouterr().out == ""
