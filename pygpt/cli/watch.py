"""`pygpt watch`: talk with a model while it learns."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pygpt.cli.chat import CHAT_HELPS, greet, reader_for
from pygpt.cli.common import EXIT_CODES, INTERRUPTED, OK, add_engine_flags, open_engine, wants_color
from pygpt.cli.sampling_flags import add_sampling_flags, sampling_params
from pygpt.errors import Error
from pygpt.repl.loop import converse
from pygpt.repl.reader import Reader
from pygpt.repl.screen import JsonScreen, PeopleScreen, Screen
from pygpt.repl.session import NOT_IN_CHAT, Session
from pygpt.watch import POLL_S, Exports, Watcher

_DESCRIPTION = """\
Talk with a model while it learns: whenever its run has saved a checkpoint, that one answers.

  pygpt train shakespeare.txt -o out/play &
  pygpt watch out/play

The newest checkpoint is exported as newest.pygpt in DIR, or as -o says, and checked as `pygpt export`
checks. Without a chat (--no-chat) that is all, and each step is told on stdout.
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand `watch`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "watch",
        usage="pygpt watch DIR [options]",
        description=_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="DIR", help="the training directory")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="model file (DIR/newest.pygpt)")
    parser.add_argument(
        "--dtype", default="auto", metavar="TYPE", help="as for export: auto, f32, f16, q8, ..."
    )
    parser.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="talk (default), or only export",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout")
    parser.add_argument(
        "--history", action=argparse.BooleanOptionalAction, default=True, help="keep your lines for next time"
    )
    add_sampling_flags(parser, without=NOT_IN_CHAT, helps=CHAT_HELPS)
    add_engine_flags(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Watch as the flags say; the exit code."""
    color = wants_color(sys.stdout, getattr(arguments, "color", "auto"))
    talk = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    screen: Screen = JsonScreen() if arguments.json else PeopleScreen(color=color, interactive=talk)
    watcher = Watcher(arguments.run, arguments.output or arguments.run / "newest.pygpt", arguments.dtype)
    try:
        if not watcher.update():
            screen.note(f"waiting for the first checkpoint in {arguments.run}; Ctrl-C leaves")
            _wait(watcher)
        return _talk(watcher, screen, arguments) if arguments.chat else _export_on(watcher, screen)
    except KeyboardInterrupt:
        return INTERRUPTED


def _wait(watcher: Watcher) -> None:
    """Until there is another checkpoint."""
    while not watcher.update():
        time.sleep(POLL_S)


def _export_on(watcher: Watcher, screen: Screen) -> int:
    """Export each checkpoint that appears, until Ctrl-C."""
    while True:
        sys.stdout.write(f"{watcher.step} {watcher.target}\n")
        sys.stdout.flush()
        try:
            _wait(watcher)
        except Error as error:
            screen.trouble(str(error))
            time.sleep(POLL_S)


def _talk(watcher: Watcher, screen: Screen, arguments: argparse.Namespace) -> int:
    with open_engine(str(watcher.target), arguments) as first:
        session = Session(first, sampling_params(arguments), screen.note)
        exports = Exports(watcher)

        def news() -> None:
            step, trouble = exports.news()
            if trouble is not None:
                screen.trouble(trouble)
            if step is not None:
                before = session.engine
                session.reload(open_engine(str(watcher.target), arguments))
                before.close()
                screen.note(f"step {step} answers")

        greet(session, screen)
        screen.note(f"step {watcher.step} answers")
        try:
            converse(session, screen, _Reloading(reader_for(screen, arguments), news))
        finally:
            exports.close()
            session.engine.close()
    return OK


class _Reloading:
    """Reads as another reader does; before a text is answered, the newest model takes over."""

    def __init__(self, reader: Reader, news: Callable[[], None]) -> None:
        self._reader = reader
        self._news = news

    def read(self, prompt: str) -> str:
        text = self._reader.read(prompt)
        self._news()
        return text
