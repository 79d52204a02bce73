"""Where a text has special tokens, and texts in which nothing can be taken for one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tokenizers import AddedToken


class SpecialTokens:
    """The special tokens of a tokenizer, by how they are written.

    Attributes:
        are_literal: a text holds a token exactly where the token's characters stand; no normalizer makes one.
    """

    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        self.are_literal = not any(token.normalized for token in tokens)
        longest_first = sorted(tokens, key=lambda token: len(token.content), reverse=True)
        alternatives = "|".join(map(_pattern, longest_first)) or "(?!)"  # which matches nothing
        self._pattern = re.compile(alternatives)
        self._contents = [token.content for token in longest_first]
        texts = [token.content for token in tokens]
        self._beginnings = {text[:size] for text in texts for size in range(1, len(text))}
        self._endings = {text[size:] for text in texts for size in range(1, len(text))}
        self._longest = max(map(len, texts), default=0)

    def split(self, text: str) -> Iterator[tuple[str, str | None]]:
        """Pairs of a plain text and the token behind it; None behind the last."""
        place = 0
        for match in self._pattern.finditer(text):
            yield text[place : match.start()], next(c for c in self._contents if c in match[0])
            place = match.end()
        yield text[place:], None

    def broken_up(self, text: str, mark: str) -> str:
        """The text with marks in everything that looks like a token. Templates strip the spaces around a
        text, so what would touch their own characters then is marked too."""
        text = self._pattern.sub(lambda match: f"{mark}{mark.join(match[0])}{mark}", text)
        inner = text.strip()
        sizes = range(1, min(self._longest, len(inner) + 1))
        if any(inner[-size:] in self._beginnings for size in sizes):
            end = text.index(inner) + len(inner)
            text = text[:end] + mark + text[end:]
        if any(inner[:size] in self._endings for size in sizes):
            begin = text.index(inner)
            text = text[:begin] + mark + text[begin:]
        return text


def _pattern(token: AddedToken) -> str:
    """A token, with the spaces around it that it takes away."""
    return (r"\s*" if token.lstrip else "") + re.escape(token.content) + (r"\s*" if token.rstrip else "")
