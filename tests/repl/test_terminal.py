"""gpt-chat in a terminal (rows H1, H2, H4, H5)."""

from __future__ import annotations

import re
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from .conftest import COMMAND

Terminal = Callable[..., pexpect.spawn]
ENDLESS = ["--max-tokens", "1000000000"]


@pytest.fixture
def terminal(environment: dict[str, str]) -> Iterator[Terminal]:
    """Starts gpt-chat in a terminal of its own and waits for its prompt."""
    started: list[pexpect.spawn] = []

    def start(*arguments: str | Path, columns: int = 80, prompt: str = "ROMEO:", **env: str) -> pexpect.spawn:
        child = pexpect.spawn(
            COMMAND[0], [*COMMAND[1:], *map(str, arguments)],
            env=environment | env, encoding="utf-8", dimensions=(24, columns), timeout=20,
        )  # fmt: skip
        child.delaybeforesend = 0.05
        started.append(child)
        child.expect(re.escape(prompt))
        return child

    yield start
    for child in started:
        child.close(force=True)


def exit_code(child: pexpect.spawn) -> int | None:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus  # type: ignore[no-any-return]


def answer(child: pexpect.spawn) -> None:
    child.expect("JULIET: ")
    child.expect("la la")
    child.expect("ROMEO:")


def test_H1_Ctrl_D_leaves(terminal: Terminal, chat_model: Path) -> None:
    child = terminal(chat_model, "--max-tokens", "9")
    child.send("hi\r")
    answer(child)
    child.sendeof()
    assert exit_code(child) == 0


def test_bye_leaves_and_commands_work(terminal: Terminal, chat_model: Path) -> None:
    child = terminal(chat_model, "--max-tokens", "9")
    child.send("/set user HAMLET\r")
    child.expect("user is HAMLET")
    child.expect("HAMLET:")
    child.send("/tset\r")
    child.expect("did you mean /set")
    child.send("/context\r")
    child.expect("0 of 256 tokens")
    child.send("/bye\r")
    assert exit_code(child) == 0


def test_H2_Ctrl_C_stops_the_answer_and_keeps_the_chat(terminal: Terminal, chat_model: Path) -> None:
    child = terminal(chat_model, *ENDLESS)
    for _ in range(2):
        child.send("hi\r")
        child.expect("la la la")
        child.sendintr()
        child.expect("stopped")
        child.expect("ROMEO:")
    child.send("/context\r")
    child.expect("[24] messages")  # two, if the first answer had filled the context before it was stopped
    child.expect("ROMEO:")  # between prompts the terminal itself takes Ctrl-D
    child.sendeof()
    assert exit_code(child) == 0


@pytest.mark.parametrize("typed", ["", "half a line"])
def test_H2_Ctrl_C_at_the_prompt_clears_the_line_and_twice_leaves(
    terminal: Terminal, chat_model: Path, typed: str
) -> None:
    child = terminal(chat_model, "--max-tokens", "9")
    child.send(typed)
    child.sendintr()
    time.sleep(0.2)
    child.send("hi\r")
    answer(child)
    child.send(typed)
    child.sendintr()
    child.sendintr()
    assert exit_code(child) == 130


def test_H2_many_Ctrl_C_around_the_end_of_an_answer_keep_the_chat(
    terminal: Terminal, chat_model: Path
) -> None:
    child = terminal(chat_model, "--max-tokens", "3000")
    for _ in range(15):
        child.send("hi\r")
        child.expect("la la la")
        child.sendintr()
        child.expect("ROMEO:")
    child.send("/bye\r")
    assert exit_code(child) == 0


def test_E5_SIGTERM_leaves_the_terminal_as_it_was(terminal: Terminal, chat_model: Path) -> None:
    child = terminal(chat_model)
    time.sleep(0.5)  # the prompt is drawn and it waits for keys
    child.kill(signal.SIGTERM)
    child.expect(re.escape("\x1b[?2004l"))  # bracketed paste is off again
    assert exit_code(child) == 143


def test_H2_Ctrl_Z_stops_the_chat_and_fg_resumes_it(environment: dict[str, str], chat_model: Path) -> None:
    shell = pexpect.spawn(
        "bash", ["--norc", "--noprofile", "-i"],
        env=environment | {"PS1": "shell>"}, encoding="utf-8", timeout=20,
    )  # fmt: skip
    shell.expect("shell>")
    shell.sendline(shlex.join([*COMMAND, str(chat_model), "--max-tokens", "9"]))
    shell.expect("ROMEO:")
    shell.send("\x1a")
    shell.expect("Stopped")
    shell.expect("shell>")
    shell.sendline("fg")
    shell.expect("ROMEO:")
    shell.send("hi\r")
    answer(shell)
    shell.sendeof()
    shell.expect("shell>")
    shell.close(force=True)


def test_several_lines_are_one_message(terminal: Terminal, chat_model: Path) -> None:
    child = terminal(chat_model, "--max-tokens", "9")
    child.send("one\\\rtwo\x1b\rthree\r")
    answer(child)
    child.send("\x1b[200~pasted\rlines\x1b[201~\r")
    answer(child)
    child.send("/context\r")
    child.expect("4 messages")


def test_H3_a_hostile_answer_sends_no_control_character(terminal: Terminal, hostile_model: Path) -> None:
    child = terminal(hostile_model, "--max-tokens", "150", "--color", "never")
    child.send("hi\r")
    child.expect("JULIET: ")
    child.expect(r"/set max_tokens")
    shown = child.before or ""
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\u202e", "\x00"}
    assert "\u241b]0;owned" in shown


def test_H4_a_dumb_terminal_gets_no_control_sequence(terminal: Terminal, chat_model: Path) -> None:
    child = terminal(chat_model, "--max-tokens", "9", TERM="dumb")
    child.send("hi\n")
    child.expect("JULIET: ")
    child.expect("ROMEO:")
    child.send("/help\n")
    child.expect("//text")
    child.expect("ROMEO:")
    child.sendeof()
    child.expect(pexpect.EOF)
    assert "\x1b" not in (child.before or "")


def test_H4_NO_COLOR_leaves_no_colour(terminal: Terminal, chat_model: Path) -> None:
    child = terminal(chat_model, "--max-tokens", "9", NO_COLOR="1")
    child.send("hi\r")
    child.expect("JULIET: ")
    child.send("/help\r")
    child.expect("//text")
    assert not re.search(r"\x1b\[[0-9;]*[1-9][0-9;]*m", (child.before or "").replace("\x1b[0m", ""))


def test_H4_twenty_columns_are_enough(terminal: Terminal, chat_model: Path) -> None:
    child = terminal(chat_model, "--max-tokens", "60", columns=20)
    child.send("hi\r")
    answer(child)
    child.send("/show\r")
    child.expect("context")
    child.send("/bye\r")
    assert exit_code(child) == 0


def test_H5_lines_are_kept_for_the_next_chat(terminal: Terminal, chat_model: Path, tmp_path: Path) -> None:
    for keys in ("remember me\r", "\x1b[A\x1b[A\r"):  # the last line was /bye
        child = terminal(chat_model, "--max-tokens", "9")
        child.send(keys)
        answer(child)
        child.send("/bye\r")
        assert exit_code(child) == 0
    history = tmp_path / ".local" / "state" / "pygpt" / "history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert history.read_text().count("+remember me") == 2


def test_H5_a_corrupt_history_is_no_trouble(terminal: Terminal, chat_model: Path, tmp_path: Path) -> None:
    (tmp_path / "history").write_bytes(b"\xff\x00\x1b[2J no history\n+ok\n+\xff\n" * 50)
    child = terminal(chat_model, "--max-tokens", "9", PYGPT_HOME=str(tmp_path))
    child.send("\x1b[A\x1b[A")
    child.send("\x15hi\r")
    answer(child)
    child.send("/bye\r")
    assert exit_code(child) == 0


def test_H5_a_linked_history_is_off_with_a_note(
    environment: dict[str, str], chat_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "history").symlink_to(tmp_path / "precious")
    child = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], str(chat_model)],
        env=environment | {"PYGPT_HOME": str(tmp_path)}, encoding="utf-8", timeout=20,
    )  # fmt: skip
    child.expect("history is off")
    child.expect("ROMEO:")
    child.sendeof()
    assert exit_code(child) == 0
    assert not (tmp_path / "precious").exists()


def test_H5_a_paste_of_a_megabyte_is_one_message(terminal: Terminal, chat_model: Path) -> None:
    child = terminal(chat_model, "--max-tokens", "9", "--no-history")
    child.delaybeforesend = None
    child.send("\x1b[200~")
    for _ in range(256):
        child.send("x" * 4095 + "\r")
    child.send("\x1b[201~")
    child.send("\r")
    child.expect("its start is lost", timeout=60)
    child.expect("ROMEO:")


def test_H4_a_byte_that_is_no_text_does_not_end_a_chat_in_a_dumb_terminal(
    environment: dict[str, str], chat_model: Path
) -> None:
    child = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], str(chat_model), "--max-tokens", "6"],
        env=environment | {"TERM": "dumb"}, timeout=20,
    )  # fmt: skip
    child.expect(b"ROMEO: ")
    child.send(b"a\xff\xfeb\n")
    child.expect(b"la la")
    child.expect(b"ROMEO: ")
    child.sendline(b"/bye")
    assert exit_code(child) == 0
