"""Text to token ids and back. Every tokenizer is one `tokenizer.json` of the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import Regex, decoders, models, pre_tokenizers

from pygpt.errors import InvalidRequestError

# Any one code point, newlines too: "." would skip them, and Oniguruma knows no (?s).
_ANY_CHARACTER = r"[\s\S]"


class Tokenizer:
    """A tokenizer of the `tokenizers` library, with a fast way for character vocabularies.

    Attributes:
        vocab_size: number of token ids; they run from 0 to vocab_size - 1.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.vocab_size: int = tokenizer.get_vocab_size()
        self._characters = _characters(tokenizer)
        self._id_of_code_point = None if self._characters is None else _lookup_table(self._characters)

    @classmethod
    def from_characters(cls, chars: Iterable[str]) -> Tokenizer:
        """One token per character (Unicode code point), with ids in the order given.

        Raises:
            InvalidRequestError: no characters, one given twice, or not a single encodable code point.
        """
        vocabulary = {character: index for index, character in enumerate(_checked(list(chars)))}
        tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_ANY_CHARACTER), "isolated")
        tokenizer.decoder = decoders.Fuse()
        return cls(tokenizer)

    @classmethod
    def from_text(cls, text: str) -> Tokenizer:
        """One token per character that occurs in the text, in the order of code points (the lecture's)."""
        return cls.from_characters(sorted(set(text)))

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """The tokenizer that a `tokenizer.json` describes.

        Raises:
            InvalidRequestError: the text is not a tokenizer of the `tokenizers` library.
        """
        try:
            return cls(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the library raises bare Exception
            raise InvalidRequestError("tokenizer", f"not a valid tokenizer.json: {error}") from error

    def to_json(self) -> str:
        """The `tokenizer.json` that `from_json` reads; the same tokenizer always gives the same text."""
        return self._tokenizer.to_str()

    def encode(self, text: str) -> list[int]:
        """Token ids of the text.

        Raises:
            InvalidRequestError: a character that is not in the vocabulary; the message shows it and where.
        """
        if self._id_of_code_point is not None:
            return _encode_characters(text, self._id_of_code_point)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the token ids; special tokens are shown as they are written.

        Raises:
            InvalidRequestError: an id that is not in the vocabulary.
        """
        for position, token in enumerate(ids):
            if not 0 <= token < self.vocab_size:
                raise InvalidRequestError(
                    "ids", f"token {token} at index {position} is not in 0..{self.vocab_size - 1}"
                )
        if self._characters is not None:
            return "".join([self._characters[token] for token in ids])
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


def _checked(characters: list[str]) -> list[str]:
    if not characters:
        raise InvalidRequestError("chars", "is empty; a vocabulary needs at least one character")
    if len(set(characters)) != len(characters):
        twice = next(c for i, c in enumerate(characters) if c in characters[:i])
        raise InvalidRequestError("chars", f"{twice!r} occurs twice")
    for character in characters:
        if len(character) != 1 or 0xD800 <= ord(character) <= 0xDFFF:
            raise InvalidRequestError("chars", f"{character!r} is not one encodable Unicode character")
    return characters


def _characters(tokenizer: tokenizers.Tokenizer) -> list[str] | None:
    """The characters by id if this is a tokenizer of `from_characters`, else None."""
    description = json.loads(tokenizer.to_str())
    splitter = description["pre_tokenizer"] or {}
    if (
        description["model"]["type"] != "WordLevel"
        or description["normalizer"] is not None
        or description["added_tokens"]
        or splitter.get("pattern") != {"Regex": _ANY_CHARACTER}
    ):
        return None
    characters = sorted(description["model"]["vocab"], key=description["model"]["vocab"].__getitem__)
    return characters if all(len(character) == 1 for character in characters) else None


def _lookup_table(characters: list[str]) -> NDArray[np.int32]:
    """Table from code point to id, -1 where there is none; the entry past the largest code point is -1."""
    code_points = np.array([ord(character) for character in characters])
    table = np.full(code_points.max() + 2, -1, np.int32)
    table[code_points] = np.arange(len(characters))
    return table


def _encode_characters(text: str, table: NDArray[np.int32]) -> list[int]:
    """Ids of the characters by table: some 100 million characters a second, for training texts."""
    code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    ids = table[np.minimum(code_points, len(table) - 1)]
    unknown = np.flatnonzero(ids < 0)
    if unknown.size:
        position = int(unknown[0])
        character = text[position]
        raise InvalidRequestError(
            "text",
            f"the character {character!r} (U+{ord(character):04X}) at position {position} is not among the "
            f"{int((table >= 0).sum())} characters of this model's vocabulary",
        )
    encoded: list[int] = ids.tolist()
    return encoded
