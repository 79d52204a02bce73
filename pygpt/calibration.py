"""What a checkpoint does not record: asked of a text, which the model as it was trained predicts best."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.checkpoints.base import Imported
from pygpt.checkpoints.vocabulary import text_of
from pygpt.errors import InvalidRequestError
from pygpt.reference import forward, log_sum_exp

WINDOW = 128  # tokens predicted in a window of text
FEWEST_WINDOWS = 8
MOST_TOKENS = 8192  # predicted in all windows
SHORTEST_WINDOW = 4
# A difference of the losses must be so many of its standard errors: by Student's t with 7 degrees of freedom,
# one of a hundred pairs of variants that fit alike is told apart by mistake.
STANDARD_ERRORS = 3.5
_OPERATIONS = 4e11  # what all forward passes may cost, about: some tens of seconds in float64
_KEPT_PARAMETERS = 1 << 26  # a model of up to so many stays in memory between the windows

Words = tuple[str, ...]  # of each thing that is not recorded, the word of the variant


def settle(imported: Imported, text: str | os.PathLike[str] | None) -> Imported:
    """The checkpoint with everything decided that it does not record: by the text, else by the family's
    default. A line in `assumptions` says what and how.

    Raises:
        InvalidRequestError: the model has no tokenizer, the text is too short or not in its vocabulary, or
            two variants fit it alike.
    """
    if not imported.unrecorded:
        line = "nothing to calibrate: all that decides what this model computes is known"
        return replace(imported, assumptions=() if text is None else (line,))
    if text is not None:
        return _calibrated(imported, text_of(text, "calibrate"))
    assumed: dict[str, str] = {}
    lines: list[str] = []
    for each in imported.unrecorded:
        default, *others = each.variants
        assumed[each.what] = default
        lines.append(
            f"the checkpoint does not record its {each.what}: taken as {default}, the family's today (it may "
            f"be {' or '.join(others)}; --calibrate TEXT or calibrate= asks a text)"
        )
    return replace(imported, assumptions=tuple(lines), provenance={**imported.provenance, "assumed": assumed})


def _calibrated(imported: Imported, text: str) -> Imported:
    variants = _variants(imported)
    windows = _windows(imported, text, len(variants))
    weights = _weights(imported)
    losses = {words: _losses(a, weights, windows) for words, a in variants.items()}  # [windows] each
    best, second = sorted(losses, key=lambda words: float(losses[words].mean()))[:2]
    margin, error = _paired(losses[second] - losses[best])
    measured = f"{margin:.2g} nats a token, standard error {error:.1g}, {len(windows)} windows of the text"
    what = " and ".join(each.what for each in imported.unrecorded)
    if not margin > STANDARD_ERRORS * error:
        raise InvalidRequestError(
            "calibrate",
            f"the text does not tell {what} {_said(best)} from {_said(second)} ({measured}); give a longer "
            "text of the kind that the model was trained on, or none for the family's default",
        )
    line = f"{what} is {_said(best)} by the text: it fits better than {_said(second)} by {measured}"
    return replace(
        imported,
        architecture=variants[best],
        assumptions=(line,),
        provenance={
            **imported.provenance,
            "calibrated": {what: _said(best), "margin": round(margin, 9)},
        },
    )


def _variants(imported: Imported) -> dict[Words, Architecture]:
    """Every combination of what is not recorded."""
    found = {}
    for chosen in itertools.product(*(each.variants.items() for each in imported.unrecorded)):
        fields: dict[str, Any] = {key: value for _, changed in chosen for key, value in changed.items()}
        found[tuple(word for word, _ in chosen)] = replace(imported.architecture, **fields)
    return found


def _windows(imported: Imported, text: str, variants: int) -> list[Sequence[int]]:
    """Runs of tokens that do not overlap, spread evenly over the text.

    Raises:
        InvalidRequestError: there is no tokenizer, or the text is too short.
    """
    if imported.tokenizer is None:
        raise InvalidRequestError(
            "calibrate", "needs the model's tokenizer to read the text with; give that too"
        )
    longest = min(WINDOW, imported.architecture.context_length)
    affordable = int(_OPERATIONS / (2 * _parameters(imported.architecture) * longest * variants))
    wanted = max(min(affordable, MOST_TOKENS // longest), FEWEST_WINDOWS)
    # A token is rarely more than 16 characters of text; what lies behind would not be read.
    ids = imported.tokenizer.encode(text[: 16 * (longest + 1) * wanted], param="calibrate")
    predicted = min(longest, len(ids) // FEWEST_WINDOWS - 1)
    if predicted < min(SHORTEST_WINDOW, longest):
        least = FEWEST_WINDOWS * (min(SHORTEST_WINDOW, longest) + 1)
        raise InvalidRequestError("calibrate", f"the text has {len(ids)} tokens; at least {least} are needed")
    count = min(len(ids) // (predicted + 1), wanted)
    starts = [round(i * (len(ids) - predicted - 1) / (count - 1)) for i in range(count)]
    return [ids[start : start + predicted + 1] for start in starts]


def _losses(
    a: Architecture, weights: Callable[[str], NDArray[np.float32]], windows: list[Sequence[int]]
) -> NDArray[np.float64]:
    """Mean loss of each window in nats a token, in float64."""
    losses = []
    for ids in windows:
        logits = forward(a, weights, ids[:-1]).logits[:, : a.vocab_size]
        losses.append(float((log_sum_exp(logits) - logits[np.arange(len(logits)), ids[1:]]).mean()))
    return np.array(losses)


def _paired(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Mean of the differences, and its standard error."""
    return float(differences.mean()), float(differences.std(ddof=1) / math.sqrt(len(differences)))


def _weights(imported: Imported) -> Callable[[str], NDArray[np.float32]]:
    """The tensors by name; of a small model each is read once."""
    if _parameters(imported.architecture) > _KEPT_PARAMETERS:
        return lambda name: imported.tensors[name]()
    kept: dict[str, NDArray[np.float32]] = {}

    def weights(name: str) -> NDArray[np.float32]:
        if name not in kept:
            kept[name] = imported.tensors[name]()
        return kept[name]

    return weights


def _parameters(a: Architecture) -> int:
    return sum(rows * cols for _, _, rows, cols in _core.tensor_specs(a.to_config()))


def _said(words: Words) -> str:
    return " and ".join(words)
