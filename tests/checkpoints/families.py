"""Minimal PyTorch modules of the families, written from their documented forward passes and names alone.

The oracle of the importers: they share no code with pygpt. Odd shapes on purpose.
"""

# ruff: noqa: N806, N812

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class NanoGPTConfig:
    """nanoGPT's GPTConfig; its fields are what ckpt.pt records as model_args."""

    n_layer: int = 2
    n_head: int = 3
    n_embd: int = 48
    block_size: int = 17
    bias: bool = False
    vocab_size: int = 65
    dropout: float = 0.0


class _LayerNorm(nn.Module):
    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class _NanoAttention(nn.Module):
    def __init__(self, config: NanoGPTConfig, mask: bool) -> None:
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.n_head = config.n_head
        if mask:  # torch before 2.0
            T = config.block_size
            self.register_buffer("bias", torch.ones(T, T).tril().view(1, 1, T, T))

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        D = C // self.n_head
        q, k, v = (part.view(B, T, self.n_head, D).transpose(1, 2) for part in self.c_attn(x).split(C, dim=2))
        scores = q @ k.transpose(-2, -1) / math.sqrt(D)
        scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf"))
        return self.c_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, C))


class _NanoMLP(nn.Module):
    def __init__(self, config: NanoGPTConfig, tanh: bool) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU(approximate="tanh" if tanh else "none")
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.gelu(self.c_fc(x)))


class _NanoBlock(nn.Module):
    def __init__(self, config: NanoGPTConfig, mask: bool, tanh: bool) -> None:
        super().__init__()
        self.ln_1 = _LayerNorm(config.n_embd, config.bias)
        self.attn = _NanoAttention(config, mask)
        self.ln_2 = _LayerNorm(config.n_embd, config.bias)
        self.mlp = _NanoMLP(config, tanh)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class NanoGPT(nn.Module):
    """nanoGPT's GPT. Without targets it gives logits of the last position only, as the original.

    With `tanh` (its GELU before 2023-05-17) and biases it is build-nanogpt's; untied and with a mask,
    minGPT's.
    """

    def __init__(
        self, config: NanoGPTConfig, *, tied: bool = True, mask: bool = False, tanh: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        blocks = nn.ModuleList(_NanoBlock(config, mask, tanh) for _ in range(config.n_layer))
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.n_embd),
                "wpe": nn.Embedding(config.block_size, config.n_embd),
                "h": blocks,
                "ln_f": _LayerNorm(config.n_embd, config.bias),
            }
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if tied:
            self.transformer["wte"].weight = self.lm_head.weight

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.transformer["wte"](idx) + self.transformer["wpe"](torch.arange(idx.shape[1]))
        for block in self.transformer["h"]:
            x = block(x)
        x = self.transformer["ln_f"](x)
        if targets is None:
            return self.lm_head(x[:, [-1]]), None
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@dataclass
class LectureConfig:
    """The globals of gpt.py. `scale` is "head" or "width" (the code of the video)."""

    vocab_size: int = 23
    n_embd: int = 36
    block_size: int = 13
    n_head: int = 3
    n_layer: int = 2
    scale: str = "head"


class _Head(nn.Module):
    def __init__(self, config: LectureConfig, head_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(config.n_embd, head_size, bias=False)
        self.query = nn.Linear(config.n_embd, head_size, bias=False)
        self.value = nn.Linear(config.n_embd, head_size, bias=False)
        self.register_buffer("tril", torch.tril(torch.ones(config.block_size, config.block_size)))
        self.scale = (head_size if config.scale == "head" else config.n_embd) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        weights = self.query(x) @ self.key(x).transpose(-2, -1) * self.scale
        weights = weights.masked_fill(self.tril[:T, :T] == 0, float("-inf"))
        return weights.softmax(-1) @ self.value(x)


class _MultiHeadAttention(nn.Module):
    def __init__(self, config: LectureConfig, head_size: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_Head(config, head_size) for _ in range(config.n_head))
        self.proj = nn.Linear(head_size * config.n_head, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(torch.cat([head(x) for head in self.heads], dim=-1))


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _LectureBlock(nn.Module):
    def __init__(self, config: LectureConfig) -> None:
        super().__init__()
        self.sa = _MultiHeadAttention(config, config.n_embd // config.n_head)
        self.ffwd = _FeedForward(config.n_embd)
        self.ln1 = nn.LayerNorm(config.n_embd)
        self.ln2 = nn.LayerNorm(config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.sa(self.ln1(x))
        return x + self.ffwd(self.ln2(x))


class GPTLanguageModel(nn.Module):
    """The model of the lecture's gpt.py."""

    def __init__(self, config: LectureConfig) -> None:
        super().__init__()
        self.token_embedding_table = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding_table = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.Sequential(*[_LectureBlock(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, None]:
        assert targets is None
        x = self.token_embedding_table(idx) + self.position_embedding_table(torch.arange(idx.shape[1]))
        return self.lm_head(self.ln_f(self.blocks(x))), None


class BigramLanguageModel(nn.Module):
    """The model of bigram.py."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.token_embedding_table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, None]:
        assert targets is None
        return self.token_embedding_table(idx), None


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Weights at random, biases and gains too, large enough that every part of the forward pass shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(noise * 0.2 + (1.0 if is_gain else 0.0))


def all_logits(module: nn.Module, ids: list[int]) -> Tensor:
    """Logits [T, V] of the module in float64."""
    double = module.double().eval()
    tokens = torch.tensor([ids])
    with torch.no_grad():
        out = double(tokens, tokens) if isinstance(double, NanoGPT) else double(tokens)
    logits: Tensor = out[0] if isinstance(out, tuple) else out
    return logits[0]


def prefixed(state: dict[str, Tensor], prefix: str) -> OrderedDict[str, Tensor]:
    """The state_dict as torch.compile and DistributedDataParallel save it."""
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())
