"""After a failed replay: which layer is the first to go wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.errors import NumericalError
from pygpt.file import Contents, write
from pygpt.parity import SMALLEST_SCALE, engine_logits, file_dtype, stored_budget
from pygpt.reference import Trace, forward


def first_diverging_layer(
    file: _core.ModelFile, prompt: Sequence[int], *, isa: str = "", threads: int | None = None
) -> str:
    """Where the engine first differs from float64 on the same weights, as words for a message.

    The engine shows its logits only. So it runs models of the first 1, 2, 3 ... layers of this one, halving
    the
    range: once a layer is wrong, so is everything above it.
    """
    architecture = Architecture.from_config(file.config)
    good, bad = 0, architecture.n_layer  # layers known to suffice, known to fail
    while bad - good > 1:
        middle = (good + bad) // 2
        if _agrees(file, replace(architecture, n_layer=middle), prompt, isa=isa, threads=threads):
            good = middle
        else:
            bad = middle
    if bad <= 1:  # 0 is a model without layers
        return "the first difference is in layer 0, the embedding or the head"
    return f"the first difference is in layer {bad - 1}"


def first_lossy_layer(original: Trace, stored: Trace, budget: float) -> str:
    """The first state of the residual stream that rounding the weights moved by more than the budget."""
    for layer, (exact, rounded) in enumerate(zip(original.states, stored.states, strict=True)):
        if np.abs(exact - rounded).max() > budget * np.abs(exact).max():
            place = f"layer {layer - 1}" if layer else "the embedding"
            return f"the format's rounding first shows after {place}"
    return "the format's rounding first shows in the head"


def _agrees(
    file: _core.ModelFile, architecture: Architecture, prompt: Sequence[int], *, isa: str, threads: int | None
) -> bool:
    with tempfile.TemporaryDirectory(prefix="pygpt-") as directory:
        path = Path(directory) / "truncated.pygpt"
        path.touch()
        contents = Contents(
            architecture=architecture, dtype=file_dtype(file), weights=file.tensor, copy_of=file
        )
        write(path, contents)
        trace = forward(architecture, file.tensor, prompt, rounding=contents.rounding)
        expected = trace.logits[:, : architecture.vocab_size]
        try:
            logits, _ = engine_logits(_core.ModelFile(str(path)), prompt, isa=isa, threads=threads)
        except NumericalError:
            return False
    allowed = stored_budget(file_dtype(file), architecture.n_layer) * max(
        float(np.abs(expected).max()), SMALLEST_SCALE
    )
    return bool(np.abs(logits - expected).max() <= allowed)
