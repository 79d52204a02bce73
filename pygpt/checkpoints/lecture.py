"""The GPT of the lecture "Let's build GPT": the state_dict of gpt.py, with its training text or characters.

Source: https://github.com/karpathy/ng-video-lecture, gpt.py and bigram.py.
"""

from __future__ import annotations

import numpy as np

from pygpt.architecture import Architecture
from pygpt.checkpoints import torch_file, vocabulary
from pygpt.checkpoints.base import Array, Family, Imported, Options, Read, Source, Unrecorded
from pygpt.checkpoints.canonical import canonical_tensors, check_names, head_by_head
from pygpt.errors import InvalidRequestError
from pygpt.tokenizer import Tokenizer

# Our names (docs/format.md) and theirs; query, key and value are a layer a head.
NAMES = {
    "wte": "token_embedding_table.weight",
    "wpe": "position_embedding_table.weight",
    "h.{i}.ln_1.gain": "blocks.{i}.ln1.weight",
    "h.{i}.ln_1.bias": "blocks.{i}.ln1.bias",
    "h.{i}.attn.proj": "blocks.{i}.sa.proj.weight",
    "h.{i}.attn.proj.bias": "blocks.{i}.sa.proj.bias",
    "h.{i}.ln_2.gain": "blocks.{i}.ln2.weight",
    "h.{i}.ln_2.bias": "blocks.{i}.ln2.bias",
    "h.{i}.mlp.up": "blocks.{i}.ffwd.net.0.weight",
    "h.{i}.mlp.up.bias": "blocks.{i}.ffwd.net.0.bias",
    "h.{i}.mlp.down": "blocks.{i}.ffwd.net.2.weight",
    "h.{i}.mlp.down.bias": "blocks.{i}.ffwd.net.2.bias",
    "ln_f.gain": "ln_f.weight",
    "ln_f.bias": "ln_f.bias",
    "head": "lm_head.weight",
    "head.bias": "lm_head.bias",
}
_PARTS = tuple(f"blocks.{{i}}.sa.heads.{{h}}.{part}.weight" for part in ("query", "key", "value"))
_REQUIRED = (*NAMES.values(), *_PARTS)
_MASK = "blocks.{i}.sa.heads.{h}.tril"


def recognise(source: Source) -> bool:
    """By the embedding's name, which only the lecture's code has."""
    return "token_embedding_table.weight" in source.tensors


def read(source: Source, options: Options) -> Imported:
    """The state_dict of gpt.py. `attention_scale="width"` is for code as the video shows it (before
    2023-01-25), which scaled by the width of the model; later code scales by the head's size.

    Raises:
        ModelFileError: it is the model of an earlier moment of the lecture.
        InvalidRequestError: no vocabulary is given, or attention_scale is neither "head" nor "width".
    """
    _refuse_earlier_versions(source)
    n_layer, n_head = source.count("blocks"), source.count("blocks.0.sa.heads")
    check_names(source, _REQUIRED, (_MASK,), n_layer, n_head)
    tokenizer = characters(options)
    architecture = _architecture(source, options, n_layer, n_head, tokenizer)
    return Imported(
        architecture=architecture,
        tensors=canonical_tensors(
            source, architecture, NAMES, {"attn.qkv": lambda i: _heads(source, i, architecture)}
        ),
        provenance={"family": "lecture", "attention_scale": options.attention_scale or "head"},
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        original_logits=torch_file.module_logits(source.module) if source.module is not None else None,
        unrecorded=() if options.attention_scale else (_either_scale(architecture),),
    )


def characters(options: Options) -> Tokenizer | None:
    """The vocabulary, which the lecture's scripts never save; None for a file of token ids.

    Raises:
        InvalidRequestError: none is given.
    """
    tokenizer = vocabulary.given(options)
    if tokenizer is None and not vocabulary.refused(options):
        raise InvalidRequestError(
            "text",
            "the lecture's checkpoint does not hold its vocabulary: pass text= (the training text), chars= "
            '(its characters), meta=, tokenizer=, or tokenizer="none" to speak token ids only',
        )
    return tokenizer


def _refuse_earlier_versions(source: Source) -> None:
    names = set(source.tensors)
    lacks = [
        name
        for name in ("position_embedding_table.weight", "ln_f.weight", "lm_head.bias")
        if name not in names
    ]
    if not any(name.startswith("blocks.0.sa.heads.0.") for name in names):
        lacks.append("blocks.0.sa.heads.0.*")
    if lacks:
        raise source.error(
            "incomplete",
            "is recognised as a model of the lecture, but of a moment before the final gpt.py: it lacks "
            f"{', '.join(lacks)}. Train the final gpt.py and export that",
        )


def _architecture(
    source: Source, options: Options, n_layer: int, n_head: int, tokenizer: Tokenizer | None
) -> Architecture:
    rows, width = source.matrix_shape("token_embedding_table.weight")
    head_dim = source.matrix_shape("blocks.0.sa.heads.0.key.weight")[0]
    options.check_heads(n_head)
    return Architecture(
        n_layer=n_layer,
        n_head=n_head,
        head_dim=head_dim,
        d_model=width,
        d_ff=source.matrix_shape("blocks.0.ffwd.net.0.weight")[0],
        context_length=source.matrix_shape("position_embedding_table.weight")[0],
        vocab_size=vocabulary.fitted(tokenizer, rows, source) if tokenizer else rows,
        padded_vocab_size=rows,
        activation="relu",
        attention_scale=_scales(head_dim, width)[options.attention_scale or "head"],
        tied_head=False,
        qkv_bias=False,
        proj_bias=True,
        mlp_bias=True,
        norm_bias=True,
        head_bias=True,
        start_token=0,  # gpt.py generates from a zero
    )


def _scales(head_dim: int, width: int) -> dict[str, float]:
    return {"head": head_dim**-0.5, "width": width**-0.5}


def _either_scale(a: Architecture) -> Unrecorded:
    """The scales of today's gpt.py and of the video's."""
    scales = _scales(a.head_dim, a.d_model)
    return Unrecorded("attention_scale", {name: {"attention_scale": value} for name, value in scales.items()})


def _heads(source: Source, layer: int, a: Architecture) -> Read:
    """`attn.qkv` of a block, from the layers of its heads."""
    parts = [
        [source.reader(part.format(i=layer, h=head), a.head_dim, a.d_model) for head in range(a.n_head)]
        for part in _PARTS
    ]

    def rows() -> Array:
        q, k, v = (np.stack([read() for read in part]) for part in parts)  # each [H, D, C]
        return head_by_head(q, k, v)

    return rows


FAMILY = Family(
    "the lecture's gpt.py",
    _REQUIRED,
    (_MASK,),
    recognise,
    read,
    told_by="token_embedding_table.weight",
    beside="--text, --chars, --meta or --tokenizer",
)
