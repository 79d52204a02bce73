"""tiktoken's vocabularies without tiktoken: a pickled Encoding (nanochat's tokenizer.pkl), a file of ranks,
or a live Encoding."""

from __future__ import annotations

import base64
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pygpt.checkpoints import bpe
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.tokenizer import Tokenizer

MAX_BYTES = 64 << 20

_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
    r"|\s*[\r\n]|\s+(?!\S)|\s"
)
_END = "<|endoftext|>"
_FIM = {"<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260}
# A file of ranks says nothing else, so the rest is known by the file's name (tiktoken_ext/openai_public.py).
KNOWN: dict[str, tuple[str, dict[str, int]]] = {
    "gpt2": (_GPT2, {_END: 50256}),
    "r50k_base": (_GPT2, {_END: 50256}),
    "p50k_base": (_GPT2, {_END: 50256}),
    "cl100k_base": (_CL100K, {_END: 100257, **_FIM, "<|endofprompt|>": 100276}),
}


def from_pickle(path: Path) -> Tokenizer:
    """The tokenizer of a pickled tiktoken.Encoding. Nothing in the pickle is run.

    Raises:
        ModelFileError: it is missing, holds anything but an Encoding, or one that cannot be used.
    """
    data = _bytes(path)
    try:
        held = _EncodingUnpickler(io.BytesIO(data)).load()
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        message = f"is refused: {error}. Only a pickled tiktoken.Encoding is read, and no code is run"
        raise ModelFileError(str(path), "unsafe_pickle", message) from error
    except Exception as error:  # a damaged pickle raises whatever its opcodes stumble over
        raise ModelFileError(str(path), "invalid_tokenizer", f"is a damaged pickle: {error!r}") from error
    state = getattr(held, "state", None) if isinstance(held, _Encoding) else None
    if isinstance(state, str):
        message = (
            f"names tiktoken's own encoding {state!r} and does not hold it: pass the encoding itself, as in "
            f"pygpt.export(..., tokenizer=tiktoken.get_encoding({state!r}))"
        )
        raise ModelFileError(str(path), "invalid_tokenizer", message)
    if not isinstance(state, Mapping):
        raise ModelFileError(str(path), "invalid_tokenizer", "holds no tiktoken.Encoding")
    return _named(path, state.get("mergeable_ranks"), state.get("pat_str"), state.get("special_tokens"))


def from_ranks_file(path: Path) -> Tokenizer:
    """The tokenizer of a .tiktoken file: lines of a token in base64 and its rank.

    Raises:
        ModelFileError: it is no such file, or its name does not tell how its texts are split.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(_bytes(path).splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError as error:
            message = f"line {number} is not a token in base64 and its rank"
            raise ModelFileError(str(path), "invalid_tokenizer", message) from error
    if path.stem not in KNOWN:
        message = (
            f"holds ranks only, and how texts are split is known for the names {', '.join(KNOWN)} only; for "
            "another, pickle its tiktoken.Encoding, or pass it: pygpt.export(..., tokenizer=encoding)"
        )
        raise ModelFileError(str(path), "invalid_tokenizer", message)
    pattern, special_tokens = KNOWN[path.stem]
    return _named(path, ranks, pattern, special_tokens)


def is_encoding(value: object) -> bool:
    """Whether this is a tiktoken.Encoding, asked without importing tiktoken."""
    return type(value).__module__.split(".")[0] == "tiktoken" and type(value).__name__ == "Encoding"


def from_encoding(encoding: Any) -> Tokenizer:
    """The tokenizer of a live tiktoken.Encoding.

    Raises:
        InvalidRequestError: its split pattern is none that pygpt translates.
    """
    return bpe.from_ranks(encoding._mergeable_ranks, encoding._pat_str, encoding._special_tokens)


def _named(path: Path, ranks: Any, pattern: Any, special_tokens: Any) -> Tokenizer:
    if not isinstance(ranks, dict) or not isinstance(pattern, str) or not isinstance(special_tokens, dict):
        message = "is no tiktoken.Encoding: mergeable_ranks, pat_str or special_tokens is missing"
        raise ModelFileError(str(path), "invalid_tokenizer", message)
    try:
        return bpe.from_ranks(ranks, pattern, special_tokens)
    except InvalidRequestError as error:
        raise ModelFileError(str(path), "invalid_tokenizer", error.message) from error


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ModelFileError(str(path), "missing", f"cannot be opened: {error}") from error
    if len(data) > MAX_BYTES:
        raise ModelFileError(str(path), "invalid_tokenizer", f"is larger than {MAX_BYTES} bytes")
    return data


class _Encoding:
    """Stands for tiktoken.Encoding, and keeps what the pickle says of it."""

    def __init__(self, *args: object, **keywords: object) -> None:
        del args, keywords

    def __setstate__(self, state: object) -> None:
        self.state = state


class _EncodingUnpickler(pickle.Unpickler):
    """Looks up one name, and gives a class that does nothing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("tiktoken.core", "Encoding"), ("tiktoken", "Encoding")):
            return _Encoding
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
