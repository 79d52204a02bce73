"""Repeats of one measurement, and how long they may take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pygpt.kinds import Integer

REPEATS = Integer(1, 1000)


@dataclass(frozen=True, slots=True)
class Rate:
    """What the repeats of one measurement gave, in the unit that the field which holds it names.

    Attributes:
        median, best, worst: of the repeats. On a shared machine the best is nearest to what it can do.
        repeats: how many there were.
        how: which of several ways was the fastest; "" where there is one.
    """

    median: float
    best: float
    worst: float
    repeats: int
    how: str = ""


def speed(samples: Iterable[float], how: str = "") -> Rate:
    """Of samples of which more is better."""
    values = sorted(samples)
    return Rate(statistics.median(values), values[-1], values[0], len(values), how)


def duration(samples: Iterable[float], how: str = "") -> Rate:
    """Of samples of which less is better."""
    values = sorted(samples)
    return Rate(statistics.median(values), values[0], values[-1], len(values), how)


def rounds(repeats: int, budget_s: float) -> Iterator[int]:
    """0, 1, ... up to `repeats`, or until the time is used up; always once."""
    end = time.monotonic() + budget_s
    for index in range(repeats):
        if index > 0 and time.monotonic() > end:
            return
        yield index
