"""Where a chat's lines come from: a terminal with editing and history, or plain lines."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pygpt.repl.history import history_path, prepare_history
from pygpt.repl.screen import Screen

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

_TWICE = "Ctrl-C again leaves; /help tells more"
_KEPT_LINE = 20_000  # characters; a longer text is no line to look up again


class Reader(Protocol):
    def read(self, prompt: str) -> str:
        """The next text. Raises EOFError when there is none, KeyboardInterrupt at a second Ctrl-C."""


class LineReader:
    """Lines as they come, for terminals that cannot move their cursor. The prompt goes to stderr."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")  # a byte that is no text must not end the chat

    def read(self, prompt: str) -> str:
        lines: list[str] = []
        interrupted = False
        while True:
            try:
                sys.stderr.write("... " if lines else prompt)
                sys.stderr.flush()
                line = sys.stdin.readline()
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted, lines = True, []
                sys.stderr.write("\n")
                self._screen.note(_TWICE)
                continue
            if not line and not lines:
                raise EOFError
            text = line.removesuffix("\n")
            if line.endswith("\n") and text.endswith("\\"):
                lines.append(text[:-1])
                continue
            return "\n".join([*lines, text])


class PromptReader:
    """Editing, history and several lines, by prompt_toolkit."""

    def __init__(self, screen: Screen, words: Sequence[str], *, keep_history: bool) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter

        self._screen = screen
        self._interrupted = False  # by a Ctrl-C since the last text
        self._leaving = False
        self._session: PromptSession[str] = PromptSession(
            history=self._history(keep_history),
            key_bindings=self._keys(),
            multiline=True,
            prompt_continuation="... ",
            completer=WordCompleter(list(words), sentence=True),
            complete_while_typing=False,
            enable_suspend=True,
        )

    def read(self, prompt: str) -> str:
        self._interrupted = self._leaving = False
        while True:
            try:
                text: str = self._session.prompt(prompt)
            except KeyboardInterrupt:
                if self._leaving:
                    raise
                continue  # it came before the keys were ours: there was no line to clear yet
            return "\n".join(line.removesuffix("\\") for line in text.split("\n"))

    def _history(self, keep: bool) -> History:
        from prompt_toolkit.history import FileHistory, InMemoryHistory

        class OwnHistory(FileHistory):
            """A file that may become unwritable while it is used."""

            def store_string(self, string: str) -> None:
                if len(string) <= _KEPT_LINE:
                    try:
                        super().store_string(string)
                    except OSError as error:
                        note(f"history is off: {error.strerror}")

        note = self._screen.note
        if not keep:
            return InMemoryHistory()
        path = history_path(os.environ)
        trouble = prepare_history(path)
        if trouble:
            note(f"history is off: {trouble}")
            return InMemoryHistory()
        return OwnHistory(os.fspath(path))

    def _keys(self) -> KeyBindings:
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()

        @keys.add("enter")
        def send(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.document.current_line.endswith("\\") and buffer.document.is_cursor_at_the_end:
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def new_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-c")
        def interrupt(event: KeyPressEvent) -> None:
            if not event.current_buffer.text and self._interrupted:
                self._leaving = True
                event.app.exit(exception=KeyboardInterrupt)
                return
            self._interrupted = True
            event.current_buffer.reset()

        return keys
