"""Checkpoints to resume from: a directory a step, which is seen only when it is whole.

    DIR/checkpoints/step_00000500/
        manifest.json           the size and SHA-256 of every other file
        ...                     what pygpt.train.resume writes

A directory is written under a name that begins with a dot, synced, and renamed; so a crash at any moment
leaves what was there before and, at most, a hidden directory that the next run removes. The newest is the one
of the highest step: clocks play no part.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pygpt.atomic import sync_directory
from pygpt.errors import ModelFileError

FOLDER = "checkpoints"
MANIFEST = "manifest.json"
SCHEMA = "pygpt.checkpoint/1"

_NAME = re.compile(r"step_(\d{8,})")
_HIDDEN = ".tmp-"


def directory_of(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run / FOLDER / f"step_{step:08d}"


def step_of(directory: Path) -> int:
    """The step that a checkpoint's name says."""
    match = _NAME.fullmatch(directory.name)
    return int(match[1]) if match else -1


def saved(run: Path) -> list[Path]:
    """The checkpoints of a run, whole or not, newest first."""
    folder = run / FOLDER
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=step_of, reverse=True)


@contextmanager
def saving(run: Path, step: int) -> Iterator[Path]:
    """Make the checkpoint of a step out of the files that the body writes into the directory it is given.

    One of that step that is there already is replaced.

    Raises:
        OSError: the disk is full or fails; the checkpoints that were there are untouched.
    """
    target = directory_of(run, step)
    if not target.parent.is_dir():
        target.parent.mkdir()
        sync_directory(run)
    hidden = _hidden(target)
    hidden.mkdir()
    try:
        yield hidden
        _seal(hidden, step)
        if target.exists():  # it was found damaged, or this run would not be at its step again
            _remove(target)
        os.rename(hidden, target)
        sync_directory(target.parent)
    finally:
        if hidden.exists():  # not renamed: something failed
            shutil.rmtree(hidden, ignore_errors=True)


def verify(directory: Path) -> None:
    """Hold every file of a checkpoint to its manifest.

    Raises:
        ModelFileError: a file is missing, damaged, or of another step.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_text("utf-8"))
        if manifest["schema"] != SCHEMA or manifest["step"] != step_of(directory):
            raise ValueError("it is of another step or another kind")
        expected = {str(name): dict(facts) for name, facts in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(str(directory / MANIFEST), "damaged", f"cannot be read: {error}") from error
    for name, facts in expected.items():
        path = directory / name
        if not path.is_file():
            raise ModelFileError(str(path), "missing", "is not there, but its manifest names it")
        if _facts(path) != facts:
            raise ModelFileError(str(path), "damaged", "is not what its manifest says")


def newest_whole(run: Path, skipped: Callable[[Path, ModelFileError], None]) -> Path | None:
    """The newest checkpoint that is whole, or None; `skipped` is told of newer ones that are not, and why.

    What `skipped` raises comes through.
    """
    for directory in saved(run):
        try:
            verify(directory)
        except ModelFileError as error:
            skipped(directory, error)
        else:
            return directory
    return None


def set_aside(directory: Path) -> None:
    """Give a damaged checkpoint a name by which nobody takes it for one."""
    directory.rename(directory.with_name(f"damaged-{directory.name}-{secrets.token_hex(4)}"))


def prune(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, if the newest is whole: no others are needed then.

    Raises:
        ModelFileError: the newest is damaged; nothing was removed.
    """
    found = saved(run)
    if len(found) > keep:
        verify(found[0])
        for directory in found[keep:]:
            _remove(directory)


def sweep(run: Path) -> None:
    """Remove what runs that were killed left half written. Only who has claimed the directory may."""
    folder = run / FOLDER
    if folder.is_dir():
        for path in folder.glob(f"{_HIDDEN}*"):
            shutil.rmtree(path)


def _seal(directory: Path, step: int) -> None:
    """Write the manifest; sync everything."""
    files = {path.name: _facts(path) for path in sorted(directory.iterdir())}
    manifest = {"schema": SCHEMA, "step": step, "files": files}
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory)


def _facts(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _remove(directory: Path) -> None:
    """Remove a checkpoint so that no moment shows half of it."""
    hidden = _hidden(directory)
    os.rename(directory, hidden)
    shutil.rmtree(hidden)


def _hidden(directory: Path) -> Path:
    return directory.with_name(f"{_HIDDEN}{directory.name}-{secrets.token_hex(4)}")
