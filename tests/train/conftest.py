"""A run small enough for tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from pygpt.train.config import TrainConfig

TINY = TrainConfig(
    n_layers=1, h=2, d_model=32, context_length=16, steps=60, batch_size=8, learning_rate=1e-2,
    warmup_steps=5, eval_interval=20, sample_length=5, threads=1, device="cpu",
)  # fmt: skip


@pytest.fixture
def tiny() -> TrainConfig:
    """A run of a second."""
    return TINY


@pytest.fixture
def alphabet(tmp_path: Path) -> Path:
    """A text that is easy to learn: after the first letter, every next one is certain."""
    path = tmp_path / "alphabet.txt"
    path.write_text("abcdefghijklmnopqrstuvwxyz\n" * 60)
    return path
