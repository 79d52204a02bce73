"""The commands of a chat: what begins with a slash."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from pygpt.completion import TextPiece
from pygpt.errors import InvalidRequestError
from pygpt.param_names import did_you_mean
from pygpt.repl.screen import Screen
from pygpt.repl.session import Session

Answer = Generator[TextPiece, None, None]


class Leave(Exception):  # noqa: N818  # no error: the way out
    """The chat is over."""


@dataclass(frozen=True, slots=True)
class Command:
    usage: str
    help: str
    run: Callable[[Session, Screen, str], Answer | None]  # gets what stands behind the command's name


def run_command(line: str, session: Session, screen: Screen) -> Answer | None:
    """Do what a line with a leading slash says; the answer that it asks for, if any.

    Raises:
        InvalidRequestError: no such command, or a value that it cannot use.
        Leave: /bye.
    """
    word, _, rest = line.partition(" ")
    name = _ALIASES.get(word, word)
    if name not in COMMANDS:
        raise InvalidRequestError(word, f"no such command{did_you_mean(word, COMMANDS)}; /help lists them")
    return COMMANDS[name].run(session, screen, rest.strip())


def _help(session: Session, screen: Screen, rest: str) -> None:
    del session, rest
    screen.table([(command.usage, command.help) for command in COMMANDS.values()])
    screen.table(_KEYS)


def _set(session: Session, screen: Screen, rest: str) -> None:
    name, _, value = rest.partition(" ")
    if not name:
        _show(session, screen, "")
        return
    session.set(name, value.strip())
    rows = dict(session.settings())
    screen.note(f"{name} is {rows.get(name.replace('-', '_'), 'the default')}")


def _show(session: Session, screen: Screen, rest: str) -> None:
    del rest
    info = session.engine.info
    about = [
        ("model", info["path"] if isinstance(info["path"], str) else repr(info["path"])),
        ("", f"{info['parameters']:,} parameters in {'/'.join(info['formats'])}, context {session.context}"),
        ("engine", f"{info['threads']} threads, {info['isa']}, KV cache in {info['kv_dtype']}"),
    ]
    screen.table(about + session.settings())


def _context(session: Session, screen: Screen, rest: str) -> None:
    del rest
    used, context = session.used(), session.context
    screen.note(f"{used} of {context} tokens ({100 * used // context} %), {len(session.messages)} messages")


def _clear(session: Session, screen: Screen, rest: str) -> None:
    del rest
    session.clear()
    screen.note("forgotten; settings stay")


def _retry(session: Session, screen: Screen, rest: str) -> Answer:
    del screen, rest
    return session.retry()


def _bye(session: Session, screen: Screen, rest: str) -> None:
    del session, screen, rest
    raise Leave


COMMANDS = {
    "/help": Command("/help", "this list", _help),
    "/set": Command(
        "/set NAME VALUE", "change a setting, as in /set temperature 0.8 or /set user HAMLET", _set
    ),
    "/show": Command("/show", "the model and all settings", _show),
    "/retry": Command("/retry", "another answer to the last text (by the next seed, if one is set)", _retry),
    "/context": Command("/context", "how full the model's context is", _context),
    "/clear": Command("/clear", "forget the conversation", _clear),
    "/bye": Command("/bye", "leave (so do Ctrl-D, and Ctrl-C twice)", _bye),
}
_ALIASES = {"/exit": "/bye", "/quit": "/bye", "/?": "/help", "/regenerate": "/retry"}
_KEYS = [
    ("Enter", "send"),
    ("Alt-Enter", "new line; so does a \\ at the end of a line"),
    ("Ctrl-C", "stop the answer; clear the line"),
    ("//text", "send a text that begins with a slash"),
]
