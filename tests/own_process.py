"""Code that runs in a process of its own: what is left behind, inherited, or ended there."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

WATCHDOG_S = 60


def in_process(model: Path, code: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run code with `engine` open on the model in a process of its own."""
    imports = "import asyncio, os, signal, sys, threading, time\nimport pygpt\n"
    head = f"{imports}engine = pygpt.Engine({str(model)!r})\n"
    return subprocess.run(  # our own code
        [sys.executable, "-c", head + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=WATCHDOG_S, check=False, **how,
    )  # fmt: skip
