"""How an engine's cost grows: with the positions that lie in its cache, and with the sequences of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peers import shapes
from peers.base import UnavailableError
from peers.catalogue import Contender
from peers.client import Worker, WorkerError, opened, prepared
from peers.figures import decode_speed, spread
from peers.measure import Plan, batch, generate, note
from peers.report import shown, table
from peers.shapes import Shape

CONTEXTS = (128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
TOKENS = 32

Speeds = dict[str, dict[str, list[float | None]]]  # by contender and by context or batch, a value a round


@dataclass(frozen=True, slots=True)
class Growth:
    """Tokens of all sequences a second."""

    title: str
    threads: int
    tokens: int
    contexts: Speeds = field(default_factory=dict)
    batches: Speeds = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def decode_at(worker: Worker, shape: Shape, context: int, tokens: int) -> float | None:
    """Decode speed while the last of `tokens` fill the cache up to `context` positions."""
    heard = generate(worker, shape, context - tokens, tokens)
    if heard["decode_s"]:  # better than a difference of two long prefills, where the engine tells
        return float((tokens - 1) / heard["decode_s"])
    first = generate(worker, shape, context - tokens, 1)["seconds"]
    return decode_speed(first, heard["seconds"], tokens)


def measure(contenders: Sequence[Contender], plan: Plan, folder: Path) -> Growth:
    """Every context and batch, round by round, the engines in turn."""
    shape = shapes.SHAPES["G"]
    tokens = 4 if plan.quick else TOKENS
    growth = Growth(shape.title, plan.threads, tokens)
    workers: dict[str, Worker] = {}
    try:
        for each in contenders:
            _open(each, shape, plan.threads, folder / shape.name, workers, growth)
        for round_ in range(plan.rounds):
            note(f"growth: round {round_ + 1}/{plan.rounds}")
            for context in CONTEXTS[:2] if plan.quick else CONTEXTS:
                _turn(workers, growth, growth.contexts, context, lambda w, n: decode_at(w, shape, n, tokens))
            for rows in BATCHES[:2] if plan.quick else BATCHES:
                _turn(workers, growth, growth.batches, rows, lambda w, n: batch(w, shape, tokens, n)["batch"])
    finally:
        for worker in workers.values():
            worker.close()
    return growth


def report(growth: Growth) -> str:
    """Its Markdown."""
    parts = [f"## Growth: {growth.title}, {growth.threads} threads"]
    for title, speeds in (
        ("tok/s with so many positions in the cache", growth.contexts),
        ("tok/s of a batch of so many sequences", growth.batches),
    ):
        columns = list(next(iter(speeds.values()), {}))
        rows = [
            [name, *(shown(spread(values.get(column, ())), 1) for column in columns)]
            for name, values in speeds.items()
        ]
        parts.append(table([title, *columns], rows))
    if growth.skipped:
        parts.append("Not there:\n" + "\n".join(f"- {name}: {why}" for name, why in growth.skipped.items()))
    return "\n\n".join(parts)


def _open(
    contender: Contender,
    shape: Shape,
    threads: int,
    folder: Path,
    workers: dict[str, Worker],
    growth: Growth,
) -> None:
    name = contender.name
    reason = contender.obstacle(shape.family)
    if reason is None:
        note(f"growth: preparing {name}")
        try:
            source = shapes.write(shape, folder / "weights")
            path = prepared(contender, shape.name, source, folder)
            worker = opened(contender, shape.name, path, threads)
            workers[name] = worker
            worker.hear()
            batch(worker, shape, 2)
            return
        except (UnavailableError, WorkerError) as error:
            reason = str(error)
            if failed := workers.pop(name, None):
                failed.close()
    note(f"growth: {name}: {reason}")
    growth.skipped[name] = reason


def _turn(
    workers: dict[str, Worker],
    growth: Growth,
    speeds: Speeds,
    size: int,
    run: Callable[[Worker, int], float | None],
) -> None:
    """One size for every engine; one that fails takes no further part."""
    for name, worker in list(workers.items()):
        try:
            speeds.setdefault(name, {}).setdefault(str(size), []).append(run(worker, size))
            worker.settle()
        except WorkerError as error:
            note(f"growth: {name} at {size}: {error}")
            growth.skipped[name] = f"at {size}: {error}"
            workers.pop(name).close()
