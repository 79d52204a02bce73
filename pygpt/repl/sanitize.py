"""Text from a model, a file or a user, made harmless for a terminal: control characters are shown, not
obeyed."""

from __future__ import annotations

import re
from functools import cache

_ESC_PICTURE = "\u241b"
# C0 but newline and tab, DEL, C1; what reorders or hides text (Trojan Source, CVE-2021-42574: bidirectional
# controls, # line separators, interlinear and tag characters); lone surrogates, which no encoding takes.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff"
    "\U000e0001\U000e0020-\U000e007f]"
)


def visible(text: str, encoding: str | None = "utf-8") -> str:
    """The text with a sign for every unsafe character, in characters that the encoding has.

    ESC becomes its control picture where the encoding has one, else `\\x1b`; a bidirectional override becomes
    `\\u202e`. Newlines and tabs stay.
    """
    codec = encoding or "ascii"
    sign = _picture if _has_pictures(codec) else _escape
    return encodable(_UNSAFE.sub(lambda found: sign(found[0]), text), codec)


def encodable(text: str, encoding: str | None) -> str:
    """The text with an escape for every character that the encoding lacks."""
    codec = encoding or "ascii"
    return text if text.isascii() else text.encode(codec, "backslashreplace").decode(codec)


@cache
def _has_pictures(codec: str) -> bool:
    try:
        return bool(_ESC_PICTURE.encode(codec))
    except UnicodeEncodeError:
        return False


def _picture(character: str) -> str:
    code_point = ord(character)
    if code_point < 0x20:
        return chr(0x2400 + code_point)
    return "\u2421" if code_point == 0x7F else _escape(character)


def _escape(character: str) -> str:
    return (
        character.encode("ascii", "backslashreplace").decode()
        if ord(character) > 0x7F
        else f"\\x{ord(character):02x}"
    )
