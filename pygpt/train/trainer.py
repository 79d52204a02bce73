"""The training loop: AdamW on random windows of text, keeping the weights that predict unseen text best."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pygpt.errors import NumericalError
from pygpt.model import Model
from pygpt.tokenizer import Tokenizer
from pygpt.train import checkpoint
from pygpt.train.config import TrainConfig
from pygpt.train.data import sample_batch
from pygpt.train.evaluation import evaluate
from pygpt.train.optimizer import choose_device, make_optimizer
from pygpt.train.progress import Evaluation, Reporter, Step
from pygpt.train.schedule import learning_rate, progress


@dataclass(frozen=True, slots=True)
class Corpus:
    """The text as ids, and the tokenizer that made them.

    Attributes:
        train, validation: integers [N], each longer than the context.
    """

    tokenizer: Tokenizer
    train: Tensor
    validation: Tensor


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
    """One run: a model, a corpus, and the directory that it writes (see `pygpt.train.checkpoint`)."""

    def __init__(self, model: Model, corpus: Corpus, config: TrainConfig, directory: Path) -> None:
        self.config = config
        self.corpus = corpus
        self.directory = directory
        self.device = choose_device(config.device)
        self.model = model.to(self.device)
        self.optimizer = make_optimizer(self.model, config)
        self.batches = torch.Generator().manual_seed(config.seed)
        self.step = 0
        self.best_step = 0
        self.best_loss = math.inf
        self._started_s = time.monotonic()

    def run(
        self, reporter: Reporter | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> Result:
        """Train until the steps or the time are over; the model ends with the best weights.

        Args:
            reporter: is told what happens.
            should_stop: asked after every step; true ends the run there, evaluated and saved.

        Raises:
            NumericalError: the loss is not finite; the best weights so far are on disk.
        """
        reporter = reporter or Reporter()
        self._started_s = time.monotonic()
        checkpoint.save_description(self.directory, self.model.config, self.corpus.tokenizer)
        done, stopped = 0.0, False
        losses: list[float] = []  # since the last evaluation
        while done < 1 and not stopped:
            rate = learning_rate(self.config, self.step, done)
            losses.append(self.train_step(rate))
            done = progress(self.config, self.step, self.elapsed_s)
            left_s = self.elapsed_s * (1 - done) / done
            reporter.stepped(Step(self.step, done, losses[-1], self.tokens / self.elapsed_s, left_s))
            stopped = should_stop()
            if done == 1 or stopped or self.step % self.config.eval_interval == 0:
                self._evaluate(reporter, fmean(losses), rate)
                losses.clear()
        return self._finish(reporter, stopped=stopped and done < 1)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._started_s

    @property
    def tokens(self) -> int:
        """Tokens that the steps so far have read."""
        return self.step * self.config.batch_size * self.config.context_length

    def train_step(self, rate: float) -> float:
        """One step at this learning rate on one random batch; its mean loss, in nats a token.

        Raises:
            NumericalError: the loss is not finite; no weight was changed.
        """
        config = self.config
        x, y = sample_batch(self.corpus.train, config.batch_size, config.context_length, self.batches)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        with self._arithmetic():
            logits = self.model(x.to(self.device))  # [batch, context, n_vocab]
        loss = cross_entropy(logits.float().flatten(0, 1), y.to(self.device).flatten())
        self._require_finite(loss.item(), f"the loss of step {self.step}, at a learning rate of {rate:.2g},")
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.config.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _require_finite(self, loss: float, what: str) -> None:
        if not math.isfinite(loss):
            kept = (
                f"the weights of step {self.best_step} are kept" if self.best_step else "nothing is saved yet"
            )
            raise NumericalError(
                f"{what} is {loss}; {kept}. Try a lower learning rate, more warm-up steps, or precision f32"
            )

    def _evaluate(self, reporter: Reporter, train_loss: float, rate: float) -> None:
        """Measure, keep the weights if none were better, write a line of metrics, show a sample."""
        config = self.config
        with self._arithmetic():
            loss = evaluate(
                self.model, self.corpus.validation, config.context_length, windows=config.eval_windows
            )
        self._require_finite(loss, f"the validation loss after step {self.step}")
        best = loss < self.best_loss
        if best:
            self.best_loss, self.best_step = loss, self.step
            checkpoint.save_weights(self.directory, self.model)
            self._save_record("running")
        self._append_metrics(
            {
                "step": self.step,
                "tokens": self.tokens,
                "elapsed_s": round(self.elapsed_s, 1),
                "learning_rate": rate,
                "train_loss": round(train_loss, 5),
                "validation_loss": round(loss, 5),
            }
        )
        reporter.evaluated(Evaluation(self.step, train_loss, loss, best))
        if config.sample_length:
            reporter.sampled(self._sample())

    def _append_metrics(self, line: dict[str, float]) -> None:
        with (self.directory / checkpoint.METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _sample(self) -> str:
        generator = torch.Generator(self.device).manual_seed(self.config.seed)
        start = self.corpus.validation[:1].view(1, 1).to(self.device)
        ids = self.model.generate(start, self.config.sample_length, temperature=0.8, generator=generator)
        return self.corpus.tokenizer.decode(ids[0].tolist())

    def _finish(self, reporter: Reporter, *, stopped: bool) -> Result:
        """Go back to the weights kept, measure them in full unless someone waits, close the record."""
        kept, _ = checkpoint.load(self.directory)
        self.model.load_state_dict(kept.state_dict())
        where = "part"
        if not stopped:
            self.best_loss = evaluate(self.model, self.corpus.validation, self.config.context_length)
            where = "all"
        self._save_record("stopped" if stopped else "done")
        reporter.finished(
            f"{'stopped' if stopped else 'done'} after {self.step} steps; kept the weights of step "
            f"{self.best_step}: {self.best_loss:.4f} nats a token on {where} of the validation text"
        )
        return Result(self.step, self.best_loss, stopped)

    def _save_record(self, state: str) -> None:
        record = {
            "state": state,
            "step": self.step,
            "tokens": self.tokens,
            "elapsed_s": round(self.elapsed_s, 1),
            "best": {"step": self.best_step, "validation_loss": self.best_loss},
            "train_tokens": len(self.corpus.train),
            "validation_tokens": len(self.corpus.validation),
            "config": asdict(self.config),
            "torch": torch.__version__,
        }
        checkpoint.save_training(self.directory, record)
