"""Ends a growing text at the first stop string, without ever showing a part of one."""

from __future__ import annotations

from collections.abc import Sequence


class StopFinder:
    """Finds where a text ends: at the earliest place where a stop string begins; of two there, at the
    shorter.

    So the cut is a property of the text, not of the pieces that it arrives in. A text that may still turn
    out to begin a stop string is held back, at most as long as the longest of them.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = sorted(set(stops), key=len)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""

    def feed(self, text: str) -> tuple[str, str | None]:
        """More text arrives: what may be shown of it now, and the stop string that begins right behind, if
        found."""
        if not self._stops:
            return text, None
        self._held += text
        begin, stop = self._find()
        unsure = self._first_beginning()
        if stop is not None and begin <= unsure:
            return self._release(begin), stop
        return self._release(unsure), None

    def finish(self) -> tuple[str, str | None]:
        """The text is over: the rest, and the stop string that begins behind it if what was held back has
        one."""
        begin, stop = self._find()
        return self._release(begin), stop

    def _find(self) -> tuple[int, str | None]:
        """The earliest whole stop string in the held text; of those that begin together, the shortest."""
        found = [(self._held.find(stop), stop) for stop in self._stops if stop in self._held]
        return min(found, key=lambda each: each[0], default=(len(self._held), None))

    def _first_beginning(self) -> int:
        """Where the held text's end first begins a stop string that is not whole yet; its length if
        nowhere."""
        for begin in range(max(0, len(self._held) - self._longest + 1), len(self._held)):
            tail = self._held[begin:]
            if any(len(stop) > len(tail) and stop.startswith(tail) for stop in self._stops):
                return begin
        return len(self._held)

    def _release(self, count: int) -> str:
        text, self._held = self._held[:count], self._held[count:]
        return text
