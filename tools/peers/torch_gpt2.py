"""PyTorch, GPT-2 written out: without a cache (nanoGPT's way), with a static one, and that in int8."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from peers import shapes
from peers.base import Generated, Runner
from peers.shapes import Shape


class Block(nn.Module):
    """One pre-norm block."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        c = shape.width
        self.heads = shape.heads
        self.ln_1 = nn.LayerNorm(c, eps=shapes.EPSILON)
        self.c_attn = nn.Linear(c, 3 * c)
        self.c_proj = nn.Linear(c, c)
        self.ln_2 = nn.LayerNorm(c, eps=shapes.EPSILON)
        self.c_fc = nn.Linear(c, shape.ff)
        self.mlp_proj = nn.Linear(shape.ff, c)

    def forward(self, x: Tensor, keys: Tensor | None, values: Tensor | None, start: int) -> Tensor:
        """x: [B, T, C] at positions start.., keys and values: [B, H, context, D], written in place."""
        batch, time_, width = x.shape
        qkv = self.c_attn(self.ln_1(x)).view(batch, time_, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if keys is not None and values is not None:
            end = start + time_
            keys[:, :, start:end], values[:, :, start:end] = k, v
            k, v = keys[:, :, :end], values[:, :, :end]
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=time_ > 1)
        x = x + self.c_proj(y.transpose(1, 2).reshape(batch, time_, width))
        hidden = functional.gelu(self.c_fc(self.ln_2(x)), approximate="tanh")
        grown: Tensor = x + self.mlp_proj(hidden)
        return grown


class GPT2(nn.Module):
    """The model; logits of the last position only."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.wte = nn.Embedding(shape.vocab, shape.width)
        self.wpe = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.ln_f = nn.LayerNorm(shape.width, eps=shapes.EPSILON)
        self.head = nn.Linear(shape.width, shape.vocab, bias=False)
        self.head.weight = self.wte.weight

    def forward(
        self, ids: Tensor, cache: list[tuple[Tensor, Tensor]] | None = None, start: int = 0
    ) -> Tensor:
        """ids [B, T] at positions start.. -> logits [B, vocab]."""
        x = self.wte(ids) + self.wpe(torch.arange(start, start + ids.size(1)))
        for i, block in enumerate(self.blocks):
            keys, values = cache[i] if cache is not None else (None, None)
            x = block(x, keys, values, start)
        logits: Tensor = self.head(self.ln_f(x[:, -1]))
        return logits


_RENAMED = (
    ("transformer.", ""),
    ("h.", "blocks."),
    ("attn.c_", "c_"),
    ("mlp.c_proj", "mlp_proj"),
    ("mlp.", ""),
)


def _load(shape: Shape, folder: Path) -> GPT2:
    with torch.device("meta"):
        model = GPT2(shape)
    state = {}
    for name, values in shapes.read(folder):
        renamed = name
        for theirs, ours in _RENAMED:
            renamed = renamed.replace(theirs, ours, 1)
        tensor = torch.from_numpy(values)
        state[renamed] = tensor.t().contiguous() if ".c_" in name and values.ndim == 2 else tensor
    state["head.weight"] = state["wte.weight"]
    model.load_state_dict(state, assign=True)
    model.head.weight = model.wte.weight
    return model.eval()


class NoCache:
    """The whole window anew for each token, cropped to the context: nanoGPT's `generate`."""

    version = str(torch.__version__)

    def __init__(self, model: GPT2, shape: Shape) -> None:
        self.model, self.shape = model, shape
        self.weight_bytes: int | None = None  # it does not read them once a token only

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        ids = torch.tensor([list(each) for each in prompts])
        first = 0.0
        for count in range(tokens):
            logits = self.model(ids[:, -self.shape.context :])
            ids = torch.cat((ids, logits.argmax(dim=-1, keepdim=True)), dim=1)
            first = first if count else time.perf_counter()
        return Generated(ids[:, len(prompts[0]) :].tolist(), time.perf_counter() - first)


class StaticCache:
    """Keys and values kept in memory of a fixed size: what a careful user writes."""

    version = str(torch.__version__)

    def __init__(self, model: GPT2, shape: Shape, weight_bytes: int | None) -> None:
        self.model, self.shape, self.weight_bytes = model, shape, weight_bytes
        self.cache: list[tuple[Tensor, Tensor]] = []

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        rows, position = len(prompts), len(prompts[0])
        if not self.cache or self.cache[0][0].size(0) != rows:
            dims = (rows, self.shape.heads, self.shape.context, self.shape.head_size)
            self.cache = [(torch.zeros(dims), torch.zeros(dims)) for _ in range(self.shape.layers)]
        token = self.model(torch.tensor([list(each) for each in prompts]), self.cache).argmax(
            -1, keepdim=True
        )
        written = [token]
        first = time.perf_counter()
        for each in range(position, position + tokens - 1):
            token = self.model(token, self.cache, each).argmax(-1, keepdim=True)
            written.append(token)
        return Generated(torch.cat(written, dim=1).tolist(), time.perf_counter() - first)


def prepare(shape: Shape, precision: str, source: Path, target: Path) -> Path:  # noqa: ARG001
    """It reads Hugging Face's file as it is."""
    return source


def load(shape: Shape, precision: str, path: Path, threads: int) -> Runner:
    torch.set_num_threads(threads)
    model = _load(shape, path)
    if precision == "no cache":
        return NoCache(model, shape)
    if precision == "int8":
        quantized: GPT2 = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]
        return StaticCache(quantized, shape, None)
    return StaticCache(model, shape, 4 * shape.parameters)
