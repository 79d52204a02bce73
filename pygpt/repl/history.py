"""Where a chat's lines are kept for the next one: readable by their owner only, or nowhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path


def history_path(environment: Mapping[str, str]) -> Path:
    """PYGPT_HOME, else the state directory of the XDG specification."""
    if home := environment.get("PYGPT_HOME"):
        return Path(home) / "history"
    state = environment.get("XDG_STATE_HOME") or ""
    base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return base / "pygpt" / "history"


def prepare_history(path: Path) -> str:
    """Make the file, readable and writable by its owner only. Why it cannot be used, or ""."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A link could make a chat's lines land in another file; a FIFO would wait for a reader.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
        return f"{path}: {getattr(error, 'strerror', None) or error}"
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return f"{path}: not a file of your own"
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        return f"{path}: {error.strerror}"
    finally:
        os.close(descriptor)
    return ""
