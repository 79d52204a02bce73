"""What this process may use of the machine it runs on, read from the system and never guessed."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

_CGROUP = Path("/sys/fs/cgroup")


def describe() -> dict[str, Any]:
    """System, processor and limits; None for what the system does not tell."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "machine": platform.machine(),
        "processor": _field("/proc/cpuinfo", "model name"),
        "cpus": os.cpu_count(),
        "affinity": affinity,
        "cgroup_cpus": _cgroup_cpus(),
        "memory_bytes": _kilobytes(_field("/proc/meminfo", "MemTotal")),
        "memory_available_bytes": _kilobytes(_field("/proc/meminfo", "MemAvailable")),
        "cgroup_memory_bytes": _number(_read(_CGROUP / "memory.max")),
    }


def _cgroup_cpus() -> float | None:
    """The quota of cgroup v2 in CPUs."""
    quota, _, period = (_read(_CGROUP / "cpu.max") or "").partition(" ")
    microseconds, each = _number(quota), _number(period)
    return None if microseconds is None or not each else microseconds / each


def _field(path: str, name: str) -> str | None:
    """The value of the first line `name : value`."""
    for line in (_read(Path(path)) or "").splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return None


def _kilobytes(text: str | None) -> int | None:
    number = _number((text or "").partition(" ")[0])
    return None if number is None else number * 1024


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdecimal() else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return None
