"""The README's commands run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"<!-- run -->\n```(sh|python)\n(.*?)```", re.S)


def environment() -> dict[str, str]:
    """The shell's, with the commands of this Python in front."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_every_command_of_the_readme_runs_in_order(tmp_path: Path) -> None:
    blocks = BLOCK.findall(README.read_text("utf-8"))
    assert len(blocks) >= 4
    for language, code in blocks:
        command = (
            ["bash", "-euo", "pipefail", "-c", code] if language == "sh" else [sys.executable, "-c", code]
        )
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip()


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text("utf-8")):
        if not target.startswith("http"):
            assert (README.parent / target).exists(), target


@pytest.mark.parametrize(
    "document", sorted((README.parent / "docs").glob("*.md")), ids=lambda path: path.name
)
def test_every_file_that_the_docs_name_exists(document: Path) -> None:
    names = re.findall(r"`((?:csrc|pygpt|tests|tools|docs)/[\w./]+\.\w+)`", document.read_text("utf-8"))
    missing = [name for name in names if not (README.parent / name).exists()]
    assert not missing
