"""What is measured, and what a group of measurements says: medians, ratios within a round, their spread."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Rounds = Sequence[float | None]  # a figure a round; None where it could not be had


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that is measured. `digits` after the point where it is shown."""

    name: str
    title: str
    cell: str
    digits: int
    higher_is_better: bool


FIGURES = {
    figure.name: figure
    for figure in (
        Figure("decode", "decode tok/s", "decode", 1, True),
        Figure("ttft_ms", "first token ms", "decode", 1, False),
        Figure("batch", "batch of 8 tok/s", "batch", 1, True),
        Figure("prefill", "prefill tok/s", "prefill", 0, True),
        Figure("cold_s", "process start to first token s", "cold", 2, False),
        Figure("rss_mb", "peak memory MB", "cold", 0, False),
    )
}
CELLS = ("decode", "batch", "prefill", "cold")


@dataclass(frozen=True, slots=True)
class Group:
    """All engines with one model and one number of threads.

    Attributes:
        figures: by contender and name of FIGURES, a value a round.
        agreement: how many of the first tokens, one after the other, are those of the reference.
        skipped: contenders that did not take part, and why.
        bandwidth_gb_s: what memory gave when it was read, once a round; empty without a probe.
        others: share of the processors that other processes and the host took while a contender worked, the
            worst cell of each round; None where the system does not tell.
    """

    model: str
    title: str
    threads: int
    tokens: int
    batch_tokens: int
    prefill: int
    figures: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    weight_bytes: dict[str, int | None] = field(default_factory=dict)
    agreement: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    bandwidth_gb_s: list[float | None] = field(default_factory=list)
    others: dict[str, list[float | None]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Group:
        return cls(**record)


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, smallest and largest of some rounds."""

    median: float
    low: float
    high: float


def spread(values: Rounds) -> Spread | None:
    """Of the rounds that have a value; None if none has."""
    known = [each for each in values if each is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def advantage(ours: Rounds, theirs: Rounds, figure: Figure) -> Spread | None:
    """How many times better ours is, above 1 for better: the ratios within each round that has both."""
    ratios: list[float | None] = []
    for mine, other in zip(ours, theirs, strict=True):
        if mine and other:
            ratios.append(mine / other if figure.higher_is_better else other / mine)
    return spread(ratios)


def decode_speed(first_s: float, all_s: float, tokens: int, rows: int = 1) -> float | None:
    """Tokens a second without reading the prompt: rows (n - 1) / (t(n) - t(1)); None if noise ate it."""
    return rows * (tokens - 1) / (all_s - first_s) if all_s > first_s and tokens > 1 else None


def agreeing(tokens: Sequence[int], reference: Sequence[int]) -> int:
    """How many tokens are equal before the first that is not."""
    pairs = zip(tokens, reference, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(reference)))
