"""Where a text has special tokens, and texts in which nothing can be taken for one."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from tokenizers import AddedToken


class SpecialTokens:
    """The special tokens of a tokenizer, by how they are written.

    Attributes:
        are_literal: a text holds a token exactly where the token's characters stand; no normalizer makes one.
    """

    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        self.are_literal = not any(token.normalized for token in tokens)
        longest_first = sorted((re.escape(token.content) for token in tokens), key=len, reverse=True)
        self._pattern = re.compile("|".join(longest_first) or "(?!)")  # which matches nothing
        # Some take away the spaces before or behind them.
        self._strips_before = {token.content for token in tokens if token.lstrip}
        self._strips_behind = {token.content for token in tokens if token.rstrip}
        self._sorted = sorted(token.content for token in tokens)
        self._sorted_backwards = sorted(token.content[::-1] for token in tokens)
        self._longest = max((len(token.content) for token in tokens), default=0)

    def split(self, text: str) -> Iterator[tuple[str, str | None]]:
        """Pairs of a plain text and the token behind it; None behind the last."""
        place, last = 0, ""
        for match in self._pattern.finditer(text):
            token = match[0]
            part = text[place : match.start()]
            part = part.lstrip() if last in self._strips_behind else part
            yield part.rstrip() if token in self._strips_before else part, token
            place, last = match.end(), token
        yield text[place:].lstrip() if last in self._strips_behind else text[place:], None

    def broken_up(self, text: str, mark: str) -> str:
        """The text with marks in everything that looks like a token. Templates strip the spaces around a
        text, so what would touch their own characters then is marked too."""
        text = self._pattern.sub(lambda match: f"{mark}{mark.join(match[0])}{mark}", text)
        inner = text.strip()
        begin = text.index(inner)
        end = begin + len(inner)
        sizes = range(1, min(self._longest, len(inner) + 1))
        if any(_goes_on(inner[-size:], self._sorted) for size in sizes):
            text = text[:end] + mark + text[end:]
        if any(_goes_on(inner[:size][::-1], self._sorted_backwards) for size in sizes):
            text = text[:begin] + mark + text[begin:]
        return text


def _goes_on(beginning: str, texts: Sequence[str]) -> bool:
    """Whether one of the texts, which are sorted, begins so and is longer."""
    place = bisect_right(texts, beginning)
    return place < len(texts) and texts[place].startswith(beginning)
