"""A request whose numbers are not finite fails alone: what runs after it on the same engine is as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from odd_models import write_model

import pygpt
from pygpt.errors import NumericalError

BROKEN = 3


def broken(name: str, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The model with one token whose embedding is NaN."""
    if name == "wte":
        weights[BROKEN] = np.nan
    return weights


@pytest.mark.parametrize("prompt", [[BROKEN], [1, 2, BROKEN, 4, 5, 6, 7]])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "q8", "q4"])
@pytest.mark.parametrize("width", [13, 64, 72])
def test_a_request_that_is_not_finite_leaves_the_engine_as_it_was(
    width: int, dtype: str, prompt: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "model.pygpt"
    write_model(path, dtype=dtype, d_model=width, change=broken, tied_head=False)
    with pygpt.Engine(path, verify="off") as engine:

        def tokens() -> list[int]:
            ids = [token for token in range(8) if token != BROKEN]
            return engine.generate(
                [1, 2, 4, 5, 6, 7], max_tokens=5, temperature=0, allowed_token_ids=ids
            ).token_ids

        before = tokens()
        with pytest.raises(NumericalError):
            engine.generate(prompt, max_tokens=5, temperature=0)
        assert tokens() == before
