"""gpt-chat behind a pipe (rows H1, H3, H4, H7, H8)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import COMMAND, parse_lines

Chat = Callable[..., subprocess.CompletedProcess[bytes]]


def test_H1_a_pipe_is_one_message_and_gets_one_answer(gpt_chat: Chat, chat_model: Path) -> None:
    done = gpt_chat(chat_model, "--max-tokens", "6", text=b"hi\nthere\n")
    assert (done.returncode, done.stdout.decode().split()) == (0, ["la", "la"])
    assert done.stdout.endswith(b"\n")


@pytest.mark.parametrize("text", [b"", b"\n", b"  \n\n"])
def test_H1_an_empty_input_ends_the_chat(gpt_chat: Chat, chat_model: Path, text: bytes) -> None:
    assert gpt_chat(chat_model, text=text).returncode == 0
    assert gpt_chat(chat_model, text=text).stdout == b""


@pytest.mark.parametrize("text", [b"\x7fELF\x00\x01", b"\xff\xfehi", b"PK\x03\x04\x80", b"ok\x00"])
def test_H1_binary_input_is_refused(gpt_chat: Chat, chat_model: Path, text: bytes) -> None:
    done = gpt_chat(chat_model, text=text)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"stdin: is ")
    assert done.stderr.count(b"\n") == 1


def test_H1_endless_input_is_refused(environment: dict[str, str], chat_model: Path) -> None:
    with open("/dev/zero", "rb") as zeros:
        done = subprocess.run(  # our own command
            [*COMMAND, str(chat_model)],
            stdin=zeros,
            capture_output=True,
            env=environment,
            check=False,
            timeout=30,
        )
    assert done.returncode == 2
    assert b"longer than" in done.stderr


def test_H3_nothing_raw_comes_out(gpt_chat: Chat, hostile_model: Path) -> None:
    done = gpt_chat(hostile_model, "--max-tokens", "200", text=b"hi")
    shown = done.stdout.decode()
    assert not set(shown) & {"\x1b", "\x07", "\r", "\x7f", "\x00", "\x9b", "\u202e"}
    assert "\u241b]52;c;" in shown
    assert "\\u202ereversed" in shown


def test_H3_file_names_and_errors_are_shown_not_obeyed(gpt_chat: Chat, tmp_path: Path) -> None:
    done = gpt_chat(tmp_path / "\x1b[2J.pygpt", text=b"hi")
    assert done.returncode == 3
    assert b"\x1b" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_H4_without_UTF_8_the_answer_is_ASCII(gpt_chat: Chat, hostile_model: Path, encoding: str) -> None:
    done = gpt_chat(hostile_model, "--max-tokens", "200", text=b"hi", PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert b"\\x1b[2J" in done.stdout
    assert done.stdout.isascii()


@pytest.mark.parametrize(
    ("env", "flags", "colored"),
    [
        ({}, [], False),
        ({"FORCE_COLOR": "1"}, [], True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, [], False),
        ({"NO_COLOR": "1"}, ["--color", "always"], True),
        ({"FORCE_COLOR": "1"}, ["--color", "never"], False),
    ],
)
def test_H4_colour_is_there_when_asked_for(
    gpt_chat: Chat, chat_model: Path, env: dict[str, str], flags: list[str], colored: bool
) -> None:
    done = gpt_chat(chat_model, "--max-tokens", "3", *flags, text=b"hi", **env)
    assert (b"\x1b[" in done.stdout + done.stderr) is colored


def test_H7_a_reader_that_leaves_ends_the_chat_in_silence(
    environment: dict[str, str], chat_model: Path
) -> None:
    process = subprocess.Popen(  # our own command
        [*COMMAND, str(chat_model), "--max-tokens", "100000000"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"hi")
    process.stdin.close()
    assert process.stdout.read(2) == b"la"
    process.stdout.close()
    assert process.wait(timeout=20) in (0, 141)
    assert process.stderr.read() == b""
    process.stderr.close()


def test_H8_json_is_lines_of_JSON_whatever_the_model_says(gpt_chat: Chat, hostile_model: Path) -> None:
    done = gpt_chat(hostile_model, "--json", "--max-tokens", "100", text="hi \N{GRINNING FACE}".encode())
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert b"\x1b" not in done.stdout
    begin, *pieces, end = parse_lines(done.stdout)
    assert begin == {"schema": "pygpt.chat/1", "event": "begin", "speaker": "JULIET"}
    completion = end["completion"]
    assert isinstance(completion, dict)
    assert "".join(str(piece["text"]) for piece in pieces) == completion["text"]
    assert completion["finish_reason"] == "length"


def test_H8_errors_are_JSON_on_stderr(gpt_chat: Chat, chat_model: Path, tmp_path: Path) -> None:
    for arguments, text, code, exit_code in (
        ([chat_model], b"\xff", "invalid_request_error", 2),
        ([tmp_path / "none.pygpt"], b"hi", "unreadable", 3),
        ([chat_model, "--temperature", "nan"], b"hi", "invalid_request_error", 2),
    ):
        done = gpt_chat(*arguments, "--json", text=text)
        assert (done.returncode, done.stdout) == (exit_code, b"")
        (error,) = parse_lines(done.stderr)
        assert isinstance(error["error"], dict)
        assert error["error"]["code"] == code
