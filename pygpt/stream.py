"""A generation that is read while it is written."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Protocol

from pygpt.completion import TextPiece
from pygpt.deadline import Deadline
from pygpt.errors import Cancelled
from pygpt.transcript import Transcript

if TYPE_CHECKING:
    from pygpt import _core


CLOSED_ELSEWHERE = "the stream was closed by another thread or task before its end"


class Poll(Protocol):
    def __call__(self, ticket: _core.Ticket, *, until_done: bool = False) -> list[_core.Event]: ...


class TextStream(Iterator[TextPiece]):
    """Pieces of one or more samples as they come. It runs already; leaving it, closing it or losing it
    cancels.

    Any thread may close it; threads that share one take turns. Who reads a stream that another thread closes
    before its end gets Cancelled, once, in place of what would look like a short text.
    """

    def __init__(
        self, poll: Poll, ticket: _core.Ticket, transcripts: Sequence[Transcript], deadline: Deadline
    ) -> None:
        self._poll = poll
        self._ticket = ticket
        self._transcripts = transcripts
        self._deadline = deadline
        self._pieces: deque[TextPiece] = deque()
        self._closed = False
        self._closer: int | None = None  # the thread
        self._turn = threading.Lock()

    def __next__(self) -> TextPiece:
        with self._turn:
            try:
                while not (self._pieces or self._closed):
                    if all(each.finished for each in self._transcripts):
                        self._deadline.check(self._transcripts)
                        raise StopIteration
                    self._pieces.extend(read(self._poll(self._ticket), self._ticket, self._transcripts))
                if self._closed:
                    self._end()
                return self._pieces.popleft()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Cancel what still runs and free its place. Harmless when called again."""
        if not self._closed:
            self._closer = threading.get_ident()
            self._closed = True
            self._ticket.cancel()

    def _end(self) -> NoReturn:
        closer, self._closer = self._closer, None
        if closer in (None, threading.get_ident()):
            raise StopIteration
        raise Cancelled(CLOSED_ELSEWHERE)

    def __enter__(self) -> TextStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def read(
    events: Sequence[_core.Event], ticket: _core.Ticket, transcripts: Sequence[Transcript]
) -> list[TextPiece]:
    """Hand events to their transcripts; a transcript that found its end cancels its request."""
    pieces = []
    for event in events:
        transcript = transcripts[event.index]
        cut_before = transcript.cut
        piece = transcript.feed(event)
        if transcript.cut and not cut_before and not transcript.finished:
            ticket.cancel(event.index)
        if piece is not None:
            pieces.append(piece)
    return pieces
