"""The driver's end of a worker's pipe."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from peers.base import UnavailableError
from peers.catalogue import Contender
from peers.quiet import process_ticks

TOOLS = Path(__file__).parents[1]
TIMEOUT_S = 900.0
REST_WINDOW_S = 0.05
REST_LIMIT_S = 2.0
PAUSE_WITHOUT_PROC_S = 0.3


class WorkerError(Exception):
    """A worker died, hung, or its engine failed; the message has its words."""


class Worker:
    """A process that runs one engine with one model.

    Raises:
        UnavailableError: the engine cannot run this.
        WorkerError
    """

    def __init__(self, mode: str, arguments: Sequence[str], folder: Path) -> None:
        """Start `python -m peers.worker MODE ARGUMENTS` in `folder`; `started` is when, by perf_counter."""
        path = os.pathsep.join([str(TOOLS), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.log: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "peers.worker", mode, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            cwd=folder,  # not the repository, whose pygpt has no core
            env=os.environ | {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"},
        )
        self.unread = b""
        self.told = 0  # requests so far

    def hear(self, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """The next line of its answer."""
        pipe = self.process.stdout
        assert pipe is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self.unread:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(pipe.fileno(), 1 << 20) if ready else b""
            if not data:
                what = "ended" if ready else f"gave no answer in {timeout_s:.0f} s"
                self.process.kill()
                raise WorkerError(f"{what}: {self._last_words()}")
            self.unread += data
        line, _, self.unread = self.unread.partition(b"\n")
        heard: dict[str, Any] = json.loads(line)
        if "skip" in heard:
            raise UnavailableError(heard["skip"])
        if "error" in heard:
            raise WorkerError(heard["error"])
        return heard

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer to a request of `peers.worker.answer`."""
        self.tell(message)
        return self.hear()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a request; `hear` gives its answer."""
        assert self.process.stdin is not None
        self.told += 1
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(f"ended: {self._last_words()}") from None

    def settle(self) -> bool:
        """Wait until its threads rest, as spinning ones do for a while; whether they do."""
        deadline = time.monotonic() + REST_LIMIT_S
        before = process_ticks(self.process.pid)
        if before is None:
            time.sleep(PAUSE_WITHOUT_PROC_S)
            return True
        while time.monotonic() < deadline:
            time.sleep(REST_WINDOW_S)
            now = process_ticks(self.process.pid)
            if now == before:
                return True
            before = now
        return False

    def close(self) -> None:
        """End it; harmless when called again."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it died with a request unread
                self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        return lines[-1] if lines else "it said nothing"


@functools.cache
def prepared(contender: Contender, shape: str, source: Path, folder: Path) -> Path:
    """The file or directory that an engine opens, made in a process of its own, once a run.

    Raises:
        UnavailableError: the engine cannot run this model at this precision.
        WorkerError: making it failed.
    """
    target = folder / contender.name
    with Worker("prepare", [contender.name, shape, str(source), str(target)], folder) as worker:
        return Path(worker.hear()["path"])


def opened(contender: Contender, shape: str, path: Path, threads: int) -> Worker:
    """A worker that loads a model; its first line is the engine's version."""
    return Worker("serve", [contender.name, shape, str(path), str(threads)], path.parent)
