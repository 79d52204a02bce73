"""From a text source to pieces of text, and from token ids to batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pygpt.errors import InvalidRequestError

PYTHON_DOCS = "python-docs"  # a text source that every Python carries
TEXT_SUFFIXES = (".txt", ".text", ".md", ".rst")  # of the files read from a folder
PIECE_BYTES = 4 << 20
LARGEST_VALIDATION = 4 << 20  # tokens: enough for any loss, and read in minutes at a run's end

Ids = TypeVar("Ids", Tensor, NDArray[np.generic])


def load_text(source: str | Path) -> str:
    """The text of a file, of all text files below a folder in the order of their paths, or of `python-docs`.

    `python-docs` is the documentation in `pydoc_data.topics`: real English text without a network (a file of
    that name is reached as `./python-docs`). Files are UTF-8; a byte order mark is dropped, CRLF becomes LF.

    Raises:
        InvalidRequestError: the source is missing, unreadable, empty or not UTF-8.
    """
    return "".join(pieces(source))


def pieces(source: str | Path, size: int = PIECE_BYTES) -> Iterator[str]:
    """The same in pieces of about `size` bytes, cut behind a line where there are lines. None is empty."""
    if source == PYTHON_DOCS:
        yield _python_docs()
        return
    begun = False
    for number, path in enumerate(text_files(source)):
        if number:
            yield "\n"
        for piece in _read(path, size):
            begun = True
            yield piece
    if not begun:
        raise InvalidRequestError("text", f"{source} is empty; training needs text to learn from")


def text_files(source: str | Path) -> list[Path]:
    """The files of a source; none for `python-docs`.

    Raises:
        InvalidRequestError: a folder without text files, a pipe, a device.
    """
    if source == PYTHON_DOCS:
        return []
    path = Path(source)
    if not path.is_dir():
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device may never end
            raise InvalidRequestError("text", f"{path} is neither a file nor a folder; save the text first")
        return [path]
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in TEXT_SUFFIXES and p.is_file())
    if not files:
        raise InvalidRequestError("text", f"no {', '.join(TEXT_SUFFIXES)} file below the folder {path}")
    return files


def size_of(source: str | Path) -> int:
    """Bytes of the source, as far as they can be told without reading it."""
    return sum(path.stat().st_size for path in text_files(source) if path.is_file())


def _read(path: Path, size: int) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            offset = len(_MARK) if file.read(len(_MARK)) == _MARK else 0
            file.seek(offset)
            held = b""
            while block := file.read(size):
                held += block
                cut = _cut(held)
                yield from _decoded(path, held[:cut], offset)
                offset, held = offset + cut, held[cut:]
            yield from _decoded(path, held, offset)
    except FileNotFoundError as error:
        raise InvalidRequestError(
            "text", f"{path} does not exist; give a file, a folder, or {PYTHON_DOCS!r}"
        ) from error
    except OSError as error:
        raise InvalidRequestError("text", f"{path} cannot be read: {error.strerror}") from error


_MARK = b"\xef\xbb\xbf"  # of UTF-8, which some editors write in front


def _cut(data: bytes) -> int:
    """How much of the bytes is whole: up to a line's end, or else up to a character's that is no CR."""
    line = data.rfind(b"\n") + 1
    if line:
        return line
    for end in range(len(data), max(len(data) - 4, 0), -1):
        if data[end - 1] < 0x80 and data[end - 1] != 0x0D:
            return end
        if data[end - 1] >= 0xC0:  # a character begins here, and may be whole or not
            return end - 1
    return 0


def _decoded(path: Path, data: bytes, offset: int) -> Iterator[str]:
    try:
        text = data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            "text",
            f"{path} is not UTF-8: byte 0x{data[error.start]:02X} at offset {offset + error.start} "
            f"({error.reason}); convert it first, e.g. iconv -f LATIN1 -t UTF-8",
        ) from error
    if text:
        yield text


def _python_docs() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:  # some distributions leave it out
        raise InvalidRequestError("text", "this Python comes without pydoc_data; give a text file") from error
    return "\n\n".join(topics[name] for name in sorted(topics))


def split(ids: Ids, context_length: int) -> tuple[Ids, Ids]:
    """The last tenth for validation, but no more than LARGEST_VALIDATION; the rest for training.

    ids: integers [N].

    Raises:
        InvalidRequestError: a part is too short for one window of context_length tokens and their successors.
    """
    cut = max(len(ids) * 9 // 10, len(ids) - LARGEST_VALIDATION)
    train, validation = ids[:cut], ids[cut:]
    if len(validation) <= context_length:
        needed = (
            10 * context_length + 1
        )  # the fewest of which the last tenth, rounded up, exceeds the context
        possible = len(validation) - 1
        shorter = f", or a context_length of at most {possible}" if possible > 0 else ""
        raise InvalidRequestError(
            "text",
            f"{len(ids)} tokens are too few for a context of {context_length}: the last tenth, held back for "
            f"validation, must exceed it. Give at least {needed} tokens{shorter}",
        )
    return train, validation


def window_starts(
    n_tokens: int, context_length: int, batch_size: int, seed: int, step: int
) -> NDArray[np.int64]:
    """Where the windows of a step begin: a function of its arguments and of nothing that happened before.

    n_tokens > context_length -> [batch_size], each with context_length + 1 tokens from there on.
    """
    return np.random.default_rng((seed, step)).integers(n_tokens - context_length, size=batch_size)


def windows(
    ids: Tensor | NDArray[np.generic], starts: NDArray[np.int64], context_length: int
) -> tuple[Tensor, Tensor]:
    """The windows that begin there and, for each position, the token that follows it.

    ids: integers [N], in memory or mapped; starts: [B] -> two of [B, context_length], int64.
    """
    offsets = starts[:, None] + np.arange(context_length + 1)
    both = torch.from_numpy(np.asarray(ids)[offsets].astype(np.int64))
    return both[:, :-1], both[:, 1:]
