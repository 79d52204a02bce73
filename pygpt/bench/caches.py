"""Sizes of the caches, as the system tells them. Inside a virtual machine it may tell another machine's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_SYS = Path("/sys/devices/system/cpu")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_ASSUMED = {
    1: 32 << 10,
    2: 512 << 10,
    3: 8 << 20,
}  # where nobody tells: a small machine of the last ten years


@dataclass(frozen=True, slots=True, kw_only=True)
class Caches:
    """Cache sizes in bytes.

    Attributes:
        l1, l2: of one core's data; l2 is 0 where the second level is the last.
        llc: of one instance of the last level.
        llc_cpus: how many of this process's CPUs share an instance.
        llc_total: of all instances that this process's CPUs reach.
        source: "sysfs", "sysconf" or "assumed".
    """

    l1: int
    l2: int
    llc: int
    llc_cpus: int
    llc_total: int
    source: str

    def reached_by(self, threads: int) -> int:
        """Bytes of last-level cache that so many threads reach, when they fill one instance after the
        other."""
        return min(self.llc_total, self.llc * -(-threads // self.llc_cpus))


def detect(root: Path = _SYS) -> Caches:
    """The caches of the CPUs that this process may use."""
    cpus = _cpus()
    return _from_sysfs(root, cpus) or _from_sysconf(len(cpus))


def load_average() -> float | None:
    """Of the last minute, or None where the system does not tell: what else ran on this machine."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _cpus() -> list[int]:
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # no affinity on macOS
        return list(range(os.cpu_count() or 1))


def _from_sysfs(root: Path, cpus: list[int]) -> Caches | None:
    instances: dict[int, dict[str, int]] = {}  # by level: size by the list of CPUs that share it
    for cpu in cpus:
        for index in sorted(root.glob(f"cpu{cpu}/cache/index[0-9]*")):
            try:
                level, kind, size, shared = (
                    (index / name).read_text().strip()
                    for name in ("level", "type", "size", "shared_cpu_list")
                )
                if kind != "Instruction":
                    instances.setdefault(int(level), {})[shared] = _bytes(size)
            except (OSError, ValueError):
                continue
    sizes = {level: max(found.values()) for level, found in instances.items()}
    if not sizes or min(sizes.values()) <= 0:
        return None
    last = instances[max(sizes)]
    return _caches(sizes, -(-len(cpus) // len(last)), sum(last.values()), "sysfs")


def _from_sysconf(cpus: int) -> Caches:
    names = {1: "SC_LEVEL1_DCACHE_SIZE", 2: "SC_LEVEL2_CACHE_SIZE", 3: "SC_LEVEL3_CACHE_SIZE"}
    sizes = {}
    for level, name in names.items():
        try:
            sizes[level] = os.sysconf(name)
        except (ValueError, OSError):
            continue
    sizes = {level: size for level, size in sizes.items() if size > 0}
    if not sizes:
        return _caches(_ASSUMED, cpus, _ASSUMED[3], "assumed")
    return _caches(sizes, cpus, sizes[max(sizes)], "sysconf")


def _caches(sizes: dict[int, int], llc_cpus: int, llc_total: int, source: str) -> Caches:
    last = max(sizes)
    return Caches(
        l1=sizes.get(1, _ASSUMED[1]),
        l2=sizes.get(2, 0) if last > 2 else 0,
        llc=sizes[last],
        llc_cpus=llc_cpus,
        llc_total=llc_total,
        source=source,
    )


def _bytes(text: str) -> int:
    """`32768K` in bytes."""
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS else int(text)
