"""docs/robustness.md names, for each row, files that have a test of that row's number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| ([A-Z]\d+) \|.*\|([^|]*)\|$", re.MULTILINE)
UNNUMBERED = {"C27"}  # whole folders of tests, whose names say what they compare

ROWS = dict(ROW.findall((ROOT / "docs" / "robustness.md").read_text("utf-8")))


def test_no_row_is_missing() -> None:
    wanted = [f"A{i}" for i in range(1, 35)] + [f"B{i}" for i in range(1, 16)]
    wanted += [f"C{i}" for i in range(1, 28) if i != 25]
    wanted += [f"D{i}" for i in (*range(1, 9), 10, 11)]
    wanted += [f"E{i}" for i in range(1, 17) if i not in (9, 13)]
    wanted += [f"I{i}" for i in range(1, 19)]
    assert list(ROWS) == wanted


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_its_test(row: str) -> None:
    files = re.findall(r"`([^`]+)`", ROWS[row])
    assert files
    for name in files:
        path = ROOT / name
        assert path.exists()
        if row not in UNNUMBERED and path.parts[-2] != "tools":
            assert re.search(rf"test_([A-E]\d+_)*{row}_|\"{row}:", path.read_text("utf-8")), name
