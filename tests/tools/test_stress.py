"""The stress test in small: no wrong text, nothing left, and figures that are figures."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pygpt

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import stress


def test_a_small_storm_leaves_no_wrong_text(small_model: Path) -> None:
    tally = stress.Tally()
    with pygpt.Engine(small_model, max_running=8) as engine, ThreadPoolExecutor(stress.THREADS) as pool:
        work = stress.prepare(engine)
        stress.storm(work, tally, pool, 0, 50)
        before = stress.held()
        stress.storm(work, tally, pool, 50, 250)
        after = stress.held()
    assert tally.wrong == []
    assert tally.done + tally.cancelled + tally.late == 300
    assert tally.cancelled > 20
    assert after[1:] == before[1:]


def test_a_wrong_text_is_noticed(small_model: Path) -> None:
    with pygpt.Engine(small_model) as engine:
        work = stress.prepare(engine)
    tally = stress.Tally()
    stress.note(work, tally, 3, [1], work.alone[3][:1], "done")
    assert tally.wrong == []
    stress.note(work, tally, 3, [1], "\0", "done")
    stress.note(work, tally, 3, [1], work.alone[3][:1], "done", whole=False)
    assert len(tally.wrong) == 2


def test_interpreters_end_while_the_engine_works(small_model: Path) -> None:
    assert stress.exits(small_model, 3) == 0


@pytest.mark.parametrize("name", ["streams_of_batch", "warm_of_cold", "cancel_s"])
def test_the_figures_are_there(small_model: Path, name: str) -> None:
    found = stress.figures(small_model, repeats=1)
    assert found[name] > 0
