"""The text as token ids: in memory where it is small, else written once to a file that is mapped.

    tokens.bin      uint16 or uint32, little-endian, one token after the other
    tokens.json     its type, length and SHA-256, and the SHA-256 of the text and of the tokenizer it is of

A file that is of another text or tokenizer, or damaged, is written anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt.atomic import replacing
from pygpt.tokenizer import Tokenizer
from pygpt.train.checkpoint import as_json, write_atomically
from pygpt.train.data import pieces, size_of, split

LARGE_BYTES = 16 << 20  # a text from here on is tokenised to a file
SCHEMA = "pygpt.tokens/1"
_IDS, _MANIFEST = "tokens.bin", "tokens.json"

Ids = NDArray[np.generic]  # uint16 or uint32
Progress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much


@dataclass(frozen=True, slots=True)
class Corpus:
    """The text as ids, and the tokenizer that made them.

    Attributes:
        train, validation: integers [N], each longer than the context.
        source, text_sha256: where the text came from, and which it was.
    """

    tokenizer: Tokenizer
    train: Ids
    validation: Ids
    source: str
    text_sha256: str


def load_corpus(
    source: str, tokenizer: Tokenizer, context_length: int, cache: Path | None, progress: Progress
) -> Corpus:
    """Read and tokenise a text, and hold its last tenth back for validation.

    Args:
        cache: a directory for the ids, made if it is not there; None keeps them in memory.
        progress: is told how many bytes of the text were read.

    Raises:
        InvalidRequestError: the text cannot be read, is too short, or has what the tokenizer cannot express.
    """
    if cache is None:
        digest = hashlib.sha256()
        ids = np.concatenate(list(_encoded(source, tokenizer, digest, progress)))
    else:
        digest = _digest_of(source, progress)
        ids = _mapped(source, tokenizer, digest.hexdigest(), cache, progress)
    train, validation = split(ids, context_length)
    return Corpus(tokenizer, train, validation, source, digest.hexdigest())


def _digest_of(source: str, progress: Progress) -> Any:
    digest, done, total = hashlib.sha256(), 0, size_of(source)
    for piece in pieces(source):
        data = piece.encode()
        digest.update(data)
        done += len(data)
        progress("reading the text", done, total)
    return digest


def _encoded(source: str, tokenizer: Tokenizer, digest: Any, progress: Progress) -> Any:
    """The ids of one piece of the text after the other."""
    dtype, done, total = dtype_for(tokenizer.vocab_size), 0, size_of(source)
    for piece in pieces(source):
        data = piece.encode()
        digest.update(data)
        yield np.array(tokenizer.encode(piece), dtype)
        done += len(data)
        progress("tokenising the text", done, max(total, done))


def _mapped(source: str, tokenizer: Tokenizer, text: str, cache: Path, progress: Progress) -> Ids:
    made_of = {
        "schema": SCHEMA,
        "text_sha256": text,
        "tokenizer_sha256": hashlib.sha256(tokenizer.to_json().encode()).hexdigest(),
    }
    cache.mkdir(parents=True, exist_ok=True)
    found = _open(cache, made_of)
    if found is not None:
        return found
    digest, count = hashlib.sha256(), 0
    with replacing(cache / _IDS) as temporary, temporary.open("wb") as file:
        for ids in _encoded(source, tokenizer, hashlib.sha256(), progress):
            digest.update(ids)
            count += len(ids)
            file.write(ids)
    facts = {"dtype": dtype_for(tokenizer.vocab_size), "tokens": count, "sha256": digest.hexdigest()}
    write_atomically(cache / _MANIFEST, as_json(made_of | facts))
    made = _open(cache, made_of)
    if made is None:
        raise OSError(5, "does not read back as it was written", str(cache / _IDS))
    return made


def _open(cache: Path, made_of: dict[str, str]) -> Ids | None:
    """The ids of a cache that was made of this, or None."""
    try:
        facts = json.loads((cache / _MANIFEST).read_text("utf-8"))
        if made_of.items() - facts.items() or facts["dtype"] not in ("<u2", "<u4"):
            return None
        ids = np.memmap(cache / _IDS, facts["dtype"], mode="r")
        whole = len(ids) == facts["tokens"] and hashlib.sha256(ids.data).hexdigest() == facts["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return ids if whole else None


def dtype_for(vocab_size: int) -> str:
    """The smallest type that holds every id."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"
