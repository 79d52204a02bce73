"""A minimal GPTModel of "Build a Large Language Model (From Scratch)", from its names and forward pass."""

# ruff: noqa: N806

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class _Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        variance = x.var(dim=-1, keepdim=True, unbiased=False)
        return self.scale * (x - x.mean(dim=-1, keepdim=True)) / torch.sqrt(variance + 1e-5) + self.shift


class _Attention(nn.Module):
    def __init__(self, width: int, num_heads: int, context: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.W_query, self.W_key, self.W_value = (nn.Linear(width, width, bias=qkv_bias) for _ in range(3))
        self.out_proj = nn.Linear(width, width)
        self.register_buffer("mask", torch.triu(torch.ones(context, context), diagonal=1))

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        layers = (self.W_query, self.W_key, self.W_value)
        q, k, v = (layer(x).view(B, T, self.num_heads, -1).transpose(1, 2) for layer in layers)
        scores = (q @ k.transpose(2, 3)).masked_fill(self.mask.bool()[:T, :T], -torch.inf)
        weights = torch.softmax(scores / k.shape[-1] ** 0.5, dim=-1)
        return self.out_proj((weights @ v).transpose(1, 2).reshape(B, T, C))


class _Gelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), _Gelu(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class _Block(nn.Module):
    def __init__(self, width: int, num_heads: int, context: int, qkv_bias: bool) -> None:
        super().__init__()
        self.att = _Attention(width, num_heads, context, qkv_bias)
        self.ff = _FeedForward(width)
        self.norm1, self.norm2 = _Norm(width), _Norm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.att(self.norm1(x))
        return x + self.ff(self.norm2(x))


class GPTModel(nn.Module):
    """Logits [B, T, vocab] of ids [B, T]."""

    def __init__(
        self, *, vocab: int = 47, context: int = 15, width: int = 30, layers: int = 2, heads: int = 3,
        qkv_bias: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tok_emb = nn.Embedding(vocab, width)
        self.pos_emb = nn.Embedding(context, width)
        self.trf_blocks = nn.Sequential(*(_Block(width, heads, context, qkv_bias) for _ in range(layers)))
        self.final_norm = _Norm(width)
        self.out_head = nn.Linear(width, vocab, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tok_emb(ids) + self.pos_emb(torch.arange(ids.shape[1]))
        return self.out_head(self.final_norm(self.trf_blocks(x)))
