"""llama2.c's Transformer in PyTorch and its three .bin files, written from its documented forward pass, names
and layouts alone: the oracle of the importer. It shares no code with pygpt.
"""

# ruff: noqa: N806

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ModelArgs:
    """What ckpt.pt records. Odd sizes on purpose."""

    dim: int = 36
    n_layers: int = 2
    n_heads: int = 6
    n_kv_heads: int | None = 2
    vocab_size: int = 61
    multiple_of: int = 7
    max_seq_len: int = 40
    dropout: float = 0.0

    def hidden_dim(self) -> int:
        hidden = int(2 * 4 * self.dim / 3)
        return -(-hidden // self.multiple_of) * self.multiple_of


class _Norm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def turned(x: Tensor) -> Tensor:
    """x [B, T, H, D]: each pair of neighbours is a complex number, turned by its position."""
    B, T, H, D = x.shape
    exponents = torch.arange(0, D, 2, dtype=torch.float64) / D
    angles = torch.outer(torch.arange(T, dtype=torch.float64), 10000.0**-exponents)
    pairs = torch.view_as_complex(x.double().reshape(B, T, H, D // 2, 2))
    result = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)[:, None])
    return result.reshape(x.shape).to(x.dtype)


class _Attention(nn.Module):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.heads, self.kv_heads = args.n_heads, args.n_kv_heads or args.n_heads
        D = args.dim // args.n_heads
        self.wq = nn.Linear(args.dim, self.heads * D, bias=False)
        self.wk = nn.Linear(args.dim, self.kv_heads * D, bias=False)
        self.wv = nn.Linear(args.dim, self.kv_heads * D, bias=False)
        self.wo = nn.Linear(self.heads * D, args.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        D = C // self.heads
        q = turned(self.wq(x).view(B, T, self.heads, D))
        k = turned(self.wk(x).view(B, T, self.kv_heads, D))
        v = self.wv(x).view(B, T, self.kv_heads, D)
        k, v = (each.repeat_interleave(self.heads // self.kv_heads, dim=2) for each in (k, v))
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        scores = (q @ k.transpose(2, 3) / D**0.5).masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)
        return self.wo((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, C))


class _FeedForward(nn.Module):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.w1 = nn.Linear(args.dim, args.hidden_dim(), bias=False)
        self.w2 = nn.Linear(args.hidden_dim(), args.dim, bias=False)
        self.w3 = nn.Linear(args.dim, args.hidden_dim(), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(nn.functional.silu(self.w1(x)) * self.w3(x))


class _Block(nn.Module):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.attention = _Attention(args)
        self.feed_forward = _FeedForward(args)
        self.attention_norm = _Norm(args.dim)
        self.ffn_norm = _Norm(args.dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Transformer(nn.Module):
    """Logits [B, T, vocab_size] of ids [B, T]."""

    def __init__(self, args: ModelArgs, *, tied: bool = True) -> None:
        super().__init__()
        self.args = args
        self.tok_embeddings = nn.Embedding(args.vocab_size, args.dim)
        self.layers = nn.ModuleList(_Block(args) for _ in range(args.n_layers))
        self.norm = _Norm(args.dim)
        self.output = nn.Linear(args.dim, args.vocab_size, bias=False)
        if tied:
            self.tok_embeddings.weight = self.output.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tok_embeddings(ids)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


def random_transformer(args: ModelArgs | None = None, *, tied: bool = True, seed: int = 0) -> Transformer:
    """Weights under which every part matters."""
    torch.manual_seed(seed)
    model = Transformer(args or ModelArgs(), tied=tied)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.normal_(std=1.5 * parameter.shape[1] ** -0.5)
    return model.eval()


def save_checkpoint(model: Transformer, path: Path, prefix: str = "_orig_mod.") -> Path:
    """ckpt.pt as train.py leaves it."""
    state = {prefix + name: value for name, value in model.state_dict().items()}
    torch.save({"model": state, "optimizer": {}, "model_args": asdict(model.args), "iter_num": 3}, path)
    return path


def header(model: Transformer, *, tied: bool, sign: bool) -> bytes:
    """Seven numbers; in the first version, a vocabulary below zero means a head of its own."""
    args = model.args
    vocab = -args.vocab_size if sign and not tied else args.vocab_size
    kv_heads = args.n_kv_heads or args.n_heads
    sizes = (args.dim, args.hidden_dim(), args.n_layers, args.n_heads, kv_heads, vocab, args.max_seq_len)
    return struct.pack("<7i", *sizes)


def _of_layers(model: Transformer, *names: str) -> Iterator[Tensor]:
    for name in names:
        for layer in model.layers:
            yield layer.get_submodule(name).weight


_MATRICES = (*(f"attention.w{part}" for part in "qkvo"), *(f"feed_forward.w{n}" for n in (1, 2, 3)))


def save_bin(model: Transformer, path: Path, version: int, *, tied: bool = True, group: int = 64) -> Path:
    """The file of export.py, version 0, 1 or 2."""
    head = [] if tied else [model.output.weight]
    norms = [*_of_layers(model, "attention_norm"), *_of_layers(model, "ffn_norm"), model.norm.weight]
    with path.open("wb") as file:

        def put(*tensors: Tensor) -> None:
            for tensor in tensors:
                file.write(tensor.detach().float().numpy().tobytes())

        if version == 0:
            file.write(header(model, tied=tied, sign=True))
            put(model.tok_embeddings.weight, *_of_layers(model, "attention_norm", *_MATRICES[:4]))
            put(*_of_layers(model, "ffn_norm", *_MATRICES[4:]), model.norm.weight)
            angles = torch.zeros(model.args.max_seq_len, model.args.dim // model.args.n_heads // 2)
            put(angles, angles, *head)
            return path
        fields = struct.pack("<II", 0x616B3432, version) + header(model, tied=tied, sign=False)
        fields += struct.pack("<B", tied) + (struct.pack("<i", group) if version == 2 else b"")
        file.write(fields.ljust(256, b"\0"))
        put(*norms)
        if version == 1:
            put(model.tok_embeddings.weight, *_of_layers(model, *_MATRICES), *head)
            return path
        for weight in (model.tok_embeddings.weight, *_of_layers(model, *_MATRICES), *head):
            groups = weight.detach().reshape(-1, group)
            scales = groups.abs().amax(1) / 127
            file.write((groups / scales[:, None]).round().to(torch.int8).numpy().tobytes())
            put(scales)
    return path
