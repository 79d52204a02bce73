"""Whatever happens while a model file is written, the target is the old file or the new one, whole."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pygpt.atomic import replacing

OLD = b"the old file"
NEW = b"the new file, which is longer" * 100

# Run in a fresh process: no threads, nothing open.
PRELUDE = """
import os, signal, sys
from pathlib import Path
from pygpt.atomic import replacing
target = Path(sys.argv[1])

def export(data):
    with replacing(target) as temporary:
        fd = os.open(temporary, os.O_WRONLY)
        for i in range(0, len(data), 1000):
            os.write(fd, data[i : i + 1000])
        os.fsync(fd)
        os.close(fd)

NEW = b"the new file, which is longer" * 100
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file that an export replaces."""
    path = tmp_path / "model.pygpt"
    path.write_bytes(OLD)
    return path


def export(target: Path, data: bytes = NEW) -> None:
    with replacing(target) as temporary:
        fd = os.open(temporary, os.O_WRONLY)
        try:
            for i in range(0, len(data), 1000):
                os.write(fd, data[i : i + 1000])
            os.fsync(fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def run(script: str, target: Path, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    code = PRELUDE + textwrap.dedent(script)
    command = [sys.executable, "-c", code, str(target)]
    return subprocess.run(command, timeout=60, text=True, capture_output=True, **kwargs)


def leftovers(target: Path) -> list[str]:
    return [name for name in os.listdir(target.parent) if name.startswith(".tmp-")]


def fails(name: str, at: int, code: int, calls: list[int]) -> Callable[..., Any]:
    """os.`name`, failing at its call number `at`."""
    real = getattr(os, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    return call


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int, int], list[int]]]:
    """Make the nth call of a function of os fail with an errno."""

    def inject(name: str, at: int, code: int) -> list[int]:
        calls: list[int] = []
        monkeypatch.setattr(os, name, fails(name, at, code, calls))
        return calls

    yield inject
    monkeypatch.undo()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_B1_a_disk_that_fills_up_leaves_the_old_file(
    at: int, target: Path, failing: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing("write", at, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        export(target)
    monkeypatch.undo()
    assert target.read_bytes() == OLD
    assert leftovers(target) == []


def test_B1_a_limit_on_the_file_size_leaves_the_old_file(target: Path) -> None:
    done = run(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
        export(NEW)
        """,
        target,
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert target.read_bytes() == OLD
    assert leftovers(target) == []


def test_B1_a_device_is_not_replaced() -> None:
    with pytest.raises(OSError, match="not a regular file"):
        export(Path("/dev/full"))
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


@pytest.mark.parametrize(
    ("function", "at"),
    [("fsync", 1), ("fsync", 2), ("close", 1), ("replace", 1)],
    ids=["fsync of the file", "fsync of the directory", "close", "rename"],
)
def test_B2_an_error_of_the_disk_is_reported_and_leaves_the_old_file(
    function: str, at: int, target: Path, failing: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(function, at, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        export(target)
    monkeypatch.undo()
    assert target.read_bytes() == OLD
    assert leftovers(target) == []


def test_B2_an_error_after_the_rename_is_reported_too(
    target: Path, failing: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing("fsync", 3, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        export(target)
    monkeypatch.undo()
    assert target.read_bytes() == NEW  # in place and whole, but perhaps not to survive a power cut
    assert leftovers(target) == []


def test_B3_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(target: Path) -> None:
    """Forks a child for each system call of an export and kills it there, before and after the call."""
    done = run(
        """
        OLD = target.read_bytes()
        NAMES = ("open", "write", "fsync", "close", "replace", "unlink", "listdir")
        REAL = {name: getattr(os, name) for name in NAMES}

        def dies(name, at, after, calls):
            def call(*args, **kwargs):
                calls.append(name)
                if len(calls) == at and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = REAL[name](*args, **kwargs)
                if len(calls) == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result
            return call

        kills = news = 0
        for after in (False, True):
            for at in range(1, 200):
                target.write_bytes(OLD)
                child = os.fork()
                if child == 0:
                    calls = []
                    for name in NAMES:
                        setattr(os, name, dies(name, at, after, calls))
                    export(NEW)
                    os._exit(0)
                status = os.waitpid(child, 0)[1]
                found = target.read_bytes()
                assert found in (OLD, NEW), (at, after, len(found))
                news += found == NEW
                if not os.WIFSIGNALED(status):
                    assert found == NEW
                    break
                kills += 1
                assert len([n for n in os.listdir(target.parent) if n.startswith(".tmp-")]) <= 1
        export(NEW)
        assert not [n for n in os.listdir(target.parent) if n.startswith(".tmp-")]
        print(kills, news)
        """,
        target,
    )
    assert done.returncode == 0, done.stderr
    kills, news = map(int, done.stdout.split())
    assert kills >= 20  # every call was a crash point
    assert 2 < news < kills  # some came after the rename


def test_B5_two_exporters_to_one_path_leave_a_whole_file(target: Path) -> None:
    done = run(
        """
        contents = [bytes([i]) * 5000 for i in (1, 2)]
        target.write_bytes(contents[0])
        children = []
        for data in contents:
            child = os.fork()
            if child == 0:
                for _ in range(50):
                    export(data)
                os._exit(0)
            children.append(child)
        reads = 0
        while children:
            assert target.read_bytes() in contents
            reads += 1
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                assert status == 0
                children.remove(pid)
        assert target.read_bytes() in contents
        assert sorted(os.listdir(target.parent)) == [target.name]
        """,
        target,
    )
    assert done.returncode == 0, done.stderr


def test_B6_a_link_stays_and_its_target_is_replaced(target: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.pygpt"
    link.symlink_to("../model.pygpt")
    export(link)
    assert link.is_symlink()
    assert target.read_bytes() == NEW
    dangling = tmp_path / "dangling.pygpt"
    dangling.symlink_to("new.pygpt")
    export(dangling)
    assert (tmp_path / "new.pygpt").read_bytes() == NEW


@pytest.mark.parametrize("name", ["missing/model.pygpt", "loop", "directory", "model.pygpt/file"])
def test_B6_a_place_that_cannot_be_written_is_named(name: str, target: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "directory").mkdir()
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OSError, match=name.split("/")[0]):
        export(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == before
    assert target.read_bytes() == OLD


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_B6_a_directory_without_permission_is_named(target: Path) -> None:
    target.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match=r"model\.pygpt"):
            export(target)
    finally:
        target.parent.chmod(0o700)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_B7_umask_is_honoured(umask: int, target: Path) -> None:
    previous = os.umask(umask)
    try:
        export(target)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


def interrupted_export(target: Path) -> None:
    with replacing(target) as temporary:
        temporary.write_bytes(NEW)
        signal.raise_signal(signal.SIGINT)


def test_B8_an_interrupt_leaves_the_old_file(target: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted_export(target)
    assert target.read_bytes() == OLD
    assert leftovers(target) == []


def test_B3_only_dead_exports_of_the_same_target_are_swept(target: Path, tmp_path: Path) -> None:
    killed = "with replacing(target): os.kill(os.getpid(), signal.SIGKILL)"
    run(killed, target)
    (dead,) = leftovers(target)
    run(killed, tmp_path / "model.pygpt2")
    (other,) = set(leftovers(target)) - {dead}
    with replacing(target) as live:
        assert dead not in leftovers(target)
        export(target)  # a second export meanwhile: the first one's file is not touched
        assert live.exists()
        live.write_bytes(b"x")
    assert target.read_bytes() == b"x"
    assert leftovers(target) == [other]
