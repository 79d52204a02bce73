"""Each matrix kernel's share of its peak over sizes: one thread, every format and ISA of this machine.

    python tools/kernel_lab.py                          # the best ISA, every format
    python tools/kernel_lab.py --isa avx2 --formats q8 f32 --json lab.json

One row is a stream of weights: GB/s, and the share of what `pygpt bench --machine`'s probe reads at the same
size in the same round. Many rows are arithmetic: GMAC/s, and the share of the probe's multiply-adds (of
floats, or of bytes for the quantised formats). Rounds alternate between probe and kernel; figures
are medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pygpt import _core
from pygpt._core import testing
from pygpt.bench.caches import detect
from pygpt.bench.sampling import Sampler

SHAPES = [(768, 768), (3072, 768), (768, 3072)]  # [n, k] of GPT-2 124M
ROWS = [2, 4, 8, 32, 128, 512]
SETS_BYTES = {"L2": 400 << 10, "LLC": 12 << 20, "DRAM": 192 << 20}
QUANTISED = ("q8", "q4")


@dataclass(frozen=True, slots=True)
class Figure:
    """One kernel at one size; `rate` in GB/s of weights (one row) or GMAC/s, `share` of the probe's."""

    format: str
    isa: str
    rows: int
    n: int
    k: int
    where: str
    rate: float
    share: float

    def line(self) -> str:
        """A row of the table."""
        unit = "GB/s" if self.rows == 1 else "GMAC/s"
        where = f" from {self.where}" if self.where else ""
        return (
            f"| {self.isa} | {self.format} | {self.rows} | {self.n} x {self.k}{where} "
            f"| {self.rate:.1f} {unit} | {self.share:.0%} |"
        )


def stream(format: str, isa: str, rounds: int) -> list[Figure]:
    """One row against matrices that fill a cache, or memory."""
    k = 768
    panel = len(_core.pack(np.zeros((16, k), np.float32), "matrix", format))
    figures = []
    for where, wanted in SETS_BYTES.items():
        n = min(3072, wanted // panel // 4 * 64)
        size = panel * n // 16
        matrices = max(1, wanted // size)
        sampler = Sampler(1, isa, detect(), matrices * size)
        repeats = max(3, (64 << 20) // wanted)
        rates, shares = [], []
        for _ in range(rounds):
            limit = sampler.sample().read
            times = testing.time_matmul(format, 1, n, k, matrices=matrices, repeats=repeats, isa=isa)
            rate = size / statistics.median(times) / 1e9
            rates.append(rate)
            shares.append(rate / limit)
        figures.append(
            Figure(format, isa, 1, n, k, where, statistics.median(rates), statistics.median(shares))
        )
    return figures


def multiply(format: str, isa: str, rounds: int) -> list[Figure]:
    """Several rows against one matrix."""
    sampler = Sampler(1, isa, detect(), 1 << 20)
    figures = []
    for n, k in SHAPES:
        for rows in ROWS:
            rates, shares = [], []
            for _ in range(rounds):
                roofs = sampler.sample()
                limit = (roofs.int8 if format in QUANTISED else roofs.fma) / 2
                times = testing.time_matmul(format, rows, n, k, repeats=5, isa=isa)
                rate = rows * n * k / statistics.median(times) / 1e9
                rates.append(rate)
                shares.append(rate / limit)
            figures.append(
                Figure(format, isa, rows, n, k, "", statistics.median(rates), statistics.median(shares))
            )
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--isa", nargs="+", default=_core.isas()[:1], choices=_core.isas())
    parser.add_argument("--formats", nargs="+", default=_core.formats(), choices=_core.formats())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    figures: list[Figure] = []
    print("| ISA | format | rows | n x k | rate | share |\n|---|---|---|---|---|---|")
    for isa in args.isa:
        for name in args.formats:
            for figure in [*stream(name, isa, args.rounds), *multiply(name, isa, args.rounds)]:
                figures.append(figure)
                print(figure.line(), flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")


if __name__ == "__main__":
    main()
