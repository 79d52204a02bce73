"""A loss or a gradient that is not finite: what is written down, what is said, and what is done (`on_nan`).

stop        the run ends with an error; what is on disk is whole
skip        the batch is passed over: the same step is made with the next one
rollback    the run goes back to its newest checkpoint, and reads on behind the batch that failed, as in
            PaLM's training (Chowdhery et al. 2022, arXiv:2204.02311, section 5.1)

Which batches are passed over is in the state that a checkpoint holds, so that a run which crashed goes on to
the same bits.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import NumericalError
from pygpt.train import checkpoint, resume

if TYPE_CHECKING:
    from pygpt.train.trainer import Trainer

MOST = 10  # batches passed over since the last checkpoint: more are no accident


class NotFiniteError(NumericalError):
    """Something that was measured is not finite.

    Attributes:
        fact: what, in one clause; the message says besides what is saved and what to try.
    """

    def __init__(self, fact: str, trainer: Trainer, which: str = "") -> None:
        best, saved = trainer.state.best_step, trainer.saved_step
        kept = f"the weights of step {best} are kept" if best else "nothing is saved yet"
        again = f", and the checkpoint of step {saved} for --resume" if saved else ""
        super().__init__(
            f"{fact}; {kept}{again}. {which}Try a lower learning rate, more warm-up steps, precision f32, or "
            "--on-nan skip"
        )
        self.fact = fact


class BadBatchError(NotFiniteError):
    """The loss of a batch, or its gradient, is not finite. No weight was changed.

    Attributes:
        record: which batch it was, and what came of it, for `failed_steps.jsonl`.
    """

    def __init__(self, trainer: Trainer, starts: NDArray[np.int64], loss: float, norm: float) -> None:
        state, rate = trainer.state, trainer.optimizer.param_groups[0]["lr"]
        what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
        super().__init__(
            f"the {what} of step {state.step}, at a learning rate of {rate:.2g}, is {value}",
            trainer,
            f"Its batch is the windows from tokens {', '.join(map(str, starts[:4]))}"
            f"{', ...' if len(starts) > 4 else ''} on ({checkpoint.FAILED_STEPS} has all). ",
        )
        self.record = {
            "step": state.step, "batch": state.batch, "loss": str(loss), "gradient_norm": str(norm),
            "learning_rate": rate, "context_length": trainer.config.context_length,
            "window_starts": starts.tolist(), "text_sha256": trainer.corpus.text_sha256,
        }  # fmt: skip


def go_on(trainer: Trainer, failure: NotFiniteError, noted: Callable[[str], None]) -> None:
    """Write down which batch it was, and put the run where `on_nan` wants it to go on, in each process.

    Args:
        noted: is told of it.

    Raises:
        NotFiniteError: the failure itself, where the run is to stop; by `skip` also where it is no batch's.
        NumericalError: too many batches failed since the last checkpoint, or there is none to go back to.
    """
    how = trainer.config.on_nan
    if isinstance(failure, BadBatchError) and trainer.processes.is_first:
        path = trainer.directory / checkpoint.FAILED_STEPS
        with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(failure.record) + "\n")  # the message says the most of it
    if how == "stop" or (how == "skip" and not isinstance(failure, BadBatchError)):
        raise failure
    trainer.passed_over_since_saved += 1
    count = trainer.passed_over_since_saved
    if count > MOST:
        raise NumericalError(
            f"{failure} (--on-nan {how} gives up: {MOST} failures were passed over since the last checkpoint)"
        ) from failure
    following = trainer.state.batch + isinstance(failure, BadBatchError)
    if how == "rollback":
        _go_back(trainer, failure, noted)
    trainer.state.passed_over = following - trainer.state.step
    where = f"back at step {trainer.state.step}, reading on behind it" if how == "rollback" else "passed over"
    noted(f"{failure.fact}; {where} (failure {count} since the last checkpoint, of at most {MOST})")


def _go_back(trainer: Trainer, failure: NotFiniteError, noted: Callable[[str], None]) -> None:
    """Restore the newest checkpoint. The best weights on disk and the time that is gone stay as they are."""
    before = trainer.state
    found = resume.find(trainer.directory, noted) if trainer.processes.is_first else None
    saved = trainer.processes.told(found)
    if saved is None:
        raise NumericalError(f"{failure} (--on-nan rollback: nothing was saved yet to go back to)")
    model, _ = checkpoint.load(saved.directory)
    trainer.model.load_state_dict(model.state_dict())
    resume.restore(saved, trainer)
    trainer.saved_step = trainer.state.step
    trainer.state.elapsed_s = before.elapsed_s
    trainer.state.best_step, trainer.state.best_loss = before.best_step, before.best_loss
