"""The two ends of an export's proof: computing the known answers, and holding the written file to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.blobs import file_tokenizer, json_blob
from pygpt.chat import ChatTemplate
from pygpt.checkpoints.base import Imported
from pygpt.divergence import first_difference, first_lossy_layer
from pygpt.errors import Error, ModelFileError, NumericalError
from pygpt.file import Contents, Progress, Stored
from pygpt.kinds import MAX_FLOAT32
from pygpt.known_answers import KnownAnswers, answers, choose_positions, choose_prompt
from pygpt.opening import recorded_defaults
from pygpt.parity import SMALLEST_SCALE, ParityError, ParityReport, replay
from pygpt.reference import Trace, forward

# float64 against float64, the weights of one of them rounded to binary32 on the way.
IMPORT_BUDGET = 1e-5

_BY_US = "pygpt's float64 forward of the original weights"


@dataclass(frozen=True, slots=True)
class Traces:
    """The forward passes that the known answers come from, kept to name a layer if the replay fails."""

    original: Trace
    stored: Trace
    prompt: list[int]
    positions: list[int]


def compute(imported: Imported, contents: Contents, progress: Progress | None) -> tuple[KnownAnswers, Traces]:
    """The known answers of a model as it was trained, and as `contents` will store it.

    Raises:
        ParityError: the original model's own code computes something else than its family, or logits that
            are not finite.
        InvalidRequestError: a value does not fit into the format.
    """
    a = imported.architecture
    specs = {name: (kind, rows, cols) for name, kind, rows, cols in _core.tensor_specs(a.to_config())}
    prompt = choose_prompt(a, sum(rows * cols for _, rows, cols in specs.values()))
    positions = choose_positions(len(prompt))

    def as_stored(name: str) -> Stored:
        return Stored(contents, name, specs[name][0])

    def step(done: int) -> None:
        if progress:
            progress("known answers", done, 3)

    step(0)
    original = forward(a, contents.weights, prompt, positions)
    step(1)
    is_exact = contents.dtype == "f32"  # what is stored is what was trained
    kept = original if is_exact else forward(a, as_stored, prompt, positions, contents.rounding)
    step(2)
    logits, method = _original_logits(imported.original_logits, prompt, positions, original.logits)
    step(3)
    for values, whose in ((logits, "of this model"), (kept.logits, f"of this model as {contents.dtype}")):
        if not np.abs(values).max() <= MAX_FLOAT32:
            raise ParityError(f"the logits {whose} are not finite in binary32, in which the engine computes")
    sets = [answers(values, a.vocab_size) for values in (logits, kept.logits)]
    return KnownAnswers(prompt, positions, sets[0], sets[1], method), Traces(
        original, kept, prompt, positions
    )


def _original_logits(
    run: Callable[[list[int]], NDArray[np.float64]] | None,
    prompt: list[int],
    positions: list[int],
    ours: NDArray[np.float64],
) -> tuple[NDArray[np.float64], str]:
    """What the original model says, by its own code where that runs, and the words for how it was asked."""
    if run is None:
        return ours, _BY_US
    try:
        logits = run(prompt)
    except Error:
        raise
    except Exception as error:  # someone's code: it may fit one device, one dtype, one way of being called
        return ours, f"{_BY_US} (its own code did not run in float64: {type(error).__name__})"
    if logits.shape != (len(prompt), ours.shape[1]):
        return ours, f"{_BY_US} (its own code gave logits of another shape)"
    logits = logits[positions]
    difference = float(np.abs(logits - ours).max() / max(float(np.abs(logits).max()), SMALLEST_SCALE))
    if not difference <= IMPORT_BUDGET:
        raise ParityError(
            f"the model computes something else than its family: before any rounding, logits differ by "
            f"{difference:.2g} of the largest |logit|. Was its code changed (activation, scale, norm), or "
            "does its config ask for something that export does not read?"
        )
    return logits, "the original PyTorch module in float64"


def check_blobs(temporary: Path, source: str) -> None:
    """Open the blobs of a written file as an engine will; `source` is what errors name in its place.

    Raises:
        ModelFileError: one of them cannot be used.
    """
    try:
        open_blobs(_core.ModelFile(str(temporary), verify="header"))
    except ModelFileError as error:
        message = f"cannot be exported: {error.message}"
        raise ModelFileError(source, error.code, message, error.section) from error


def open_blobs(file: _core.ModelFile) -> None:
    """Open everything that a file carries beside its weights: what passes, an engine opens too.

    Raises:
        ModelFileError: the sampling defaults, the tokenizer, the chat template or the provenance cannot be
            used.
    """
    recorded_defaults(file)
    for name in ("provenance.json", "chat.json"):
        json_blob(file, name, dict)
    template = ChatTemplate.from_file(file, file_tokenizer(file))
    if template is not None:
        template.check()


def verified(temporary: Path, target: Path, traces: Traces) -> ParityReport:
    """The replay of the file's known answers, if it passes.

    Raises:
        ParityError: it does not; `target` is what the message calls the file.
    """
    file = _core.ModelFile(str(temporary), verify="full")
    try:
        report = replay(file)
    except NumericalError as error:
        where = first_difference(file, traces.stored, traces.prompt, traces.positions)
        raise ParityError(f"{target} was not written: {error}; {where}") from error
    except Error as error:
        raise ParityError(f"{target} was not written: {error}") from error
    if report is None:
        raise ParityError(f"{target} was not written: the known answers are missing from it")
    if report.passed:
        return report
    if not report.stored.passed:
        what = "what the engine computes with it is not what was exported"
        difference, budget = report.stored.max_rel, report.stored.budget
        where = first_difference(file, traces.stored, traces.prompt, traces.positions)
        where = where or "every block agrees, and the logits when asked again"
    else:
        what, difference = f"{report.dtype} loses too much of this model", report.original.max_rel
        budget = report.original.budget
        where = first_lossy_layer(traces.original, traces.stored, budget) + '. Use dtype="f32"'
    raise ParityError(
        f"{target} was not written: {what}: logits differ by {difference:.2g} of the largest |logit|, "
        f"and {budget:.2g} is allowed; {where}",
        report,
    )
