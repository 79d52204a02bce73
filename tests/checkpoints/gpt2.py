"""A minimal GPT2LMHeadModel, from its documented forward pass and names: Conv1D is a matrix [in, out]."""

# ruff: noqa: N806

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "relu": lambda x: x.clamp(min=0),
    "silu": lambda x: x * torch.sigmoid(x),
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class GPT2Config:
    """The fields of config.json that the forward pass needs. Odd sizes on purpose."""

    vocab_size: int = 59
    n_positions: int = 21
    n_embd: int = 36
    n_layer: int = 3
    n_head: int = 4
    n_inner: int | None = 70
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True
    eos_token_id: int | list[int] = 7
    bos_token_id: int = 5

    def to_json(self, **more: Any) -> str:
        """config.json, with `more` over the fields."""
        return json.dumps({"model_type": "gpt2"} | vars(self) | more)


class _Conv1D(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class _Attention(nn.Module):
    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        C = config.n_embd
        self.c_attn = _Conv1D(C, 3 * C)
        self.c_proj = _Conv1D(C, C)
        self.n_head = config.n_head
        self.scale = (C // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer + 1

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        split = (part.view(B, T, self.n_head, -1).transpose(1, 2) for part in self.c_attn(x).split(C, dim=2))
        q, k, v = split
        scores = (q @ k.transpose(-2, -1) * self.scale).masked_fill(
            torch.ones(T, T).triu(1).bool(), float("-inf")
        )
        return self.c_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, C))


class _MLP(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        inner = config.n_inner or 4 * config.n_embd
        self.c_fc = _Conv1D(config.n_embd, inner)
        self.c_proj = _Conv1D(inner, config.n_embd)
        self.act = ACTIVATIONS[config.activation_function]

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.act(self.c_fc(x)))


class _Block(nn.Module):
    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = _Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = _MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT2LMHeadModel(nn.Module):
    """Logits [B, T, vocab_size] of ids [B, T]."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.settings = config
        self.transformer = nn.Module()
        self.transformer.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.transformer.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.transformer.h = nn.ModuleList(_Block(config, layer) for layer in range(config.n_layer))
        self.transformer.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.transformer.wte(ids) + self.transformer.wpe(torch.arange(ids.shape[1]))
        for block in self.transformer.h:
            x = block(x)
        return F.linear(self.transformer.ln_f(x), self.lm_head.weight)


def save_gpt2(model: GPT2LMHeadModel, directory: Path, *, prefix: bool = True, **config: Any) -> Path:
    """The directory as `save_pretrained` leaves it; without the prefix, as the first files on the hub."""
    directory.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
    if model.settings.tie_word_embeddings:
        del state["lm_head.weight"]
    if not prefix:
        state = {name.removeprefix("transformer."): value for name, value in state.items()}
        T = model.settings.n_positions
        for layer in range(model.settings.n_layer):  # buffers that those files have too
            state[f"h.{layer}.attn.bias"] = torch.ones(1, 1, T, T).tril()
            state[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(state, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(model.settings.to_json(**config), "utf-8")
    return directory
