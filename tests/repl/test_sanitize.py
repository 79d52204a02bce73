"""Nothing that a model writes is obeyed by a terminal (row H3)."""

from __future__ import annotations

import unicodedata

import pytest

from pygpt.repl.sanitize import visible


def test_H3_every_control_character_but_newline_and_tab_is_shown() -> None:
    for code_point in [*range(0x20), *range(0x7F, 0xA0)]:
        character = chr(code_point)
        shown = visible(f"a{character}b")
        if character in "\n\t":
            assert shown == f"a{character}b"
        else:
            assert len(shown) > 2
            assert not any(unicodedata.category(each) == "Cc" for each in shown)


def test_H3_no_character_that_reorders_or_hides_text_is_left() -> None:
    for character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u2028\u2029":
        assert visible(character) == f"\\u{ord(character):04x}"
    assert visible("\U000e0041") == "\\U000e0041"
    assert visible("\ud800") == "\\ud800"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\u241b[2J"),
        ("\x1b]52;c;eA==\x07", "\u241b]52;c;eA==\u2407"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb", "a\u240db"),
        ("\x7f", "\u2421"),
        ("plain\n\ttext", "plain\n\ttext"),
        (
            "\u05e9\u05dc\u05d5\u05dd \N{GRINNING FACE} \u4e2d",
            "\u05e9\u05dc\u05d5\u05dd \N{GRINNING FACE} \u4e2d",
        ),
    ],
)
def test_H3_examples(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", None])
def test_H4_without_UTF_8_signs_are_plain_ASCII(encoding: str | None) -> None:
    shown = visible("\x1b[2J \N{GRINNING FACE} \u202e\x9b\x7f", encoding)
    assert shown == "\\x1b[2J \\U0001f600 \\u202e\\x9b\\x7f"
    assert visible("\u00e9", "latin-1") == "\u00e9"
