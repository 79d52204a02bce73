"""Proof that an exported model computes what the original did: replay the known answers in the engine."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.architecture import Architecture
from pygpt.engine import POLL_S
from pygpt.errors import Error, NumericalError
from pygpt.known_answers import Answer, KnownAnswers, parse
from pygpt.opening import _threads
from pygpt.reference import log_sum_exp

# Of the largest |logit|. The engine adds in binary32; see docs/format.md for what is stored.
STORED_BUDGET = 1e-4


# Where all logits are smaller than this (a head that was initialised to zero), it is what differences are a
# share of: what they do to a probability is below what binary32 tells apart.
SMALLEST_SCALE = 1e-3

# Largest relative error of rounding one weight to the format: half a unit in the last of 24, 11 and 8 bits.
UNIT_ROUNDOFF = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}

# Root mean square of what rounding does to a product relatively, for normally distributed numbers in groups
# of 64: activations in bytes, and with them the weights of a quantised dtype (docs/kernels.md).
ACTIVATION_NOISE = 0.006
QUANTISATION_NOISE = {"q8": 0.0134, "q4": 0.08, "q4_pure": 0.08}


class ParityError(Error):
    """The model in the file does not compute what it must. `report` has the figures, where there are any."""

    def __init__(self, message: str, report: ParityReport | None = None) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True, slots=True)
class SetReport:
    """The engine against one set of known answers.

    Attributes:
        max_abs: largest difference of a recorded logit, or of a log-sum-exp.
        max_rel: the same, of the largest |logit|; of a log-sum-exp, of its own size where that is more.
        top1: share of positions whose most likely token is the same.
        kl: mean over positions of the Kullback-Leibler divergence from the recorded distribution, in nats;
            the tokens that are not recorded count as one.
        budget: what max_rel may be.
    """

    max_abs: float
    max_rel: float
    top1: float
    kl: float
    budget: float

    @property
    def passed(self) -> bool:
        """Whether the differences are within the budget."""
        return self.max_rel <= self.budget


@dataclass(frozen=True, slots=True)
class ParityReport:
    """The replay of a file's known answers on this machine.

    Attributes:
        stored: against float64 on the weights as stored: what the engine's arithmetic adds.
        original: against float64 on the original model: what the format and the engine lost.
        method: what computed `original`.
    """

    stored: SetReport
    original: SetReport
    method: str
    dtype: str
    prompt_tokens: int
    positions: int
    isa: str
    threads: int

    @property
    def passed(self) -> bool:
        """Whether both sets are within their budgets."""
        return self.stored.passed and self.original.passed

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return asdict(self) | {"passed": self.passed}


def stored_budget(dtype: str, n_layer: int) -> float:
    """What the difference to float64 on the stored weights may be, as a share of the largest |logit|.

    Quantised: where float64 rounds an activation down, binary32 may round it up, and the next layers round
    that difference of a step anew. After some layers the two have rounded independently: twice the noise, a
    root of two apart; twice that for the largest of some hundred differences. A wrong kernel differs by far
    more.
    """
    if dtype in QUANTISATION_NOISE:
        return 2.0 * math.sqrt(2.0) * ACTIVATION_NOISE * math.sqrt(2 * n_layer + 2)
    return STORED_BUDGET


def original_budget(dtype: str, n_layer: int) -> float:
    """What the difference to the original may be, as a share of the largest |logit|.

    f32: the engine's own 1e-4. Otherwise the rounding of the weights is on top: each of the 2 n_layer
    sublayers and the two tables at the ends perturbs the stream relatively by at most the unit roundoff, with
    signs at random, so the perturbations add as sqrt(2 n_layer + 2). Four times that, four standard
    deviations, leaves room for the largest of some hundred differences.
    """
    if dtype == "f32":
        return STORED_BUDGET
    if dtype in QUANTISATION_NOISE:
        return stored_budget(dtype, n_layer) + QUANTISATION_NOISE[dtype] * math.sqrt(2 * n_layer + 2)
    return STORED_BUDGET + 4.0 * UNIT_ROUNDOFF[dtype] * math.sqrt(2 * n_layer + 2)


def replay(
    file: _core.ModelFile,
    *,
    isa: str = "",
    threads: int | None = None,
    prefill_chunk: int = 0,
    device: str = "cpu",
) -> ParityReport | None:
    """Run the file's known answers through the engine; None where it has none.

    Raises:
        ModelFileError: the known answers are damaged.
        NumericalError: the engine's logits are not finite.
        DeviceError: this machine has no such device, or cannot run the isa.
    """
    known = known_answers(file)
    if known is None:
        return None
    logits, info = engine_logits(
        file, known.prompt, isa=isa, threads=threads, prefill_chunk=prefill_chunk, device=device
    )
    return compare(logits[known.positions], known, file_dtype(file), file.config["n_layer"], info)


def known_answers(file: _core.ModelFile) -> KnownAnswers | None:
    """The file's known answers, or None where it has none.

    Raises:
        ModelFileError: they are damaged.
    """
    if "known_answers.json" not in file.blobs:
        return None
    return parse(file.blob("known_answers.json"), Architecture.from_config(file.config), file.path)


def file_dtype(file: _core.ModelFile) -> str:
    """The dtype that the file was exported as."""
    formats = {tensor.format for tensor in file.tensors if tensor.kind == "matrix"}
    if "q4" in formats:
        return "q4_pure" if formats == {"q4"} else "q4"
    return next(
        dtype for dtype in ("q8", "bf16", "f16", "f32") if dtype in formats
    )  # the least exact decides


def compare(
    logits: NDArray[np.float32], known: KnownAnswers, dtype: str, n_layer: int, info: dict[str, Any]
) -> ParityReport:
    """The report on logits [positions, vocab_size] that the engine gave."""
    return ParityReport(
        stored=_compare_set(logits, known.stored, stored_budget(dtype, n_layer)),
        original=_compare_set(logits, known.original, original_budget(dtype, n_layer)),
        method=known.method,
        dtype=dtype,
        prompt_tokens=len(known.prompt),
        positions=len(known.positions),
        isa=str(info["isa"]),
        threads=int(info["threads"]),
    )


def engine_logits(
    file: _core.ModelFile,
    prompt: Sequence[int],
    *,
    isa: str = "",
    threads: int | None = None,
    prefill_chunk: int = 0,
    device: str = "cpu",
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Logits [len(prompt), vocab_size] of the engine, and its info; PYGPT_ISA and PYGPT_THREADS hold where
    nothing is said.

    Raises:
        NumericalError: a logit is not finite.
        InvalidRequestError: threads, or PYGPT_THREADS, is no number of threads.
    """
    request = _core.Request(prompt=list(prompt), max_tokens=0, logits=True, temperature=0.0)
    event, info = _engine_event(
        file, request, isa=isa, threads=threads, prefill_chunk=prefill_chunk, device=device
    )
    if event.logits is None or not np.isfinite(event.logits).all():
        raise NumericalError(f"{file.path}: the engine's logits are not finite")
    return event.logits, info


def engine_states(
    file: _core.ModelFile, prompt: Sequence[int], *, isa: str = "", threads: int | None = None
) -> NDArray[np.float32]:
    """The engine's residual stream [n_layer + 1, len(prompt), d_model], finite or not, run as for
    `engine_logits`."""
    request = _core.Request(prompt=list(prompt), max_tokens=0, look="states")
    states = _engine_event(file, request, isa=isa, threads=threads)[0].shown
    assert states is not None
    return states


def _engine_event(
    file: _core.ModelFile,
    request: _core.Request,
    *,
    isa: str,
    threads: int | None,
    prefill_chunk: int = 0,
    device: str = "cpu",
) -> tuple[_core.Event, dict[str, Any]]:
    """What an engine of its own answers, and its info."""
    threads = _threads(threads, os.environ)
    # The cache in f32: rounding keys and values is a choice of whoever runs the model, not a part of it.
    isa = isa or os.environ.get("PYGPT_ISA", "")
    engine = _core.Engine(
        file, threads=threads, isa=isa, kv_dtype="f32", prefill_chunk=prefill_chunk, device=device
    )
    try:
        ticket = engine.submit([request])
        events: list[_core.Event] = []
        while not events:
            events = ticket.poll(POLL_S, until_done=True)
        if events[0].error:
            raise NumericalError(f"{file.path}: the engine failed: {events[0].message}")
        return events[0], engine.info
    finally:
        engine.close()


def _compare_set(logits: NDArray[np.float32], known: list[Answer], budget: float) -> SetReport:
    exact = logits.astype(np.float64)  # [positions, V]
    totals = log_sum_exp(exact)
    scale = _scale(exact, known)
    differences, shares, agree, divergences = [], [], 0, []
    for row, total, answer in zip(exact, totals, known, strict=True):
        of_logits = float(np.abs(row[answer.ids] - answer.logits).max())
        of_total = abs(float(total) - answer.log_sum_exp)
        differences += [of_logits, of_total]
        # Its own size, since log V is the least that it can be where the logits are zero.
        shares += [of_logits / scale, of_total / max(scale, abs(answer.log_sum_exp))]
        agree += int(row.argmax()) == answer.ids[0]
        divergences.append(_divergence(row[answer.ids] - total, np.array(answer.logits) - answer.log_sum_exp))
    return SetReport(
        max_abs=max(differences),
        max_rel=max(shares),
        top1=agree / len(known),
        kl=float(np.mean(divergences)),
        budget=budget,
    )


def _scale(logits: NDArray[np.float64], known: list[Answer]) -> float:
    """The largest |logit|. The engine's own count up to 100 only: a wrong one must not excuse the others."""
    recorded = max(abs(x) for answer in known for x in answer.logits)
    return max(recorded, min(float(np.abs(logits).max()), 100.0), SMALLEST_SCALE)


def _divergence(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """KL(theirs | ours) of log-probabilities; what is not recorded is one more outcome."""
    p, q = np.exp(theirs), np.exp(ours)
    rest_p, rest_q = 1.0 - p.sum(), 1.0 - q.sum()
    total = float((p * (theirs - ours)).sum())
    if rest_p > 1e-6 and rest_q > 1e-6:  # below, it is the rounding of the recorded values
        total += float(rest_p * math.log(rest_p / rest_q))
    return max(total, 0.0)
