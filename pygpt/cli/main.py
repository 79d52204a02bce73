"""`pygpt` and `gpt-chat`: find the command, run it, and turn what goes wrong into a message and an exit
code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import FrameType

from pygpt.cli.common import (
    EXIT_CODES,
    OK,
    USAGE,
    Parser,
    check_streams,
    exit_code,
    quiet_pipes,
    report,
    say_version,
)
from pygpt.param_names import did_you_mean

# Named here so that `pygpt --help` imports none of them.
_COMMANDS = {
    "train": "train a small GPT on a text",
    "export": "write a PyTorch checkpoint as a .pygpt file",
    "generate": "continue a text",
    "chat": "talk to a model (the same as gpt-chat)",
    "watch": "talk with a model while it learns",
    "inspect": "show what a .pygpt file is",
    "verify": "check a .pygpt file and replay its known answers",
    "eval": "measure how well a model predicts a text",
    "bench": "measure the machine, and a model on it",
    "doctor": "show what pygpt finds here, for a bug report",
}
_DESCRIPTION = """\
You trained a GPT in PyTorch; now run it: fast, light, exactly, without PyTorch.
  pygpt export out/ckpt.pt                       # writes out/ckpt.pygpt
  pygpt generate out/ckpt.pygpt -p "ROMEO:" -n 200 -t 0.8
"""


def main(argv: Sequence[str] | None = None) -> int:
    """`pygpt ARGUMENTS`; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    return _guarded(lambda: _run(words), words)


def chat_main(argv: Sequence[str] | None = None) -> int:
    """`gpt-chat ARGUMENTS`; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)

    def run() -> int:
        from pygpt.cli import chat

        return chat.run(chat.parser(prog="gpt-chat").parse_args(words))

    return _guarded(run, words)


def _run(words: list[str]) -> int:
    commands = {
        name: about for name, about in _COMMANDS.items() if find_spec(f"pygpt.cli.{name}") is not None
    }
    command = _command(words)
    if command is None:
        arguments = _top_parser(commands).parse_args(words)
        if arguments.version:
            say_version()
            return OK
        sys.stderr.write(_top_parser(commands).format_help())
        return USAGE
    if command not in commands:
        _top_parser(commands).error(f"no command {command!r}{did_you_mean(command, commands)}")
    module = import_module(f"pygpt.cli.{command}")
    parser = Parser(prog="pygpt")
    module.add_parser(parser.add_subparsers(dest="command"))
    return int(module.run(parser.parse_args(words)))


def _command(words: Sequence[str]) -> str | None:
    """The first word that is no flag and no flag's value."""
    for before, word in zip(["", *words], words, strict=False):
        if not word.startswith("-") and before != "--color":
            return word
    return None


def _top_parser(commands: dict[str, str]) -> Parser:
    width = max(map(len, commands), default=0)
    listed = "\n".join(f"  {name:{width}}  {about}" for name, about in commands.items())
    parser = Parser(
        prog="pygpt",
        usage="pygpt COMMAND [options]",
        description=f"{_DESCRIPTION}\ncommands (pygpt COMMAND --help tells more):\n{listed}",
        epilog=f"every command takes --debug (tracebacks) and --color auto|always|never\n{EXIT_CODES}",
    )
    parser.add_argument("-V", "--version", action="store_true", help="show the version and exit")
    return parser


def _guarded(run: Callable[[], int], words: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, _leave)
    try:
        check_streams()
        with quiet_pipes():
            return run()
        return OK
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in words:
            raise
        report(error, as_json="--json" in words)
        return exit_code(error)


def _leave(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds, so that terminals and temporary files are put in order; a second one ends at once."""
    del frame
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)
