"""A disk that fails, a kill or a power cut at each system call of the real writer: the old file or the new
one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from test_file import contents

import pygpt.file
from pygpt.atomic import replacing
from pygpt.file import write

OLD = b"the old file"
SMALL_BLOCK = 4096  # the real one would take all of a small model in one write
CALLS = ("write", "fsync", "close", "replace", "lseek")


def export(target: Path) -> None:
    """The small model, in blocks of 4 KiB."""
    with replacing(target) as temporary:
        write(temporary, contents())


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pygpt.file, "BLOCK", SMALL_BLOCK)
    path = tmp_path / "model.pygpt"
    path.write_bytes(OLD)
    return path


@pytest.fixture
def new(tmp_path: Path) -> bytes:
    """What the export writes, whatever the block."""
    path = tmp_path / "new" / "model.pygpt"
    path.parent.mkdir()
    export(path)
    return path.read_bytes()


def hooked(name: str, hook: Callable[[Callable[[], Any], tuple[Any, ...]], Any]) -> Callable[..., Any]:
    """os.`name`, through `hook`, which gets the real call and its arguments."""
    real = getattr(os, name)
    return lambda *args, **kwargs: hook(lambda: real(*args, **kwargs), args)


def count_of(name: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    calls: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, name, hooked(name, lambda real, _: (calls.append(1), real())[1]))
        export(target)
    target.write_bytes(OLD)
    return len(calls)


@pytest.mark.parametrize(
    ("name", "code", "least"), [("write", errno.ENOSPC, 8), ("fsync", errno.EIO, 2), ("lseek", errno.EIO, 1)]
)
def test_B1_B2_a_disk_that_fails_at_any_call_of_the_writer_leaves_the_old_file(
    name: str, code: int, least: int, target: Path, new: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = count_of(name, target, monkeypatch)
    assert count >= least  # the failure really moves through the file
    for at in range(1, count + 1):
        calls: list[int] = []

        def fails(real: Callable[[], Any], _: Any, at: int = at, calls: list[int] = calls) -> Any:
            calls.append(1)
            if len(calls) == at:
                raise OSError(code, os.strerror(code))
            return real()

        target.write_bytes(OLD)
        with monkeypatch.context() as patch, pytest.raises(OSError, match=os.strerror(code)):
            patch.setattr(os, name, hooked(name, fails))
            export(target)
        # The last fsync is the directory's, after the rename: in place and whole, but perhaps not to last.
        late = name == "fsync" and at == count
        assert target.read_bytes() == (new if late else OLD), at
        assert sorted(os.listdir(target.parent)) == ["model.pygpt", "new"]


def test_B1_writes_that_are_cut_short_are_continued(
    target: Path, new: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, memoryview(data)[:1000]))
        export(target)
    assert target.read_bytes() == new


def killed_at_each_call(target: Path) -> Iterator[bytes]:
    """What stands at the target after a kill at each call of an export, before it and behind it. Forks."""
    for behind in (False, True):
        for at in range(1, 1000):
            target.write_bytes(OLD)
            child = os.fork()
            if child == 0:
                export_and_die(target, at, behind)
            if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
                break  # it came to its end before
            yield target.read_bytes()


def export_and_die(target: Path, at: int, behind: bool) -> None:
    calls = 0

    def dies(real: Callable[[], Any], _: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls == at
        if mine and not behind:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real()
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    for name in CALLS:
        setattr(os, name, hooked(name, dies))
    export(target)
    os._exit(0)


KILLS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_file_faults as faults
faults.pygpt.file.BLOCK = faults.SMALL_BLOCK
found = list(faults.killed_at_each_call(Path(sys.argv[2])))
new = Path(sys.argv[3]).read_bytes()
assert all(each in (faults.OLD, new) for each in found)
print(len(found), found.count(new))
"""


def test_B3_a_kill_at_any_call_of_the_writer_leaves_the_old_file_or_the_new_one(
    target: Path, new: bytes
) -> None:
    arguments = [str(Path(__file__).parent), str(target), str(target.parent / "new" / "model.pygpt")]
    done = subprocess.run(
        [sys.executable, "-c", KILLS, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    kills, news = map(int, done.stdout.split())
    assert kills >= 30
    assert 2 <= news < kills  # some came behind the rename
    export(target)  # and the next one sweeps what they left
    assert target.read_bytes() == new
    assert sorted(os.listdir(target.parent)) == ["model.pygpt", "new"]


@dataclass
class Written:
    """What is known of a file's bytes: those that a power cut leaves for certain, and the writes since."""

    synced: bytes = b""
    since: list[tuple[int, bytes]] = field(default_factory=list)

    def after(self, writes: Sequence[tuple[int, bytes]]) -> bytes:
        content = bytearray(self.synced)
        for offset, data in writes:
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data
        return bytes(content)

    def left_by_a_power_cut(self) -> set[bytes]:
        """With none of the writes since, all, one end of them alone, all but the first, half of the last."""
        w = self.since
        halves = [*w[:-1], *((offset, data[: len(data) // 2]) for offset, data in w[-1:])]
        return {self.after(some) for some in ([], w, w[:1], w[-1:], w[1:], halves)}


def recorded(target: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The calls of an export that a power cut could come between, in their order."""
    trace: list[tuple[Any, ...]] = []

    def write(real: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        place, count = os.lseek(args[0], 0, os.SEEK_CUR), real()
        trace.append(("write", os.fstat(args[0]).st_ino, place, bytes(args[1])[:count]))
        return count

    def fsync(real: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        trace.append(("fsync", os.fstat(args[0]).st_ino))
        return real()

    def replace(real: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        trace.append(("replace", os.stat(args[0]).st_ino))
        return real()

    with monkeypatch.context() as patch:
        for name, hook in (("write", write), ("fsync", fsync), ("replace", replace)):
            patch.setattr(os, name, hooked(name, hook))
        export(target)
    return trace


def targets_left_by_a_power_cut(trace: Sequence[tuple[Any, ...]], directory: int) -> list[set[bytes]]:
    """What may stand at the target after a cut behind each call. The disk keeps what was synced, and of the
    rest what it likes, in any order: a rename may last before the bytes that were written before it."""
    files: dict[int, Written] = defaultdict(Written)
    names: list[int | None] = [None]  # that the target may have: files by inode, None for the old one
    found = []
    for what, inode, *rest in trace:
        if what == "write":
            files[inode].since.append((rest[0], rest[1]))
        elif what == "replace":
            names.append(inode)
        elif inode == directory:
            names = names[-1:]
        else:
            files[inode] = Written(files[inode].after(files[inode].since))
        left = [{OLD} if name is None else files[name].left_by_a_power_cut() for name in names]
        found.append(set().union(*left))
    return found


def test_B4_a_power_cut_at_any_moment_leaves_the_old_file_or_the_new_one(
    target: Path, new: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = recorded(target, monkeypatch)
    directory = target.parent.stat().st_ino
    found = targets_left_by_a_power_cut(trace, directory)
    assert len(found) >= 10
    assert set().union(*found) == {OLD, new}
    assert found[-1] == {new}  # what export has called done stays
    # The model of the disk is one: without the file's fsync, or without the directory's, it finds the fault.
    careless = [call for call in trace if call[0] != "fsync" or call[1] == directory]
    assert set().union(*targets_left_by_a_power_cut(careless, directory)) > {OLD, new}
    forgetful = [call for call in trace if call[:2] != ("fsync", directory)]
    assert targets_left_by_a_power_cut(forgetful, directory)[-1] == {OLD, new}
