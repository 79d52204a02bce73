"""The frame of the command line: help, mistakes, exit codes, what is imported."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import pygpt
from pygpt import DeviceError, InvalidRequestError, ModelFileError, OutOfMemory
from pygpt.cli.common import exit_code, wants_color
from pygpt.cli.main import chat_main, main

Capture = pytest.CaptureFixture[str]
COMMANDS = ("train", "export", "generate", "chat", "inspect", "verify", "bench", "doctor")


def run(words: Sequence[str], *, code: str = "") -> subprocess.CompletedProcess[str]:
    arguments = ["-c", code] if code else ["-m", "pygpt", *words]
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def modules_after(code: str) -> set[str]:
    """The top-level modules that are loaded once the code has run."""
    ending = "\nimport sys; print('\\n'.join(m.partition('.')[0] for m in sys.modules))"
    done = run((), code=f"{code}{ending}")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


HEAVY = {"torch", "numpy", "tokenizers", "jinja2", "rich", "prompt_toolkit", "safetensors", "matplotlib"}


def test_importing_pygpt_imports_nothing_heavy() -> None:
    assert not modules_after("import pygpt") & HEAVY


def test_help_imports_nothing_heavy() -> None:
    code = "from pygpt.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert not modules_after(code) & HEAVY


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_help_never_imports_torch(command: str) -> None:
    code = f"from pygpt.cli.main import main\ntry: main(['{command}', '--help'])\nexcept SystemExit: pass"
    assert "torch" not in modules_after(code)


def test_generating_never_imports_torch_or_the_chat(small_model: Path) -> None:
    code = f"import pygpt\npygpt.Engine({str(small_model)!r}).generate('a', max_tokens=3)"
    assert not modules_after(code) & (HEAVY - {"tokenizers", "numpy"})


def test_the_first_screen_of_the_help_fits_and_lists_the_commands() -> None:
    done = run(["--help"])
    lines = done.stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines[:-1])) <= 80
    assert all(f"  {command} " in done.stdout for command in COMMANDS)
    assert "pygpt export" in done.stdout
    assert "pygpt generate" in done.stdout
    assert "exit codes" in done.stdout


def test_without_a_command_the_help_is_a_usage_error() -> None:
    done = run([])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: pygpt COMMAND")


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pygpt 0.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generte"], "no command 'generte'; did you mean generate?"),
        (["generate", "m.pygpt", "--temperatur", "1"], "--temperatur 1; did you mean --temperature?"),
        (["generate", "m.pygpt", "--temp=1"], "unrecognized arguments: --temp=1"),
        (["inspect"], "required: FILE"),
        (["chat", "m.pygpt", "--usr", "x"], "did you mean --user?"),
    ],
)
def test_a_mistyped_word_is_told_the_nearest(words: list[str], message: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pygpt")
    assert "Traceback" not in run(["generate", missing]).stderr
    assert "Traceback" in run(["generate", missing, "--debug"]).stderr


def test_json_errors_have_a_code_and_a_parameter(small_model: Path, capsys: Capture) -> None:
    assert main(["generate", str(small_model), "--json", "--top-p", "0"]) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["code"], error["param"]) == ("invalid_request_error", "top_p")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequestError("a", "b"), 2),
        (ModelFileError("p", "c", "m"), 3),
        (OutOfMemory("x"), 4),
        (MemoryError(), 4),
        (DeviceError("x"), 4),
        (OSError(errno.ENOSPC, "full"), 4),
        (OSError(errno.EACCES, "no"), 1),
        (RuntimeError("bug"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("environment", "choice", "expected"),
    [
        ({}, "auto", False),
        ({"FORCE_COLOR": "1"}, "auto", True),
        ({"CLICOLOR_FORCE": "1"}, "auto", True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, "auto", False),
        ({"NO_COLOR": "1"}, "always", True),
        ({"FORCE_COLOR": "1"}, "never", False),
        ({"NO_COLOR": "", "FORCE_COLOR": "1"}, "auto", True),
    ],
)
def test_colour(
    environment: dict[str, str], choice: str, expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with open(tmp_path / "file", "w") as stream:
        assert wants_color(stream, choice) is expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_E5_signals_end_a_generation_with_their_code(small_model: Path, number: int, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pygpt", "generate", str(small_model), "-p", "a", "-n", "1000000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    time.sleep(0.1)
    process.send_signal(number)
    while process.stdout.read(1 << 16):
        pass
    assert process.wait(timeout=20) == code
    assert b"Traceback" not in process.stderr.read()
    process.stdout.close()
    process.stderr.close()


def test_a_full_disk_is_exit_code_4(small_model: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pygpt", "generate", str(small_model), "-p", "a", "-n", "5"],
            stdout=full, stderr=subprocess.PIPE, check=False, timeout=30,
        )  # fmt: skip
    assert done.returncode == 4
    assert os.strerror(errno.ENOSPC).encode() in done.stderr


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "0<&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize("words", [["--version"], ["--help"], ["generate", "MODEL", "-n", "3"]])
def test_H7_streams_that_the_shell_closed_are_no_bug(
    small_model: Path, closed: str, words: list[str]
) -> None:
    line = shlex.join([sys.executable, "-m", "pygpt", *words]).replace("MODEL", shlex.quote(str(small_model)))
    done = subprocess.run(  # our own command
        ["/bin/sh", "-c", f"{line} {closed}"], capture_output=True, text=True, check=False, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == (1 if "1>&-" in closed else 0)
    assert done.stderr == ("standard output: is closed\n" if closed == "1>&-" else "")


def test_a_prompt_from_a_closed_stdin_is_a_usage_error(small_model: Path) -> None:
    line = shlex.join([sys.executable, "-m", "pygpt", "generate", str(small_model), "-"])
    done = subprocess.run(
        ["/bin/sh", "-c", f"{line} 0<&-"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith("stdin: is closed")
    assert done.stderr.count("\n") == 1


def test_gpt_chat_says_its_version_and_its_own_defaults(capsys: Capture) -> None:
    for flag in ("-V", "--version"):
        assert chat_main([flag]) == 0
        assert capsys.readouterr().out == f"pygpt {pygpt.__version__}\n"
    with pytest.raises(SystemExit):
        chat_main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "(default: 512)" in told
    assert "(default: shift)" in told
    assert "to the context's end" not in told
