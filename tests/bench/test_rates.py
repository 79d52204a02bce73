"""Repeats and their time."""

from __future__ import annotations

from pygpt.bench.rates import Rate, duration, rounds, speed


def test_more_speed_is_better() -> None:
    assert speed([3.0, 1.0, 2.0], "by bus") == Rate(2.0, 3.0, 1.0, 3, "by bus")


def test_less_time_is_better() -> None:
    assert duration([3.0, 1.0, 2.0, 8.0]) == Rate(2.5, 1.0, 8.0, 4)


def test_rounds_end_with_the_repeats_or_with_the_time_but_never_before_the_first() -> None:
    assert list(rounds(3, 100.0)) == [0, 1, 2]
    assert list(rounds(3, -1.0)) == [0]
