"""libFuzzer, by atheris, on the tokenizer of a model file: what we check of it and what the library reads.

    pip install atheris && python tests/fuzz/tokenizer_section.py -max_total_time=600 -max_len=4096 CORPUS

The library, in Rust, is not instrumented; where it panics, `Tokenizer` must say so in its own words.
"""

from __future__ import annotations

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["pygpt.blobs", "pygpt.tokenizer", "pygpt.special_tokens"]):
    from pygpt.blobs import file_tokenizer

from pygpt.errors import InvalidRequestError, ModelFileError


class File:
    """A model file as far as its tokenizer is concerned."""

    path = "model.pygpt"
    config = {"vocab_size": 300}  # noqa: RUF012
    blobs = ("tokenizer.json",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def blob(self, _name: str) -> bytes:
        return self._content


def read(content: bytes) -> None:
    """Open a tokenizer and use it: right, or an error of ours."""
    with contextlib.suppress(ModelFileError, InvalidRequestError):
        tokenizer = file_tokenizer(File(content))  # type: ignore[arg-type]
        assert tokenizer is not None
        ids = tokenizer.encode("a b")
        tokenizer.decode(ids)
        for token in ids:
            tokenizer.bytes_of(token)


atheris.Setup(sys.argv, read)
atheris.Fuzz()
