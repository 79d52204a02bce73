"""What every engine offers to the worker that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

PROMPT_TOKENS = 16
CHECKED_TOKENS = 8  # that every exact engine must write alike


class UnavailableError(Exception):
    """This engine cannot run this model or precision; the message says why."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a generation gave.

    Attributes:
        tokens: [rows, tokens], without the prompts.
        decode_s: seconds from the first new token of each row to the last, where the engine tells.
    """

    tokens: list[list[int]]
    decode_s: float | None = None


class Runner(Protocol):
    """An engine with a model loaded."""

    version: str
    weight_bytes: int | None  # read for each token at batch 1, about; None: unknown

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        """Continue every prompt by so many tokens: greedy, in one batch, whatever the tokens are.

        The prompts have one length.
        """
