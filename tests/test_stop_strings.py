"""Stop strings end a text at the earliest place, however the text arrives (row C15)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pygpt.stop_strings import StopFinder

SHORT = st.text("ab", max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=4)


def cut(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The definition, naively: the earliest beginning, of those there the shortest."""
    found = [(text.find(stop), len(stop), stop) for stop in stops if stop in text]
    return (text, None) if not found else (text[: min(found)[0]], min(found)[2])


def fed(pieces: list[str], stops: list[str]) -> tuple[list[str], str | None]:
    """What StopFinder lets through, piece by piece, and the stop string."""
    finder, shown = StopFinder(stops), []
    for piece in pieces:
        text, stop = finder.feed(piece)
        shown.append(text)
        if stop is not None:
            return shown, stop
    text, stop = finder.finish()
    return [*shown, text], stop


@settings(max_examples=1000, deadline=None)
@given(st.lists(SHORT, max_size=6), STOPS)
def test_C15_the_cut_does_not_depend_on_the_pieces(pieces: list[str], stops: list[str]) -> None:
    shown, stop = fed(pieces, stops)
    assert ("".join(shown), stop) == cut("".join(pieces), stops)


@settings(max_examples=500, deadline=None)
@given(SHORT, STOPS)
def test_C15_one_character_at_a_time_shows_no_part_of_a_stop_string(text: str, stops: list[str]) -> None:
    whole, _ = cut(text, stops)
    finder, shown = StopFinder(stops), ""
    for character in text:
        piece, stop = finder.feed(character)
        shown += piece
        assert whole.startswith(shown)
        if stop is not None:
            break


@pytest.mark.parametrize(
    ("text", "stops", "shown", "stop"),
    [
        ("xxabcd", ["ab", "abc"], "xx", "ab"),
        ("xxabcd", ["abc", "b"], "xx", "abc"),  # begins earlier, although "b" is whole first
        ("xxabd", ["abc", "b"], "xxa", "b"),
        ("stop", ["stop"], "", "stop"),
        ("aaab", ["aab"], "a", "aab"),
        ("nothing", ["stop"], "nothing", None),
        ("almost sto", ["stop"], "almost sto", None),
        ("grüße", ["ü"], "gr", "ü"),
    ],
)
def test_C15_examples(text: str, stops: list[str], shown: str, stop: str | None) -> None:
    assert fed(list(text), stops) == fed(list(text), stops)
    pieces, found = fed(list(text), stops)
    assert ("".join(pieces), found) == (shown, stop)


def test_without_stop_strings_nothing_is_held_back() -> None:
    assert StopFinder([]).feed("abc") == ("abc", None)


def test_a_text_is_held_back_no_longer_than_needed() -> None:
    finder = StopFinder(["\n\n"])
    assert finder.feed("a") == ("a", None)
    assert finder.feed("\n") == ("", None)
    assert finder.feed("b") == ("\nb", None)
