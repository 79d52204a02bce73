"""What the CUDA laboratory's numbers say: tables of them beside what was expected."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

READ_LIMIT = "* 1024 MiB"  # the cases of read_bandwidth that a GEMV's share is of: the fastest of them


@dataclass(slots=True)
class Case:
    """One measured number; a value a round. `skipped`: why there is none."""

    experiment: str
    name: str
    unit: str = ""
    values: list[float] = field(default_factory=list)
    verified: bool = True
    skipped: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was expected of the cases whose names match, before anything was measured."""

    experiment: str
    cases: str
    low: float
    high: float
    unit: str
    why: str

    def covers(self, case: Case) -> bool:
        return case.experiment == self.experiment and fnmatchcase(case.name, self.cases)


Cases = dict[tuple[str, str], Case]


def read_predictions(path: Path) -> list[Prediction]:
    """Those of a JSON file."""
    return [Prediction(**each) for each in json.loads(path.read_text("utf-8"))]


def number(value: float) -> str:
    """Three figures at most, and no more digits after the point than they need."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def span(low: float, high: float) -> str:
    """From the smaller to the larger as text, or the one number that both are."""
    return number(low) if number(low) == number(high) else f"{number(low)} to {number(high)}"


def expected(case: Case, predictions: Iterable[Prediction]) -> Prediction | None:
    """The first prediction that covers a case: special ones stand before general ones."""
    return next((each for each in predictions if each.covers(case)), None)


def measured(prediction: Prediction, medians: Sequence[float]) -> str:
    """From the least to the largest median, and how many of them were predicted rightly."""
    if not medians:
        return ""
    right = sum(prediction.low <= each <= prediction.high for each in medians)
    return f"{span(min(medians), max(medians))} ({right} of {len(medians)} as predicted)"


def prediction_table(predictions: Sequence[Prediction], cases: Cases) -> str:
    """Every prediction beside what was measured; nothing, where nothing was."""
    known = [case for case in cases.values() if case.values]
    lines = ["| experiment | cases | predicted | because | measured |", "|---|---|---|---|---|"]
    for each in predictions:
        medians = [case.median for case in known if expected(case, predictions) is each]
        told = f"{span(each.low, each.high)} {each.unit} | {each.why}"
        lines.append(f"| {each.experiment} | `{each.cases}` | {told} | {measured(each, medians)} |")
    return "\n".join(lines)


def meaning(case: Case, cases: Cases) -> str:
    """What a number is worth: a hand-over without the round around it, a GEMV's share of reading."""
    if case.experiment in ("handover", "cluster"):
        width = case.name.rpartition(", ")[2]
        bare = cases.get(("handover", f"no exchange, {width}"))
        if bare and bare.values and bare is not case:
            return f"{number(max(0.0, case.median - bare.median))} ns the hand-over"
    if case.experiment == "gemv":
        limits = [
            each.median
            for each in cases.values()
            if each.experiment == "read_bandwidth" and fnmatchcase(each.name, READ_LIMIT) and each.values
            if not each.name.startswith("cudaMemcpy")  # which counts what it writes
        ]
        if limits:
            return f"{case.median / max(limits):.0%} of reading"
    return ""


def table(cases: Cases, predictions: Sequence[Prediction]) -> str:
    """Every case: median, spread, what it means, whether it was predicted and whether it computed rightly."""
    lines = ["| experiment | case | median | least to most | | predicted |", "|---|---|---|---|---|---|"]
    for case in cases.values():
        head = f"| {case.experiment} | {case.name} |"
        if not case.values:
            lines.append(f"{head} skipped: {case.skipped} | | | |")
            continue
        prediction = expected(case, predictions)
        told = span(prediction.low, prediction.high) if prediction else "nothing"
        worth = meaning(case, cases) if case.verified else "**WRONG RESULT: the number means nothing**"
        spread = span(min(case.values), max(case.values))
        lines.append(f"{head} {number(case.median)} {case.unit} | {spread} | {worth} | {told} |")
    return "\n".join(lines)
