"""A minimal nanochat GPT in PyTorch, every generation of it, written from its documented forward pass alone.

It shares no code with pygpt and none with nanochat: the oracle of the importer.
"""

# ruff: noqa: N806

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True)
class Config:
    """model_config of meta.json. Odd sizes on purpose: heads narrower than a panel, and groups of them."""

    sequence_len: int = 300  # more than one partial softmax, and than a window of 128
    vocab_size: int = 61
    n_layer: int = 3
    n_head: int = 6
    n_kv_head: int = 2
    n_embd: int = 60
    window_pattern: str = "SSL"


@dataclass(frozen=True)
class Generation:
    """What changed from one to the next."""

    cap: float = 15.0
    base: float = 10000.0
    gain: float = 1.0
    lambdas: bool = True
    gate_columns: int = 0
    gate_scale: float = 2.0
    short: str = "seq // 2"
    smear: bool = False  # and backout


GENERATIONS = {
    "g1": Generation(lambdas=False),
    "g2": Generation(),
    "g3a": Generation(gate_columns=32),
    "g3b": Generation(gate_columns=32, cap=20.0),
    "g4": Generation(base=100000.0, gain=1.15, gate_columns=12, gate_scale=3.0, short="ceil128(seq / 3)"),
    "g5": Generation(
        base=100000.0, gain=1.2, gate_columns=12, gate_scale=3.0, short="ceil128(seq // 4)", smear=True
    ),
}


def norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), eps=torch.finfo(torch.float32).eps)


def window(config: Config, generation: Generation, layer: int) -> int:
    """How many positions back layer `layer` looks."""
    pattern = config.window_pattern.upper()
    if layer == config.n_layer - 1 or pattern[layer % len(pattern)] == "L":
        return config.sequence_len
    seq = config.sequence_len
    return {
        "seq // 2": seq // 2,
        "ceil128(seq / 3)": -(-seq // 3 // 128) * 128,
        "ceil128(seq // 4)": -(-seq // 4 // 128) * 128,
    }[generation.short]


class Attention(nn.Module):
    def __init__(self, config: Config, generation: Generation, layer: int) -> None:
        super().__init__()
        self.config, self.generation, self.layer = config, generation, layer
        C, D = config.n_embd, config.n_embd // config.n_head
        self.c_q = nn.Linear(C, config.n_head * D, bias=False)
        self.c_k = nn.Linear(C, config.n_kv_head * D, bias=False)
        self.c_v = nn.Linear(C, config.n_kv_head * D, bias=False)
        self.c_proj = nn.Linear(C, C, bias=False)
        if generation.gate_columns and layer % 2 == (config.n_layer - 1) % 2:
            self.ve_gate = nn.Linear(generation.gate_columns, config.n_kv_head, bias=False)

    def forward(self, h: Tensor, value_embedding: Tensor | None) -> Tensor:
        T, g, D = len(h), self.generation, self.config.n_embd // self.config.n_head
        q, k, v = (part(h).view(T, -1, D) for part in (self.c_q, self.c_k, self.c_v))
        if value_embedding is not None:
            gate = g.gate_scale * torch.sigmoid(self.ve_gate(h[:, : g.gate_columns]))  # [T, Hkv]
            v = v + gate[:, :, None] * value_embedding.view(T, -1, D)
        frequencies = g.base ** (-torch.arange(0, D, 2, dtype=h.dtype) / D)
        angles = torch.outer(torch.arange(T, dtype=h.dtype), frequencies)[:, None]  # [T, 1, D/2]
        gain = torch.tensor(g.gain, dtype=torch.float32).to(h.dtype)  # it computes in binary32 at most
        q, k = (gain * norm(turn(x, angles)) for x in (q, k))
        repeat = self.config.n_head // self.config.n_kv_head
        k, v = (x.repeat_interleave(repeat, dim=1) for x in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q, k) * D**-0.5
        back = torch.arange(T)[:, None] - torch.arange(T)
        hidden = (back < 0) | (back > window(self.config, g, self.layer))
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        return self.c_proj(torch.einsum("hij,jhd->ihd", weights, v).reshape(T, -1))


def turn(x: Tensor, angles: Tensor) -> Tensor:
    x1, x2 = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((x1 * cos + x2 * sin, -x1 * sin + x2 * cos), dim=-1)


class MLP(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        return self.c_proj(self.c_fc(h).relu() ** 2)


class Block(nn.Module):
    def __init__(self, config: Config, generation: Generation, layer: int) -> None:
        super().__init__()
        self.attn = Attention(config, generation, layer)
        self.mlp = MLP(config)


class NanoChat(nn.Module):
    """Its parameters have the names of the checkpoints."""

    def __init__(self, config: Config, name: str, rows: int = 64) -> None:
        super().__init__()
        self.config, self.generation = config, GENERATIONS[name]
        L, D = config.n_layer, config.n_embd // config.n_head
        blocks = [Block(config, self.generation, i) for i in range(L)]
        self.transformer = nn.ModuleDict(
            {"wte": nn.Embedding(rows, config.n_embd), "h": nn.ModuleList(blocks)}
        )
        self.lm_head = nn.Linear(config.n_embd, rows, bias=False)
        if self.generation.lambdas:
            self.resid_lambdas, self.x0_lambdas = (nn.Parameter(torch.ones(L)) for _ in range(2))
        if self.generation.gate_columns:
            self.value_embeds = nn.ModuleDict(
                {str(i): nn.Embedding(rows, config.n_kv_head * D) for i in range(L) if i % 2 == (L - 1) % 2}
            )
        if self.generation.smear:
            self.smear_gate = nn.Linear(24, 1, bias=False)
            self.smear_lambda, self.backout_lambda = (nn.Parameter(torch.ones(1)) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [T, vocab_size] of ids [T]."""
        g, L = self.generation, self.config.n_layer
        x = norm(self.transformer["wte"](ids))
        if g.smear:
            gate = torch.sigmoid(self.smear_gate(x[1:, :24]))
            x = torch.cat([x[:1], x[1:] + self.smear_lambda * gate * x[:-1]])
        x0 = behind_the_middle = x
        for i, block in enumerate(self.transformer["h"]):
            if g.lambdas:
                x = self.resid_lambdas[i] * x + self.x0_lambdas[i] * x0
            has_values = g.gate_columns and str(i) in self.value_embeds
            x = x + block.attn(norm(x), self.value_embeds[str(i)](ids) if has_values else None)
            x = x + block.mlp(norm(x))
            if i == L // 2:
                behind_the_middle = x
        if g.smear:
            x = x - self.backout_lambda * behind_the_middle
        logits = self.lm_head(norm(x))[:, : self.config.vocab_size]
        return g.cap * torch.tanh(logits / g.cap)


def random_nanochat(name: str, config: Config | None = None, *, seed: int = 0, rows: int = 64) -> NanoChat:
    """A model whose every part shows in its logits: lambdas far from 1 and 0, gates far from a half."""
    model = NanoChat(config or Config(), name, rows)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "lambda" in key:
                parameter.copy_(0.6 + 0.2 * noise)
            elif "embed" in key or "wte" in key:
                parameter.copy_(noise)
            else:
                parameter.copy_(noise * (2.0 if "gate" in key else 1.5) * parameter.shape[1] ** -0.5)
        model.lm_head.weight.mul_(4)  # into the bend of the cap
    return model


def save_nanochat(model: NanoChat, run: Path, step: int = 700, **meta: Any) -> Path:
    """A checkpoint of the model in the directory of a run; `meta` overrules fields of model_config, and None
    takes one away."""
    run.mkdir(parents=True, exist_ok=True)
    path = run / f"model_{step:06d}.pt"
    torch.save(model.state_dict(), path)
    fields = {key: value for key, value in (vars(model.config) | meta).items() if value is not None}
    about = {"step": step, "val_bpb": 0.75, "model_config": fields, "user_config": {"run": "dummy"}}
    (run / f"meta_{step:06d}.json").write_text(json.dumps(about))
    torch.save({"state": {}}, run / f"optim_{step:06d}_rank0.pt")
    return path
