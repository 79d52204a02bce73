"""Figures as tables for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pygpt.bench.limits import MachineLimits
from pygpt.bench.rates import Rate

MACHINE_SCHEMA = "pygpt.bench.machine/1"
_BUSY = 0.5  # of a CPU


def machine_json(limits: MachineLimits) -> dict[str, Any]:
    """The limits as JSON holds them: numbers of threads become texts."""
    return {"schema": MACHINE_SCHEMA, **asdict(limits)}


def machine_lines(limits: MachineLimits) -> list[str]:
    """The limits for people: for each number of threads the median and the best of the repeats."""
    counts = sorted(limits.dram_gb_s)
    rows = [
        _row("read DRAM, GB/s", limits.dram_gb_s, counts),
        _row("read last-level cache, GB/s", limits.llc_gb_s, counts),
        _row("read L2, GB/s", limits.l2_gb_s, counts),
    ]
    for isa, peaks in limits.peaks.items():
        rows.append(_row(f"{isa} f32 FMA, GFLOP/s", peaks.fma_gflops, counts))
        rows.append(_row(f"{isa} int8, GOP/s", peaks.int8_gops, counts))
    rows.append(_row("barrier, ns", limits.barrier_ns, counts))
    rows.append(_row("wake parked helpers, ns", limits.wake_ns, counts))
    threads = ["", *(f"{_threads(count)}, {what}" for count in counts for what in ("median", "best"))]
    return [*_about(limits), "", *grid([threads, *(row for row in rows if row)]), "", *_ways(limits, counts)]


def _about(limits: MachineLimits) -> list[str]:
    caches = limits.caches
    cpus = "1 CPU" if limits.cpus == 1 else f"{limits.cpus} CPUs"
    sizes = [f"L1 {size(caches.l1)}"] + [f"L2 {size(caches.l2)}"] * (caches.l2 > 0)
    return [
        *busy(limits.load),
        f"{cpus}; an engine takes {limits.isa} here",
        f"caches by {caches.source}: {', '.join(sizes)} a core, last level {size(caches.llc_total)} in all",
    ]


def busy(load: float | None) -> list[str]:
    """A word of caution where something else seems to run: such figures are not to be quoted."""
    if load is None or load < _BUSY:
        return []
    return [f"the load average was {load:.1f} when this began: other work makes figures and limits smaller"]


def _ways(limits: MachineLimits, counts: Sequence[int]) -> list[str]:
    lines = [
        f"  {level}, {_threads(count)}: {rates[count].how}"
        for level, rates in (
            ("DRAM", limits.dram_gb_s),
            ("last level", limits.llc_gb_s),
            ("L2", limits.l2_gb_s),
        )
        for count in counts
        if count in rates
    ]
    rounds = limits.dram_gb_s[counts[0]].repeats
    return ["the fastest way to read, by its median:", *lines, f"up to {rounds} rounds, interleaved"]


def _row(name: str, rates: Mapping[int, Rate], counts: Sequence[int]) -> list[str]:
    """Nothing where nothing was measured."""
    if not rates:
        return []
    cells = [name]
    for count in counts:
        cells += [figure(rates[count].median), figure(rates[count].best)] if count in rates else ["-", "-"]
    return cells


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    columns = max(map(len, rows), default=0)
    filled = [[*row, *[""] * (columns - len(row))] for row in rows]
    widths = [max(len(row[column]) for row in filled) for column in range(columns)]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in filled
    ]


def figure(value: float) -> str:
    """Three digits that count, and no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def size(count: float) -> str:
    """Bytes of memory or a cache: binary units."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
