"""What people type, in the characters that a small vocabulary has."""

from __future__ import annotations

import unicodedata

from pygpt.tokenizer import Tokenizer

# Typographic characters, by name because many look alike, and what stands for them in plain text.
_PLAIN = {
    "\N{LEFT DOUBLE QUOTATION MARK}": '"',
    "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
    "\N{DOUBLE LOW-9 QUOTATION MARK}": '"',
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}": '"',
    "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}": '"',
    '"': "'",
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "`": "'",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "--",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{NO-BREAK SPACE}": " ",
    "\t": " ",
}


def speakable(text: str, tokenizer: Tokenizer) -> tuple[str, list[str]]:
    """The text in characters that the vocabulary has, and which characters had to be left out.

    A character that it lacks becomes the nearest that it has: without its accent, a plain quote, a hyphen.
    """
    unknown = tokenizer.unknown_characters(text)
    if not unknown:
        return text, []
    instead: dict[str, str] = {}
    for character in unknown:
        bare = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
        plain = _PLAIN.get(character, "")
        choices = [plain, "".join(_PLAIN.get(c, c) for c in plain), bare]
        fitting = (each for each in choices if each and not tokenizer.unknown_characters(each))
        instead[character] = next(fitting, "")
    left_out = [c for c in dict.fromkeys(text) if c in instead and not instead[c] and c != "\r"]
    return "".join(instead.get(c, c) for c in text), left_out
