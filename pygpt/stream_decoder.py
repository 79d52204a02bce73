"""Token ids to text, one at a time: only whole characters leave, and their sum is the decoding of the
whole."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

_HELD_TOKENS = 16  # that may be needed to make one character; then what is there is shown, whole or not


class Decoding(Protocol):
    """What a StreamDecoder needs of a tokenizer."""

    def bytes_of(self, token: int) -> bytes | None:
        """What the token stands for wherever it stands, or None if that depends on its neighbours."""

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str: ...
    def is_special(self, token: int) -> bool: ...


class StreamDecoder:
    """Decodes a growing list of tokens. The cost of a token does not grow with the text.

    Characters that span tokens leave when they are whole; bytes that are no UTF-8 leave as U+FFFD as soon as
    that is certain, as in the decoding of the whole (Unicode 15, section 3.9, "substitution of maximal
    subparts").
    """

    def __init__(self, tokenizer: Decoding, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._context: list[int] = []  # decoded already; decides about spaces of what follows
        self._pending: list[int] = []

    def feed(self, token: int) -> str:
        """The text that is complete with this token; may be empty."""
        if self._skip_special_tokens and self._tokenizer.is_special(token):
            return ""
        content = self._tokenizer.bytes_of(token)
        if content is not None:
            return self._utf8.decode(content)
        self._pending.append(token)
        text = self._decode_pending()
        if text.endswith("\ufffd") and len(self._pending) < _HELD_TOKENS:
            return ""
        self._context, self._pending = self._pending, []
        return text

    def finish(self) -> str:
        """The rest: a character that was never completed, as U+FFFD."""
        text = self._decode_pending() if self._pending else ""
        self._pending = []
        return self._utf8.decode(b"", final=True) + text

    def _decode_pending(self) -> str:
        """The text that pending tokens add behind the context's."""
        before = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._pending)[len(before) :]
