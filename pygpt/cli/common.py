"""What all commands share: flags, colour, errors and their exit codes."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from pygpt.errors import DeviceError, InvalidRequestError, ModelFileError, OutOfMemory
from pygpt.param_names import did_you_mean

if TYPE_CHECKING:
    from pygpt.engine import Engine

BUNDLED = Path(__file__).parents[1] / "models" / "shakespeare.pygpt"
OK, FAILED, USAGE, BAD_FILE, RESOURCE, INTERRUPTED = 0, 1, 2, 3, 4, 130
EXIT_CODES = (
    "exit codes: 0 done, 1 failed, 2 usage, 3 bad model file, 4 out of memory, disk or device, 130 Ctrl-C"
)

_RESOURCE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


class Parser(argparse.ArgumentParser):
    """An argument parser that takes flags as they are written only, and names the nearest to a mistyped
    one."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        keywords["allow_abbrev"] = False
        keywords.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **keywords)
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        self.add_argument(
            "--color", choices=("auto", "always", "never"), default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )

    def error(self, message: str) -> NoReturn:
        hint = ""
        for word in re.findall(r"(?<=arguments: )\S+", message):
            hint = did_you_mean(word.partition("=")[0], self._option_string_actions)
        sys.stderr.write(f"{self.prog}: {message}{hint}\n(see {self.prog} --help)\n")
        sys.exit(USAGE)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but what a subcommand does not know is that subcommand's error, which knows its
        flags."""
        known, extra = super().parse_known_args(args, namespace)
        if extra:
            self.error(f"unrecognized arguments: {' '.join(extra)}")
        return known, extra


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `open_engine`."""
    group = parser.add_argument_group("engine")
    group.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda")
    group.add_argument(
        "-j", "--threads", type=int, metavar="N", help="workers (default: PYGPT_THREADS, or chosen)"
    )
    group.add_argument("--max-context", type=int, metavar="N", help="tokens of prompt and text at most")
    group.add_argument(
        "--kv-dtype", default="auto", metavar="TYPE", help="KV cache: auto, f32, f16, bf16, int8"
    )
    group.add_argument("--verify", default="auto", metavar="HOW", help="checksums: auto, full, header, off")
    group.add_argument(
        "--mmap",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="map the file (default), or read it",
    )


def open_engine(model: str | None, arguments: argparse.Namespace, *, prefix_cache: bool = True) -> Engine:
    """The engine that the flags ask for, on the bundled model where none is named.

    Args:
        prefix_cache: see `Engine`; whoever measures how fast a prompt is read has none.

    Raises:
        ModelFileError: also where the file is missing or unreadable.
        InvalidRequestError: no model is named, and this installation carries none.
    """
    from pygpt.engine import Engine

    if model is None and not BUNDLED.is_file():
        raise InvalidRequestError("MODEL", "this installation carries no model; name a .pygpt file")
    path = BUNDLED if model is None else model
    try:
        return Engine(
            path,
            device=arguments.device,
            threads=arguments.threads,
            max_context=arguments.max_context,
            kv_dtype=arguments.kv_dtype,
            verify=arguments.verify,
            mmap=arguments.mmap,
            prefix_cache=prefix_cache,
        )
    except OSError as error:
        if error.errno in _RESOURCE_ERRNOS:
            raise
        reason = error.strerror or str(error)
        raise ModelFileError(os.fspath(path), "unreadable", reason) from error


def exit_code(error: BaseException) -> int:
    """The exit code that stands for an error."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, MemoryError | OutOfMemory | DeviceError):
        return RESOURCE
    if isinstance(error, OSError) and error.errno in _RESOURCE_ERRNOS:
        return RESOURCE
    if isinstance(error, ModelFileError):
        return BAD_FILE
    if isinstance(error, InvalidRequestError):
        return USAGE
    return FAILED


def report(error: BaseException, *, as_json: bool) -> None:
    """Say on stderr what went wrong: one line, or one JSON object."""
    message = _message(error)
    if as_json:
        code = getattr(error, "code", None) or re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
        fields = {"code": code, "message": message, "param": getattr(error, "param", None)}
        sys.stderr.write(json.dumps({"error": fields}) + "\n")
    else:
        from pygpt.repl.sanitize import visible

        sys.stderr.write(f"{visible(message)}\n")


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error) or type(error).__name__


def say_version() -> None:
    """The version, on stdout."""
    import pygpt

    sys.stdout.write(f"pygpt {pygpt.__version__}\n")


def check_streams() -> None:
    """Fill the places of standard streams that the shell closed, or a file that is opened would take them.

    Raises:
        OSError: stdout is closed: what a command says would be lost.
    """
    closed = sys.stdout is None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    if closed:
        raise OSError(errno.EBADF, "is closed", "standard output")


def wants_color(stream: TextIO, choice: str = "auto") -> bool:
    """Whether to colour: the flag decides, then NO_COLOR, then FORCE_COLOR, then whether a terminal reads
    it."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def quiet_pipes() -> Iterator[None]:
    """Nobody reads on: that is no error. Python's last flush at exit must not find the closed pipe either."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
