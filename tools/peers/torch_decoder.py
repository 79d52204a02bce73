"""PyTorch on a GPU, as a careful user writes it: a static cache, and tokens and positions that stay there.

One decoder for both families. `Eager` runs it operation by operation, `Graphed` replays one captured graph a
token. Weights are random and made on the device: speed does not depend on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from peers import shapes
from peers.base import Generated, UnavailableError
from peers.shapes import Shape


class Rotary(nn.Module):
    """Rotary positions by halves, as Llama has them (arXiv:2104.09864)."""

    def __init__(self, head_size: int, context: int) -> None:
        super().__init__()
        frequencies = shapes.ROPE_BASE ** -(torch.arange(0, head_size, 2).float() / head_size)
        angles = torch.outer(torch.arange(context).float(), frequencies)
        self.cos = nn.Buffer(angles.cos(), persistent=False)
        self.sin = nn.Buffer(angles.sin(), persistent=False)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x: [B, H, T, D], positions: [T]."""
        cos, sin = self.cos[positions].to(x.dtype), self.sin[positions].to(x.dtype)
        low, high = x.chunk(2, dim=-1)
        return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


class Block(nn.Module):
    """One pre-norm block of either family."""

    def __init__(self, shape: Shape, rotary: Rotary | None) -> None:
        super().__init__()
        c, self.shape, self.rotary = shape.width, shape, rotary
        is_gpt2 = shape.family == "gpt2"
        norm = nn.LayerNorm if is_gpt2 else nn.RMSNorm
        kv = shape.kv_heads * shape.head_size
        self.ln_1, self.ln_2 = norm(c, eps=shapes.EPSILON), norm(c, eps=shapes.EPSILON)
        self.qkv = nn.Linear(c, c + 2 * kv, bias=is_gpt2)
        self.proj = nn.Linear(c, c, bias=is_gpt2)
        self.up = nn.Linear(c, shape.ff if is_gpt2 else 2 * shape.ff, bias=is_gpt2)
        self.down = nn.Linear(shape.ff, c, bias=is_gpt2)

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor], positions: Tensor, mask: Tensor) -> Tensor:
        """x: [B, T, C] at positions [T]; cache: two of [B, KV heads, context, D]; mask: [T, context]."""
        batch, time_, width = x.shape
        heads = (self.shape.heads, self.shape.kv_heads, self.shape.kv_heads)
        parts = self.qkv(self.ln_1(x)).view(batch, time_, sum(heads), -1).transpose(1, 2).split(heads, dim=1)
        q, k, v = parts
        if self.rotary is not None:
            q, k = self.rotary(q, positions), self.rotary(k, positions)
        keys, values = cache[0].index_copy_(2, positions, k), cache[1].index_copy_(2, positions, v)
        # The query heads that share keys stand side by side as rows, which every kernel of PyTorch's can do.
        group = self.shape.heads // self.shape.kv_heads
        q = q.reshape(batch, self.shape.kv_heads, group * time_, -1)
        y = functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask.repeat(group, 1))
        y = y.view(batch, self.shape.heads, time_, -1).transpose(1, 2).reshape(batch, time_, width)
        x = x + self.proj(y)
        grown: Tensor = x + self.down(self._activated(self.up(self.ln_2(x))))
        return grown

    def _activated(self, hidden: Tensor) -> Tensor:
        if self.shape.family == "gpt2":
            return functional.gelu(hidden, approximate="tanh")
        gate, up = hidden.chunk(2, dim=-1)
        return functional.silu(gate) * up


class Decoder(nn.Module):
    """The model; logits of the last position only."""

    def __init__(self, shape: Shape, context: int) -> None:
        super().__init__()
        self.shape, self.context = shape, context
        is_gpt2 = shape.family == "gpt2"
        self.wte = nn.Embedding(shape.vocab, shape.width)
        self.wpe = nn.Embedding(shape.context, shape.width) if is_gpt2 else None
        rotary = None if is_gpt2 else Rotary(shape.head_size, context)
        self.blocks = nn.ModuleList(Block(shape, rotary) for _ in range(shape.layers))
        self.ln_f = (nn.LayerNorm if is_gpt2 else nn.RMSNorm)(shape.width, eps=shapes.EPSILON)
        self.head = nn.Linear(shape.width, shape.vocab, bias=False)
        if is_gpt2:
            self.head.weight = self.wte.weight
        self.places = nn.Buffer(torch.arange(context), persistent=False)

    def forward(self, ids: Tensor, cache: Sequence[tuple[Tensor, Tensor]], positions: Tensor) -> Tensor:
        """ids: [B, T] at positions [T] -> logits [B, vocab]."""
        x = self.wte(ids)
        if self.wpe is not None:
            x = x + self.wpe(positions)
        mask = self.places <= positions[:, None]
        for block, its_cache in zip(self.blocks, cache, strict=True):
            x = block(x, its_cache, positions, mask)
        logits: Tensor = self.head(self.ln_f(x[:, -1]))
        return logits


def made(shape: Shape, context: int, device: str, dtype: torch.dtype) -> Decoder:
    """A decoder with random weights of a fixed seed."""
    torch.manual_seed(shapes.SEED)
    with torch.device(device):
        return Decoder(shape, context).to(dtype).eval()


@dataclass(slots=True)
class State:
    """What a batch has on the device: nothing of it comes to the host before the end."""

    cache: list[tuple[Tensor, Tensor]]
    token: Tensor  # [B, 1], the last one
    position: Tensor  # [1], of that token
    written: Tensor  # [B, context]: the tokens at their positions


class Eager:
    """Operation by operation."""

    version = str(torch.__version__)

    def __init__(self, model: Decoder) -> None:
        self.model = model
        self.weight_bytes: int | None = sum(each.numel() * each.element_size() for each in model.parameters())
        self.states: dict[int, State] = {}
        self.steps: dict[int, Callable[[], object]] = {}

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        ids = torch.tensor([list(each) for each in prompts], device=self.model.places.device)
        rows, length = ids.shape
        if length + tokens - 1 > self.model.context:
            raise UnavailableError(
                f"{length} + {tokens} tokens do not fit into {self.model.context} positions"
            )
        if rows not in self.states:
            self.states[rows] = self._state(rows)
            self.steps[rows] = self._stepping(self.states[rows])
        state, step = self.states[rows], self.steps[rows]
        logits = self.model(ids, state.cache, self.model.places[:length])
        state.token.copy_(logits.argmax(-1, keepdim=True))
        state.position.fill_(length)
        state.written[:, length - 1] = state.token[:, 0]
        self._wait()
        first = time.perf_counter()
        for _ in range(tokens - 1):
            step()
        self._wait()
        decode_s = time.perf_counter() - first
        return Generated(state.written[:, length - 1 : length + tokens - 1].tolist(), decode_s)

    def _state(self, rows: int) -> State:
        shape, like = self.model.shape, self.model.wte.weight
        dims = (rows, shape.kv_heads, self.model.context, shape.head_size)
        cache = [(like.new_zeros(dims), like.new_zeros(dims)) for _ in range(shape.layers)]
        whole = {"dtype": torch.long, "device": like.device}
        written = torch.zeros((rows, self.model.context), **whole)
        return State(cache, torch.zeros((rows, 1), **whole), torch.zeros(1, **whole), written)

    def _step(self, state: State) -> None:
        """The last token in, the next one out, greedily."""
        logits = self.model(state.token, state.cache, state.position)
        state.token.copy_(logits.argmax(-1, keepdim=True))
        state.written.index_copy_(1, state.position, state.token)
        state.position.add_(1)

    def _stepping(self, state: State) -> Callable[[], object]:
        return lambda: self._step(state)

    def _wait(self) -> None:
        if self.model.places.is_cuda:
            torch.cuda.synchronize()


class Graphed(Eager):
    """One captured graph a token."""

    def _stepping(self, state: State) -> Callable[[], object]:
        if not self.model.places.is_cuda:
            raise UnavailableError("CUDA graphs need a GPU")
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries initialise before the capture
            for _ in range(3):
                self._step(state)
        torch.cuda.current_stream().wait_stream(side)
        state.position.zero_()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(state)
        return graph.replay
