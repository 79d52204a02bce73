"""Where the lines of a chat are kept (row H5)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pygpt.repl.history import history_path, prepare_history


def test_H5_the_path_follows_PYGPT_HOME_and_XDG(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert history_path({"PYGPT_HOME": "/p", "XDG_STATE_HOME": "/s"}) == Path("/p/history")
    assert history_path({"XDG_STATE_HOME": "/s"}) == Path("/s/pygpt/history")
    assert history_path({"XDG_STATE_HOME": "relative"}) == Path("/home/me/.local/state/pygpt/history")
    assert history_path({}) == Path("/home/me/.local/state/pygpt/history")


@pytest.mark.parametrize("before", [None, 0o644, 0o666])
def test_H5_only_its_owner_can_read_it(tmp_path: Path, before: int | None) -> None:
    path = tmp_path / "new" / "history"
    if before is not None:
        path.parent.mkdir()
        path.write_text("+hi\n")
        path.chmod(before)
    assert prepare_history(path) == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == ("" if before is None else "+hi\n")


def test_H5_a_link_a_FIFO_a_directory_and_an_impossible_place_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    for name in ("link", "fifo", "directory", "file/history"):
        assert str(tmp_path / name) in prepare_history(tmp_path / name)
    assert not (tmp_path / "target").exists()
