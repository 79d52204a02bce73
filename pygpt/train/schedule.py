"""How far along a run is, and the learning rate there."""

from __future__ import annotations

import math

from pygpt.train.config import TrainConfig


def progress(config: TrainConfig, step: int, elapsed_s: float) -> float:
    """Share of the run that is done, from 0 to 1: of its steps or of its time, whichever is further along."""
    done = step / config.steps
    if config.max_minutes is not None:
        done = max(done, elapsed_s / (60 * config.max_minutes))
    return min(done, 1.0)


def learning_rate(config: TrainConfig, step: int, done: float) -> float:
    """Linear warm-up over the first steps, then a cosine down to the minimum as `done` goes from 0 to 1.

    The cosine is that of Loshchilov and Hutter, SGDR, arXiv:1608.03983, without restarts; warm-up is that of
    Vaswani et al. 2017, section 5.3.
    """
    low = min(config.min_learning_rate, config.learning_rate)
    cosine = low + (config.learning_rate - low) * 0.5 * (1 + math.cos(math.pi * done))
    return cosine * min(1.0, (step + 1) / max(config.warmup_steps, 1))
