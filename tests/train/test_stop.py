"""Signals ask once, and act the second time."""

from __future__ import annotations

import os
import signal

import pytest

from pygpt.train.stop import polite_signals


@pytest.mark.parametrize(
    ("number", "meaning"),
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGUSR1, signal.SIGTERM),  # of schedulers
    ],
)
def test_I9_the_first_signal_is_a_request_and_ctrl_c_after_it_acts(
    number: signal.Signals, meaning: signal.Signals
) -> None:
    before = signal.getsignal(number)
    told: list[bool] = []
    with polite_signals(lambda: told.append(True)) as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert told == [True]
        assert stop.signal == meaning
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_I9_before_the_first_step_a_signal_acts_at_once(number: signal.Signals) -> None:
    with polite_signals() as stop:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        assert stop.signal == number
