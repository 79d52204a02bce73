"""How well a model predicts text that it has not seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from pygpt.errors import InvalidRequestError
from pygpt.model import Model
from pygpt.train.data import windows as text_windows

_TOKENS_AT_ONCE = 4096  # enough to fill a CPU, small enough for any memory


@torch.no_grad()
def evaluate(
    model: Model,
    ids: Tensor | NDArray[np.generic],
    context: int,
    *,
    windows: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Mean loss in nats a token over the non-overlapping full windows of the text, without dropout.

    Window i reads the tokens [i * context, (i + 1) * context) and predicts the successor of each; a rest that
    is shorter than a window is left out.

    Args:
        model: left in the mode (training or evaluation) that it was in.
        ids: integers [N] with N > context.
        context: tokens a window, at most the model's context_length.
        windows: read only this many windows, evenly spread, or None for all.
        progress: is told how many windows were read, of how many.

    Raises:
        InvalidRequestError: the text is shorter than one window.
    """
    count = (len(ids) - 1) // context
    if count < 1:
        raise InvalidRequestError("ids", f"{len(ids)} tokens are too few for one window of {context} + 1")
    chosen = np.arange(count)
    if windows is not None and windows < count:
        chosen = np.arange(windows) * count // windows
    device = model.wte.weight.device
    rows = max(1, _TOKENS_AT_ONCE // context)
    total = 0.0
    was_training = model.training
    model.eval()
    try:
        for first in range(0, len(chosen), rows):
            x, y = text_windows(ids, chosen[first : first + rows] * context, context)
            logits = model(x.to(device)).float()  # [rows, context, n_vocab]
            total += cross_entropy(logits.flatten(0, 1), y.to(device).flatten(), reduction="sum").item()
            if progress is not None:
                progress(first, len(chosen))
    finally:
        model.train(was_training)
    return total / (len(chosen) * context)
