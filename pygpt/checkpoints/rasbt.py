"""Raschka's "Build a Large Language Model (From Scratch)": `model.pth` of its GPTModel.

Source: https://github.com/rasbt/LLMs-from-scratch, ch04 and ch05 (gpt.py, previous_chapters.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pygpt.architecture import Architecture
from pygpt.checkpoints import gpt2_layout, torch_file, vocabulary
from pygpt.checkpoints.base import Array, Family, Imported, Options, Read, Source
from pygpt.checkpoints.canonical import canonical_tensors, check_names, head_by_head
from pygpt.tokenizer import Tokenizer

# Our names (docs/format.md) and theirs; W_query, W_key and W_value are a layer each.
NAMES = {
    "wte": "tok_emb.weight",
    "wpe": "pos_emb.weight",
    "h.{i}.ln_1.gain": "trf_blocks.{i}.norm1.scale",
    "h.{i}.ln_1.bias": "trf_blocks.{i}.norm1.shift",
    "h.{i}.attn.proj": "trf_blocks.{i}.att.out_proj.weight",
    "h.{i}.attn.proj.bias": "trf_blocks.{i}.att.out_proj.bias",
    "h.{i}.ln_2.gain": "trf_blocks.{i}.norm2.scale",
    "h.{i}.ln_2.bias": "trf_blocks.{i}.norm2.shift",
    "h.{i}.mlp.up": "trf_blocks.{i}.ff.layers.0.weight",
    "h.{i}.mlp.up.bias": "trf_blocks.{i}.ff.layers.0.bias",
    "h.{i}.mlp.down": "trf_blocks.{i}.ff.layers.2.weight",
    "h.{i}.mlp.down.bias": "trf_blocks.{i}.ff.layers.2.bias",
    "ln_f.gain": "final_norm.scale",
    "ln_f.bias": "final_norm.shift",
    "head": "out_head.weight",
}
_PARTS = tuple(f"trf_blocks.{{i}}.att.W_{part}" for part in ("query", "key", "value"))
_WEIGHTS, _BIASES = (tuple(f"{part}.{kind}" for part in _PARTS) for kind in ("weight", "bias"))
_REQUIRED = (*NAMES.values(), *_WEIGHTS)
_MASK = "trf_blocks.{i}.att.mask"


def recognise(source: Source) -> bool:
    """By the names of the book's attention."""
    return _WEIGHTS[0].format(i=0) in source.tensors


def read(source: Source, options: Options) -> Imported:
    """A state_dict of the book's GPTModel, or a live one: tanh GELU, an untied head, biases of q, k and v or
    not (qkv_bias).

    Raises:
        ModelFileError: tensors are missing or do not fit.
        InvalidRequestError: the number of heads is not given (no shape shows it), or the vocabulary, where it
            is not GPT-2's.
    """
    options.refuse_width_scale("LLMs-from-scratch")
    n_layer = source.count("trf_blocks")
    bias = _BIASES[0].format(i=0) in source.tensors
    check_names(source, (*_REQUIRED, *(_BIASES if bias else ())), (_MASK,), n_layer)
    tokenizer, notes = gpt2_layout.given_vocabulary(source, options, "LLMs-from-scratch", NAMES["wte"])
    architecture = _architecture(source, options, n_layer, bias, tokenizer)
    made = {"attn.qkv": _stacked(source, _WEIGHTS, architecture)}
    if bias:
        made["attn.qkv.bias"] = _stacked(source, _BIASES, architecture)
    return Imported(
        architecture=architecture,
        tensors=canonical_tensors(source, architecture, NAMES, made),
        provenance={"family": "rasbt"},
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        original_logits=torch_file.module_logits(source.module) if source.module is not None else None,
        notes=notes,
    )


def _architecture(
    source: Source, options: Options, n_layer: int, bias: bool, tokenizer: Tokenizer | None
) -> Architecture:
    rows, width = source.matrix_shape(NAMES["wte"])
    inner = source.matrix_shape(_WEIGHTS[0].format(i=0))[0]
    n_head = gpt2_layout.heads_of_width(source, options, None, inner)
    size = gpt2_layout.vocabulary_size(source, options, tokenizer, rows)
    is_gpt2 = size == gpt2_layout.GPT2_TOKENS
    return Architecture(
        n_layer=n_layer,
        n_head=n_head,
        head_dim=inner // n_head,
        d_model=width,
        d_ff=source.matrix_shape(NAMES["h.{i}.mlp.up"].format(i=0))[0],
        context_length=source.matrix_shape(NAMES["wpe"])[0],
        vocab_size=size,
        padded_vocab_size=rows,
        activation="gelu_tanh",
        attention_scale=(inner // n_head) ** -0.5,
        tied_head=False,
        qkv_bias=bias,
        proj_bias=True,
        mlp_bias=True,
        norm_bias=True,
        head_bias=False,
        start_token=vocabulary.newline(tokenizer) if tokenizer else None,
        stop_tokens=(gpt2_layout.GPT2_END_OF_TEXT,) if is_gpt2 else (),
    )


def _stacked(source: Source, names: tuple[str, ...], a: Architecture) -> Callable[[int], Read]:
    """From a block to the reader of its `attn.qkv`, or of its bias, which is one column."""
    shape = (a.n_head * a.head_dim, a.d_model) if names is _WEIGHTS else (a.n_head * a.head_dim,)

    def reader(layer: int) -> Read:
        parts = [source.reader(name.format(i=layer), *shape) for name in names]

        def rows() -> Array:
            q, k, v = (read().reshape(a.n_head, a.head_dim, -1) for read in parts)
            stacked = head_by_head(q, k, v)
            return stacked if names is _WEIGHTS else np.ascontiguousarray(stacked.T)

        return rows

    return reader


FAMILY = Family(
    'LLMs-from-scratch ("Build a Large Language Model")',
    _REQUIRED,
    (*_BIASES, _MASK),
    recognise,
    read,
    told_by="trf_blocks.0.att.W_query.weight",
    beside="--n-head; --tokenizer adds GPT-2's BPE",
)
