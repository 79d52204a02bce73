"""Text to token ids and back. Every tokenizer is one `tokenizer.json` of the `tokenizers` library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from pygpt.errors import InvalidRequestError

# Any one code point, newlines too: "." would skip them, and the (?s) of other dialects is unknown to
# Oniguruma.
_ANY_CHARACTER = r"[\s\S]"


class Tokenizer:
    """A tokenizer of the `tokenizers` library, with a fast way for character vocabularies.

    Attributes:
        vocab_size: number of token ids; they run from 0 to vocab_size - 1.
        special_tokens: id of each special token, by the way it is written.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        tokenizer.encode_special_tokens = (
            True  # what a text holds is text, also where it looks like a special token
        )
        self.vocab_size: int = tokenizer.get_vocab_size()
        added = tokenizer.get_added_tokens_decoder()
        self.special_tokens = {token.content: index for index, token in added.items() if token.special}
        self._special_ids = frozenset(self.special_tokens.values())
        longest_first = sorted(map(re.escape, self.special_tokens), key=len, reverse=True)
        self._special_pattern = re.compile(
            "(" + ("|".join(longest_first) or "(?!)") + ")"
        )  # (?!) matches nothing
        description = json.loads(tokenizer.to_str())
        self._decoder: str | None = (description["decoder"] or {}).get("type")
        self._characters = _characters(description)
        self._id_of = {character: index for index, character in enumerate(self._characters or "")}

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
        """One token per character that occurs in the text, in the order of code points, as the lecture
        does."""
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

    def encode(self, text: str | bytes, *, allow_special: bool = False, param: str = "text") -> list[int]:
        """Token ids of a text. Bytes are read as UTF-8; byte-level tokenizers take any bytes.

        Args:
            allow_special: whether what looks like a special token is that token. By default it is plain text.
            param: what the errors call the text.

        Raises:
            InvalidRequestError: a character that the vocabulary cannot express (the message shows it and
                where), a
                lone surrogate, or bytes that are no UTF-8.
        """
        if isinstance(text, bytes):
            return self._encode_bytes(text, allow_special, param)
        if allow_special and self.special_tokens:
            return self.encode_marked(text, "", param=param)
        if self._characters is not None:
            return self._encode_characters(text, param)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequestError(
                param,
                f"has a lone surrogate, {text[error.start]!a}, at position {error.start}: no Unicode text",
            ) from None
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_marked(self, text: str, mark: str, *, param: str = "text") -> list[int]:
        """As `encode` with special tokens, but those that `broken_up` broke are plain text; the marks
        vanish."""
        parts = self._special_pattern.split(text)
        ids: list[int] = []
        for place, part in enumerate(parts):  # text, token, text, token, ..., text
            is_token = place % 2 == 1
            ids += (
                [self.special_tokens[part]] if is_token else self.encode(part.replace(mark, ""), param=param)
            )
        return ids

    def broken_up(self, text: str, mark: str) -> str:
        """The text with marks between its characters if anything in it looks like a special token."""
        return mark.join(text) if self._special_pattern.search(text) else text

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of the token ids; special tokens are shown as they are written, or skipped.

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
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def is_special(self, token: int) -> bool:
        return token in self._special_ids

    def bytes_of(self, token: int) -> bytes | None:
        """What the token stands for wherever it stands, as UTF-8 or a part of it; b"" for an id that has no
        token.

        None where that depends on its neighbours (decoders that join words).
        """
        if self._decoder not in ("Fuse", "ByteLevel"):
            return None
        content = self._tokenizer.id_to_token(token) or ""
        if self._decoder == "ByteLevel" and all(character in _BYTE_OF for character in content):
            return bytes(_BYTE_OF[character] for character in content)
        return content.encode()

    def unknown_characters(self, text: str) -> set[str]:
        """The characters of a text that the vocabulary lacks."""
        if self._characters is not None:
            return set(text) - self._id_of.keys()
        return {character for character in set(text) if "\ud800" <= character <= "\udfff"}

    def _encode_characters(self, text: str, param: str) -> list[int]:
        try:
            return list(map(self._id_of.__getitem__, text))
        except KeyError as error:
            character = error.args[0]
            where = f"(U+{ord(character):04X}) at position {text.index(character)}"
            raise InvalidRequestError(
                param,
                f"the character {character!r} {where} is not among the {len(self._id_of)} characters of this "
                "model's vocabulary",
            ) from None

    def _encode_bytes(self, content: bytes, allow_special: bool, param: str) -> list[int]:
        try:
            return self.encode(content.decode(), allow_special=allow_special, param=param)
        except UnicodeDecodeError as error:
            if self._decoder != "ByteLevel":
                raise InvalidRequestError(
                    param, f"the byte 0x{content[error.start]:02x} at {error.start} is not UTF-8, and this "
                    "tokenizer knows characters, not bytes"
                ) from None  # fmt: skip
        ids: list[int] = []
        for part in re.split("([\udc80-\udcff])", content.decode(errors="surrogateescape")):
            if "\udc80" <= part <= "\udcff":
                ids.append(self._id_of_byte(ord(part) - 0xDC00, param))
            else:
                ids += self.encode(part, allow_special=allow_special, param=param)
        return ids

    def _id_of_byte(self, byte: int, param: str) -> int:
        token: int | None = self._tokenizer.token_to_id(_CHARACTER_OF[byte])
        if token is None:
            raise InvalidRequestError(param, f"the vocabulary has no token for the byte 0x{byte:02x}")
        return token


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


def _characters(description: dict[str, Any]) -> list[str] | None:
    """The characters by id if this is a tokenizer of `from_characters`, else None."""
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


def _byte_alphabet() -> dict[int, str]:
    """The characters that byte-level vocabularies write bytes as: printable ones stand for themselves, the
    others
    take the code points from 256 on (GPT-2's encoder.py, `bytes_to_unicode`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


_CHARACTER_OF = _byte_alphabet()
_BYTE_OF = {character: byte for byte, character in _CHARACTER_OF.items()}
