"""What a chat shows, to people or to programs. Answers go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Protocol, TextIO

from pygpt.completion import Completion, TextPiece
from pygpt.repl.sanitize import visible

SCHEMA = "pygpt.chat/1"

_BOLD, _DIM, _RED, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[0m"


class Screen(Protocol):
    def begin(self, speaker: str) -> None: ...
    def piece(self, piece: TextPiece) -> None: ...
    def end(self, completion: Completion | None) -> None:
        """The answer is over; without a completion, because Ctrl-C stopped it."""

    def fail(self) -> None:
        """The answer is over, because it failed; why, is told elsewhere."""

    def note(self, text: str) -> None:
        """Something to know."""

    def trouble(self, text: str) -> None:
        """Something that went wrong."""

    def table(self, rows: Sequence[tuple[str, str]]) -> None: ...


class PeopleScreen:
    """Plain text, coloured where wanted; nothing that a model, a file or a user wrote reaches the terminal
    raw."""

    def __init__(self, *, color: bool, interactive: bool) -> None:
        self._color = color
        self._interactive = interactive
        self._last = "\n"

    def begin(self, speaker: str) -> None:
        if self._interactive:
            self._write(sys.stdout, f"{speaker}: ", _BOLD)
            self._last = " "

    def piece(self, piece: TextPiece) -> None:
        if piece.text:
            self._write(sys.stdout, piece.text)
            self._last = piece.text[-1]

    def end(self, completion: Completion | None) -> None:
        self.fail()
        if completion is None:
            self.note("stopped")
        elif completion.finish_reason == "length":
            self.note(
                f"stopped after {completion.usage.completion_tokens} tokens; /set max_tokens N allows more"
            )

    def fail(self) -> None:
        if self._last != "\n":
            self._write(sys.stdout, "\n")
        self._last = "\n"

    def note(self, text: str) -> None:
        self._write(sys.stderr, f"({text})\n", _DIM)

    def trouble(self, text: str) -> None:
        self._write(sys.stderr, f"{text}\n", _RED)

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        from rich.console import Console  # its import takes 50 ms, which the first answer does not wait for
        from rich.table import Table
        from rich.text import Text

        console = Console(file=sys.stderr, force_terminal=self._color, highlight=False)
        grid = Table.grid(padding=(0, 2))
        for name, value in rows:
            encoding = sys.stderr.encoding
            grid.add_row(Text(visible(name, encoding), style="bold"), Text(visible(value, encoding)))
        console.print(grid)

    def _write(self, stream: TextIO, text: str, style: str = "") -> None:
        shown = visible(text, stream.encoding)
        stream.write(f"{style}{shown}{_RESET}" if style and self._color else shown)
        stream.flush()


class JsonScreen:
    """One JSON object a line on stdout: pieces as they come, then the answer. Notes are for people, on
    stderr."""

    def __init__(self) -> None:
        self._people = PeopleScreen(color=False, interactive=False)

    def begin(self, speaker: str) -> None:
        self._line({"schema": SCHEMA, "event": "begin", "speaker": speaker})

    def piece(self, piece: TextPiece) -> None:
        if piece.text:
            self._line({"schema": SCHEMA, "event": "piece", "text": piece.text})

    def end(self, completion: Completion | None) -> None:
        answer = None if completion is None else asdict(completion)
        self._line({"schema": SCHEMA, "event": "end", "completion": answer})

    def fail(self) -> None:
        self.end(None)

    def note(self, text: str) -> None:
        self._people.note(text)

    def trouble(self, text: str) -> None:
        self._people.trouble(text)

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        self._people.table(rows)

    def _line(self, fields: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()
