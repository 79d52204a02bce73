"""Text to token ids and back. Every tokenizer is one `tokenizer.json` of the `tokenizers` library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from pygpt.errors import InvalidRequestError
from pygpt.kinds import shown
from pygpt.silent_gaps import SilentGaps
from pygpt.special_tokens import SpecialTokens

MAX_VOCAB_SIZE = 1 << 24  # of a tokenizer that no model limits

# Any one code point, newlines too: "." would skip them, and the (?s) of other dialects is unknown to
# Oniguruma.
_ANY_CHARACTER = r"[\s\S]"


class Tokenizer:
    """A tokenizer of the `tokenizers` library, with a fast way for character vocabularies.

    Attributes:
        token_ids: all that there are.
        vocab_size: one more than the largest of them.
        special_tokens: id of each special token, by the way it is written.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        # What a text holds is text, also where it looks like a special token.
        tokenizer.encode_special_tokens = True
        # Files of other tools may carry these; a text that is cut or filled up in silence is another text.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        description = json.loads(tokenizer.to_str())
        self.token_ids = frozenset(_described_ids(description))
        self.vocab_size = max(self.token_ids, default=-1) + 1
        added = tokenizer.get_added_tokens_decoder()
        self.special_tokens = {t.content: index for index, t in added.items() if t.special and t.content}
        self._special_ids = frozenset(self.special_tokens.values())
        self._special = SpecialTokens([token for token in added.values() if token.special and token.content])
        self._lock = Lock()  # of whether the library reads special tokens
        self._gaps = SilentGaps(tokenizer, description, _CHARACTER_OF)
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
    def from_json(cls, text: str, *, vocab_size: int = MAX_VOCAB_SIZE) -> Tokenizer:
        """The tokenizer that a `tokenizer.json` describes.

        Args:
            vocab_size: of the model: all token ids are below it.

        Raises:
            InvalidRequestError: the text is not a tokenizer of the `tokenizers` library, or has other ids.
        """
        with library_faults("tokenizer", "not a valid tokenizer.json"):
            # Before the library sees them: it walks from 0 to the largest id, and that may be 2**32 - 1.
            _check_ids(json.loads(text), vocab_size)
            return cls(tokenizers.Tokenizer.from_str(text))

    def try_out(self) -> None:
        """Encode and decode something: a tokenizer may load and then fail on every text.

        Raises:
            InvalidRequestError: the library panics. That it lacks the characters is no failure.
        """
        with library_faults("tokenizer", "it fails on a plain text"), suppress(Exception):  # but not a panic
            self._tokenizer.encode("a", add_special_tokens=False)
        with library_faults("tokenizer", "it fails on a token"):
            self._tokenizer.decode([0], skip_special_tokens=False)

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
        if self._characters is not None:
            return self._encode_characters(text, param)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequestError(
                param,
                f"has a lone surrogate, {text[error.start]!a}, at position {error.start}: no Unicode text",
            ) from None
        with library_faults(param, f"the tokenizer cannot read {shown(text)}"), self._lock:
            if self._tokenizer.encode_special_tokens is allow_special:
                self._tokenizer.encode_special_tokens = not allow_special
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
            lacking = self._gaps.characters(text, special_tokens=allow_special)
        if lacking:
            place = next((place for place, each in enumerate(text) if each in lacking), None)
            normal = f"the character {min(lacking)!r} of it, normalized,"
            what = normal if place is None else _at(text, place)
            raise InvalidRequestError(param, f"{what} has no token in this model's vocabulary")
        return ids

    def encode_marked(self, text: str, mark: str, *, param: str = "text") -> list[int]:
        """As `encode` with special tokens, but those that `broken_up` broke are plain text; the marks
        vanish."""
        if mark not in text and self._special.are_literal:
            return self.encode(text, allow_special=True, param=param)
        ids: list[int] = []
        for part, token in self._special.split(text):
            ids += self.encode(part.replace(mark, ""), param=param)
            ids += [] if token is None else [self.special_tokens[token]]
        return ids

    def broken_up(self, text: str, mark: str) -> str:
        """The text with marks in everything that looks like a special token, or could together with what a
        template writes around it."""
        return self._special.broken_up(text, mark)

    def leading_special(self, text: str) -> str | None:
        """The special token that a text begins with, spaces and line feeds aside; None if with another."""
        before, token = next(self._special.split(text))
        return None if before.strip() else token

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
        with library_faults("ids", "the tokenizer cannot write these tokens"):
            text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
            return text

    def text_of(self, ids: Sequence[int]) -> str:
        """As `decode`, but an id that has no token is no text: a model may know more ids than its
        tokenizer."""
        return self.decode([token for token in ids if token in self.token_ids])

    def is_special(self, token: int) -> bool:
        return token in self._special_ids

    def bytes_of(self, token: int) -> bytes | None:
        """What the token stands for wherever it stands, as UTF-8 or a part of it; b"" for an id that has no
        token.

        None where that depends on its neighbours (decoders that join words).
        """
        content = self._tokenizer.id_to_token(token)
        if content is None:
            return b""
        if self._decoder not in ("Fuse", "ByteLevel"):
            return None
        if self._decoder == "ByteLevel" and all(character in _BYTE_OF for character in content):
            return bytes(_BYTE_OF[character] for character in content)
        return content.encode()

    def extent(self, ids: Sequence[int]) -> tuple[int, int]:
        """Bytes (of UTF-8) and characters that the tokens stand for. One in several tokens counts where it
        begins."""
        parts = [self.bytes_of(token) for token in ids]
        exact = [part for part in parts if part is not None]
        content = b"".join(exact) if len(exact) == len(parts) else self.text_of(ids).encode()
        return len(content), sum(byte & 0xC0 != 0x80 for byte in content)  # those that continue are 10xxxxxx

    def unknown_characters(self, text: str) -> set[str]:
        """The characters of a text that the vocabulary lacks."""
        if self._characters is not None:
            return set(text) - self._id_of.keys()
        surrogates = {character for character in set(text) if "\ud800" <= character <= "\udfff"}
        return surrogates | self._gaps.characters("".join(c for c in text if c not in surrogates))

    def gaps(self) -> str | None:
        """What texts cannot have that the library would drop, in words; None if there is no such thing."""
        if not self._gaps.any:
            return None
        what = f"{len(self._gaps.bytes)} of the 256 bytes" if self._gaps.bytes else "unknown characters"
        return f"the tokenizer has no token for {what}: texts that need one are refused"

    def _encode_characters(self, text: str, param: str) -> list[int]:
        try:
            return list(map(self._id_of.__getitem__, text))
        except KeyError as error:
            where = _at(text, text.index(error.args[0]))
            count = len(self._id_of)
            raise InvalidRequestError(
                param, f"{where} is not among the {count} characters of this model's vocabulary"
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


def _at(text: str, place: int) -> str:
    """A character as errors name it."""
    return f"the character {text[place]!r} (U+{ord(text[place]):04X}) at position {place}"


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
    model = description["model"]
    if (
        model["type"] != "WordLevel"
        or description["normalizer"] is not None
        or description["added_tokens"]
        or (description["pre_tokenizer"] or {}).get("pattern") != {"Regex": _ANY_CHARACTER}
        or description["pre_tokenizer"].get("behavior") != "Isolated"
        or description["pre_tokenizer"].get("invert")
        or description["decoder"] != {"type": "Fuse"}
        or model["unk_token"] in model["vocab"]  # then it reads what it does not know
    ):
        return None
    characters = sorted(model["vocab"], key=model["vocab"].__getitem__)
    dense = [model["vocab"][character] for character in characters] == list(range(len(characters)))
    return characters if dense and all(len(character) == 1 for character in characters) else None


@contextmanager
def library_faults(param: str, trouble: str) -> Iterator[None]:
    """What goes wrong in the library as InvalidRequestError: it raises bare Exceptions, and where its Rust
    panics, a BaseException of its own."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, InvalidRequestError):
        raise
    except BaseException as error:
        raise InvalidRequestError(param, f"{trouble}: {error}") from error


def _described_ids(description: dict[str, Any]) -> list[Any]:
    """The ids of a tokenizer.json as they are written there: those of its vocabulary and of added tokens."""
    vocabulary = description["model"].get("vocab", {})
    # A list is a Unigram's: the place is the id.
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
    return ids + [each["id"] for each in description.get("added_tokens") or ()]


def _check_ids(description: Any, vocab_size: int) -> None:
    """Raises ValueError, or what a description of another form leads to."""
    ids = _described_ids(description)
    if not ids:
        raise ValueError("it has no tokens")
    for token in ids:
        if type(token) is not int or not 0 <= token < vocab_size:
            raise ValueError(f"the token id {shown(token)} is not in the model's 0..{vocab_size - 1}")


def _byte_alphabet() -> dict[int, str]:
    """The characters that byte-level vocabularies write bytes as: printable ones stand for themselves, the
    others
    take the code points from 256 on (GPT-2's encoder.py, `bytes_to_unicode`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def written_bytes(content: bytes) -> str:
    """Bytes as byte-level vocabularies write them."""
    return "".join(_CHARACTER_OF[byte] for byte in content)


_CHARACTER_OF = _byte_alphabet()
_BYTE_OF = {character: byte for byte, character in _CHARACTER_OF.items()}
