"""`pygpt eval`: texts, JSON lines and shards, and what is wrong with them."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import LETTERS

from pygpt import Engine
from pygpt.cli.main import main

Capture = pytest.CaptureFixture[str]
TEXT = "Speak, speak.\nWho comes there? A friend to this ground. No more of that, my lord, the rest peace.\n"


def evaluated(capsys: Capture, *arguments: object) -> dict[str, Any]:
    assert main(["eval", *map(str, arguments), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_a_text_and_its_shard_have_the_same_loss(small_model: Path, tmp_path: Path, capsys: Capture) -> None:
    text, shard = tmp_path / "a.txt", tmp_path / "a.bin"
    text.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    ids = np.array([LETTERS.index(character) for character in TEXT], np.uint16)
    ids.tofile(shard)
    found = evaluated(capsys, small_model, text)
    assert found["schema"] == "pygpt.eval/1"
    assert (found["tokens"], found["windows"], found["context"]) == (64, 1, 64)
    assert evaluated(capsys, small_model, shard)["loss"] == found["loss"]
    with Engine(small_model) as engine:
        logits = engine.logits(ids[:64].tolist()).astype(np.float64)
    chosen = logits[range(64), ids[1:65]] - np.log(np.exp(logits).sum(axis=1))
    assert found["loss"] == pytest.approx(-chosen.mean(), rel=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(-chosen.mean()), rel=1e-5)


def test_a_shard_of_llm_c_has_a_header(small_model: Path, tmp_path: Path, capsys: Capture) -> None:
    ids = np.arange(600, dtype=np.uint16) % len(LETTERS)
    header = np.zeros(256, np.int32)
    header[:3] = 20240520, 1, len(ids)
    (tmp_path / "nano.bin").write_bytes(ids.tobytes())
    (tmp_path / "llmc.bin").write_bytes(header.tobytes() + ids.tobytes())
    found = evaluated(capsys, small_model, tmp_path / "llmc.bin")
    assert found["loss"] == evaluated(capsys, small_model, tmp_path / "nano.bin")["loss"]


def test_each_line_of_a_jsonl_is_a_text_by_itself(small_model: Path, tmp_path: Path, capsys: Capture) -> None:
    texts = ["Ay me!", TEXT, "no"]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(json.dumps({"text": each, "id": 1}) for each in texts) + "\n\n")
    found = evaluated(capsys, small_model, file)
    assert found["tokens"] == sum(len(each) - 1 for each in texts)
    with Engine(small_model) as engine:
        first, last = engine.score([texts[0], texts[2]])
        long = evaluated(capsys, small_model, file, "--windows", "4")
        assert long["windows"] == 4
        read = engine.window_logprobs([[LETTERS.index(c) for c in part] for part in (TEXT[:65], TEXT[64:])])
    nll = first.nll + last.nll - sum(map(sum, read))
    assert found["loss"] == pytest.approx(nll / found["tokens"], rel=1e-6)


def test_several_files_are_one_measure(small_model: Path, tmp_path: Path, capsys: Capture) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(TEXT + name)
    both = evaluated(capsys, small_model, tmp_path / "a.txt", tmp_path / "b.txt")
    one = evaluated(capsys, small_model, tmp_path / "a.txt")
    assert (both["tokens"], both["loss"]) == (2 * one["tokens"], pytest.approx(one["loss"]))


def test_people_read_lines(small_model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    assert main(["eval", str(small_model), str(tmp_path / "a.txt"), "--stride", "32"]) == 0
    shown = capsys.readouterr()
    names = ["loss", "perplexity", "bits a byte", "bits a character", "scored"]
    assert [line[:18].strip() for line in shown.out.splitlines()] == names
    assert "in 2 windows of 64, 32 apart; 2 tokens left out" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "No such file"),
        ("empty.txt", b"", "is empty"),
        ("short.txt", b"a", "nothing to predict"),
        ("latin.txt", b"caf\xe9", "not UTF-8: 0xe9 at byte 3"),
        ("unknown.txt", b"abc 7", "'7' .* at position 4"),
        ("odd.bin", b"\0\0\0", "3 bytes"),
        ("empty.bin", b"", "0 bytes"),
        ("large.bin", b"\x01\x00\xff\xff", "token 65535 at index 1"),
        ("version.bin", np.array([20240520, 9, *[0] * 255], "<i4").tobytes(), "version 9"),
        ("broken.jsonl", b'{"text": "abc"}\n{"text"', "line 2 is not JSON"),
        ("other.jsonl", b'{"body": "abc"}', "line 1 is no object with a text"),
    ],
)
def test_a_file_that_cannot_be_evaluated_is_named(
    name: str, content: bytes | None, message: str, small_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["eval", str(small_model), str(tmp_path / name)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert re.search(message, shown.err), shown.err


@pytest.mark.parametrize("kind", ["device", "device.bin", "pipe.txt", "folder"])
def test_A27_what_is_no_regular_file_is_refused_at_once(
    kind: str, small_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / kind
    if kind.startswith("device"):
        path.symlink_to("/dev/zero")  # has no end
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)  # has no beginning: nobody writes
    assert main(["eval", str(small_model), str(path)]) == 2
    assert "is no regular file" in capsys.readouterr().err


def test_a_model_file_that_is_none_is_exit_code_3(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    assert main(["eval", str(tmp_path / "none.pygpt"), str(tmp_path / "a.txt")]) == 3
    assert "none.pygpt" in capsys.readouterr().err
