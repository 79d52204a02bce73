"""What memory gives when it is only read: pygpt's own probe, where this build has one."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from peers import bandwidth
print(bandwidth.here(int(sys.argv[2])))
"""
TIMEOUT_S = 60.0


def probe() -> Callable[[int], float] | None:
    """pygpt.bench's measurement of memory: threads -> GB/s; None where this build has none."""
    try:
        measure: Any = importlib.import_module("pygpt.bench").bandwidth
    except (ImportError, AttributeError):
        return None
    return lambda threads: float(measure(threads).dram.median)


def here(threads: int) -> float | None:
    """GB/s in this process, or None."""
    run = probe()
    return None if run is None else run(threads)


def read_gb_s(threads: int, folder: Path) -> float | None:
    """GB/s (1e9 bytes a second) that `threads` read from memory, in a process of its own; None: no probe."""
    tools = str(Path(__file__).parents[1])
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CODE, tools, str(threads)],
            capture_output=True, text=True, cwd=folder, timeout=TIMEOUT_S, check=True,
        )  # fmt: skip
        return float(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):  # "None" is no number
        return None
