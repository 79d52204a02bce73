"""tiktoken's split patterns (Rust, fancy-regex) in the dialect of `tokenizers` (Oniguruma).

The dialects share their spelling but not their meaning everywhere, so a pattern passes piece by piece, and
what could mean something else is refused.
"""

from __future__ import annotations

import re

from pygpt.errors import InvalidRequestError

MAX_PATTERN = 1 << 12  # characters; the longest known has some 500

_CLASS_ITEM = r"(?:\\[pP]\{\w+\}|\\[rntsSdD]|\\[\\\]\[^\-./]|[^\\\[\]&~\-]|[a-zA-Z0-9]-[a-zA-Z0-9])"
_PIECES = re.compile(
    rf"""
    (?P<same> \\[pP]\{{\w+\}} | \\[rntsSdD] | \\[\\.|()\[\]{{}}?*+^$/'-]     # escapes
            | \[\^?{_CLASS_ITEM}+\]                                     # a class
            | \(\?(?:i?:|=|!) | \((?!\?) | \) | \|                      # groups
            | \{{\d+(?:,\d*)?\}}(?![+?]) | [?*+][+?]?                     # repetitions, ? * + possessive too
            | [^\\\[\]{{}}^$.?*+()|] )                                    # a character
    # Possessive, which Oniguruma reads as a repetition of the repetition. Where nothing follows in the
    # branch, giving back is never asked for.
    | (?P<interval> \{{\d+(?:,\d*)?\}} )\+(?=\||$)
    | (?P<end> \$ )                            # of the text; of any line in Oniguruma
    """,
    re.VERBOSE,
)


def for_oniguruma(pattern: str) -> str:
    """The pattern that splits a text as tiktoken does with this one.

    Raises:
        InvalidRequestError: it uses what the two dialects understand differently, or is no pattern at all.
    """
    if len(pattern) > MAX_PATTERN:
        raise InvalidRequestError("tokenizer", f"has a split pattern of {len(pattern)} characters")
    written, place = [], 0
    while place < len(pattern):
        piece = _PIECES.match(pattern, place)
        if piece is None:
            rest = pattern[place : place + 20]
            raise InvalidRequestError(
                "tokenizer",
                f"its split pattern has {rest!r} at position {place}, which pygpt does not translate; "
                "convert the tokenizer to a tokenizer.json",
            )
        written.append(piece["same"] or piece["interval"] or r"\z")
        place = piece.end()
    return "".join(written)
