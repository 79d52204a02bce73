"""The roofs of this moment: short measurements, made between those of a model."""

from __future__ import annotations

from statistics import median

from pygpt._core import bench as core
from pygpt.bench import limits
from pygpt.bench.caches import Caches
from pygpt.bench.limits import dram_bytes
from pygpt.bench.reading import WAYS, Way, huge_pages, sweeps
from pygpt.bench.roofline import Roofs

_LEAST_SET = 1 << 14  # bytes a worker: below, a sample would be all loop and no reading
_TRIALS = 3


class Sampler:
    """Measures the roofs of work that reads a set of bytes again and again.

    The memory roof is that of reading a set of the same size with the same threads: whichever cache, or how
    much of it, holds the set, the model had the same.

    Attributes:
        set_bytes: what is read.
        way: the fastest way to read it here.

    Raises:
        OutOfMemory: the set does not fit beside the model.
    """

    def __init__(self, threads: int, isa: str, caches: Caches, set_bytes: int) -> None:
        self._probe = core.Probe(threads, isa=isa)
        # Beyond all caches a larger set is read no slower.
        largest = max(dram_bytes(caches), 4 * caches.llc_total)
        self.set_bytes = min(max(set_bytes, _LEAST_SET * threads), largest)
        self._memory = self._probe.allocate(self.set_bytes, "huge" if huge_pages() else "plain")
        trials = {way: [self._read(way) for _ in range(_TRIALS)] for way in WAYS}
        self.way: Way = max(WAYS, key=lambda way: median(trials[way]))

    def sample(self) -> Roofs:
        """The roofs now: some ten milliseconds. The best of three, since what disturbs only ever slows."""
        trials = range(_TRIALS)
        self._probe.fma(limits.SPREAD_ITERATIONS)
        return Roofs(
            read=max(self._read(self.way) for _ in trials),
            fma=max(self._probe.fma(limits.FMA_ITERATIONS) for _ in trials),
            int8=max(self._probe.dot8(limits.FMA_ITERATIONS) for _ in trials),
        )

    def told(self) -> str:
        """How the set is read."""
        return self.way.told("huge" if huge_pages() else "plain")

    def _read(self, way: Way) -> float:
        return self._probe.read(
            self._memory,
            self.set_bytes,
            streams=way.streams,
            prefetch=way.prefetch,
            sweeps=sweeps(self.set_bytes),
        )
