"""The asyncio side of the engine: the same calls, waited for without a thread and without blocking the loop.

The core's thread rings a bell, a file descriptor that the event loop watches. One bell serves all the calls
of a loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

from pygpt import _core
from pygpt.completion import Completion, TextPiece
from pygpt.deadline import Deadline
from pygpt.errors import Cancelled
from pygpt.stream import CLOSED_ELSEWHERE, read

if TYPE_CHECKING:
    from pygpt.transcript import Transcript

# Between two looks at what streams: 2 ms for each that has news, at most a frame of a screen. A look costs
# the loop some 50 us a stream, and on few cores the engine waits meanwhile. First pieces and ends wait for no
# pause.
PAUSE_S, LONGEST_PAUSE_S = 0.002, 0.016
LONG_PROMPT = 10_000  # characters or ids: encoding more would hold up the loop, so a thread does it

Built: TypeAlias = "tuple[list[_core.Request], list[Transcript]]"
Build: TypeAlias = Callable[[], Built]
Submit: TypeAlias = Callable[..., _core.Ticket]
Poll: TypeAlias = Callable[[_core.Ticket], list[_core.Event]]


class Switchboard:
    """An engine's calls from event loops: one `Desk` for each loop that has calls.

    Args:
        submit: hands requests to the core; takes the keywords of `_core.Engine.submit`.
        poll: takes the news of a ticket without waiting. Both raise what makes the engine unusable.
    """

    def __init__(self, submit: Submit, poll: Poll) -> None:
        self.submit = submit
        self.poll = poll
        self._desks: dict[AbstractEventLoop, Desk] = {}

    def desk(self) -> Desk:
        """The running loop's."""
        loop = asyncio.get_running_loop()
        if loop not in self._desks:
            for closed in [each for each in list(self._desks) if each.is_closed()]:
                self._desks.pop(closed, None)
            self._desks[loop] = Desk(loop, lambda: self._desks.pop(loop, None))
        return self._desks[loop]


class Desk:
    """Wakes the tasks of one loop that wait for tickets. Every method is called in that loop."""

    def __init__(self, loop: AbstractEventLoop, when_empty: Callable[[], object]) -> None:
        self.loop = loop
        self._when_empty = when_empty
        self._bell = _core.Bell()
        self._ids = itertools.count()
        self._news: dict[int, asyncio.Event] = {}
        self._pause: asyncio.TimerHandle | None = None
        loop.add_reader(self._bell.fileno(), self._look)

    def open(
        self, send: Callable[[_core.Bell, int], _core.Ticket]
    ) -> tuple[int, asyncio.Event, _core.Ticket]:
        """Send requests under an id of their own; the event is set whenever their ticket has news."""
        number = next(self._ids)
        news = self._news[number] = asyncio.Event()
        try:
            return number, news, send(self._bell, number)
        except BaseException:
            self.close(number)
            raise

    def close(self, number: int) -> None:
        """Forget a ticket; with the last one the descriptor goes."""
        if self._news.pop(number, None) is None or self._news:
            return
        self._when_empty()
        self.loop.remove_reader(self._bell.fileno())
        if self._pause is not None:
            self._pause.cancel()

    def _look(self) -> None:
        numbers = self._bell.take()
        for number in numbers:
            if number in self._news:
                self._news[number].set()
        if self._pause is None:
            pause_s = min(PAUSE_S * max(1, len(numbers)), LONGEST_PAUSE_S)
            self._pause = self.loop.call_later(pause_s, self._resume)

    def _resume(self) -> None:
        self._pause = None
        if self._bell.resume():
            self._look()


async def complete(
    board: Switchboard, build: Build, size: int, deadline: Deadline, *, until_done: bool
) -> list[Completion]:
    """Run requests to their end; a task that is cancelled cancels them.

    Args:
        build: makes the requests of prompts that have `size` characters or ids.
        until_done: nothing but the end is of interest.
    """
    requests, transcripts = await _built(build, size)
    if not requests:
        return []
    call = _Call(board, requests, deadline, until_done=until_done)
    try:
        while not all(each.finished for each in transcripts):
            for event in await call.events():
                read([event], call.ticket, transcripts)
                if event.finish_reason:
                    await asyncio.sleep(0)  # a long text has been decoded: let others have their turn
    finally:
        call.close()
    deadline.check(transcripts)
    return [each.completion() for each in transcripts]


class _Call:
    """Requests on their way, and how their task waits for them."""

    def __init__(
        self,
        board: Switchboard,
        requests: Sequence[_core.Request],
        deadline: Deadline,
        *,
        until_done: bool = False,
    ) -> None:
        def send(bell: _core.Bell, number: int) -> _core.Ticket:
            return board.submit(
                requests, timeout_s=deadline.left_s(), bell=bell, id=number, until_done=until_done
            )

        self._poll = board.poll
        self._desk = board.desk()
        self._number, self._news, self.ticket = self._desk.open(send)

    def is_here(self) -> bool:
        """Whether the running loop is the one that the call began in."""
        return asyncio.get_running_loop() is self._desk.loop

    async def events(self) -> list[_core.Event]:
        """Wait for news."""
        await self._news.wait()
        self._news.clear()
        return self._poll(self.ticket)

    def close(self) -> None:
        """Cancel what still runs and wait no more. In the loop."""
        self.ticket.cancel()
        self._desk.close(self._number)
        self._news.set()

    def close_soon(self) -> None:
        """The same from any thread, and from a destructor, which may run in the middle of anything."""
        self.ticket.cancel()
        with contextlib.suppress(RuntimeError):  # the loop is closed, and its desk with it
            self._desk.loop.call_soon_threadsafe(self.close)


class AsyncTextStream(AsyncIterator[TextPiece]):
    """Pieces of one or more samples as they come, for `async for`.

    The generation begins with the first piece that is waited for. Leaving the loop, closing or losing the
    stream, or cancelling the task that waits, cancels it. Any thread may close it; a task that reads it then
    gets Cancelled, once.
    """

    def __init__(self, board: Switchboard, build: Build, size: int, deadline: Deadline) -> None:
        self._board = board
        self._build = build
        self._size = size
        self._deadline = deadline
        self._call: _Call | None = None
        self._transcripts: list[Transcript] = []
        self._pieces: deque[TextPiece] = deque()
        self._closed = False
        self._closer: int | None = None

    def __aiter__(self) -> AsyncTextStream:
        return self

    async def __anext__(self) -> TextPiece:
        try:
            while self._closed or not self._pieces:
                await self._advance()
            return self._pieces.popleft()
        except BaseException:
            await self.aclose()
            raise

    async def _advance(self) -> None:
        if self._closed:
            closer, self._closer = self._closer, None
            if closer in (None, _who()):
                raise StopAsyncIteration
            raise Cancelled(CLOSED_ELSEWHERE)
        if self._call is None:
            requests, self._transcripts = await _built(self._build, self._size)
            self._call = _Call(self._board, requests, self._deadline)
        elif all(each.finished for each in self._transcripts):
            self._deadline.check(self._transcripts)
            raise StopAsyncIteration
        self._pieces.extend(read(await self._call.events(), self._call.ticket, self._transcripts))

    def close(self) -> None:
        """Cancel what still runs and free its place. Harmless when called again."""
        if not self._closed:
            self._closer = _who()
            self._closed = True
            if self._call is not None:
                self._call.close_soon()

    async def aclose(self) -> None:
        """`close` in the loop; its descriptor is free when this returns."""
        if self._call is not None and self._call.is_here():
            self._closer = self._closer if self._closed else _who()
            self._closed = True
            self._call.close()
        self.close()

    async def __aenter__(self) -> AsyncTextStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self.close()


def _who() -> int:
    """A number for the task that runs, or outside of tasks for the thread."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop
        task = None
    return threading.get_ident() if task is None else id(task)  # not the task: it may hold the stream


async def _built(build: Build, size: int) -> Built:
    return build() if size <= LONG_PROMPT else await asyncio.to_thread(build)
