"""From a text source to batches of token ids."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pygpt.errors import InvalidRequestError

PYTHON_DOCS = "python-docs"  # a text source that every Python carries
TEXT_SUFFIXES = (".txt", ".text", ".md", ".rst")  # of the files read from a folder


def load_text(source: str | Path) -> str:
    """The text of a file, of all text files below a folder in the order of their paths, or of `python-docs`.

    `python-docs` is the documentation in `pydoc_data.topics`: real English text without a network (a file of
    that name is reached as `./python-docs`). Files are UTF-8; a byte order mark is dropped, CRLF becomes LF.

    Raises:
        InvalidRequestError: the source is missing, unreadable, empty or not UTF-8.
    """
    if source == PYTHON_DOCS:
        return _python_docs()
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in TEXT_SUFFIXES and p.is_file())
        if not files:
            raise InvalidRequestError("text", f"no {', '.join(TEXT_SUFFIXES)} file below the folder {path}")
        text = "\n".join(_read(file) for file in files)
    else:
        text = _read(path)
    if not text:
        raise InvalidRequestError("text", f"{path} is empty; training needs text to learn from")
    return text


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidRequestError(
            "text", f"{path} does not exist; give a file, a folder, or {PYTHON_DOCS!r}"
        ) from error
    except OSError as error:
        raise InvalidRequestError("text", f"{path} cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            "text",
            f"{path} is not UTF-8: byte 0x{data[error.start]:02X} at offset {error.start} ({error.reason}); "
            "convert it first, e.g. iconv -f LATIN1 -t UTF-8",
        ) from error


def _python_docs() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:  # some distributions leave it out
        raise InvalidRequestError("text", "this Python comes without pydoc_data; give a text file") from error
    return "\n\n".join(topics[name] for name in sorted(topics))


def split(ids: Tensor, context_length: int) -> tuple[Tensor, Tensor]:
    """The first nine tenths for training, the last tenth for validation. ids: integers [N].

    Raises:
        InvalidRequestError: a part is too short for one window of context_length tokens and their successors.
    """
    cut = len(ids) * 9 // 10
    train, validation = ids[:cut], ids[cut:]
    if len(validation) <= context_length:
        needed = (
            10 * context_length + 1
        )  # the fewest of which the last tenth, rounded up, exceeds the context
        raise InvalidRequestError(
            "text",
            f"{len(ids)} tokens are too few for a context of {context_length}: the last tenth, held back for "
            f"validation, must exceed it. Give at least {needed} tokens, or a context_length of at most "
            f"{max(len(validation) - 1, 0)}",
        )
    return train, validation


def sample_batch(
    ids: Tensor, batch_size: int, context_length: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Windows from random places and, for each position, the token that follows it.

    ids: integers [N], N > context_length -> two of [batch_size, context_length].
    """
    starts = torch.randint(len(ids) - context_length, (batch_size, 1), generator=generator)
    offsets = starts + torch.arange(context_length)
    return ids[offsets], ids[offsets + 1]
