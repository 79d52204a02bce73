"""Who else used the processors: busy time of the machine less that of the engine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """A moment: seconds of perf_counter, and seconds of processor time of the machine and of one process."""

    at: float
    busy: float
    own: float


def process_ticks(process: int) -> int | None:
    """User and system time of a process, fields 14 and 15 of /proc/PID/stat (proc(5)); None without them."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12])


def machine_ticks() -> int | None:
    """Time that the processors were busy or stolen by the host: the line cpu of /proc/stat; None without."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(each) for each in fields[1:9])
    return user + nice + system + irq + softirq + steal


def sample(process: int) -> Sample | None:
    """Of now; None where the system does not tell."""
    busy, own = machine_ticks(), process_ticks(process)
    if busy is None or own is None:
        return None
    tick = os.sysconf("SC_CLK_TCK")
    return Sample(time.perf_counter(), busy / tick, own / tick)


def others(before: Sample | None, after: Sample | None, cpus: int) -> float | None:
    """Share of all processors that neither idled nor worked for the process, 0 to 1; None where unknown.

    A tick is 10 ms on Linux: of little meaning below a second.
    """
    if before is None or after is None or after.at <= before.at:
        return None
    alien = (after.busy - before.busy) - (after.own - before.own)
    return min(1.0, max(0.0, alien / (cpus * (after.at - before.at))))
