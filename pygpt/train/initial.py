"""What a run begins with: fresh weights, those of a checkpoint of its own, or those of another model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from pygpt.architecture import IMPLIED, Architecture, format_value
from pygpt.checkpoints.base import Array, Imported
from pygpt.checkpoints.recognise import read
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.model import LAYER_NORM_EPSILON, Activation, Model, ModelConfig
from pygpt.tokenizer import Tokenizer
from pygpt.train import checkpoint, resume
from pygpt.train.config import TrainConfig
from pygpt.train.vocabulary import VOCABULARIES, make_tokenizer, named


@dataclass(frozen=True, slots=True)
class Start:
    """Hyper-parameters that fit the weights, the vocabulary, and the weights: None are fresh ones."""

    config: TrainConfig
    tokenizer: Tokenizer
    n_vocab: int
    weights: Mapping[str, Tensor] | None = None

    def model(self) -> Model:
        """A model of this architecture with these weights."""
        model = Model.from_config(model_config(self.config, self.n_vocab))
        if self.weights is not None:
            model.load_state_dict(dict(self.weights))
        return model


def model_config(config: TrainConfig, n_vocab: int) -> ModelConfig:
    """The architecture that a training config describes, for a vocabulary of this size."""
    return ModelConfig(
        context_length=config.context_length,
        d_model=config.d_model,
        h=config.h,
        n_layers=config.n_layers,
        n_vocab=n_vocab,
        dropout=config.dropout,
        activation=config.activation,  # type: ignore[arg-type]  # ModelConfig checks it
        bias=config.bias,
        tie_weights=config.tie_weights,
    )


def fresh(source: str, config: TrainConfig, progress: Callable[[str, int, int], None]) -> Start:
    """New weights, and the vocabulary that the config asks for."""
    tokenizer = make_tokenizer(source, config.tokenizer, config.vocab_size, progress)
    return Start(config, tokenizer, tokenizer.vocab_size)


def resumed(saved: resume.Saved, config: TrainConfig) -> Start:
    """The weights and the vocabulary of a checkpoint of the same run."""
    model, tokenizer = checkpoint.load(saved.directory)
    return Start(config, tokenizer, model.config.n_vocab, model.state_dict())


def imported(config: TrainConfig) -> Start:
    """The weights of any checkpoint that export reads, as those of `pygpt.model.Model`.

    The context is cut to the config's, where that is shorter. Biases that the checkpoint lacks begin at 0,
    and another scale of attention goes into the queries: it computes what the original does.

    Raises:
        ModelFileError: the checkpoint cannot be read, or is of an architecture that `Model` does not have.
        InvalidRequestError: it holds no vocabulary and none is given, or `Model` cannot have its shape.
    """
    assert config.init_from is not None
    found, tokenizer = _found(config, config.init_from)
    a = found.architecture
    _refuse_foreign(a, config.init_from)
    biased = a.qkv_bias or a.proj_bias or a.mlp_bias or a.norm_bias or a.head_bias
    context_length = min(config.context_length, a.context_length)
    config = replace(
        config, n_layers=a.n_layer, h=a.n_head, d_model=a.d_model, context_length=context_length,
        activation=a.activation, bias=biased, tie_weights=a.tied_head,
    )  # fmt: skip
    fitting = Model.from_config(model_config(config, a.padded_vocab_size))
    weights = _weights(found, {name: tensor.shape for name, tensor in fitting.state_dict().items()})
    return Start(config, tokenizer, a.padded_vocab_size, weights)


def _found(config: TrainConfig, source: str) -> tuple[Imported, Tokenizer]:
    """The checkpoint as export reads it, and its vocabulary. Errors name the flags of `pygpt train`."""
    missing = InvalidRequestError(
        "tokenizer",
        f"{source} holds no vocabulary; give its own: --tokenizer with a tokenizer.json, nanoGPT's meta.pkl, "
        "or the .txt that it was trained on",
    )
    scale = config.init_attention_scale
    options = replace(named(config.tokenizer), n_head=config.init_n_head, attention_scale=scale)
    try:
        found = read(source, options)
    except InvalidRequestError as error:
        if error.param == "n_head" and config.init_n_head is None:
            raise InvalidRequestError("init_n_head", f"{source} does not say; give --init-n-head") from error
        if error.param in ("meta", "text") and config.tokenizer in VOCABULARIES:
            raise missing from error
        raise
    if found.tokenizer is None:
        raise missing
    return found, found.tokenizer


def _refuse_foreign(a: Architecture, name: str) -> None:
    """Name everything that the architecture has and `Model` has not."""
    activations = get_args(Activation)
    ours = {
        **IMPLIED, "n_kv_head": a.n_head, "head_dim": a.d_model // max(a.n_head, 1), "d_ff": 4 * a.d_model,
        "norm": "layer_norm", "norm_epsilon": LAYER_NORM_EPSILON, "position": "learned",
        "activation": a.activation if a.activation in activations else " or ".join(activations),
    }  # fmt: skip
    theirs = {field: format_value(getattr(a, field)) for field in ours}
    foreign = [
        f"{field} {theirs[field]} (there {format_value(value)})"
        for field, value in ours.items()
        if theirs[field] != format_value(value)
    ]
    if foreign:
        raise ModelFileError(
            name,
            "unsupported_architecture",
            f"cannot be trained here, for it has what pygpt.model.Model has not: {', '.join(foreign)}. "
            "GPT-2's kin can be fine-tuned; pygpt export runs this one as it is",
            "config",
        )


def _weights(found: Imported, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Every tensor of the model's state_dict, of the canonical tensors of docs/format.md."""
    a = found.architecture
    scale = a.attention_scale / a.head_dim**-0.5
    weights: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        theirs = _canonical_name(name)
        if theirs == "head" and a.tied_head:
            theirs = "wte"
        if name.endswith(".bias") and theirs not in found.tensors:
            weights[name] = torch.zeros(shape)
            continue
        values = found.tensors[theirs]()
        if ".attn.qkv" in theirs:
            values = _stacked(values, a, scale)
        if name == "wpe.weight":
            values = values[: shape[0]]
        weights[name] = torch.from_numpy(np.array(values, np.float32)).reshape(shape)
    return weights


def _canonical_name(name: str) -> str:
    """The name in docs/format.md of a parameter of `Model`."""
    for ours, theirs in (("blocks.", "h."), (".ffn.", ".mlp.")):
        name = name.replace(ours, theirs)
    stem, _, kind = name.rpartition(".")
    if kind == "bias":
        return name
    return f"{stem}.gain" if stem.rpartition(".")[2].startswith("ln_") else stem


def _stacked(rows: Array, a: Architecture, scale: float) -> Array:
    """The rows of `attn.qkv`, head by head with padding, as q of every head, then k, then v.

    A bias comes as one row and goes as one column.
    """
    heads: Array = rows.reshape(a.n_head, 3, a.padded_head_dim, -1)[:, :, : a.head_dim]
    stacked: Array = heads.swapaxes(0, 1).reshape(3 * a.n_head * a.head_dim, -1).copy()
    stacked[: a.n_head * a.head_dim] *= scale
    return stacked
