"""A disk that fails, or a kill, at each system call of the real writer: the old file or the new one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
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
