"""What a machine can do at most, and how much of that a model gets from it.

    from pygpt import bench
    limits = bench.machine()
    print(limits.dram_gb_s[2].best, limits.fma_gflops[2].best)

`pygpt bench` is the command.
"""

from __future__ import annotations

from pygpt.bench.limits import MachineLimits, Peaks, bandwidth, machine
from pygpt.bench.rates import Rate

__all__ = ["MachineLimits", "Peaks", "Rate", "bandwidth", "machine"]
