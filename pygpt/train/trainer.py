"""The training loop: AdamW on random windows of text, keeping the weights that predict unseen text best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from pygpt.errors import InvalidRequestError
from pygpt.model import Model
from pygpt.train import checkpoint, not_finite, resume
from pygpt.train.config import TrainConfig
from pygpt.train.data import window_starts, windows
from pygpt.train.evaluation import evaluate
from pygpt.train.metrics import Metrics
from pygpt.train.not_finite import BadBatchError, NotFiniteError
from pygpt.train.optimizer import check_precision, choose_device, make_optimizer
from pygpt.train.processes import Processes
from pygpt.train.progress import Evaluation, Reporter, Step
from pygpt.train.schedule import learning_rate, progress
from pygpt.train.state import State
from pygpt.train.tokens import Corpus


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended.

    Attributes:
        step: optimizer steps made.
        validation_loss: of the weights kept, in nats a token: over all windows of the validation text, or,
            if the run was stopped early, over those of an evaluation.
        stopped: whether it was asked to stop before its end.
    """

    step: int
    validation_loss: float
    stopped: bool


class Trainer:
    """One run: a model, a corpus, and the directory that it writes (see `pygpt.train.checkpoint`).

    Every random choice follows from (seed, batch), and the batch from the step but for those that are passed
    over: a run that goes on from a checkpoint repeats what it would have done, and a step's windows are the
    same however many processes and parts share them out.

    Attributes:
        saved_step: of the newest checkpoint; 0 before the first.
        passed_over_since_saved: failures that were gone on after since then.

    Raises:
        InvalidRequestError: the batch does not divide among the processes and parts, or there is no such
            device, or it has no such precision.
    """

    def __init__(
        self,
        model: Model,
        corpus: Corpus,
        config: TrainConfig,
        directory: Path,
        processes: Processes | None = None,
    ) -> None:
        self.config = config
        self.corpus = corpus
        self.directory = directory
        self.processes = processes or Processes()
        if config.batch_size % (self.processes.count * config.accumulate):
            raise InvalidRequestError(
                "batch_size",
                f"{config.batch_size} does not divide among {self.processes.count} processes of "
                f"{config.accumulate} parts each",
            )
        self.device = choose_device(config.device)
        check_precision(config.precision, self.device)
        self.model = model.to(self.device)
        self.optimizer = make_optimizer(self.model, config)
        self.state = State()
        self.saved_step = 0
        self.passed_over_since_saved = 0
        self._forward: Any = self.model
        if config.compile:
            self._forward = torch.compile(self._forward)
        if self.processes.count > 1:
            self._forward = DistributedDataParallel(self._forward)
        if config.precision == "tf32":
            torch.set_float32_matmul_precision("high")

    def run(
        self, reporter: Reporter | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> Result:
        """Train until the steps or the time are over; the model ends with the best weights.

        Args:
            reporter: is told what happens.
            should_stop: asked after every step; true ends the run there, saved.

        Raises:
            NumericalError: the loss is not finite, and `on_nan` does not go on; the best weights and the
                checkpoints so far are on disk.
            OSError: a checkpoint cannot be saved; those before are on disk.
        """
        reporter = reporter or Reporter()
        config = self.config
        metrics = Metrics(self.directory, config, reporter, self.state.step, first=self.processes.is_first)
        self.saved_step = self.state.step
        self._describe()
        began_s = time.monotonic() - self.state.elapsed_s
        done, stopped, rate = self._done(), False, 0.0
        while done < 1 and not stopped and not self._is_out_of_patience():
            rate = learning_rate(config, self.state.step, done)
            try:
                loss = self.train_step(rate)
                elapsed_s = time.monotonic() - began_s
                reporter.stepped(self._news(loss, elapsed_s))
                stopped, self.state.elapsed_s = self.processes.agreed(should_stop(), elapsed_s)
                done = self._done()
                if done == 1 or self.state.step % config.eval_interval == 0:
                    self._evaluate(reporter, metrics, rate)
                if self.state.step % (config.save_interval or config.eval_interval) == 0:
                    self._save()
            except NotFiniteError as failure:
                not_finite.go_on(self, failure, reporter.noted)
                metrics.go_back(self.state.step)
                done = self._done()
        self._save()
        return self._finish(reporter, metrics, stopped=stopped and done < 1)

    @property
    def tokens(self) -> int:
        """Tokens that the steps so far have read."""
        return self.state.step * self.config.batch_size * self.config.context_length

    def _done(self) -> float:
        return progress(self.config, self.state.step, self.state.elapsed_s)

    def _news(self, loss: float, elapsed_s: float) -> Step:
        step = self.state.step
        done = progress(self.config, step, elapsed_s)
        return Step(step, done, loss, self.tokens / elapsed_s, elapsed_s * (1 - done) / done)

    def train_step(self, rate: float) -> float:
        """One step at this learning rate on the step's batch; its mean loss, in nats a token.

        Raises:
            BadBatchError: the loss or its gradient is not finite; no weight was changed.
        """
        config, batch = self.config, self.state.batch
        starts = window_starts(
            len(self.corpus.train), config.context_length, config.batch_size, config.seed, batch
        )
        parts = np.split(self.processes.share(starts), config.accumulate)
        # Dropout's numbers, one series a batch and process.
        torch.manual_seed(
            np.random.SeedSequence((config.seed, batch, self.processes.rank)).generate_state(1)[0]
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        total = torch.zeros((), device=self.device)
        for part in parts:
            with self._gradients_stay_here() if part is not parts[-1] else nullcontext():
                total += self._add_gradient(part)
        loss = self.processes.mean(total).item()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip).item()
        if not math.isfinite(loss) or not math.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise BadBatchError(self, starts, loss, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.made_step(loss)
        return loss

    def _add_gradient(self, starts: np.ndarray[Any, np.dtype[np.int64]]) -> torch.Tensor:
        """Add the gradient of one part of the batch; its share of the mean loss."""
        x, y = windows(self.corpus.train, starts, self.config.context_length)
        with self._arithmetic():
            logits = self._forward(x.to(self.device))  # [part, context, n_vocab]
        loss = cross_entropy(logits.float().flatten(0, 1), y.to(self.device).flatten())
        loss = loss / self.config.accumulate
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _gradients_stay_here(self) -> AbstractContextManager[Any]:
        """Within, the processes do not yet add up their gradients: more parts are to come."""
        if self.processes.count == 1:
            return nullcontext()
        inside: AbstractContextManager[Any] = self._forward.no_sync()
        return inside

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.config.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _measure(self) -> float:
        """The loss on part of the validation text; the same in every process.

        Raises:
            NotFiniteError: it is not finite.
        """
        config, loss = self.config, math.nan
        if self.processes.is_first:
            with self._arithmetic():
                loss = evaluate(
                    self.model, self.corpus.validation, config.context_length, windows=config.eval_windows
                )
        loss = self.processes.told(loss)
        if not math.isfinite(loss):
            raise NotFiniteError(f"the validation loss after step {self.state.step} is {loss}", self)
        return loss

    def _evaluate(self, reporter: Reporter, metrics: Metrics, rate: float) -> None:
        """Measure, keep the weights if none were better, write a line of metrics, show a sample."""
        state = self.state
        loss = self._measure()
        best = state.judge(loss)
        if best:
            self._keep(loss)
        train_loss = state.take_train_loss()
        metrics.add(
            {
                "step": state.step,
                "tokens": self.tokens,
                "elapsed_s": round(state.elapsed_s, 1),
                "learning_rate": rate,
                "train_loss": round(train_loss, 5),
                "validation_loss": round(loss, 5),
            }
        )
        reporter.evaluated(Evaluation(state.step, train_loss, loss, best))
        if self.config.sample_length and self.processes.is_first:
            reporter.sampled(self._sample())

    def _keep(self, loss: float) -> None:
        if self.processes.is_first:
            checkpoint.save_weights(self.directory, self.model, step=self.state.step, loss=loss)
            self._save_record("running", self.state.step, loss)

    def _save(self) -> None:
        """Save a checkpoint, unless this step's is there."""
        if self.state.step == self.saved_step:
            return
        if self.processes.is_first:
            resume.save(self)
        self.saved_step, self.passed_over_since_saved = self.state.step, 0

    def _describe(self) -> None:
        if self.processes.is_first:
            checkpoint.save_description(self.directory, self.model.config, self.corpus.tokenizer)
            self._save_record("running", self.state.best_step, self.state.best_loss)

    def _is_out_of_patience(self) -> bool:
        return self.config.patience is not None and self.state.waited >= self.config.patience

    def _sample(self) -> str:
        generator = torch.Generator(self.device).manual_seed(self.config.seed)
        start = torch.tensor([[int(self.corpus.validation[0])]], device=self.device)
        ids = self.model.generate(start, self.config.sample_length, temperature=0.8, generator=generator)
        return self.corpus.tokenizer.text_of(ids[0].tolist())

    def _finish(self, reporter: Reporter, metrics: Metrics, *, stopped: bool) -> Result:
        """Go back to the weights kept, measure them in full unless someone waits, close the record.

        A run that is stopped is measured out of turn, after it was saved, and its state is left alone: it
        goes on as if it had not been.
        """
        state = self.state
        if stopped and state.step % self.config.eval_interval:
            loss = self._measure()
            if loss < state.best_loss:
                self._keep(loss)
        if not self.processes.is_first:
            return Result(state.step, self.processes.told(0.0), stopped)
        kept, _ = checkpoint.load(self.directory)
        self.model.load_state_dict(kept.state_dict())
        best_step, best_loss = checkpoint.kept(self.directory) or (state.best_step, state.best_loss)
        if not stopped:
            best_loss = evaluate(
                self.model,
                self.corpus.validation,
                self.config.context_length,
                progress=partial(reporter.preparing, "measuring what was kept on all of the validation text"),
            )
        self._save_record("stopped" if stopped else "done", best_step, best_loss)
        metrics.close()
        end = "stopped" if stopped else "no better loss any more" if self._is_out_of_patience() else "done"
        reporter.finished(
            f"{end} after {state.step} steps; kept the weights of step {best_step}: {best_loss:.4f} nats a "
            f"token on {'part' if stopped else 'all'} of the validation text"
        )
        return Result(state.step, self.processes.told(best_loss), stopped)

    def _save_record(self, how: str, best_step: int, best_loss: float) -> None:
        state = self.state
        record = {
            "state": how,
            "step": state.step,
            "tokens": self.tokens,
            "elapsed_s": round(state.elapsed_s, 1),
            "best": {"step": best_step, "validation_loss": best_loss} if best_step else None,
            "train_tokens": len(self.corpus.train),
            "validation_tokens": len(self.corpus.validation),
            "processes": self.processes.count,
            "config": asdict(self.config),
            "torch": torch.__version__,
        }
        checkpoint.save_training(self.directory, record)
