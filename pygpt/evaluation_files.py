"""What can be evaluated: texts, JSON lines, and shards of token ids."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import InvalidRequestError
from pygpt.tokenizer import Tokenizer

_LLM_C_MAGIC, _LLM_C_HEADER = 20240520, 1024  # of a shard of llm.c: a header of 256 int32


def token_ids_of(path: Path, tokenizer: Tokenizer | None) -> tuple[list[NDArray[np.integer]], bool]:
    """The texts of a file as token ids, and whether each is a document by itself, of which the rest counts.

    A `.bin` is uint16 ids (nanoGPT's, or llm.c's with its header); a `.jsonl` has an object with a `text` on
    each line; any other file is one text, in UTF-8, without a byte order mark and with LF for CRLF, as
    `pygpt train` reads it.

    Raises:
        InvalidRequestError: the file is missing, empty, no regular file, or not what its name says, or the
            model has no tokenizer.
    """
    try:
        # A device may never end, a pipe may never begin.
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidRequestError("FILE", f"{path} is no regular file: write the text to one")
        if path.suffix == ".bin":
            return [_shard(path)], False
        content = path.read_bytes()
    except OSError as error:
        raise InvalidRequestError("FILE", f"{path} cannot be read: {error.strerror or error}") from error
    if not content:
        raise InvalidRequestError("FILE", f"{path} is empty: there is nothing to predict")
    if tokenizer is None:
        raise InvalidRequestError(
            "FILE", "the model file has no tokenizer: give a .bin of uint16 ids, or export with a tokenizer"
        )
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        byte = f"0x{content[error.start]:02x} at byte {error.start}"
        raise InvalidRequestError("FILE", f"{path} is not UTF-8: {byte} ({error.reason})") from error
    if path.suffix == ".jsonl":
        lines = enumerate(text.split("\n"), 1)
        texts = [_text(f"{path}, line {number}", line) for number, line in lines if line.strip()]
        return [np.array(tokenizer.encode(each, param="FILE"), np.int64) for each in texts], True
    return [np.array(tokenizer.encode(text, param="FILE"), np.int64)], False


def _shard(path: Path) -> NDArray[np.integer]:
    """The ids, mapped: a shard may be large."""
    size = path.stat().st_size
    if size == 0 or size % 2:
        raise InvalidRequestError("FILE", f"{path} has {size} bytes: no file of uint16 token ids")
    with path.open("rb") as file:
        header = np.frombuffer(file.read(12), "<i4") if size >= _LLM_C_HEADER else np.zeros(0, "<i4")
    if len(header) == 0 or header[0] != _LLM_C_MAGIC:
        return np.memmap(path, "<u2", "r")
    if header[1] != 1:
        raise InvalidRequestError("FILE", f"{path} is a shard of llm.c of version {header[1]}; 1 is read")
    return np.memmap(path, "<u2", "r", offset=_LLM_C_HEADER)


def _text(where: str, line: str) -> str:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError("FILE", f"{where} is not JSON: {error}") from error
    text = fields.get("text") if isinstance(fields, dict) else None
    if not isinstance(text, str):
        raise InvalidRequestError("FILE", f"{where} is no object with a text in its field text")
    return text
