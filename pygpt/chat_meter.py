"""What a chat template may take in all, and what a value of it weighs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2.utils import Namespace

MAX_TEXT = 1 << 24  # characters of a text, or items of a list
MAX_SOURCE = 1 << 18  # characters of a template; the longest that are known have some 20,000
MAX_WRITTEN = 1 << 26  # characters, into captures too
MAX_SECONDS = 5.0  # of this thread's CPU
FUEL = 1_000_000  # turns of loops, calls, and each 64 characters or items that one of them reads
LEAST = 32  # characters that a short text, a number or a list counts as


class TemplateLimitError(Exception):
    """The template takes too much."""


class _Meter:
    """What one rendering has taken."""

    def __init__(self) -> None:
        self._fuel = FUEL
        self._written = 0
        self._steps = 0
        self._ends = time.thread_time() + MAX_SECONDS

    def spend(self, size: int = 0) -> None:
        self._fuel -= 1 + size // 64
        if self._fuel < 0:
            raise TemplateLimitError(f"takes more than {FUEL} steps")
        self._steps += 1
        # The clock is asked rarely where steps are short, and always where they may be long.
        if (size > 4096 or self._steps % 64 == 0) and time.thread_time() > self._ends:
            raise TemplateLimitError(f"takes more than {MAX_SECONDS:g} seconds")

    def write(self, size: int) -> None:
        self._written += size
        if self._written > MAX_WRITTEN:
            raise TemplateLimitError(f"writes over {MAX_WRITTEN} characters")


METER: ContextVar[_Meter] = ContextVar("meter")


@contextmanager
def metered() -> Iterator[None]:
    """Everything that templates do inside takes from one allowance. TemplateLimitError where it ends."""
    token = METER.set(_Meter())
    try:
        yield
    finally:
        METER.reset(token)


def weight(value: Any) -> int:
    """Characters that the value takes when it is written, about. Raises TemplateLimitError above MAX_TEXT."""
    total, open_ = 0, [value]
    while open_:
        each = open_.pop()
        if type(each) is str:  # first, since most are, and the abstract classes below are slow to ask
            total += max(len(each), LEAST)
            continue
        if type(each) is list or type(each) is tuple:
            open_ += each
        elif isinstance(each, Namespace):
            raise TemplateLimitError("writes a namespace")
        elif isinstance(each, Mapping):
            open_ += [*each.keys(), *each.values()]
        elif isinstance(each, Collection) and not isinstance(each, str | bytes | range):
            open_ += each
        total += max(len(each), LEAST) if isinstance(each, str | bytes) else LEAST
        if total + len(open_) > MAX_TEXT:
            raise TemplateLimitError(f"makes more than {MAX_TEXT} characters")
    return total


def check_size(size: int) -> None:
    if size > MAX_TEXT:
        raise TemplateLimitError(f"makes more than {MAX_TEXT} characters")
