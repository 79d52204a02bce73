"""Holding an export to the model that it was made from: every logit, in f32, in the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pygpt import _core
from pygpt.checkpoints.base import Options
from pygpt.exporter import Export, export_with_report
from pygpt.parity import engine_logits

TOLERANCE = 1e-4  # of the largest |logit|


def original_logits(module: nn.Module, ids: list[int]) -> np.ndarray[Any, Any]:
    """Logits [T, V] of the module in float32."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        out = module.float().eval()(tokens)
        out = getattr(out, "logits", out)
        out = out[0] if isinstance(out, tuple) else out
        if out.shape[1] != len(ids):  # nanoGPT's gives the last position only without targets
            out = module(tokens, tokens)[0]
    logits: np.ndarray[Any, Any] = out[0].numpy()
    return logits


def difference(path: Path, module: nn.Module, ids: list[int]) -> float:
    """Largest difference of a logit of the engine, at any position, as a share of the largest |logit|."""
    ours, _ = engine_logits(_core.ModelFile(str(path)), ids)
    theirs = original_logits(module, ids)[:, : ours.shape[1]]
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def assert_exported(
    source: Any, module: nn.Module, target: Path, options: Options | None = None, *, context: int, vocab: int
) -> Export:
    """Export in f32, and hold the engine to the module at every position of a full context."""
    done = export_with_report(source, target, "f32", options or Options(tokenizer="none"))
    ids = [i * 7 % vocab for i in range(context)]
    assert difference(target, module, ids) < TOLERANCE
    return done
