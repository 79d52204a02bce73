"""The measurement: one group of engines, interleaved, round by round."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import bandwidth, quiet, shapes
from peers.base import CHECKED_TOKENS, PROMPT_TOKENS, UnavailableError
from peers.catalogue import Contender
from peers.client import Worker, WorkerError, opened, prepared
from peers.figures import FIGURES, Group, agreeing, decode_speed
from peers.shapes import Shape

BATCH = 8
CPUS = os.cpu_count() or 1
FIRST_TOKEN_RUNS = 3
WARM_UP_TOKENS = 4

Values = dict[str, float | None]  # by name of FIGURES


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run measures. `quick`: a few tokens, to see that everything runs; its figures say nothing."""

    threads: int
    rounds: int
    cells: Sequence[str]
    quick: bool = False


def note(text: str) -> None:
    """A line about the progress."""
    print(text, file=sys.stderr, flush=True)


def generate(worker: Worker, shape: Shape, length: int, tokens: int, rows: int = 1) -> dict[str, Any]:
    """The worker's answer to prompts that it has not seen: a cache of prefixes must not help it.

    Every worker is asked the same in the same order, so the prompts are the same for all.
    """
    serial = worker.told
    ids = [shapes.prompt(shape, length, row, serial) for row in range(rows)]
    return worker.ask({"prompts": ids, "tokens": tokens})


def decode(worker: Worker, shape: Shape, tokens: int) -> Values:
    """Decode speed at batch 1, and the time to a first token (median of a few)."""
    firsts = [generate(worker, shape, PROMPT_TOKENS, 1)["seconds"] for _ in range(FIRST_TOKEN_RUNS)]
    first = statistics.median(firsts)
    whole = generate(worker, shape, PROMPT_TOKENS, tokens)["seconds"]
    return {"decode": decode_speed(first, whole, tokens), "ttft_ms": 1000 * first}


def batch(worker: Worker, shape: Shape, tokens: int, rows: int = BATCH) -> Values:
    """Decode speed of several sequences together, in tokens of all of them a second."""
    first = generate(worker, shape, PROMPT_TOKENS, 1, rows)["seconds"]
    whole = generate(worker, shape, PROMPT_TOKENS, tokens, rows)["seconds"]
    return {"batch": decode_speed(first, whole, tokens, rows)}


def prefill(worker: Worker, shape: Shape, length: int) -> Values:
    """Speed of reading a prompt, up to the first token after it."""
    return {"prefill": length / generate(worker, shape, length, 1)["seconds"]}


def started(worker: Worker, shape: Shape) -> tuple[Mapping[str, Any], Values]:
    """What a worker that has just been started says of itself; the seconds from its start to its first token,
    and its peak memory after a few."""
    worker.tell({"prompts": [shapes.prompt(shape, PROMPT_TOKENS)], "tokens": 1})
    about = worker.hear()
    worker.hear()
    cold = time.perf_counter() - worker.started
    generate(worker, shape, PROMPT_TOKENS, PROMPT_TOKENS)
    return about, {"cold_s": cold, "rss_mb": worker.ask({"peak": True})["peak_mb"]}


Step = Callable[[Contender, str], Values]


class GroupRun:
    """One model, one number of threads, all contenders."""

    def __init__(self, shape: Shape, plan: Plan, folder: Path) -> None:
        self.shape, self.plan, self.folder = shape, plan, folder / shape.name
        self.tokens, self.batch_tokens = (8, 4) if plan.quick else (shape.tokens, shape.batch_tokens)
        self.group = Group(
            shape.name, shape.title, plan.threads, self.tokens, self.batch_tokens, shape.prefill
        )
        self.paths: dict[str, Path] = {}
        self.workers: dict[str, Worker] = {}
        self.written: dict[str, list[int]] = {}

    def run(self, contenders: Sequence[Contender]) -> Group:
        """Every round of every cell.

        An engine that cannot take part, or fails, is listed under `skipped` with the reason.
        """
        able = [each for each in contenders if self._prepare(each)]
        try:
            if self.shape.resident:
                for each in able:
                    self._try(each, self._open, "")
            for round_ in range(self.plan.rounds):
                note(f"{self.shape.name}, {self.plan.threads} threads: round {round_ + 1}/{self.plan.rounds}")
                self.group.bandwidth_gb_s.append(bandwidth.read_gb_s(self.plan.threads, self.folder))
                self._round(able)
        finally:
            for worker in self.workers.values():
                worker.close()
        self._compare([each for each in able if each.name in self.written])
        if not any(self.group.bandwidth_gb_s):
            self.group.bandwidth_gb_s.clear()
        return self.group

    def _prepare(self, contender: Contender) -> bool:
        reason = contender.obstacle(self.shape.family)
        if reason is None:
            note(f"{self.shape.name}: preparing {contender.name}")
            source = shapes.write(self.shape, self.folder / "weights")
            try:
                self.paths[contender.name] = prepared(contender, self.shape.name, source, self.folder)
                return True
            except (UnavailableError, WorkerError) as error:
                reason = str(error)
        self._skip(contender, reason)
        return False

    def _skip(self, contender: Contender, reason: str) -> None:
        note(f"{self.shape.name}: {contender.name}: {reason}")
        self.group.skipped[contender.name] = reason

    def _try(self, contender: Contender, step: Step, cell: str) -> Values:
        """What a step gives; an engine that fails takes no further part."""
        if contender.name in self.group.skipped:
            return {}
        try:
            return step(contender, cell)
        except (UnavailableError, WorkerError) as error:
            self._skip(contender, str(error))
            if worker := self.workers.pop(contender.name, None):
                worker.close()
            return {}

    def _round(self, contenders: Sequence[Contender]) -> None:
        if self.shape.resident:
            for cell in self.plan.cells:
                for each in contenders:
                    self._record(each, cell, self._cold if cell == "cold" else self._cell)
        else:
            for each in contenders:
                self._record_all(each)

    def _record(self, contender: Contender, cell: str, step: Step) -> None:
        self._keep(contender, cell, self._try(contender, step, cell))

    def _record_all(self, contender: Contender) -> None:
        """All cells of one engine, which is loaded for them: not all fit into memory together."""
        values = self._try(contender, self._open, "")
        if "cold" in self.plan.cells:
            self._keep(contender, "cold", values)
        for cell in self.plan.cells:
            if cell != "cold":
                self._record(contender, cell, self._cell)
        if worker := self.workers.pop(contender.name, None):
            worker.close()

    def _keep(self, contender: Contender, cell: str, values: Values) -> None:
        rounds = self.group.figures.setdefault(contender.name, {})
        for figure in FIGURES.values():
            if figure.cell == cell:
                rounds.setdefault(figure.name, []).append(values.get(figure.name))

    def _open(self, contender: Contender, _: str) -> Values:
        """Start a worker that stays, warm it up, and keep its first tokens."""
        name = contender.name
        worker = opened(contender, self.shape.name, self.paths[name], self.plan.threads)
        self.workers[name] = worker
        about, first = started(worker, self.shape)
        self.group.versions[name] = about["version"]
        self.group.weight_bytes[name] = about["weight_bytes"]
        self.written[name] = generate(worker, self.shape, PROMPT_TOKENS, CHECKED_TOKENS)["tokens"][0]
        if "batch" in self.plan.cells:
            batch(worker, self.shape, WARM_UP_TOKENS)
        if "prefill" in self.plan.cells:
            prefill(worker, self.shape, self.shape.prefill)
        worker.settle()
        return first

    def _cold(self, contender: Contender, _: str) -> Values:
        """A process of its own, from its start."""
        name = contender.name
        with opened(contender, self.shape.name, self.paths[name], self.plan.threads) as worker:
            return started(worker, self.shape)[1]

    def _cell(self, contender: Contender, cell: str) -> Values:
        worker = self.workers[contender.name]
        before = quiet.sample(worker.process.pid)
        if cell == "decode":
            values = decode(worker, self.shape, self.tokens)
        elif cell == "batch":
            values = batch(worker, self.shape, self.batch_tokens)
        else:
            values = prefill(worker, self.shape, self.shape.prefill)
        self._note_others(contender.name, quiet.others(before, quiet.sample(worker.process.pid), CPUS))
        if not worker.settle():
            note(
                f"{self.shape.name}: {contender.name} does not come to rest: the others share its processors"
            )
        return values

    def _note_others(self, name: str, share: float | None) -> None:
        """Keep the worst share of the round."""
        rounds = self.group.others.setdefault(name, [])
        if len(rounds) < len(self.group.bandwidth_gb_s):  # the first cell of this round: one probe a round
            rounds.append(share)
        elif share is not None:
            rounds[-1] = max(share, rounds[-1] or 0.0)

    def _compare(self, contenders: Sequence[Contender]) -> None:
        """Each engine's first tokens with those of the first exact one."""
        reference = next((self.written[each.name] for each in contenders if each.exact), None)
        for each in contenders:
            if reference is not None:
                self.group.agreement[each.name] = agreeing(self.written[each.name], reference)
            if reference is not None and each.exact and self.group.agreement[each.name] < CHECKED_TOKENS:
                note(f"{self.shape.name}: {each.name} writes {self.written[each.name]}, not {reference}")
