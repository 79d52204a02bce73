"""A prompt's keys and values in a file: what `Engine.save_prefix` keeps.

One line that names the format, one line of JSON, the token ids (int32, little-endian), the pages of the
cache.
"""

from __future__ import annotations

import json
import os
import stat
from array import array
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

from pygpt import _core
from pygpt.atomic import replacing
from pygpt.errors import ModelFileError

MAGIC = b"pygpt prefix 1\n"
HEADER_LIMIT = 4096  # bytes
_ID_BYTES = 4
# What the bits of the cache depend on, beside the tokens: names of `Engine.info`.
_MUST_AGREE = ("fingerprint", "kv_dtype", "isa", "version", "kv_page_bytes", "kv_page_tokens")


def write(path: str | PathLike[str], info: Mapping[str, Any], ids: Sequence[int], pages: bytes) -> None:
    """Write a prefix; the file at `path` is replaced whole or not at all. Raises OSError."""
    tokens = array("i", ids).tobytes()
    header = _facts(info) | {
        "tokens": len(ids), "tokens_crc32c": _core.crc32c(tokens), "pages_crc32c": _core.crc32c(pages),
    }  # fmt: skip
    with replacing(Path(path)) as temporary, open(temporary, "r+b") as file:
        file.write(MAGIC + json.dumps(header).encode() + b"\n" + tokens + pages)
        file.flush()
        os.fsync(file.fileno())


def read(path: str | PathLike[str], info: Mapping[str, Any]) -> tuple[list[int], bytes]:
    """The token ids and the pages of a prefix that fits an engine. No more is read than that can have.

    Raises:
        ModelFileError: damaged, or of another model or engine.
        OSError: missing, unreadable.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _refused(path, "not_a_file", "is not a regular file")
        header = _header(path, file)
        for name, own in _facts(info).items():
            if header.get(name) != own:
                message = f"was saved with {name} {header.get(name)!r}, this engine has {own!r}; save it anew"
                raise _refused(path, "other_engine", message)
        count = header.get("tokens")
        if type(count) is not int or not 0 < count <= info["context_length"]:
            raise _refused(path, "invalid_header", f"{count!r} tokens do not fit into the context")
        pages = -(-count // info["kv_page_tokens"]) * info["kv_page_bytes"]
        if os.fstat(descriptor).st_size != file.tell() + count * _ID_BYTES + pages:
            raise _refused(path, "truncated", "has another size than its header says")
        tokens = _section(path, file, "tokens", count * _ID_BYTES, header)
        found = _section(path, file, "pages", pages, header)
    ids = array("i", tokens).tolist()
    if not all(0 <= token < info["config"]["vocab_size"] for token in ids):
        raise _refused(path, "invalid_header", "holds a token that is not in the vocabulary")
    return ids, found


def _facts(info: Mapping[str, Any]) -> dict[str, Any]:
    known = {**info, "version": _core.__version__}
    return {name: known[name] for name in _MUST_AGREE}


def _header(path: str | PathLike[str], file: BinaryIO) -> dict[str, Any]:
    if file.read(len(MAGIC)) != MAGIC:
        raise _refused(path, "not_a_prefix", "is no prefix that this version of pygpt has saved")
    line = file.readline(HEADER_LIMIT)
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not line.endswith(b"\n") or not isinstance(header, dict):
        raise _refused(path, "invalid_header", "its second line is not the JSON that save_prefix writes")
    return header


def _section(
    path: str | PathLike[str], file: BinaryIO, name: str, size: int, header: Mapping[str, Any]
) -> bytes:
    found = file.read(size)
    if len(found) != size or header.get(f"{name}_crc32c") != _core.crc32c(found):
        raise _refused(path, "checksum", "is damaged: the checksum does not agree; save it anew", name)
    return found


def _refused(path: str | PathLike[str], code: str, message: str, section: str = "") -> ModelFileError:
    return ModelFileError(os.fspath(path), code, message, section)
