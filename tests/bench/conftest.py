"""What the tests of the bench share: a machine with small caches, and one report of a small model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import pygpt
from pygpt.bench import MachineLimits, limits, machine, model, reading
from pygpt.bench.caches import Caches
from pygpt.bench.model import ModelReport, Settings

SMALL_CACHES = Caches(l1=1 << 12, l2=1 << 14, llc=1 << 17, llc_cpus=2, llc_total=1 << 17, source="test")


@contextlib.contextmanager
def measuring_little() -> Iterator[None]:
    """Takes no time; what comes out says nothing about this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "detect", lambda: SMALL_CACHES)
        patch.setattr(model, "detect", lambda: SMALL_CACHES)
        patch.setattr(limits, "_LEAST_DRAM", 1 << 20)
        patch.setattr(limits, "FMA_ITERATIONS", 1000)
        patch.setattr(limits, "SPREAD_ITERATIONS", 1000)
        patch.setattr(limits, "BARRIERS", 10)
        patch.setattr(reading, "LEAST_READ", 1 << 18)
        yield


@pytest.fixture
def quick() -> Iterator[None]:
    with measuring_little():
        yield


@pytest.fixture(scope="session")
def measured() -> MachineLimits:
    """Of one and two threads, two rounds."""
    with measuring_little():
        return machine([1, 2], repeats=2)


@pytest.fixture(scope="session")
def report(small_model: Path) -> ModelReport:
    """Of the small model with two threads, one round."""
    settings = Settings(tokens=4, prompt_tokens=8, batches=(2,), repeats=1)
    with measuring_little():
        return model.measure(
            lambda: pygpt.Engine(os.fspath(small_model), threads=2), {"threads": 2}, settings
        )
