"""pygpt's own: a training directory (model.safetensors, config.json, tokenizer.json) or a live `Model`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt.architecture import DEFAULT_TYPES, Architecture
from pygpt.checkpoints import tokenizer_files, torch_file, vocabulary
from pygpt.checkpoints.base import Family, Imported, Options, Source
from pygpt.checkpoints.canonical import canonical_tensors, check_names
from pygpt.errors import InvalidRequestError
from pygpt.tokenizer import Tokenizer

# Our names (docs/format.md) and theirs.
NAMES = {
    "wte": "wte.weight",
    "wpe": "wpe.weight",
    "h.{i}.ln_1.gain": "blocks.{i}.ln_1.weight",
    "h.{i}.ln_1.bias": "blocks.{i}.ln_1.bias",
    "h.{i}.attn.qkv": "blocks.{i}.attn.qkv.weight",
    "h.{i}.attn.qkv.bias": "blocks.{i}.attn.qkv.bias",
    "h.{i}.attn.proj": "blocks.{i}.attn.proj.weight",
    "h.{i}.attn.proj.bias": "blocks.{i}.attn.proj.bias",
    "h.{i}.ln_2.gain": "blocks.{i}.ln_2.weight",
    "h.{i}.ln_2.bias": "blocks.{i}.ln_2.bias",
    "h.{i}.mlp.up": "blocks.{i}.ffn.up.weight",
    "h.{i}.mlp.up.bias": "blocks.{i}.ffn.up.bias",
    "h.{i}.mlp.down": "blocks.{i}.ffn.down.weight",
    "h.{i}.mlp.down.bias": "blocks.{i}.ffn.down.bias",
    "ln_f.gain": "ln_f.weight",
    "ln_f.bias": "ln_f.bias",
    "head": "head.weight",
    "head.bias": "head.bias",
}
_BIASES = tuple(theirs for ours, theirs in NAMES.items() if ours.endswith(".bias"))
_HEAD = NAMES["head"]  # absent, or the embedding's storage once more, where the head is tied
_REQUIRED = tuple(theirs for theirs in NAMES.values() if theirs not in (*_BIASES, _HEAD))
# Files of a training directory that go into the model file as they are.
_BLOBS = ("chat_template.jinja", "chat.json")


def recognise(source: Source) -> bool:
    """By the names of pygpt.model.Model."""
    return "blocks.0.attn.qkv.weight" in source.tensors and "wte.weight" in source.tensors


def read(source: Source, options: Options) -> Imported:
    """A trained `pygpt.model.Model`, with everything that its directory says about it.

    Raises:
        ModelFileError: a file is missing or damaged, or the weights do not fit the architecture.
    """
    options.refuse_width_scale("pygpt")
    config = _model_config(source, options)
    directory = source.directory
    options.check_heads(config["h"])
    tokenizer = vocabulary.given(options)
    notes: tuple[str, ...] = ()
    if tokenizer is None and not vocabulary.refused(options):
        tokenizer = _own_tokenizer(directory)
        notes = () if tokenizer else ("no tokenizer: the file speaks token ids only; tokenizer= adds one",)
    architecture = _architecture(source, config, _vocab_size(source, options, config, tokenizer), tokenizer)
    bias, tied = bool(config["bias"]), bool(config["tie_weights"])
    check_names(
        source,
        _REQUIRED + (_BIASES if bias else ()) + (() if tied else (_HEAD,)),
        (_HEAD,),
        architecture.n_layer,
    )
    return Imported(
        architecture=architecture,
        tensors=canonical_tensors(source, architecture, NAMES),
        provenance={"family": "pygpt"} | _trained(source),
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        defaults=_defaults(source),
        blobs=_own_blobs(directory),
        original_logits=_original_logits(source, config),
        notes=notes,
        files=tuple(directory / name for name in ("tokenizer.json", *_BLOBS)) if directory else (),
    )


def _model_config(source: Source, options: Options) -> Mapping[str, Any]:
    """The fields of ModelConfig: the module's own, those of config.json, or what the shapes say."""
    config = getattr(source.module, "config", None)
    if is_dataclass(config) and not isinstance(config, type):
        return _checked(source, asdict(config))
    recorded = source.extras.get("model")
    if isinstance(recorded, Mapping):
        return _checked(source, recorded)
    if options.n_head is None:
        raise source.error("n_head", "nothing beside these weights records the number of heads: pass n_head=")
    rows, width = source.matrix_shape("wte.weight")
    if width % options.n_head:
        raise InvalidRequestError("n_head", f"{options.n_head} heads do not divide a width of {width}")
    return {
        "context_length": source.matrix_shape("wpe.weight")[0],
        "d_model": width,
        "h": options.n_head,
        "n_layers": source.count("blocks"),
        "n_vocab": rows,
        "activation": "relu",
        "bias": "ln_f.bias" in source.tensors,
        "tie_weights": "head.weight" not in source.tensors,
    }


def _checked(source: Source, config: Mapping[str, Any]) -> Mapping[str, Any]:
    kinds = {
        "context_length": int, "d_model": int, "h": int, "n_layers": int, "n_vocab": int,
        "activation": str, "bias": bool, "tie_weights": bool,
    }  # fmt: skip
    for key, kind in kinds.items():
        if type(config.get(key)) is not kind or (kind is int and config[key] < 1):
            raise source.error("damaged", f"{key} is {config.get(key)!r}", "config")
    if config["d_model"] % config["h"]:
        message = f"d_model {config['d_model']} does not divide among {config['h']} heads"
        raise source.error("damaged", message, "config")
    return config


def _vocab_size(
    source: Source, options: Options, config: Mapping[str, Any], tokenizer: Tokenizer | None
) -> int:
    """Ids that may be sampled: a tokenizer may have fewer than the model; characters must be its own."""
    if tokenizer is None:
        return int(config["n_vocab"])
    padded = options.text is None and options.chars is None and options.meta is None
    return vocabulary.fitted(tokenizer, config["n_vocab"], source, padded=padded)


def _architecture(
    source: Source, config: Mapping[str, Any], vocab_size: int, tokenizer: Tokenizer | None
) -> Architecture:
    rows, width, heads, bias = config["n_vocab"], config["d_model"], config["h"], bool(config["bias"])
    return Architecture(
        n_layer=config["n_layers"],
        n_head=heads,
        head_dim=width // heads,
        d_model=width,
        d_ff=source.matrix_shape("blocks.0.ffn.up.weight")[0],
        context_length=config["context_length"],
        vocab_size=vocab_size,
        padded_vocab_size=rows,
        activation=config["activation"],
        attention_scale=(width // heads) ** -0.5,
        tied_head=bool(config["tie_weights"]),
        qkv_bias=bias,
        proj_bias=bias,
        mlp_bias=bias,
        norm_bias=bias,
        head_bias=bias,
        start_token=vocabulary.newline(tokenizer),
    )


def _defaults(source: Source) -> dict[str, float | int | bool]:
    """Sampling defaults, where config.json has them."""
    recorded = source.extras.get("defaults", {})
    if not isinstance(recorded, Mapping):
        raise source.error("damaged", "defaults is not an object", "config")
    for key, value in recorded.items():
        kind = DEFAULT_TYPES.get(key)
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise source.error("damaged", f"defaults: {key!r} cannot be {value!r}", "config")
    return dict(recorded)


def _own_tokenizer(directory: Path | None) -> Tokenizer | None:
    return None if directory is None else tokenizer_files.in_directory(directory)


def _own_blobs(directory: Path | None) -> dict[str, bytes]:
    if directory is None:
        return {}
    return {name: (directory / name).read_bytes() for name in _BLOBS if (directory / name).is_file()}


def _trained(source: Source) -> dict[str, Any]:
    version = source.extras.get("pygpt_version")
    return {"trained_with": f"pygpt {version}"} if isinstance(version, str) else {}


def _original_logits(
    source: Source, config: Mapping[str, Any]
) -> Callable[[Sequence[int]], NDArray[np.float64]] | None:
    if source.module is not None:
        return torch_file.module_logits(source.module)
    if importlib.util.find_spec("torch") is None:
        return None

    def run(ids: Sequence[int]) -> NDArray[np.float64]:
        import torch

        from pygpt.model import Model, ModelConfig

        model = Model.from_config(ModelConfig(**{**config, "dropout": 0.0}))
        state = {name: torch.from_numpy(tensor.read()) for name, tensor in source.tensors.items()}
        if model.config.tie_weights:
            state["head.weight"] = state["wte.weight"]
        model.load_state_dict(state)
        return torch_file.module_logits(model)(ids)

    return run


FAMILY = Family(
    "pygpt's own training directory or Model",
    _REQUIRED,
    (*_BIASES, _HEAD),
    recognise,
    read,
    told_by="blocks.0.attn.qkv.weight and wte.weight",
    beside="config.json and tokenizer.json, as `pygpt train` leaves them (else --n-head)",
)
