"""The kinds of values that parameters take: what each accepts, and how it is read from a flag or a `/set`."""

from __future__ import annotations

import json
import math
import numbers
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pygpt.errors import InvalidRequestError

# The core computes in binary32: what is larger would arrive as infinity, what is smaller as zero.
MAX_FLOAT32 = 3.4028234e38
MIN_FLOAT32 = 1.1754944e-38
MAX_TOKEN_ID = 2**31 - 1


class Kind(Protocol):
    """What a parameter accepts. `metavar` stands for a value in a command's help."""

    @property
    def metavar(self) -> str: ...

    def check(self, name: str, value: object) -> object:
        """The value in its one normal form. Raises InvalidRequestError that names the parameter."""

    def parse(self, name: str, text: str) -> object:
        """The value that a person wrote in a shell or behind `/set`, not yet checked."""


def shown(value: object) -> str:
    """A value as an error message shows it: its repr, of bearable length."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python converts
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= 60 else f"{text[:57]}..."


def checked_int(name: str, value: object, low: int, high: int, what: str = "") -> int:
    """Any integer type in [low, high], numpy's too; bool is not a number here. `what`: which part of
    `name`."""
    message = f"{what}{' ' * bool(what)}must be an integer from {low} to {high}, got {shown(value)}"
    wrong = InvalidRequestError(name, message)
    if isinstance(value, bool):
        raise wrong
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # the TypeError is the answer
    except TypeError:
        raise wrong from None
    if not low <= number <= high:
        raise wrong
    return number


@dataclass(frozen=True, slots=True)
class Integer:
    low: int
    high: int
    metavar: str = "N"

    def check(self, name: str, value: object) -> int:
        return checked_int(name, value, self.low, self.high)

    def parse(self, name: str, text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise InvalidRequestError(name, f"must be an integer, got {shown(text)}") from None


@dataclass(frozen=True, slots=True)
class TopK:
    """A count of tokens, where 0, -1 and None mean "off"."""

    metavar: str = "K"

    def check(self, name: str, value: object) -> int:
        # Counts above any vocabulary mean "all", however large they are.
        return min(max(checked_int(name, 0 if value is None else value, -1, 2**64), 0), MAX_TOKEN_ID)

    def parse(self, name: str, text: str) -> int:
        return Integer(-1, MAX_TOKEN_ID).parse(name, text)


@dataclass(frozen=True, slots=True)
class Real:
    """A finite number in [low, high], or in (low, high] with `above`."""

    low: float
    high: float = MAX_FLOAT32
    above: bool = False
    metavar: str = "X"

    def check(self, name: str, value: object) -> float:
        bounds = f"> {self.low:g}" if self.above else f">= {self.low:g}"
        limit = "" if self.high == MAX_FLOAT32 else f" and <= {self.high:g}"
        wrong = InvalidRequestError(name, f"must be a finite number {bounds}{limit}, got {shown(value)}")
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise wrong
        try:
            number = float(value)
        except OverflowError:
            raise wrong from None
        inside = self.low <= number <= self.high and not (self.above and number == self.low)
        if not inside:  # NaN is inside nothing
            raise wrong
        return max(number, MIN_FLOAT32) if self.above else number

    def parse(self, name: str, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise InvalidRequestError(name, f"must be a number, got {shown(text)}") from None


@dataclass(frozen=True, slots=True)
class Flag:
    metavar: str = ""

    def check(self, name: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise InvalidRequestError(name, f"must be True or False, got {shown(value)}")
        return value

    def parse(self, name: str, text: str) -> bool:
        words = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
        if text.lower() not in words:
            raise InvalidRequestError(name, f"must be on or off, got {shown(text)}")
        return words[text.lower()]


@dataclass(frozen=True, slots=True)
class Choice:
    words: tuple[str, ...]

    @property
    def metavar(self) -> str:
        return "{" + ",".join(self.words) + "}"

    def check(self, name: str, value: object) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise InvalidRequestError(name, f"must be one of {', '.join(self.words)}, got {shown(value)}")
        return value

    def parse(self, name: str, text: str) -> str:
        del name
        return text


@dataclass(frozen=True, slots=True)
class Texts:
    """A text or a list of at most `count` of them, none empty, each of at most `size` bytes of UTF-8."""

    count: int
    size: int
    metavar: str = "TEXT"

    def check(self, name: str, value: object) -> tuple[str, ...]:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, Sequence) or isinstance(texts, bytes):
            raise InvalidRequestError(name, f"must be a text or a list of texts, got {shown(value)}")
        if len(texts) > self.count:
            raise InvalidRequestError(name, f"takes at most {self.count} texts, got {len(texts)}")
        for index, text in enumerate(texts):
            self._check_one(name, index, text)
        return tuple(texts)

    def _check_one(self, name: str, index: int, text: object) -> None:
        if not isinstance(text, str) or not text:
            raise InvalidRequestError(
                name, f"text {index} must be a text that is not empty, got {shown(text)}"
            )
        if len(text) > self.size or len(text.encode("utf-8", "surrogatepass")) > self.size:
            raise InvalidRequestError(name, f"text {index} is longer than {self.size} bytes: {shown(text)}")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InvalidRequestError(name, f"text {index} has a lone surrogate: {shown(text)}")

    def parse(self, name: str, text: str) -> list[str]:
        """A text as it stands, or as JSON where that is what it is: `"\\n\\n"` or `["a", "b"]`."""
        del name
        try:
            value = json.loads(text) if text[:1] in ('"', "[") else text
        except ValueError:
            return [text]
        return value if isinstance(value, list) else [value]


@dataclass(frozen=True, slots=True)
class TokenIds:
    """A token id or a list of at most `count`, at least `least`. Whether they are in the vocabulary, the
    model knows."""

    count: int
    least: int = 0
    metavar: str = "ID,ID"

    def check(self, name: str, value: object) -> tuple[int, ...]:
        listed = value.tolist() if hasattr(value, "tolist") else value
        items = [listed] if not isinstance(listed, Sequence | set | frozenset) else list(listed)
        if isinstance(listed, str | bytes):
            raise InvalidRequestError(name, f"must be a list of token ids, got {shown(value)}")
        if not self.least <= len(items) <= self.count:
            raise InvalidRequestError(name, f"takes {self.least} to {self.count} token ids, got {len(items)}")
        return tuple(
            checked_int(name, item, 0, MAX_TOKEN_ID, f"index {index}") for index, item in enumerate(items)
        )

    def parse(self, name: str, text: str) -> list[int]:
        return [Integer(0, MAX_TOKEN_ID).parse(name, item) for item in text.split(",") if item.strip()]


@dataclass(frozen=True, slots=True)
class Bias:
    """Token id -> what is added to its logit, clamped to [-limit, limit]. Ids may be written as text, as
    JSON does."""

    count: int
    limit: float
    metavar: str = "ID=X"

    def check(self, name: str, value: object) -> dict[int, float]:
        if not isinstance(value, Mapping):
            raise InvalidRequestError(name, f"must map token ids to numbers, got {shown(value)}")
        if len(value) > self.count:
            raise InvalidRequestError(name, f"takes at most {self.count} entries, got {len(value)}")
        return {self._id(name, key): self._bias(name, key, bias) for key, bias in value.items()}

    def _id(self, name: str, key: object) -> int:
        if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) <= 10:
            key = int(key)
        return checked_int(name, key, 0, MAX_TOKEN_ID, "a key")

    def _bias(self, name: str, key: object, bias: object) -> float:
        wrong = InvalidRequestError(name, f"the bias of {shown(key)} must be a number, got {shown(bias)}")
        if isinstance(bias, bool) or not isinstance(bias, numbers.Real):
            raise wrong
        try:
            number = float(bias)
        except OverflowError:
            raise wrong from None
        if math.isnan(number):
            raise wrong
        return min(max(number, -self.limit), self.limit)

    def parse(self, name: str, text: str) -> dict[str, float]:
        pairs = [item.partition("=") for item in text.split(",") if item.strip()]
        return {key.strip(): Real(-self.limit).parse(name, value) for key, _, value in pairs}
