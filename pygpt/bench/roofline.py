"""Shares of a limit, by the roofline model (Williams, Waterman and Patterson 2009).

Work takes at least as long as reading its bytes takes, and at least as long as its operations take. A share
is that least time over the measured one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from pygpt.bench.rates import Rate, speed
from pygpt.bench.work import Work

Bound = Literal["memory", "compute"]


@dataclass(frozen=True, slots=True)
class Roofs:
    """What the machine could do at one moment, in bytes or operations a second. int8 is 0 if missing."""

    read: float
    fma: float
    int8: float

    def read_s(self, work: Work) -> float:
        """Seconds that the bytes take at least."""
        return work.bytes / self.read

    def compute_s(self, work: Work) -> float:
        """Seconds that the operations take at least."""
        return work.flops / self.fma + work.int8_ops / (self.int8 or self.fma)


def between(before: Roofs, after: Roofs) -> Roofs:
    """What held in between, when both ends were measured."""
    return Roofs((before.read + after.read) / 2, (before.fma + after.fma) / 2, (before.int8 + after.int8) / 2)


@dataclass(frozen=True, slots=True)
class Run:
    """One repeat: some tokens, the work for them, how long it took, and the roofs around it."""

    tokens: int
    work: Work
    seconds: float
    roofs: Roofs


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Repeats of one kind of work.

    Attributes:
        tokens_per_s: of all sequences together.
        gb_s, gops: bytes that were read and operations done a second, medians.
        memory_share, compute_share: least time over measured time, medians of the repeats, each beside the
            roofs measured around it.
        intensity: operations for each byte.
    """

    name: str
    tokens_per_s: Rate
    gb_s: float
    gops: float
    memory_share: float
    compute_share: float
    intensity: float

    @property
    def bound(self) -> Bound:
        """Which of the two roofs is the nearer."""
        return "memory" if self.memory_share >= self.compute_share else "compute"

    @property
    def share(self) -> float:
        """Of the nearer roof."""
        return max(self.memory_share, self.compute_share)


def figure(name: str, runs: Sequence[Run]) -> Figure:
    """What the repeats say together."""
    return Figure(
        name=name,
        tokens_per_s=speed(run.tokens / run.seconds for run in runs),
        gb_s=median(run.work.bytes / run.seconds for run in runs) / 1e9,
        gops=median(run.work.operations / run.seconds for run in runs) / 1e9,
        memory_share=median(run.roofs.read_s(run.work) / run.seconds for run in runs),
        compute_share=median(run.roofs.compute_s(run.work) / run.seconds for run in runs),
        intensity=median(run.work.intensity for run in runs),
    )


def attainable(intensity: float, gb_s: float, gops: float) -> float:
    """Operations a second, in 10^9, that a roof of bandwidth and a ceiling of arithmetic leave."""
    return min(gops, intensity * gb_s)
