"""The logit lens: what a model would say if it stopped after each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.reference import log_sum_exp, readout
from pygpt.viz.labels import labels, prompt_ids

if TYPE_CHECKING:
    from pygpt.engine import Engine
    from pygpt.requests import Prompt


@dataclass(frozen=True, slots=True, eq=False)
class LogitLens:
    """The likeliest next token after each block, at each position.

    Row 0 reads the embedding, row i the output of block i - 1; the last row is what the model says.

    Attributes:
        tokens: a label for each position.
        likeliest: ids [n_layer + 1, T].
        words: their labels.
        probabilities: how likely they are, float64 [n_layer + 1, T].
    """

    tokens: Sequence[str]
    likeliest: NDArray[np.int64]
    words: Sequence[Sequence[str]]
    probabilities: NDArray[np.float64]


def logit_lens(engine: Engine, prompt: Prompt) -> LogitLens:
    """Read every hidden state of an engine as if it were the last: final norm, then head, in float64.

    A residual stream (He et al. 2015, arXiv:1512.03385) keeps one coordinate system from block to block, so
    that the head can read it half-way (nostalgebraist 2020, "interpreting GPT: the logit lens").

    Raises:
        ContextLengthError, OutOfMemory, NumericalError: see `Engine.hidden_states`.
        ModelFileError, OSError: the engine's file is no longer there.
    """
    ids = prompt_ids(engine, prompt)
    states = engine.hidden_states(ids)
    file = _core.ModelFile(engine.info["path"], verify="header")
    a = Architecture.from_config(file.config)
    likeliest = np.empty(states.shape[:2], np.int64)
    probabilities = np.empty(states.shape[:2])
    for layer, state in enumerate(states):
        logits = readout(a, file.tensor, state.astype(np.float64))[:, : a.vocab_size]  # [T, V]
        likeliest[layer] = logits.argmax(axis=-1)
        probabilities[layer] = np.exp(logits.max(axis=-1) - log_sum_exp(logits))
    words = [labels(row.tolist(), engine.tokenizer) for row in likeliest]
    return LogitLens(labels(ids, engine.tokenizer), likeliest, words, probabilities)
