"""How fast memory can be read: several ways of reading, interleaved and repeated, of which the fastest
counts."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from pygpt._core import bench as core
from pygpt.bench.rates import Rate, rounds, speed

Kind = Literal["plain", "huge", "file"]

LEAST_READ = (
    64 << 20
)  # bytes of one sample: small sets are swept until the clock's and the barrier's part is nothing
_NAMES: dict[Kind, str] = {"plain": "plain memory", "huge": "huge pages", "file": "mapped file"}
_THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@dataclass(frozen=True, slots=True)
class Way:
    """How each worker reads its part of the memory."""

    streams: int
    prefetch: bool

    def told(self, kind: Kind) -> str:
        streams = "1 stream" if self.streams == 1 else f"{self.streams} streams"
        return f"{streams}{', prefetch' if self.prefetch else ''}, {_NAMES[kind]}"


WAYS = tuple(Way(streams, prefetch) for streams, prefetch in product((1, 4, 8), (False, True)))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read.

    Attributes:
        probes: teams by their number of workers.
        sizes: bytes to read over and over, by number of workers; of several, the fastest counts.
        kinds: kinds of memory to try.
        repeats, budget_s: rounds, and after how many seconds no other begins, for each kind.
        tick: called before each round.
    """

    probes: Mapping[int, core.Probe]
    sizes: Mapping[int, Sequence[int]]
    kinds: Sequence[Kind]
    repeats: int
    budget_s: float
    tick: Callable[[], None]


def huge_pages() -> bool:
    """Whether the system gives huge pages to who asks."""
    try:
        return "[never]" not in _THP.read_text()
    except OSError:
        return False


def kinds() -> tuple[Kind, ...]:
    """Every kind of memory that this system has."""
    return ("plain", "huge", "file") if huge_pages() else ("plain", "file")


def sweeps(size: int) -> int:
    """How often `size` bytes are read for one sample."""
    return max(1, LEAST_READ // size)


def measure(plan: Plan) -> dict[int, Rate]:
    """GB/s of the fastest way, by number of workers. The way is chosen by its median.

    Raises:
        OutOfMemory: the memory to read would not fit.
    """
    samples: dict[int, dict[str, list[float]]] = {threads: {} for threads in plan.sizes}
    for kind in plan.kinds:
        with _memory(plan, kind) as memory:
            if memory is None:
                continue
            for _ in rounds(plan.repeats, plan.budget_s):
                plan.tick()
                _sample(plan, kind, memory, samples)
    return {threads: _fastest(found) for threads, found in samples.items() if found}


def _sample(plan: Plan, kind: Kind, memory: core.Memory, samples: dict[int, dict[str, list[float]]]) -> None:
    """One round: every way, size and team once, so that all meet the same machine."""
    for threads, sizes in plan.sizes.items():
        for way, size in product(WAYS, sizes):
            rate = plan.probes[threads].read(
                memory, size, streams=way.streams, prefetch=way.prefetch, sweeps=sweeps(size)
            )
            how = f"{way.told(kind)}, {size / 1e6:,.3g} MB"
            samples[threads].setdefault(how, []).append(rate / 1e9)


def _fastest(samples: Mapping[str, Sequence[float]]) -> Rate:
    return max((speed(values, how) for how, values in samples.items()), key=lambda rate: rate.median)


@contextlib.contextmanager
def _memory(plan: Plan, kind: Kind) -> Iterator[core.Memory | None]:
    """Memory for the largest size; None where no file can be had for it."""
    bytes_ = max(size for sizes in plan.sizes.values() for size in sizes)
    probe = plan.probes[max(plan.probes)]
    if kind != "file":
        yield probe.allocate(bytes_, kind)
        return
    with contextlib.ExitStack() as stack:
        try:
            # Of holes: mapped and read they take memory as any file does, but are never written to the disk.
            file = stack.enter_context(tempfile.TemporaryFile())
            file.truncate(bytes_)
        except OSError:
            yield None
            return
        yield probe.allocate(bytes_, kind, file.fileno())
