"""llm.c: `gpt2_124M.bin` (version 3, f32), `gpt2_124M_bf16.bin` (version 5), and what its trainers save.

Source: https://github.com/karpathy/llm.c, train_gpt2.c and train_gpt2.py.
"""

from __future__ import annotations

from pygpt.checkpoints import gpt2_layout, vocabulary
from pygpt.checkpoints.base import Family, Imported, Options, Source
from pygpt.checkpoints.canonical import canonical_tensors


def recognise(source: Source) -> bool:
    """By the magic number of its header."""
    return "llmc" in source.extras


def read(source: Source, options: Options) -> Imported:
    """A model of llm.c: always with biases, tanh GELU, a tied head.

    Raises:
        ModelFileError: the vocabulary given is not this model's.
        InvalidRequestError: the vocabulary is not GPT-2's and not given.
    """
    options.refuse_width_scale("llm.c")
    fields = source.extras["llmc"]
    options.check_heads(fields["n_head"])
    tokenizer, notes = gpt2_layout.given_vocabulary(source, options, "llm.c")
    size = fields["vocab_size"]
    if tokenizer:
        size = vocabulary.fitted(tokenizer, size, source, padded=options.tokenizer is not None)
    architecture = gpt2_layout.architecture(
        source,
        n_head=fields["n_head"],
        bias=True,
        tied=True,
        activation="gelu_tanh",
        vocab_size=size,
        tokenizer=tokenizer,
    )
    return Imported(
        architecture=architecture,
        tensors=canonical_tensors(source, architecture, gpt2_layout.NAMES),
        provenance={"family": "llmc"},
        source_dtype=source.dtype(),
        tokenizer=tokenizer,
        notes=notes,
    )


FAMILY = Family(
    "llm.c",
    (*gpt2_layout.REQUIRED, *gpt2_layout.BIASES),
    (),
    recognise,
    read,
    told_by="a .bin whose first word is 20240326, of version 3 or 5",
    beside="nothing; --tokenizer adds GPT-2's BPE",
)
