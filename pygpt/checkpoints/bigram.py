"""The lecture's first model, bigram.py: a table whose row of a token holds the logits of the next.

Source: https://github.com/karpathy/ng-video-lecture, bigram.py.
"""

from __future__ import annotations

import numpy as np

from pygpt.architecture import Architecture
from pygpt.checkpoints import lecture, torch_file, vocabulary
from pygpt.checkpoints.base import Array, Family, Imported, Options, Read, Source

_TABLE = "token_embedding_table.weight"
_CONTEXT = 1024  # the model looks at one token only; so many of a text may stand before it


def recognise(source: Source) -> bool:
    """By one tensor of that name, which is square."""
    return source.tensors.keys() == {_TABLE} and len(set(source.shape(_TABLE))) == 1


def read(source: Source, options: Options) -> Imported:
    """The state_dict of bigram.py, as a model without blocks: the embedding says which token it is, the norm
    leaves that as it is, and the head is the table on its side.

    Raises:
        ModelFileError: the table cannot be read, or the vocabulary is of another size.
        InvalidRequestError: no vocabulary is given, or a number of heads, of which it has none.
    """
    options.refuse_width_scale("bigram")
    options.check_heads(1)
    rows = source.matrix_shape(_TABLE)[0]
    tokenizer = lecture.characters(options)
    table = source.reader(_TABLE, rows, rows)
    tensors: dict[str, Read] = {
        "wte": lambda: np.eye(rows, dtype=np.float32),
        "ln_f.gain": lambda: _gain(rows),
        "head": lambda: np.ascontiguousarray(table().T),
    }
    return Imported(
        architecture=_architecture(rows, vocabulary.fitted(tokenizer, rows, source) if tokenizer else rows),
        tensors=tensors,
        provenance={"family": "bigram"},
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        original_logits=torch_file.module_logits(source.module) if source.module is not None else None,
    )


def _gain(rows: int) -> Array:
    """A row of a one and zeros has a mean square of 1 / rows: this gain gives the row back."""
    return np.full((1, rows), rows**-0.5, np.float32)


def _architecture(rows: int, vocab_size: int) -> Architecture:
    return Architecture(
        n_layer=0,
        n_head=1,
        head_dim=2,
        d_model=rows,
        d_ff=1,
        context_length=_CONTEXT,
        vocab_size=vocab_size,
        padded_vocab_size=rows,
        norm="rms_norm",
        norm_epsilon=0.0,
        position="rotary",  # the one kind that needs no table; there is nothing to turn
        rope_theta=10000.0,
        activation="relu",
        attention_scale=1.0,
        tied_head=False,
        qkv_bias=False,
        proj_bias=False,
        mlp_bias=False,
        norm_bias=False,
        head_bias=False,
        start_token=0,  # bigram.py generates from a zero
    )


FAMILY = Family(
    "the lecture's bigram.py",
    (_TABLE,),
    (),
    recognise,
    read,
    told_by="token_embedding_table.weight alone, square",
    beside="--text, --chars, --meta or --tokenizer",
)
