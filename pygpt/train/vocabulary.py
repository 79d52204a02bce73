"""The vocabulary of a run: the characters of its text, byte-level BPE learnt from it, or a given one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from pygpt.checkpoints import vocabulary
from pygpt.checkpoints.base import Options
from pygpt.errors import InvalidRequestError
from pygpt.tokenizer import Tokenizer
from pygpt.train.data import TEXT_SUFFIXES, pieces, size_of

VOCABULARIES = ("chars", "bpe")
BPE_BYTES = 256 << 20  # of the text's beginning that the merges are learnt from: more changes little

Progress = Callable[[str, int, int], None]


def make_tokenizer(source: str, kind: str, vocab_size: int, progress: Progress) -> Tokenizer:
    """The tokenizer that `kind` asks for: "chars", "bpe", or a path as in `named`.

    Raises:
        InvalidRequestError: the text or the file cannot be read.
        ModelFileError: a pickle that cannot be used.
    """
    if kind == "chars":
        characters: set[str] = set()
        for piece in pieces(source):
            characters |= set(piece)
        return Tokenizer.from_characters(sorted(characters))
    if kind == "bpe":
        return learn_bpe(_told(source, progress), vocab_size)
    given = vocabulary.given(named(kind))
    if given is None:
        raise InvalidRequestError("tokenizer", f"{kind!r} is none; give chars, bpe or a file")
    return given


def named(kind: str) -> Options:
    """What a path is to an importer: a text whose characters it is, nanoGPT's meta.pkl, or a tokenizer."""
    if kind in VOCABULARIES:
        return Options()
    path = Path(kind)
    if path.suffix.lower() in TEXT_SUFFIXES and path.name != "merges.txt":
        return Options(text=kind)
    return Options(meta=kind) if path.name == "meta.pkl" else Options(tokenizer=kind)


def learn_bpe(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE as GPT-2's (Radford et al. 2019, section 2.2; Sennrich et al., arXiv:1508.07909).

    The 256 bytes, then merges of the commonest neighbours, until there are vocab_size tokens, or nothing is
    left that occurs twice.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Tokenizer(tokenizer)


def _told(source: str, progress: Progress) -> Iterator[str]:
    done, total = 0, min(size_of(source), BPE_BYTES)
    for piece in pieces(source):
        yield piece
        done += len(piece.encode())
        progress("learning the vocabulary", done, max(total, done))
        if done >= BPE_BYTES:
            return
