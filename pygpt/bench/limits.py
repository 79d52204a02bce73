"""What this machine can do at most: bandwidth of memory and caches, arithmetic, the team's barrier."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pygpt import _core
from pygpt._core import bench as core
from pygpt.bench.caches import Caches, detect, load_average
from pygpt.bench.rates import REPEATS, Rate, duration, rounds, speed
from pygpt.bench.reading import Kind, Plan, huge_pages, kinds, measure
from pygpt.errors import OutOfMemory
from pygpt.opening import THREADS

Progress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much

FMA_ITERATIONS = 500_000  # about a millisecond: shorter than a time slice, far longer than a barrier
SPREAD_ITERATIONS = 5_000_000  # long enough for the system to put each worker on a CPU of its own
BARRIERS = 500
IDLE_S = 0.002  # far longer than a worker spins before it parks
_LEAST_DRAM, _MOST_DRAM = 256 << 20, 1 << 30
# Seconds after which no other round begins, so that the whole takes less than 20 on any machine.
_BUDGETS = {"DRAM": 3.0, "last-level cache": 1.2, "L2": 0.8, "arithmetic": 1.5, "barrier": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """Arithmetic of one instruction set, by number of threads.

    Attributes:
        fma_gflops: f32 multiply-adds on registers, each counted as two operations.
        int8_gops: dot products of bytes, counted alike; empty where the instruction set has none.
    """

    fma_gflops: Mapping[int, Rate]
    int8_gops: Mapping[int, Rate]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineLimits:
    """What this machine can do at most, by number of threads. GB are 10^9 bytes.

    Attributes:
        cpus: how many this process may use.
        isa: the instruction set that an engine takes here.
        caches: as the system tells them. load: average of the minute before, or None.
        dram_gb_s, llc_gb_s, l2_gb_s: read bandwidth of a set that fits no cache, the last, the second;
            empty where there is no such cache.
        peaks: by instruction set.
        barrier_ns: of a team, from two threads on.
        wake_ns: to wake parked helpers, run an empty job on all and meet again.
    """

    cpus: int
    isa: str
    caches: Caches
    load: float | None
    dram_gb_s: Mapping[int, Rate]
    llc_gb_s: Mapping[int, Rate]
    l2_gb_s: Mapping[int, Rate]
    peaks: Mapping[str, Peaks]
    barrier_ns: Mapping[int, Rate]
    wake_ns: Mapping[int, Rate]

    @property
    def fma_gflops(self) -> Mapping[int, Rate]:
        """Of the instruction set that an engine takes."""
        return self.peaks[self.isa].fma_gflops

    @property
    def int8_gops(self) -> Mapping[int, Rate]:
        """Of the instruction set that an engine takes."""
        return self.peaks[self.isa].int8_gops


@dataclass(frozen=True, slots=True)
class Bandwidths:
    """Read bandwidth with one number of threads, in GB/s. `llc` is None where no size is between."""

    dram: Rate
    llc: Rate | None


def machine(
    threads: Sequence[int] | None = None, *, repeats: int = 5, progress: Progress | None = None
) -> MachineLimits:
    """Measure everything. Takes some seconds, less than 20.

    Args:
        threads: numbers of threads to measure with, or None: up to the CPUs that this process may use.
        repeats: rounds at most; fewer where time runs out.

    Raises:
        OutOfMemory: too little memory to measure memory with.
        InvalidRequestError: a number out of range. DeviceError: PYGPT_ISA names none of this machine's.
    """
    repeats = REPEATS.check("repeats", repeats)
    counts = sorted({THREADS.check("threads", count) for count in threads or _counts()})
    load = load_average()
    isa = _chosen_isa()
    caches = detect()
    tick = _ticker(progress, repeats)
    probes = {count: core.Probe(count, isa=isa) for count in counts}
    read = _Reader(probes, caches, repeats, tick)
    return MachineLimits(
        cpus=_core.available_cpus(),
        isa=isa,
        caches=caches,
        load=load,
        dram_gb_s=read.dram(kinds()),
        llc_gb_s=read.llc(),
        l2_gb_s=read.l2(),
        peaks={name: _peaks(name, counts, repeats, tick) for name in _core.isas()},
        barrier_ns=_barriers(probes, repeats, tick),
        wake_ns=_wakes(probes, repeats, tick),
    )


def bandwidth(threads: int, *, repeats: int = 3) -> Bandwidths:
    """Bandwidth alone, with so many threads: below two seconds, for use between other measurements.

    Raises:
        OutOfMemory, InvalidRequestError, DeviceError: as `machine`.
    """
    count = THREADS.check("threads", threads)
    probes = {count: core.Probe(count, isa=_chosen_isa())}
    read = _Reader(probes, detect(), REPEATS.check("repeats", repeats), _ticker(None, repeats), haste=4)
    return Bandwidths(read.dram(("huge",) if huge_pages() else ("plain",))[count], read.llc().get(count))


def _chosen_isa() -> str:
    """The instruction set that an engine takes: PYGPT_ISA, else the best."""
    return core.Probe(1, isa=os.environ.get("PYGPT_ISA", "")).isa


def _counts() -> list[int]:
    """1 to the number of CPUs; where they are many, its powers of two and all."""
    cpus = _core.available_cpus()
    if cpus <= 4:
        return list(range(1, cpus + 1))
    return [1 << power for power in range(cpus.bit_length()) if 1 << power < cpus] + [cpus]


def _ticker(progress: Progress | None, repeats: int) -> Callable[[str], None]:
    """A function to call before each round of a stage, which tells `progress`."""
    stages = {"DRAM": len(kinds()), "arithmetic": len(_core.isas()), "barrier": 2}
    total = repeats * sum(stages.get(stage, 1) for stage in _BUDGETS)
    done = 0

    def tick(stage: str) -> None:
        nonlocal done
        done = min(done + 1, total)
        if progress:
            progress(f"measuring {stage}", done, total)

    return tick


class _Reader:
    """Bandwidths of the levels of memory. With `haste` the budgets are so many times smaller."""

    def __init__(
        self,
        probes: Mapping[int, core.Probe],
        caches: Caches,
        repeats: int,
        tick: Callable[[str], None],
        *,
        haste: int = 1,
    ) -> None:
        self._probes, self._caches, self._repeats = probes, caches, repeats
        self._tick, self._haste = tick, haste

    def dram(self, kinds: Sequence[Kind]) -> dict[int, Rate]:
        size = dram_bytes(self._caches)
        return self._measure("DRAM", dict.fromkeys(self._probes, (size,)), kinds)

    def llc(self) -> dict[int, Rate]:
        """Sets well above the second level and within the last, which neighbours may share: two sizes."""
        caches = self._caches
        sizes = {
            count: [
                size
                for size in (caches.reached_by(count) // 4, caches.reached_by(count) // 2)
                if size >= max(2 * caches.l2 * count, 1 << 16)
            ]
            for count in self._probes
        }
        return self._measure("last-level cache", {count: found for count, found in sizes.items() if found})

    def l2(self) -> dict[int, Rate]:
        if self._caches.l2 == 0:
            return {}
        return self._measure("L2", {count: [self._caches.l2 // 2 * count] for count in self._probes})

    def _measure(
        self, stage: str, sizes: Mapping[int, Sequence[int]], kinds: Sequence[Kind] | None = None
    ) -> dict[int, Rate]:
        if not sizes:
            return {}
        chosen = kinds or (("huge",) if huge_pages() else ("plain",))
        budget = _BUDGETS[stage] / self._haste
        return measure(Plan(self._probes, sizes, chosen, self._repeats, budget, lambda: self._tick(stage)))


def dram_bytes(caches: Caches) -> int:
    """Bytes to read for the bandwidth of DRAM: far more than all caches hold, a quarter of the free memory at
    most.

    Raises:
        OutOfMemory: that is less than twice the caches.
    """
    wanted = min(max(8 * caches.llc_total, _LEAST_DRAM), max(_MOST_DRAM, 2 * caches.llc_total))
    available = core.available_memory()
    size = min(wanted, available // 4)
    if size < 2 * caches.llc_total:
        raise OutOfMemory(
            f"measuring memory needs {8 * caches.llc_total >> 20:,} MiB free, four times what is read; "
            f"{available >> 20:,} MiB are: free some memory"
        )
    return size


def _peaks(isa: str, counts: Sequence[int], repeats: int, tick: Callable[[str], None]) -> Peaks:
    probes = {count: core.Probe(count, isa=isa) for count in counts}
    fma: dict[int, list[float]] = {count: [] for count in counts}
    dot: dict[int, list[float]] = {count: [] for count in counts}
    for _ in rounds(repeats, _BUDGETS["arithmetic"]):
        tick("arithmetic")
        for count, probe in probes.items():
            probe.fma(SPREAD_ITERATIONS)
            for _ in range(3):  # a sample takes a millisecond
                fma[count].append(probe.fma(FMA_ITERATIONS) / 1e9)
                dot[count].append(probe.dot8(FMA_ITERATIONS) / 1e9)
    return Peaks(
        fma_gflops={count: speed(values) for count, values in fma.items()},
        int8_gops={count: speed(values) for count, values in dot.items() if max(values) > 0},
    )


def _barriers(probes: Mapping[int, core.Probe], repeats: int, tick: Callable[[str], None]) -> dict[int, Rate]:
    teams = {count: probe for count, probe in probes.items() if probe.threads > 1}
    samples: dict[int, list[float]] = {count: [] for count in teams}
    for _ in rounds(repeats, _BUDGETS["barrier"]):
        tick("barrier")
        for count, probe in teams.items():
            probe.fma(SPREAD_ITERATIONS)
            samples[count] += [probe.barrier(BARRIERS) * 1e9 for _ in range(3)]
    return {count: duration(values) for count, values in samples.items()}


def _wakes(probes: Mapping[int, core.Probe], repeats: int, tick: Callable[[str], None]) -> dict[int, Rate]:
    teams = {count: probe for count, probe in probes.items() if probe.threads > 1}
    samples: dict[int, list[float]] = {count: [] for count in teams}
    for _ in rounds(repeats, _BUDGETS["barrier"]):
        tick("barrier")
        for count, probe in teams.items():
            samples[count].append(probe.wake(IDLE_S) * 1e9)
    return {count: duration(values) for count, values in samples.items()}
