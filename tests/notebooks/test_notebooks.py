"""Every notebook runs on small settings, and lies here without output or a trace of who wrote it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves it as it is

from run_notebook import code_cells, read, run_cell

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NAMES = {"basic_self_attention", "bigram_model", "from_pytorch_to_engine", "inside_the_engine"}
EACH = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_notebooks_are_these() -> None:
    assert {path.stem for path in NOTEBOOKS} == NAMES


@EACH
def test_it_runs_from_the_first_cell_to_the_last(notebook: Path, tmp_path: Path) -> None:
    # One thread: two that share a busy core wait for each other most of the time.
    small = {"NOTEBOOK_STEPS": "20", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    environment = os.environ | small
    environment.pop("NOTEBOOK_TEXT", None)
    command = [sys.executable, str(Path(__file__).parent / "run_notebook.py"), str(notebook), str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [int(n) for n in re.findall(r"^--- cell (\d+)$", done.stdout, re.M)] == [
        place for place, _ in code_cells(read(notebook))
    ]
    assert list(tmp_path.glob("cell-*.png")) or list(tmp_path.glob("cell-*.html"))  # it shows something
    assert not [
        path for path in tmp_path.iterdir() if not path.name.startswith("cell-")
    ]  # and leaves nothing


@EACH
def test_it_holds_no_output(notebook: Path) -> None:
    content = read(notebook)
    for cell in content["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
        assert cell["metadata"] == {}
    assert set(content["metadata"]) <= {"kernelspec", "language_info"}
    assert set(content["metadata"]["language_info"]) == {"name"}  # no version of whoever ran it


@EACH
def test_it_holds_no_path_of_a_machine(notebook: Path) -> None:
    text = notebook.read_text("utf-8")
    assert not re.search(r"/(home|Users|root|work|tmp|mnt|var|opt)/|\bC:|\bfile:", text)
    assert len(text) < 50_000


@EACH
def test_it_is_plain_python(notebook: Path) -> None:
    """No line for Jupyter alone, so that any Python runs it."""
    for _, source in code_cells(read(notebook)):
        assert not re.search(r"^\s*[%!?]", source, re.M)


@EACH
def test_it_names_where_its_ideas_come_from(notebook: Path) -> None:
    cells: list[dict[str, Any]] = read(notebook)["cells"]
    prose = " ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert cells[0]["cell_type"] == "markdown"
    assert re.search(r"(Vaswani|Radford) et al\. 201[789]", prose)
    for link in re.findall(r"`(\w+\.ipynb)`", prose):
        assert (FOLDER / link).is_file(), link


def test_the_runner_finds_what_a_cell_ends_in() -> None:
    namespace: dict[str, Any] = {}
    assert run_cell("a = 2\na + 1", "cell", namespace) == 3
    assert run_cell("b = a", "cell", namespace) is None
    with pytest.raises(ZeroDivisionError):
        run_cell("1 / 0", "cell", namespace)
