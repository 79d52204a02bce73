"""Probes of what this machine can do at most (csrc/backend/cpu/probe.h). For pygpt.bench; the GIL is released."""

from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

@final
class Memory:
    """Memory to read, in place, touched first by the workers of the probe that allocated it."""

    @property
    def bytes(self) -> int: ...

@final
class Probe:
    """A team of `threads` workers that measure. DeviceError for an ISA ("": the best) that this machine lacks."""

    def __init__(self, threads: int, *, isa: str = "") -> None: ...
    @property
    def threads(self) -> int:
        """Workers: fewer than asked for if the system refuses threads."""
    @property
    def isa(self) -> str: ...
    def allocate(self, bytes: int, kind: Literal["plain", "huge", "file"], file: int = -1) -> Memory:
        """Memory to read. "file": the first bytes of an open file (its descriptor), mapped.

        Raises OutOfMemory before anything is mapped that would not fit.
        """
    def read(self, memory: Memory, bytes: int, *, streams: int, prefetch: bool, sweeps: int = 1) -> float:
        """Bytes a second: each worker reads its own run of the first `bytes`, `sweeps` times, as 1, 4 or 8 streams."""
    def fma(self, iterations: int) -> float:
        """Floating-point operations a second, of all workers."""
    def dot8(self, iterations: int) -> float:
        """Multiplications and additions of bytes a second, of all workers; 0 where the ISA has no dot product of bytes."""
    def barrier(self, count: int) -> float:
        """Seconds of one barrier, of `count` in a row."""
    def wake(self, idle_s: float) -> float:
        """Seconds of an empty job after the team was idle for so long (0 to 1)."""

def checksum(data: NDArray[np.uint8], *, streams: int, prefetch: bool, isa: str = "") -> int:
    """The sum of the 32-bit words of data, modulo 2**32, as the probes read it. For tests."""

def available_memory() -> int:
    """Bytes that can be allocated without swapping: free memory or what the cgroup leaves, whichever is smaller."""

def gpu_copy(bytes: int, times: int) -> float:
    """Bytes a second that the GPU reads and writes when it copies its own memory. DeviceError, OutOfMemory."""
