"""Tokens as people can see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pygpt.repl.sanitize import visible
from pygpt.requests import token_ids

if TYPE_CHECKING:
    from pygpt.engine import Engine
    from pygpt.requests import Prompt
    from pygpt.tokenizer import Tokenizer

# Signs that every font has.
_SIGNS = str.maketrans({" ": "\u00b7", "\n": "\u00b6", "\t": "\u2192"})


def prompt_ids(engine: Engine, prompt: Prompt) -> list[int]:
    """The token ids that an engine makes of a prompt. Raises as `Engine.generate` does."""
    return token_ids(prompt, engine._facts)


def labels(ids: Sequence[int], tokenizer: Tokenizer | None) -> list[str]:
    """A text for each token, never empty: white space and control characters as signs, bytes that are no
    character as escapes, ids where there is no tokenizer."""
    return [_label(token, tokenizer) for token in ids]


def _label(token: int, tokenizer: Tokenizer | None) -> str:
    if tokenizer is None:
        return str(token)
    content = tokenizer.bytes_of(token)
    # None: what it stands for depends on its neighbours, so this is how it is written alone.
    text = tokenizer.decode([token]) if content is None else content.decode("utf-8", "backslashreplace")
    return visible(text.translate(_SIGNS)) or str(token)
