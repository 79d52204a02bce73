"""The vocabulary of a checkpoint that holds none: from a tokenizer, a text, its characters or a meta.pkl."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import tokenizers

from pygpt.checkpoints.base import Options, Source, is_path
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.tokenizer import Tokenizer

MAX_META_BYTES = 64 << 20
_MAX_TOKENIZER_CONFIG_BYTES = 16 << 20


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


_BESIDE = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def given_or_beside(source: Source, options: Options) -> tuple[Tokenizer | None, tuple[str, ...]]:
    """The vocabulary that is given, else the tokenizer.json beside the weights; a line where none is."""
    tokenizer = given(options)
    if tokenizer is not None or refused(options):
        return tokenizer, ()
    file = None if source.directory is None else source.directory / "tokenizer.json"
    if file is not None and file.is_file():
        return from_file(file), ()
    return None, ("no tokenizer: the file speaks token ids only; tokenizer= adds one",)


def files_beside(source: Source) -> tuple[Path, ...]:
    """What Hugging Face's directories hold about text."""
    return tuple(source.directory / name for name in _BESIDE) if source.directory else ()


def chat_template_beside(source: Source) -> dict[str, bytes]:
    """The chat template beside the weights, which older versions keep in tokenizer_config.json."""
    if source.directory is None:
        return {}
    file, older = source.directory / "chat_template.jinja", source.directory / "tokenizer_config.json"
    if file.is_file():
        return {"chat_template.jinja": file.read_bytes()}
    if not older.is_file() or older.stat().st_size > _MAX_TOKENIZER_CONFIG_BYTES:
        return {}
    try:
        fields = json.loads(older.read_text("utf-8"))
    except (ValueError, RecursionError):  # it is the tokenizer's, and we take the template only
        return {}
    template = fields.get("chat_template") if isinstance(fields, dict) else None
    return {"chat_template.jinja": template.encode("utf-8")} if isinstance(template, str) else {}


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


def from_file(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json.

    Raises:
        InvalidRequestError: it cannot be read or is none.
    """
    try:
        return Tokenizer.from_json(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError("tokenizer", f"{str(path)!r} cannot be read: {error}") from error


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
    if isinstance(tokenizer, tokenizers.Tokenizer):
        return Tokenizer(tokenizer)
    if not is_path(tokenizer):
        raise InvalidRequestError(
            "tokenizer", f"must be a tokenizer or a path, not {type(tokenizer).__name__}"
        )
    path = Path(tokenizer)
    return from_file(path / "tokenizer.json" if path.is_dir() else path)
