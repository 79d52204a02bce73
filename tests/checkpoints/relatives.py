"""How minGPT, build-nanogpt and llm.c keep a model of nanoGPT's layout."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from families import NanoGPT


def save_mingpt(directory: Path, model: NanoGPT, **section: Any) -> Path:
    """model.pt and config.json, as minGPT's chargpt.py leaves them."""
    directory.mkdir(exist_ok=True)
    torch.save(model.state_dict(), directory / "model.pt")
    fields = {key: value for key, value in vars(model.config).items() if key not in ("bias", "dropout")}
    fields["model_type"] = None
    (directory / "config.json").write_text(json.dumps({"system": {}, "model": fields | section}), "utf-8")
    return directory / "model.pt"


@dataclass
class GPTConfig:
    """train_gpt2.py's, which it pickles whole."""

    block_size: int = 19
    vocab_size: int = 53
    n_layer: int = 3
    n_head: int = 3
    n_embd: int = 36


GPTConfig.__module__ = "__main__"  # where a script's classes live; no such class is there when it is read


def save_build_nanogpt(path: Path, model: NanoGPT, monkeypatch: pytest.MonkeyPatch, **config: Any) -> Path:
    """model_19072.pt, as train_gpt2.py leaves it: with its config, an object of its own class."""
    import __main__

    monkeypatch.setattr(__main__, "GPTConfig", GPTConfig, raising=False)
    torch.save(
        {"model": model.state_dict(), "config": GPTConfig(**config), "step": 19072, "val_loss": 3.2}, path
    )
    monkeypatch.undo()
    assert not hasattr(__main__, "GPTConfig")
    return path


ORDER = (
    "ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight",
    "attn.c_proj.bias", "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight",
    "mlp.c_proj.bias",
)  # fmt: skip


def save_llmc(path: Path, model: NanoGPT, *, version: int = 3, vocab_size: int | None = None) -> Path:
    """The file as llm.c's write_model: a header of 256 int32, then the tensors by kind."""
    c, state = model.config, model.state_dict()
    names = ["transformer.wte.weight", "transformer.wpe.weight"]
    names += [f"transformer.h.{layer}.{kind}" for kind in ORDER for layer in range(c.n_layer)]
    names += ["transformer.ln_f.weight", "transformer.ln_f.bias"]
    words = [
        20240326,
        version,
        c.block_size,
        vocab_size or c.vocab_size,
        c.n_layer,
        c.n_head,
        c.n_embd,
        c.vocab_size,
    ]
    data = struct.pack("<256i", *words, *[0] * 248)
    for name in names:
        if version == 3:
            data += state[name].numpy().astype("<f4").tobytes()
        else:
            data += state[name].to(torch.bfloat16).view(torch.int16).numpy().astype("<i2").tobytes()
    path.write_bytes(data)
    return path
