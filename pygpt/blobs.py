"""What a model file carries beside its weights, read with care: a file may come from anyone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pygpt.errors import InvalidRequestError, ModelFileError

if TYPE_CHECKING:
    from pygpt import _core
    from pygpt.tokenizer import Tokenizer

MAX_DEPTH = 64  # of lists in lists; what json.loads reads, json.dumps and repr must be able to write
_LONGEST_INTEGER = 20  # characters: 64 bits and a sign
_CODES = {"tokenizer.json": "invalid_tokenizer", "chat.json": "invalid_chat"}
_CODES |= {"chat_template.jinja": "invalid_chat"}

T = TypeVar("T")


def text_blob(file: _core.ModelFile, name: str) -> str | None:
    """A blob as text, or None if the file has none of this name.

    Raises:
        ModelFileError: it is not UTF-8.
    """
    if name not in file.blobs:
        return None
    try:
        return str(file.blob(name), "utf-8")
    except UnicodeDecodeError as error:
        fault = f"is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}"
        raise _wrong(file, name, fault) from None


def json_blob(file: _core.ModelFile, name: str, type_: type[T]) -> T | None:
    """What a blob of JSON says, or None if the file has none of this name.

    Raises:
        ModelFileError: it is not JSON in UTF-8, its outermost value is no `type_`, it nests deeper than 64,
            or has a number that is not finite or an integer beyond 64 bits.
    """
    text = text_blob(file, name)
    if text is None:
        return None
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_bounded)
        _check_depth(value)
    except RecursionError:
        raise _wrong(file, name, "nests too deep") from None
    except ValueError as error:
        raise _wrong(file, name, f"is not usable JSON: {error}") from None
    if not isinstance(value, type_):
        raise _wrong(file, name, f"is a JSON {type(value).__name__}, where a {type_.__name__} belongs")
    return value


def file_tokenizer(file: _core.ModelFile) -> Tokenizer | None:
    """The tokenizer of a model file, or None if it has none.

    Raises:
        ModelFileError: it is not what the `tokenizers` library reads, it fails on a plain text, or it has
            ids that the model has not.
    """
    name = "tokenizer.json"
    if json_blob(file, name, dict) is None:
        return None
    from pygpt.tokenizer import Tokenizer

    try:
        tokenizer = Tokenizer.from_json(text_blob(file, name) or "", vocab_size=file.config["vocab_size"])
        tokenizer.try_out()
    except InvalidRequestError as error:
        raise _wrong(file, name, error.message) from error
    return tokenizer


def _wrong(file: _core.ModelFile, name: str, fault: str) -> ModelFileError:
    return ModelFileError(file.path, _CODES.get(name, "invalid_blob"), fault, f"blob {name}")


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:40]} is too large")
    return number


def _bounded(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise ValueError(f"an integer of {len(digits)} characters")
    return int(digits)


def _check_depth(value: Any) -> None:
    """Raises ValueError below MAX_DEPTH; by levels, since a recursion could not go where it must."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [each for holder in level for each in _inside(holder) if isinstance(each, dict | list)]
        if not level:
            return
    raise ValueError(f"it nests deeper than {MAX_DEPTH}")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
