"""Signals as a polite request to stop, for programs; the library itself never installs a handler."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """A run calls it between its steps: true once a signal has come.

    Attributes:
        signal: its number, or None. SIGUSR1, which schedulers such as Slurm send ahead of the end, counts as
            SIGTERM.
        asked: whether it was called yet. Before, there is nothing to save, and a signal acts at once.
    """

    signal: int | None = None
    asked: bool = False

    def __call__(self) -> bool:
        """Whether to stop."""
        self.asked = True
        return self.signal is not None


def _nothing() -> None:
    """Where nobody is told."""


@contextmanager
def polite_signals(told: Callable[[], None] = _nothing) -> Iterator[StopRequest]:
    """Within, the first signal only makes the request; a second acts at once. Main thread only.

    A signal before the run has asked for the first time raises KeyboardInterrupt, whichever it is.

    Args:
        told: is called when the request is made, from the handler.
    """
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in _ASKING}

    def ask(number: int, _frame: FrameType | None) -> None:
        request.signal = signal.SIGTERM if number == signal.SIGUSR1 else number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        if not request.asked:
            raise KeyboardInterrupt
        told()

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
