"""A process of its own that opens a model and writes one token: how long that takes, and its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pygpt.errors import Error

# Without -P (Python 3.11) the working directory would come first on the path, and could hold another pygpt.
_CODE = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import pygpt
engine = pygpt.Engine(sys.argv[2], **json.loads(sys.argv[3]))
engine.generate([0], max_tokens=1, on_overflow="stop")
import time
now = time.monotonic()
from pygpt.bench.startup import resident_bytes
print(json.dumps([now, resident_bytes()]))
"""
_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Fresh:
    """From before the process was started to its first token; its resident memory then, or None where the
    system does not tell."""

    seconds: float
    resident_bytes: int | None


def fresh_process(path: str, options: Mapping[str, Any]) -> Fresh:
    """Start one, with the engine's options.

    Raises:
        Error: it failed; the message is its last word.
    """
    command = [sys.executable, "-c", _CODE, json.dumps(sys.path), path, json.dumps(dict(options))]
    start = time.monotonic()  # one clock for all processes, on Linux and macOS
    done = subprocess.run(  # noqa: S603  (our own interpreter, our own words)
        command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise Error(f"a process of its own could not run the model: {said[0]}")
    end, resident = json.loads(done.stdout)
    return Fresh(end - start, resident)


def resident_bytes() -> int | None:
    """Memory of this process, mapped files that it has read included: VmRSS, proc(5)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
