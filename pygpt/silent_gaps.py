"""What a tokenizer would drop without a word: characters that a BPE vocabulary has no token for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tokenizers


class SilentGaps:
    """The characters that the library leaves out of a text's tokens, so that decoding gives another text.

    Attributes:
        bytes: of a byte-level vocabulary, those that it has no token for.
        any: whether there can be such characters.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        description: Mapping[str, Any],
        byte_characters: Mapping[int, str],
    ) -> None:
        self._tokenizer = tokenizer
        self._lacking: dict[str, bool] = {}
        added = tokenizer.get_added_tokens_decoder().values()
        self._added = _any_of(token.content for token in added)
        self._words = _any_of(token.content for token in added if not token.special)
        model = description["model"]
        vocabulary = model.get("vocab", {})
        drops = model["type"] == "BPE" and model["unk_token"] is None
        if model.get("byte_fallback"):
            drops = drops and not all(f"<0x{byte:02X}>" in vocabulary for byte in range(256))
        # In either of them somewhere: both may be a Sequence of several.
        steps = json.dumps([description["pre_tokenizer"], description["normalizer"]])
        self._byte_level = '"type": "ByteLevel"' in steps
        missing = (byte for byte, character in byte_characters.items() if character not in vocabulary)
        self.bytes = frozenset(missing) if drops and self._byte_level else frozenset()
        self.any = bool(self.bytes) if self._byte_level else drops

    def characters(self, text: str, *, special_tokens: bool = False) -> set[str]:
        """Those of the text that have no token, once it is normalized. What stands in an added token needs
        none; in a special one, where those are read."""
        if not self.any:
            return set()
        text = (self._added if special_tokens else self._words).sub("", text)
        normalizer = self._tokenizer.normalizer
        normal = normalizer.normalize_str(text) if normalizer else text
        return {each for each in set(normal) if self._lacks(each)}

    def _lacks(self, character: str) -> bool:
        if character not in self._lacking:
            self._lacking[character] = self._has_no_token(character)
        return self._lacking[character]

    def _has_no_token(self, character: str) -> bool:
        if self._byte_level:
            return not self.bytes.isdisjoint(character.encode())
        # What a pre-tokenizer takes away is meant to go (spaces between words), and what it puts in the place
        # of another counts.
        splitter = self._tokenizer.pre_tokenizer
        words = splitter.pre_tokenize_str(character) if splitter else [(character, None)]
        tokens = self._tokenizer.encode(character, add_special_tokens=False).tokens
        return not set("".join(word for word, _ in words)) <= set("".join(tokens))


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(map(re.escape, texts), key=len, reverse=True)
    return re.compile("|".join(longest_first) or "(?!)")  # which matches nothing
