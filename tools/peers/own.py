"""pygpt."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pygpt
import pygpt._core  # what the package loads only when it is used
from peers import shapes
from peers.base import Generated, Runner, UnavailableError
from peers.shapes import Shape
from pygpt.errors import InvalidRequestError, ModelFileError

_RENAMED = (
    ("transformer.", ""),
    ("h.", "blocks."),
    ("attn.c_attn", "attn.qkv"),
    ("attn.c_proj", "attn.proj"),
    ("mlp.c_fc", "ffn.up"),
    ("mlp.c_proj", "ffn.down"),
)


def prepare(shape: Shape, precision: str, source: Path, target: Path) -> Path:
    """Export, once for each build of the core: what a file holds changes with it.

    Raises:
        UnavailableError: this build has no such format, or does not read this family.
    """
    build = f"{zlib.crc32(Path(pygpt._core.__file__).read_bytes()):08x}"
    finished = target.with_name(f"{target.name} {build}.pygpt")
    if finished.exists():
        return finished
    for outdated in target.parent.glob(f"{target.name} ????????.pygpt"):
        outdated.unlink()
    model = _model(shape, source) if shape.family == "gpt2" else source
    try:
        return pygpt.export(model, finished, dtype=precision, tokenizer="none")
    except (InvalidRequestError, ModelFileError) as error:
        raise UnavailableError(f"this pygpt cannot export it: {error}") from error


def _model(shape: Shape, source: Path) -> Any:
    """pygpt's PyTorch model with the weights."""
    import torch

    model = pygpt.Model(
        context_length=shape.context, d_model=shape.width, h=shape.heads, n_layers=shape.layers,
        n_vocab=shape.vocab, activation="gelu_tanh", bias=True, tie_weights=True,
    ).eval()  # fmt: skip
    state = {}
    for name, values in shapes.read(source):
        renamed = name
        for theirs, ours in _RENAMED:
            renamed = renamed.replace(theirs, ours, 1)
        tensor = torch.from_numpy(values)
        state[renamed] = tensor.t().contiguous() if ".c_" in name and values.ndim == 2 else tensor
    # The peers' heads have no bias: ours is 0.
    head = {"head.weight": state["wte.weight"], "head.bias": torch.zeros(shape.vocab)}
    model.load_state_dict(state | head)
    return model


class PyGPT:
    version: str = pygpt.__version__

    def __init__(self, path: Path, threads: int | None, device: str = "auto") -> None:
        # Each prompt is read: no prefix cache.
        self.engine = pygpt.Engine(path, threads=threads, device=device, prefix_cache=False)
        self.weight_bytes: int | None = path.stat().st_size

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        out = self.engine.generate(
            [list(each) for each in prompts], max_tokens=tokens, temperature=0.0, ignore_eos=True
        )
        return Generated([each.token_ids for each in out], max(each.timings.decode_s for each in out))


def load(shape: Shape, precision: str, path: Path, threads: int) -> Runner:  # noqa: ARG001
    return PyGPT(path, threads)
