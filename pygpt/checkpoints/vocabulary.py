"""The vocabulary of a checkpoint that holds none: from a tokenizer, a text, its characters, a meta.pkl,
or the files beside it."""

from __future__ import annotations

import io
import os
import pickle
import re
from pathlib import Path
from typing import Any

import tokenizers

from pygpt.checkpoints import tiktoken_file, tokenizer_files
from pygpt.checkpoints.base import Options, Source, is_path
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.tokenizer import Tokenizer

MAX_META_BYTES = 64 << 20


def given(options: Options) -> Tokenizer | None:
    """The tokenizer that the caller's options describe, or None if they describe none.

    Raises:
        InvalidRequestError: more than one of tokenizer, text, chars and meta is given, or it cannot be used.
        ModelFileError: the meta.pkl is not one.
    """
    sources = ("tokenizer", "text", "chars", "meta")
    named = [name for name in sources if getattr(options, name) is not None]
    if len(named) > 1:
        raise InvalidRequestError(
            named[1], f"{' and '.join(named)} both say what the vocabulary is; give one"
        )
    if options.text is not None:
        return Tokenizer.from_text(text_of(options.text))
    if options.chars is not None:
        return Tokenizer.from_characters(options.chars)
    if options.meta is not None:
        return from_meta(Path(options.meta))
    if options.tokenizer is None or refused(options):
        return None
    return _from_tokenizer(options.tokenizer)


def refused(options: Options) -> bool:
    """Whether the caller asked for a file without a tokenizer, which speaks token ids only."""
    return isinstance(options.tokenizer, str) and options.tokenizer == "none"


def found(options: Options, *directories: Path) -> tuple[Tokenizer | None, tuple[str, ...]]:
    """The tokenizer that is given, else that of the first directory that has one, and a line where none has.

    Raises: as `given` and `tokenizer_files.in_directory`.
    """
    tokenizer = given(options)
    if tokenizer is not None or refused(options):
        return tokenizer, ()
    for directory in directories:
        beside = tokenizer_files.in_directory(directory)
        if beside is not None:
            return beside, ()
    return None, ("no tokenizer: the file speaks token ids only; tokenizer= adds one",)


def files(*directories: Path) -> tuple[Path, ...]:
    """Every file that `found` may read."""
    return tuple(file for directory in directories for file in tokenizer_files.files_of(directory))


def fitted(tokenizer: Tokenizer, rows: int, source: Source, *, padded: bool = False) -> int:
    """How many of the embedding's rows are tokens; those past them are padding, which `padded` allows.

    Raises:
        ModelFileError: the vocabulary is not this model's.
    """
    size = tokenizer.vocab_size
    if size > rows or (size < rows and not padded):
        raise source.error(
            "wrong_vocabulary",
            f"the vocabulary given has {size} tokens, but the model has {rows}: it is of another text",
        )
    return size


def newline(tokenizer: Tokenizer | None) -> int | None:
    """The id of a line feed where it is one token: what a text may begin from."""
    if tokenizer is None:
        return None
    try:
        ids = tokenizer.encode("\n")
    except InvalidRequestError:  # a vocabulary without it
        return None
    return ids[0] if len(ids) == 1 else None


def from_meta(path: Path) -> Tokenizer:
    """The characters of a nanoGPT meta.pkl: {"vocab_size": int, "itos": {id: str}, "stoi": {str: id}}.

    Raises:
        ModelFileError: it is missing, holds anything but plain containers, strings and numbers, or no
            characters.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_META_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ModelFileError(str(path), "missing", f"cannot be opened: {error}") from error
    if len(data) > MAX_META_BYTES:
        raise ModelFileError(
            str(path), "damaged", f"is larger than {MAX_META_BYTES} bytes: no meta.pkl of characters"
        )
    try:
        itos = _PlainUnpickler(io.BytesIO(data)).load()["itos"]
        return Tokenizer.from_characters([itos[i] for i in range(len(itos))])
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its opcodes stumble over
        raise ModelFileError(str(path), "damaged", f"is not a meta.pkl of characters: {error!r}") from error


def text_of(text: str | os.PathLike[str], param: str = "text") -> str:
    """The text given, or that of the file named, with newlines as Python's `open` gives them.

    Raises:
        InvalidRequestError: of `param`: the file is missing or cannot be read.
    """
    if isinstance(text, str) and (
        len(text) > 4096 or "\n" in text or "\0" in text or not os.path.exists(text)
    ):
        if re.fullmatch(r"\S+\.\w{1,5}", text):  # a name such as input.txt is no text that anyone trains on
            raise InvalidRequestError(param, f"there is no file {text!r}")
        return text
    if os.path.exists(text) and not os.path.isfile(text):
        message = f"{os.fspath(text)!r} is a directory or a device; name the file of the text"
        raise InvalidRequestError(param, message)
    try:
        return Path(text).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(param, f"{os.fspath(text)!r} cannot be read: {error}") from error


class _PlainUnpickler(pickle.Unpickler):
    """Containers, strings and numbers need no name looked up; everything that runs code does."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}; only plain containers, strings and numbers are read"
        )


def _from_tokenizer(tokenizer: object) -> Tokenizer:
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)  # of the fast tokenizers of transformers
    if isinstance(backend, tokenizers.Tokenizer):
        return Tokenizer(tokenizers.Tokenizer.from_str(backend.to_str()))  # the caller's stays as it is
    if tiktoken_file.is_encoding(tokenizer):
        return tiktoken_file.from_encoding(tokenizer)
    if not is_path(tokenizer):
        raise InvalidRequestError(
            "tokenizer",
            "must be a tokenizer (of pygpt, tokenizers, tiktoken, or a fast one of transformers) or a path, "
            f"not {type(tokenizer).__name__}",
        )
    return tokenizer_files.from_path(Path(tokenizer))
