"""Known answers: what a model must say to a fixed prompt, computed in float64 when it is exported.

Two sets (docs/format.md): `original` of the weights as they were trained, `stored` of the weights as the file
holds them. The engine is held to `stored` tightly, so its errors show; the distance between the two is the
format's loss.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt.architecture import Architecture
from pygpt.errors import ModelFileError
from pygpt.kinds import MAX_FLOAT32
from pygpt.reference import log_sum_exp

POSITIONS = 16
LARGEST = 32  # logits recorded at a position
PROMPT_LIMIT = 512  # positions; more than one partial of the engine's attention (256)
_GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Answer:
    """The largest logits at one position, and the logarithm of the sum of all their exponentials."""

    ids: list[int]
    logits: list[float]
    log_sum_exp: float


@dataclass(frozen=True, slots=True)
class KnownAnswers:
    """The blob known_answers.json; `method` says what computed `original`."""

    prompt: list[int]
    positions: list[int]
    original: list[Answer]
    stored: list[Answer]
    method: str

    def to_json(self) -> bytes:
        """The blob; the same answers always give the same bytes."""
        sets = {"original": self.original, "stored": self.stored}
        fields = {
            "prompt": self.prompt,
            "positions": self.positions,
            **{
                name: [{"ids": a.ids, "logits": a.logits, "log_sum_exp": a.log_sum_exp} for a in answers]
                for name, answers in sets.items()
            },
            "method": self.method,
        }
        return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode("ascii")


def choose_prompt(a: Architecture, parameters: int) -> list[int]:
    """Token ids spread evenly over the vocabulary (multiples of the golden ratio, modulo 1), as many as fit
    into the context and, for models above 15 million parameters, into a second or two of float64; never
    fewer than 64 of a longer context."""
    length = min(a.context_length, PROMPT_LIMIT, max(64, 8_000_000_000 // parameters))
    return [int(i * _GOLDEN_RATIO % 1.0 * a.vocab_size) for i in range(length)]


def choose_positions(length: int) -> list[int]:
    """At most 16 positions of a prompt, evenly spread, the first and the last among them."""
    return sorted({round(i * (length - 1) / (POSITIONS - 1)) for i in range(POSITIONS)})


def answers(logits: NDArray[np.float64], vocab_size: int) -> list[Answer]:
    """What is recorded of the logits [positions, padded_vocab_size]; padding is never recorded."""
    logits = logits[:, :vocab_size]
    found = []
    for row, total in zip(logits, log_sum_exp(logits), strict=True):
        ids = _largest(row)
        found.append(Answer(ids.tolist(), [_binary32(x) for x in row[ids]], _binary32(total)))
    return found


def _largest(row: NDArray[np.float64]) -> NDArray[np.intp]:
    """Ids of the largest logits, largest first; of equal ones the lower id: always in the same order."""
    count = min(LARGEST, len(row))
    candidates = np.flatnonzero(row >= np.partition(row, -count)[-count])
    return candidates[np.argsort(-row[candidates], kind="stable")][:count]


def parse(blob: bytes, a: Architecture, path: str) -> KnownAnswers:
    """The answers of a file's blob, checked: it may come from anyone.

    Raises:
        ModelFileError: it does not have the form of docs/format.md or does not fit the model.
    """
    try:
        return _checked(json.loads(blob), a)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it has not the form of docs/format.md"
        message = f"cannot be used: {reason}"
        raise ModelFileError(path, "invalid_blob", message, "blob known_answers.json") from error


def _checked(fields: Any, a: Architecture) -> KnownAnswers:
    prompt, positions = fields["prompt"], fields["positions"]
    _require(0 < len(prompt) <= a.context_length, "the prompt does not fit into the context")
    _require_ids(prompt, a.vocab_size)
    _require(0 < len(positions) <= POSITIONS, f"positions are not 1 to {POSITIONS}")
    _require_ids(positions, len(prompt))
    sets = [_answers(fields[name], len(positions), a.vocab_size) for name in ("original", "stored")]
    _require(isinstance(fields["method"], str), "method is no text")
    return KnownAnswers(prompt, positions, sets[0], sets[1], fields["method"])


def _answers(entries: Any, count: int, vocab_size: int) -> list[Answer]:
    parsed = [Answer(e["ids"], [float(x) for x in e["logits"]], float(e["log_sum_exp"])) for e in entries]
    _require(len(parsed) == count, "there is not one answer for each position")
    for answer in parsed:
        _require_ids(answer.ids, vocab_size)
        _require(
            0 < len(answer.ids) == len(answer.logits) <= LARGEST, "an answer has not one logit for each id"
        )
        # Of binary32, so that nothing computed from them in float64 overflows.
        values = [*answer.logits, answer.log_sum_exp]
        _require(all(abs(x) <= MAX_FLOAT32 for x in values), "an answer is not finite in binary32")
        _require(max(answer.logits) <= answer.log_sum_exp, "a log_sum_exp is below a logit of its sum")
    return parsed


def _require_ids(ids: Sequence[int], below: int) -> None:
    _require(
        all(type(i) is int and 0 <= i < below for i in ids), f"an id is not an integer in 0..{below - 1}"
    )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _binary32(x: float) -> float:
    """The shortest decimal that names the value in binary32."""
    return float(str(np.float32(x)))
