"""Hugging Face's GPT-2 and DistilGPT2: a directory of config.json and weights, or a live GPT2LMHeadModel.

Source: https://github.com/huggingface/transformers, modeling_gpt2.py, configuration_gpt2.py, activations.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pygpt.architecture import Architecture
from pygpt.checkpoints import chat_files, gpt2_layout, hf_original, lora, vocabulary
from pygpt.checkpoints.base import Array, Family, Imported, Options, Read, Source, StoredTensor
from pygpt.checkpoints.canonical import canonical_tensors
from pygpt.errors import InvalidRequestError
from pygpt.kinds import shown

# Conv1D stores [in, out], Linear [out, in].
_CONV1D = re.compile(r"transformer\.h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")
_BUFFER = re.compile(r"transformer\.h\.\d+\.attn\.masked_bias")  # a constant of older versions
_C_ATTN = "h.0.attn.c_attn.weight"

# Every activation that GPT2Config documents, and other names of the same functions.
_ACTIVATIONS = {
    "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh", "gelu": "gelu", "gelu_python": "gelu", "relu": "relu", "silu": "silu",
    "swish": "silu", "tanh": "tanh",
}  # fmt: skip
_MAX_STOPS = 16  # docs/format.md


def recognise(source: Source) -> bool:
    """By c_attn stored as [C, 3C], the way of Conv1D; the names with or without `transformer.` in front."""
    name = next((each for each in (_C_ATTN, f"transformer.{_C_ATTN}") if each in source.tensors), None)
    shape = source.tensors[name].shape if name else ()
    return len(shape) == 2 and shape[1] == 3 * shape[0]


def read(source: Source, options: Options) -> Imported:
    """A checkpoint of GPT2LMHeadModel or GPT2Model, with any n_inner, activation and scale of attention.

    Raises:
        ModelFileError: config.json is missing, contradicts the tensors, or asks for what is not supported.
        InvalidRequestError: an argument does not fit the checkpoint.
    """
    options.refuse_width_scale("GPT-2")
    source = _as_linear(source)
    config = _config(source)
    gpt2_layout.check_layout(source, bias=True)
    # Without a config the tensors tell; with one, transformers ties them unless it says otherwise.
    tied = config.get("tie_word_embeddings", True) is not False if config else gpt2_layout.is_tied(source)
    tied = tied and not lora.is_changed(source.tensors.get(gpt2_layout.HEAD))  # of the head alone
    directories = () if source.directory is None else (source.directory,)
    tokenizer, notes = vocabulary.found(options, *directories)
    chat, chat_notes = chat_files.found(tokenizer, *directories)
    rows, width = source.matrix_shape(gpt2_layout.NAMES["wte"])
    size = vocabulary.fitted(tokenizer, rows, source, padded=True) if tokenizer else rows
    architecture = replace(
        gpt2_layout.architecture(
            source,
            n_head=_heads(source, config, options, width),
            bias=True,
            tied=tied,
            activation=_activation(source, config),
            vocab_size=size,
            tokenizer=tokenizer,
        ),
        norm_epsilon=_epsilon(source, config),
        **_ends(source, config, size),
    )
    if config.get("scale_attn_weights", True) is False:
        architecture = replace(architecture, attention_scale=1.0)
    _check(source, config, architecture)
    tensors = canonical_tensors(source, architecture, gpt2_layout.NAMES)
    if config.get("scale_attn_by_inverse_layer_idx"):
        tensors = {name: _softened(name, read, architecture) for name, read in tensors.items()}
    return Imported(
        architecture=architecture,
        tensors=tensors,
        provenance={"family": "hf_gpt2"},
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        blobs=chat,
        original_logits=hf_original.original_logits(source, options),
        notes=notes + chat_notes,
        files=vocabulary.files(*directories) + chat_files.files(*directories),
    )


def _as_linear(source: Source) -> Source:
    """The checkpoint as nanoGPT would have saved it: `transformer.` in front, matrices transposed."""
    tensors = {}
    for name, tensor in source.tensors.items():
        full = name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
        if not _BUFFER.fullmatch(full):
            tensors[full] = _transposed(tensor) if _CONV1D.fullmatch(full) else tensor
    return replace(source, tensors=tensors)


def _transposed(tensor: StoredTensor) -> StoredTensor:
    if len(tensor.shape) != 2:  # its reader will name it
        return tensor

    def read() -> Array:
        return np.ascontiguousarray(tensor.read().T)

    return replace(tensor, shape=tensor.shape[::-1], read=read, identity=("transposed", tensor.identity))


def _config(source: Source) -> Mapping[str, Any]:
    """The fields of config.json or of a live module's config; empty if there are none."""
    to_dict = getattr(getattr(source.module, "config", None), "to_dict", None)
    fields: Any = to_dict() if callable(to_dict) else source.extras
    fields = fields if "n_head" in fields or "model_type" in fields else fields.get("config", {})
    if not isinstance(fields, Mapping):
        return {}
    if fields.get("model_type", "gpt2") != "gpt2":
        message = f"model_type is {shown(fields['model_type'])}, but the names and shapes are GPT-2's"
        raise source.error("contradiction", message, "config.json")
    return fields


def _heads(source: Source, config: Mapping[str, Any], options: Options, width: int) -> int:
    if not config and options.n_head is None:
        raise InvalidRequestError(
            "n_head",
            "config.json is not beside these weights, and nothing else says how many heads there are",
        )
    return gpt2_layout.heads_of_width(source, options, config.get("n_head"), width)


def _activation(source: Source, config: Mapping[str, Any]) -> str:
    name = config.get("activation_function", "gelu_new")
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        message = f"activation_function is {shown(name)}; there are {', '.join(_ACTIVATIONS)}"
        raise source.error("unsupported_family", message, "config.json")
    return _ACTIVATIONS[name]


def _epsilon(source: Source, config: Mapping[str, Any]) -> float:
    epsilon = config.get("layer_norm_epsilon", 1e-5)
    if type(epsilon) not in (int, float) or not 0 <= epsilon <= 1:
        raise source.error("damaged", f"layer_norm_epsilon is {shown(epsilon)}", "config.json")
    return float(epsilon)


def _ends(source: Source, config: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Where a text begins and ends: bos_token_id, eos_token_id (one or a list), both 50256 if not said."""
    usual = gpt2_layout.GPT2_END_OF_TEXT if size == gpt2_layout.GPT2_TOKENS else None
    start, stops = config.get("bos_token_id", usual), config.get("eos_token_id", usual)
    stops = stops if isinstance(stops, list) else [] if stops is None else [stops]
    # GPT2Config says 50256 whatever the vocabulary: an id that this model lacks ends nothing.
    stops = [each for each in stops if each != gpt2_layout.GPT2_END_OF_TEXT or each < size]
    start = None if start == gpt2_layout.GPT2_END_OF_TEXT and start >= size else start
    for key, ids in (("eos_token_id", stops), ("bos_token_id", [] if start is None else [start])):
        if len(ids) > _MAX_STOPS or not all(type(each) is int and 0 <= each < size for each in ids):
            message = f"{key} is {shown(ids)}, the vocabulary has {size} tokens"
            raise source.error("damaged", message, "config.json")
    return {"start_token": start, "stop_tokens": tuple(stops)}


def _check(source: Source, config: Mapping[str, Any], a: Architecture) -> None:
    """Hold config.json to the tensors; n_ctx is an older name of n_positions."""
    if config.get("add_cross_attention"):
        message = "add_cross_attention is true: a decoder of another model is not supported"
        raise source.error("unsupported_family", message, "config.json")
    source.check_recorded(
        "config.json",
        config,
        n_layer=a.n_layer,
        n_embd=a.d_model,
        n_positions=a.context_length,
        vocab_size=a.padded_vocab_size,
        n_inner=a.d_ff,
    )


def _softened(name: str, read: Read, a: Architecture) -> Read:
    """scale_attn_by_inverse_layer_idx: the scores of layer i are divided by i + 1, and here its q are."""
    match = re.fullmatch(r"h\.(\d+)\.attn\.qkv(\.bias)?", name)
    if match is None:
        return read
    divisor = np.float32(int(match[1]) + 1)

    def rows() -> Array:
        stored = read()
        heads: Array = stored.reshape(a.n_head, 3, -1).copy()  # q, k and v of each head
        heads[:, 0] /= divisor
        return heads.reshape(stored.shape)

    return rows


FAMILY = Family(
    "Hugging Face's GPT-2",
    tuple(name for name in (*gpt2_layout.REQUIRED, *gpt2_layout.BIASES)),
    (gpt2_layout.HEAD, gpt2_layout.MASK, "transformer.h.{i}.attn.masked_bias"),
    recognise,
    read,
    told_by="h.0.attn.c_attn.weight as [C, 3C], with or without transformer. in front",
    beside="config.json (else --n-head), tokenizer.json",
)
