"""Progress by steps or time, warm-up and cosine."""

from __future__ import annotations

import pytest

from pygpt.train.config import TrainConfig
from pygpt.train.schedule import learning_rate, progress

CONFIG = TrainConfig(steps=1000, warmup_steps=10, learning_rate=1.0, min_learning_rate=0.1)


def test_the_rate_rises_to_its_peak_then_falls_to_its_minimum() -> None:
    rates = [learning_rate(CONFIG, step, progress(CONFIG, step, 0.0)) for step in range(1001)]
    assert rates[0] == pytest.approx(0.1, rel=1e-3)  # a tenth: not zero, or the first step is lost
    assert rates[4] == pytest.approx(0.5, rel=1e-3)
    assert max(rates) == pytest.approx(1.0, rel=1e-3)
    assert rates[500] == pytest.approx(0.55)
    assert rates[1000] == pytest.approx(0.1)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    config = TrainConfig(warmup_steps=0, learning_rate=0.5)
    assert learning_rate(config, 0, 0.0) == 0.5


def test_a_minimum_above_the_peak_does_not_raise_the_rate() -> None:
    config = TrainConfig(warmup_steps=0, learning_rate=1e-5, min_learning_rate=1e-4)
    assert learning_rate(config, 100, 0.9) == 1e-5


@pytest.mark.parametrize(
    ("step", "elapsed_s", "done"),
    [(0, 0, 0), (250, 0, 0.25), (0, 60, 0.5), (250, 60, 0.5), (750, 60, 0.75), (9, 500, 1)],
)
def test_progress_is_the_larger_share_of_steps_and_time(step: int, elapsed_s: float, done: float) -> None:
    config = TrainConfig(steps=1000, max_minutes=2)
    assert progress(config, step, elapsed_s) == done


def test_time_does_not_count_where_no_limit_is_set() -> None:
    assert progress(CONFIG, 500, 1e9) == 0.5
