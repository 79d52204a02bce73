"""Replacing a file whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Replace `target` by the file that the body writes into the path it is given, when the body ends without
    error.

    A crash at any moment leaves the old file or the new one; after an error the old one is there, byte for
    byte. A
    target that is a symbolic link stays one: the file that it points to is replaced. Leftovers of exports to
    the same target that were killed are removed.

    Raises:
        OSError: the directory is missing or not writable, the target is no regular file, the disk is full or
            fails.
    """
    target = _resolved(target)
    _sweep(target)
    temporary, lock = _create_temporary(target)
    try:
        yield temporary
        # Once before the rename too: a directory that cannot be synced is found while the old file is in
        # place.
        sync_directory(target.parent)
        os.replace(temporary, target)
        sync_directory(target.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):  # renamed: it is the target now
            os.unlink(temporary)
        os.close(lock)


def _resolved(target: Path) -> Path:
    """The file to replace: behind any symbolic links, and regular if it exists."""
    resolved = Path(os.path.realpath(target))
    try:
        mode = os.lstat(resolved).st_mode
    except FileNotFoundError:
        if not resolved.parent.is_dir():
            raise OSError(errno.ENOENT, "there is no directory to write to", str(resolved.parent)) from None
        return resolved
    if stat.S_ISLNK(mode):  # realpath gives up on a loop
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is not a regular file, so it cannot be replaced", str(target))
    return resolved


def _temporary_prefix(target: Path) -> str:
    """The same for every export to the target, of a fixed length, and no prefix of another target's."""
    return f".tmp-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _create_temporary(target: Path) -> tuple[Path, int]:
    """A new file beside the target and a descriptor that holds its lock, the sign that its export lives."""
    while True:
        path = target.parent / (_temporary_prefix(target) + secrets.token_hex(4))
        try:
            # 0o666 less the umask, as open() would: a temporary of mode 0600 would stay so after the rename.
            lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        except OSError as error:
            raise OSError(error.errno, f"cannot write here: {error.strerror}", str(target)) from error
        try:
            with contextlib.suppress(OSError):  # a file system without locks: nothing is swept there either
                fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():  # else another export's sweep came between the creation and the lock
                return path, lock
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(lock)
            raise
        os.close(lock)


def _sweep(target: Path) -> None:
    """Remove the temporary files of exports to this target that are dead: nobody holds their lock."""
    prefix = _temporary_prefix(target)
    for name in os.listdir(target.parent):
        if not name.startswith(prefix):
            continue
        path = target.parent / name
        try:
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # just renamed, or someone else's: not ours to remove
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except OSError:  # its export lives, or the file may not be removed
            continue
        finally:
            os.close(lock)


def sync_directory(path: Path) -> None:
    """Make the names in a directory last: those made, renamed and removed so far."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
