"""A good model file, and its parts, to be bent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import pygpt
from pygpt.model import Model

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves it as it is

from corpus import Parts


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model: 2 layers, 3 heads, width 24, context 8, the characters a to k."""
    torch.manual_seed(0)
    model = Model(context_length=8, d_model=24, h=3, n_layers=2, n_vocab=11)
    return pygpt.export(
        model, tmp_path_factory.mktemp("good") / "good.pygpt", dtype="f16", chars="abcdefghijk"
    )


@pytest.fixture
def parts(good: Path) -> Parts:
    return Parts.of(good.read_bytes())
