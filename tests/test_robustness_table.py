"""docs/robustness.md names, for each row, files that have a test of that row's number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| ([A-Z]\d+) \|.*\|([^|]*)\|$", re.MULTILINE)
OPEN = {"E12"}
UNNUMBERED = {"C27"}  # whole folders of tests, whose names say what they compare

ROWS = dict(ROW.findall((ROOT / "docs" / "robustness.md").read_text("utf-8")))


def test_no_row_is_missing() -> None:
    wanted = [f"C{i}" for i in range(1, 28) if i != 25]
    wanted += [f"D{i}" for i in (*range(1, 9), 10, 11)]
    wanted += [f"E{i}" for i in range(1, 17) if i not in (9, 13)]
    wanted += [f"I{i}" for i in range(1, 19)]
    assert list(ROWS) == wanted


@pytest.mark.parametrize("row", [row for row in ROWS if row not in OPEN])
def test_a_row_has_its_test(row: str) -> None:
    files = re.findall(r"`([^`]+)`", ROWS[row])
    assert files
    for name in files:
        path = ROOT / name
        assert path.exists()
        if row not in UNNUMBERED and path.parts[-2] != "tools":
            assert re.search(rf"test_{row}_|\"{row}:", path.read_text("utf-8")), name


def test_a_row_without_a_test_says_so() -> None:
    assert {row for row, files in ROWS.items() if not files.strip()} == OPEN
