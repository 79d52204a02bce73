"""A minimal LlamaForCausalLM in PyTorch, and its relatives, written from their documented forward passes and
names alone.

It shares no code with pygpt and none with transformers: the oracle of the importers.
"""

# ruff: noqa: N806

from __future__ import annotations

import json
import math
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


@dataclass(frozen=True)
class Own:
    """What a relative does otherwise, in words of the forward pass. Layers past a tuple's end: as Llama."""

    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False  # of each head, before it is turned
    windows: tuple[int | None, ...] = ()  # of each layer: how many positions a row sees, its own among them
    unturned: tuple[int, ...] = ()  # layers without rotary positions
    linear: float | None = None  # the factor of linear scaling
    llama3: tuple[float, float, float, int] | None = None  # factor, low, high, original context


def frequencies(config: LlamaConfig, own: Own) -> Tensor:
    """Radians a position of each pair, in float64."""
    result = []
    for i in range(config.head_dim // 2):
        frequency = config.rope_theta ** (-2.0 * i / config.head_dim)
        if own.linear is not None:
            frequency /= own.linear
        if own.llama3 is not None:
            factor, low, high, context = own.llama3
            wave = 2 * math.pi / frequency
            if wave > context / low:
                frequency /= factor
            elif wave >= context / high:
                smooth = (context / wave - low) / (high - low)
                frequency *= (1 - smooth) / factor + smooth
        result.append(frequency)
    return torch.tensor(result, dtype=torch.float64)


class _Norm(nn.Module):
    def __init__(self, config: LlamaConfig, width: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width or config.hidden_size))
        self.epsilon = config.rms_norm_eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


def rotate_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


class _Attention(nn.Module):
    def __init__(self, config: LlamaConfig, own: Own, layer: int) -> None:
        super().__init__()
        self.config = config
        self.window = own.windows[layer] if layer < len(own.windows) else None
        self.turned = layer not in own.unturned
        self.register_buffer("frequencies", frequencies(config, own), persistent=False)
        C, D = config.hidden_size, config.head_dim
        H, G = config.num_attention_heads, config.num_key_value_heads
        self.q_proj = nn.Linear(C, H * D, bias=own.qkv_bias)
        self.k_proj = nn.Linear(C, G * D, bias=own.qkv_bias)
        self.v_proj = nn.Linear(C, G * D, bias=own.qkv_bias)
        self.o_proj = nn.Linear(H * D, C, bias=own.o_bias)
        if own.qk_norm:
            self.q_norm, self.k_norm = _Norm(config, D), _Norm(config, D)

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        D = self.config.head_dim
        q, k, v = (
            part(x).view(B, T, -1, D).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if self.turned:
            angles = torch.outer(torch.arange(T), self.frequencies).to(x.dtype)
            cos, sin = (torch.cat((f(angles), f(angles)), dim=-1) for f in (torch.cos, torch.sin))  # [T, D]
            q, k = (x * cos + rotate_half(x) * sin for x in (q, k))
        repeat = self.config.num_attention_heads // self.config.num_key_value_heads
        k, v = (x.repeat_interleave(repeat, dim=1) for x in (k, v))
        scores = q @ k.transpose(-2, -1) * D**-0.5
        seen = torch.ones(T, T).tril().bool()
        if self.window is not None:
            seen &= torch.ones(T, T).triu(1 - self.window).bool()
        scores = scores.masked_fill(~seen, float("-inf"))
        return self.o_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, -1))


class _MLP(nn.Module):
    def __init__(self, config: LlamaConfig, bias: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate_proj(x)
        return self.down_proj(gate * torch.sigmoid(gate) * self.up_proj(x))


class _Layer(nn.Module):
    def __init__(self, config: LlamaConfig, own: Own, layer: int) -> None:
        super().__init__()
        self.input_layernorm = _Norm(config)
        self.self_attn = _Attention(config, own, layer)
        self.post_attention_layernorm = _Norm(config)
        self.mlp = _MLP(config, own.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaForCausalLM(nn.Module):
    """Logits [B, T, vocab_size] of ids [B, T]."""

    def __init__(self, config: LlamaConfig, own: Own | None = None) -> None:
        super().__init__()
        self.settings = config
        own = own or Own()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.model.layers = nn.ModuleList(
            _Layer(config, own, layer) for layer in range(config.num_hidden_layers)
        )
        self.model.norm = _Norm(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x)
        return self.lm_head(self.model.norm(x))


def random_llama(
    config: LlamaConfig | None = None, seed: int = 0, size: float = 1.5, own: Own | None = None
) -> LlamaForCausalLM:
    """Weights under which every part matters: a matrix makes what it multiplies `size` times as large."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config or LlamaConfig(), own)
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
