"""`gpt-chat` and `pygpt chat`: talk to a model."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from pygpt.cli.common import (
    EXIT_CODES,
    INTERRUPTED,
    OK,
    Parser,
    add_engine_flags,
    open_engine,
    say_version,
    wants_color,
)
from pygpt.cli.sampling_flags import add_sampling_flags, sampling_params
from pygpt.errors import InvalidRequestError
from pygpt.repl.commands import COMMANDS
from pygpt.repl.loop import converse, show
from pygpt.repl.reader import LineReader, PromptReader, Reader
from pygpt.repl.screen import JsonScreen, PeopleScreen, Screen
from pygpt.repl.session import ANSWER_TOKENS, NOT_IN_CHAT, SPEAKERS, Session

LARGEST_INPUT = 4 << 20  # bytes of a piped message
_DESCRIPTION = """\
Talk to a model; without MODEL to the one that comes with pygpt.

  gpt-chat                                # a conversation; /help lists its commands
  echo "Who art thou?" | gpt-chat         # one answer
"""
# Where a chat is not as SamplingParams says: see Session.
CHAT_HELPS = {
    "max_tokens": f"new tokens of an answer at most (default: {ANSWER_TOKENS})",
    "on_overflow": "what happens when an answer does not fit into the context (default: shift)",
}


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand `chat`."""
    made: argparse.ArgumentParser = subparsers.add_parser("chat", **_about("pygpt chat"))
    _add_flags(made)
    return made


def parser(prog: str) -> argparse.ArgumentParser:
    """The parser of `gpt-chat`."""
    made = Parser(prog=prog, **_about(prog))
    _add_flags(made)
    return made


def run(arguments: argparse.Namespace) -> int:
    """Chat as the flags say; the exit code."""
    if arguments.version:
        say_version()
        return OK
    interactive = sys.stdin is not None and sys.stdin.isatty()
    color = wants_color(sys.stdout, getattr(arguments, "color", "auto"))
    talk = interactive and sys.stdout.isatty()
    screen: Screen = JsonScreen() if arguments.json else PeopleScreen(color=color, interactive=talk)
    params = sampling_params(arguments)
    text = None if interactive else _piped()
    with open_engine(arguments.model, arguments) as engine:
        session = Session(engine, params, screen.note)
        for name in SPEAKERS:
            if getattr(arguments, name):
                session.set(name, getattr(arguments, name))
        if text is not None:
            if text.strip():
                show(session.say(text), session, screen)
            return OK
        return _converse(session, screen, arguments)


def _about(prog: str) -> dict[str, Any]:
    return {
        "usage": f"{prog} [MODEL] [options]",
        "description": _DESCRIPTION,
        "epilog": EXIT_CODES,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _add_flags(made: argparse.ArgumentParser) -> None:
    made.add_argument("model", nargs="?", metavar="MODEL", help="a .pygpt file (default: the bundled model)")
    group = made.add_argument_group("conversation")
    group.add_argument("--user", metavar="NAME", help="who you are, where the model plays a dialogue")
    group.add_argument("--assistant", metavar="NAME", help="who answers")
    group.add_argument("--system", metavar="TEXT", help="what stands in front of the conversation")
    group.add_argument("--json", action="store_true", help="one JSON object a line on stdout")
    group.add_argument(
        "--history", action=argparse.BooleanOptionalAction, default=True, help="keep your lines for next time"
    )
    made.add_argument("-V", "--version", action="store_true", help="show the version and exit")
    add_sampling_flags(made, without=NOT_IN_CHAT, helps=CHAT_HELPS)
    add_engine_flags(made)


def _piped() -> str:
    """All of stdin as one message.

    Raises:
        InvalidRequestError: it is no text, or endless.
    """
    if sys.stdin is None:  # the shell closed it
        return ""
    content = sys.stdin.buffer.read(LARGEST_INPUT + 1)
    if len(content) > LARGEST_INPUT:
        raise InvalidRequestError("stdin", f"is longer than {LARGEST_INPUT} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequestError("stdin", f"is no UTF-8 text: byte {error.start}: {error.reason}") from error
    if "\0" in text:
        raise InvalidRequestError("stdin", f"is binary: a NUL at byte {content.index(0)}")
    return text.removesuffix("\n")


def _converse(session: Session, screen: Screen, arguments: argparse.Namespace) -> int:
    reader = reader_for(screen, arguments)
    greet(session, screen)
    try:
        converse(session, screen, reader)
    except KeyboardInterrupt:
        return INTERRUPTED
    return OK


def reader_for(screen: Screen, arguments: argparse.Namespace) -> Reader:
    """Where the lines come from: a terminal, or plain lines."""
    plain = arguments.json or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    if plain:
        return LineReader(screen)
    return PromptReader(screen, list(COMMANDS), keep_history=arguments.history)


def greet(session: Session, screen: Screen) -> None:
    """Say what answers, and how to leave."""
    info = session.engine.info
    name = Path(os.fsdecode(info["path"])).name
    screen.note(f"{name}: {info['parameters'] / 1e6:.1f} million parameters; /help for help, Ctrl-D to leave")
    if session.engine.chat_template is None:
        screen.note("no chat model: it continues what you write, each text by itself")
    elif session.names["user"]:
        screen.note(f"you are {session.names['user']}, it answers as {session.names['assistant']}")
