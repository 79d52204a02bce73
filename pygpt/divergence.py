"""After a failed replay: which layer is the first to go wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.dtypes import QUANTISED, rounded_activations
from pygpt.errors import NumericalError
from pygpt.known_answers import KnownAnswers
from pygpt.parity import SMALLEST_SCALE, engine_logits, engine_states, file_dtype, stored_budget
from pygpt.reference import Trace, forward


def explain(file: _core.ModelFile, known: KnownAnswers, *, isa: str = "", threads: int | None = None) -> str:
    """Why the engine does not give the known answers of a file, as words for a message.

    The engine is held to float64 on the weights that the file has. Where the two agree, it is the weights.
    """
    a = Architecture.from_config(file.config)
    formats = {tensor.name: tensor.format for tensor in file.tensors}

    def rounding(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return rounded_activations(x) if formats[name] in QUANTISED else x

    trace = forward(a, file.tensor, known.prompt, known.positions, rounding)
    found = first_difference(file, trace, known.prompt, known.positions, isa=isa, threads=threads)
    if found:
        return f"the engine computes this model wrongly here: {found}"
    return (
        "the engine computes what float64 does with the weights in this file, block by block: they are not "
        "the weights that its known answers were made from; export it again"
    )


def first_difference(
    file: _core.ModelFile,
    trace: Trace,
    prompt: Sequence[int],
    positions: Sequence[int],
    *,
    isa: str = "",
    threads: int | None = None,
) -> str | None:
    """Where the engine, running the file, first differs from a trace by more than the budget.

    Compared are the residual stream after the embedding and each block, and the logits at the positions.
    None: nowhere.
    """
    states = engine_states(file, prompt, isa=isa, threads=threads)
    dtype, n_layer = file_dtype(file), len(trace.states) - 1
    for layer, (ours, exact) in enumerate(zip(states, trace.states, strict=True)):
        difference, budget = _difference(ours, exact), stored_budget(dtype, layer)
        if not difference <= budget:
            place = f"h.{layer - 1} is the first block whose output" if layer else "the embedding"
            if not math.isfinite(difference):
                return f"{place} is not finite"
            return f"{place} differs: {difference:.2g} of its largest number against a budget of {budget:.2g}"
    try:
        logits = engine_logits(file, prompt, isa=isa, threads=threads)[0]
    except NumericalError:
        return "the final norm or the head is the first whose output is not finite"
    expected = trace.logits[:, : logits.shape[1]]
    difference, budget = _difference(logits[list(positions)], expected), stored_budget(dtype, n_layer)
    if not difference <= budget:
        return (
            f"the final norm or the head is the first that differs: {difference:.2g} of the largest |logit| "
            f"against a budget of {budget:.2g}"
        )
    return None


def first_lossy_layer(original: Trace, stored: Trace, budget: float) -> str:
    """The first state of the residual stream that rounding the weights moved by more than the budget."""
    for layer, (exact, rounded) in enumerate(zip(original.states, stored.states, strict=True)):
        if np.abs(exact - rounded).max() > budget * np.abs(exact).max():
            place = f"h.{layer - 1}" if layer else "the embedding"
            return f"the format's rounding first shows after {place}"
    return "the format's rounding first shows in the head"


def _difference(ours: NDArray[np.float32], exact: NDArray[np.float64]) -> float:
    """The largest difference as a share of the largest number; NaN where ours are not finite."""
    return float(np.abs(ours - exact).max() / max(float(np.abs(exact).max()), SMALLEST_SCALE))
