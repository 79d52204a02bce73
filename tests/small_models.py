"""Model files that tests can make in a moment: real files for the real engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers

import pygpt
from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.file import Contents, write
from pygpt.model import Model
from pygpt.tokenizer import Tokenizer

LETTERS = "\n !',-.:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def random_model(path: Path, *, characters: str = LETTERS, context: int = 64, seed: int = 0) -> Path:
    """A model of the lecture's family with large random weights, so that its text varies."""
    torch.manual_seed(seed)
    model = Model(context_length=context, d_model=48, h=3, n_layers=2, n_vocab=len(characters))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return pygpt.export(model, path, chars=characters, verify=False)


def reciting_model(
    path: Path,
    script: Sequence[int],
    tokenizer: Tokenizer | None,
    *,
    blobs: Mapping[str, str] | None = None,
    defaults: Mapping[str, float] | None = None,
    vocab_size: int = 0,
    start_token: int | None = None,
    stop_tokens: tuple[int, ...] = (),
    weight: float = 10.0,
) -> Path:
    """A model that recites: the likeliest token behind position i is script[i + 1], whatever went before.

    The position tells all: each has a column of the residual stream to itself, and the head's `weight` in
    that column names the next token. The context is one shorter than the script.
    """
    n = len(script) - 1
    vocab_size = vocab_size or (tokenizer.vocab_size if tokenizer else max(script) + 1)
    architecture = Architecture(
        n_layer=1, n_head=1, head_dim=16, d_model=n, d_ff=4, context_length=n, vocab_size=vocab_size,
        padded_vocab_size=vocab_size, activation="relu", attention_scale=0.25, tied_head=False,
        qkv_bias=False, proj_bias=False, mlp_bias=False, norm_bias=False, head_bias=False,
        start_token=start_token, stop_tokens=stop_tokens,
    )  # fmt: skip
    shapes = {name: (rows, cols) for name, _, rows, cols in _core.tensor_specs(architecture.to_config())}
    weights: dict[str, NDArray[np.float32]] = {name: np.zeros(s, np.float32) for name, s in shapes.items()}
    weights["wpe"] = np.eye(n, dtype=np.float32)
    weights["ln_f.gain"][:] = 1.0
    for position, token in enumerate(script[1:]):
        weights["head"][token, position] = weight
    contents = {name: text.encode() for name, text in (blobs or {}).items()}
    if tokenizer is not None:
        contents["tokenizer.json"] = tokenizer.to_json().encode()
    path.touch()
    write(
        path,
        Contents(
            architecture=architecture,
            dtype="f32",
            weights=weights.__getitem__,
            defaults=defaults or {},
            blobs=contents,
        ),
    )
    return path


def byte_tokenizer(*special_tokens: str) -> Tokenizer:
    """A byte-level tokenizer of the GPT-2 kind without merges: one token a byte, special tokens behind."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special_tokens))
    return Tokenizer(tokenizer)
