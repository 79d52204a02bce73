"""transformers: `generate`, greedy, with its default cache."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from peers.base import Generated, Runner
from peers.shapes import Shape

transformers: Any = importlib.import_module("transformers")


class Transformers:
    version: str = transformers.__version__

    def __init__(self, model: Any, weight_bytes: int) -> None:
        """model: one of transformers' for causal language, on any device."""
        self.model = model.eval()
        self.weight_bytes: int | None = weight_bytes

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        ids = torch.tensor([list(each) for each in prompts], device=self.model.device)
        out = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        return Generated(out[:, ids.size(1) :].tolist())


def prepare(shape: Shape, precision: str, source: Path, target: Path) -> Path:  # noqa: ARG001
    """It reads its own directory."""
    return source


def load(shape: Shape, precision: str, path: Path, threads: int) -> Runner:  # noqa: ARG001
    torch.set_num_threads(threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return Transformers(model, 4 * shape.parameters)
