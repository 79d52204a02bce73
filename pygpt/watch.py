"""The newest checkpoint of a run as a model file, anew whenever there is another."""

from __future__ import annotations

import threading
from pathlib import Path

from pygpt.errors import Error, InvalidRequestError, ModelFileError
from pygpt.exporter import export
from pygpt.train import saved_steps

POLL_S = 0.5


class Watcher:
    """Exports the newest checkpoint of a training run, which may be running.

    Attributes:
        run: the training directory.
        target: the model file that is written, replaced whole each time.
        step: of the checkpoint that it is of; -1 before the first.

    Raises:
        InvalidRequestError: there is no such directory.
    """

    def __init__(self, run: Path, target: Path, dtype: str = "auto") -> None:
        if not run.is_dir():
            raise InvalidRequestError("DIR", f"{run} is no directory; name that of a `pygpt train -o DIR`")
        self.run = run
        self.target = target
        self.step = -1
        self._exported: tuple[str, int] | None = None
        self._dtype = dtype

    def update(self) -> bool:
        """Export the newest checkpoint if it is another than the last one; whether it was.

        Also one of the same step or an earlier one: of a run that took the place of the first (`--force`).

        Raises:
            ModelFileError: it is damaged. The next call tries again.
            OSError: the target cannot be written.
        """
        newest = next(iter(saved_steps.saved(self.run)), None)
        if newest is None:
            return False
        try:
            found = newest.name, newest.stat().st_mtime_ns
            if found == self._exported:
                return False
            saved_steps.verify(newest)
            export(newest, self.target, dtype=self._dtype)
        except (ModelFileError, OSError):
            if newest.is_dir():
                raise
            return False  # the run removed it meanwhile, since it has a newer one
        self.step, self._exported = saved_steps.step_of(newest), found
        return True


class Exports:
    """Exports every new checkpoint, beside whatever else happens."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._lock = threading.Lock()
        self._fresh = False
        self._trouble: str | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pygpt watch", daemon=True)
        self._thread.start()

    def news(self) -> tuple[int | None, str | None]:
        """The step of a model file that is new since the last call, and what went wrong meanwhile."""
        with self._lock:
            step, trouble = self._watcher.step if self._fresh else None, self._trouble
            self._fresh, self._trouble = False, None
            return step, trouble

    def close(self) -> None:
        """Stop; an export that is under way is finished first."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(POLL_S):
            try:
                fresh, trouble = self._watcher.update(), None
            except (Error, OSError) as error:
                fresh, trouble = False, str(error)
            with self._lock:
                self._fresh = self._fresh or fresh
                self._trouble = trouble or self._trouble
