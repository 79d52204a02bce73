"""Shares of a limit against numbers worked out by hand."""

from __future__ import annotations

import pytest

from pygpt.bench.roofline import Roofs, Run, attainable, between, figure
from pygpt.bench.work import Work

ROOFS = Roofs(read=100.0, fma=50.0, int8=200.0)


def test_the_least_times() -> None:
    work = Work(bytes=300, flops=100, int8_ops=400)
    assert ROOFS.read_s(work) == 3.0
    assert ROOFS.compute_s(work) == 100 / 50 + 400 / 200


def test_without_int8_bytes_are_multiplied_as_f32_is() -> None:
    assert Roofs(1.0, 50.0, 0.0).compute_s(Work(0, 100, 400)) == 10.0


def test_between_two_moments_is_their_mean() -> None:
    assert between(ROOFS, Roofs(300.0, 150.0, 0.0)) == Roofs(200.0, 100.0, 100.0)


def test_a_figures_shares_are_least_time_over_measured_time() -> None:
    runs = [Run(8, Work(300, 100, 0), seconds, ROOFS) for seconds in (4.0, 6.0, 12.0)]
    found = figure("decode", runs)
    assert found.tokens_per_s.median == 8 / 6
    assert (found.tokens_per_s.best, found.tokens_per_s.worst) == (2.0, 8 / 12)
    assert found.memory_share == 3 / 6
    assert found.compute_share == 2 / 6
    assert (found.bound, found.share) == ("memory", 0.5)
    assert found.gb_s == pytest.approx(50e-9)
    assert found.gops == pytest.approx(100 / 6 * 1e-9)
    assert found.intensity == pytest.approx(1 / 3)


def test_each_repeat_is_held_against_the_roofs_of_its_moment() -> None:
    """A machine that was half as fast for a while halves the figure and not the share."""
    slow = Roofs(50.0, 25.0, 100.0)
    found = figure("x", [Run(1, Work(300, 1, 0), 4.0, ROOFS), Run(1, Work(300, 1, 0), 8.0, slow)])
    assert found.memory_share == 0.75


def test_many_operations_for_a_byte_are_bound_by_arithmetic() -> None:
    found = figure("prefill", [Run(1, Work(100, 1000, 0), 40.0, ROOFS)])
    assert (found.bound, found.share) == ("compute", 0.5)


@pytest.mark.parametrize(("intensity", "expected"), [(0.5, 10.0), (5.0, 100.0), (50.0, 100.0)])
def test_a_roof_rises_to_its_ceiling(intensity: float, expected: float) -> None:
    assert attainable(intensity, 20.0, 100.0) == expected
