"""A minimal LlamaForCausalLM in PyTorch, written from its documented forward pass and names alone.

It shares no code with pygpt and none with transformers: the oracle of the importer.
"""

# ruff: noqa: N806

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class LlamaConfig:
    """The fields of config.json that the forward pass needs. Odd sizes on purpose."""

    hidden_size: int = 40
    intermediate_size: int = 100
    num_hidden_layers: int = 2
    num_attention_heads: int = 6
    num_key_value_heads: int = 3
    head_dim: int = 24  # not hidden_size / num_attention_heads
    vocab_size: int = 61
    max_position_embeddings: int = 50
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = False

    def to_json(self, **more: Any) -> str:
        """config.json; `more` overrules fields, and None takes one away."""
        fields = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu"}
        merged = fields | vars(self) | more
        return json.dumps({key: value for key, value in merged.items() if value is not None})


class _Norm(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.hidden_size))
        self.epsilon = config.rms_norm_eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


def rotate_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


class _Attention(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        C, D = config.hidden_size, config.head_dim
        H, G = config.num_attention_heads, config.num_key_value_heads
        self.q_proj = nn.Linear(C, H * D, bias=False)
        self.k_proj = nn.Linear(C, G * D, bias=False)
        self.v_proj = nn.Linear(C, G * D, bias=False)
        self.o_proj = nn.Linear(H * D, C, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        D = self.config.head_dim
        q, k, v = (
            part(x).view(B, T, -1, D).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        frequencies = 1.0 / self.config.rope_theta ** (torch.arange(0, D, 2, dtype=x.dtype) / D)
        angles = torch.outer(torch.arange(T, dtype=x.dtype), frequencies)
        cos, sin = (torch.cat((f(angles), f(angles)), dim=-1) for f in (torch.cos, torch.sin))  # [T, D]
        q, k = (x * cos + rotate_half(x) * sin for x in (q, k))
        repeat = self.config.num_attention_heads // self.config.num_key_value_heads
        k, v = (x.repeat_interleave(repeat, dim=1) for x in (k, v))
        scores = q @ k.transpose(-2, -1) * D**-0.5
        scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf"))
        return self.o_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, -1))


class _MLP(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate_proj(x)
        return self.down_proj(gate * torch.sigmoid(gate) * self.up_proj(x))


class _Layer(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = _Norm(config)
        self.self_attn = _Attention(config)
        self.post_attention_layernorm = _Norm(config)
        self.mlp = _MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaForCausalLM(nn.Module):
    """Logits [B, T, vocab_size] of ids [B, T]."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.settings = config
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.model.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.model.norm = _Norm(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x)
        return self.lm_head(self.model.norm(x))


def random_llama(config: LlamaConfig | None = None, seed: int = 0, size: float = 1.5) -> LlamaForCausalLM:
    """Weights under which every part matters: a matrix makes what it multiplies `size` times as large."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config or LlamaConfig())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.normal_(std=size * parameter.shape[1] ** -0.5)
    return model.eval()


def save_llama(model: LlamaForCausalLM, directory: Path, **config: Any) -> Path:
    """The directory as `save_pretrained` leaves it, with `config` over the fields of config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    if model.settings.tie_word_embeddings:
        del state["lm_head.weight"]
    save_file({name: value.contiguous() for name, value in state.items()}, directory / "model.safetensors")
    (directory / "config.json").write_text(model.settings.to_json(**config), "utf-8")
    return directory
