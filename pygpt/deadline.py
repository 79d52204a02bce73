"""The time that a call may take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pygpt.errors import DeadlineExceeded
from pygpt.kinds import Real

if TYPE_CHECKING:
    from pygpt.transcript import Transcript

TIMEOUT = Real(0.0, above=True)


class Deadline:
    """`timeout` seconds from now, or never; the core ends what runs then. The clock is monotonic.

    Raises:
        InvalidRequestError: a timeout that is no number above 0.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout_s = None if timeout is None else TIMEOUT.check("timeout", timeout)
        self._start = time.monotonic()

    def left_s(self) -> float | None:
        """Seconds that are left, at least 0; None without a deadline."""
        if self._timeout_s is None:
            return None
        return max(0.0, self._start + self._timeout_s - time.monotonic())

    def check(self, transcripts: Sequence[Transcript]) -> None:
        """Raise DeadlineExceeded, with all completions as far as they got, if one of them is cut by it."""
        if not any(each.late for each in transcripts):
            return
        done = sum(not each.late for each in transcripts)
        completions = [each.completion() for each in transcripts]
        tokens = sum(each.usage.completion_tokens for each in completions)
        raise DeadlineExceeded(
            f"the timeout of {self._timeout_s:g} s ran out: {done} of {len(completions)} texts are whole, "
            f"{tokens} tokens were written; the error's completions have them",
            completions,
        )
