"""What a run shows while it goes: nothing, or a bar, losses and samples on stderr."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Step:
    """An optimizer step that was made.

    Attributes:
        step: how many were made.
        done: share of the run that lies behind, 0 to 1.
        loss: mean of the batch, in nats a token, with dropout.
        tokens_per_s: mean since the run began, evaluations included.
        left_s: seconds to the end at that speed.
    """

    step: int
    done: float
    loss: float
    tokens_per_s: float
    left_s: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation that was made.

    Attributes:
        step: optimizer steps made before it.
        train_loss: mean of the batches since the last one, in nats a token, with dropout.
        validation_loss: in nats a token, without dropout.
        best: whether none was lower, so that the weights were saved.
    """

    step: int
    train_loss: float
    validation_loss: float
    best: bool


class Reporter:
    """Is told what happens, and shows nothing; what is shown is up to its children."""

    def preparing(self, what: str, done: int, total: int) -> None:
        """What is done before the first step or behind the last, and how far it is."""

    def noted(self, text: str) -> None:
        """Something to know: what is odd and does not stop the run."""

    def started(self, headline: str) -> None:
        """The first step comes next."""

    def stepped(self, step: Step) -> None:
        """A step was made."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """The model was measured, and saved if it was the best so far."""

    def sampled(self, text: str) -> None:
        """Text by the model as it is now."""

    def finished(self, message: str) -> None:
        """No more calls come; the message is empty if the run failed."""


class ConsoleReporter(Reporter):
    """A live bar on a terminal (loss, tokens a second, time left), and a line an evaluation anywhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.fields[what]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}% {task.fields[state]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1.0, what="step 0", state="")

    def preparing(self, what: str, done: int, total: int) -> None:
        """Move the bar."""
        self._bar.start()
        self._bar.update(self._task, completed=done / max(total, 1), what=what, state="")

    def noted(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(Text(_spelled_out(f"note: {text}")))

    def started(self, headline: str) -> None:
        """Show the headline and the bar."""
        self._console.print(Text(headline))
        self._bar.start()

    def stepped(self, step: Step) -> None:
        """Move the bar."""
        state = f" loss {step.loss:.3f}  {step.tokens_per_s:,.0f} tokens/s  {_clock(step.left_s)} left"
        self._bar.update(self._task, completed=step.done, what=f"step {step.step}", state=state)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Print a line above the bar."""
        losses = f"train {evaluation.train_loss:.4f}  validation {evaluation.validation_loss:.4f}"
        kept = "  (best so far: saved)" if evaluation.best else ""
        self._console.print(Text(f"step {evaluation.step:5d}  {losses}{kept}", style="bold"))

    def sampled(self, text: str) -> None:
        """Print it above the bar; what a model writes is shown, never obeyed."""
        self._console.print(Text(_spelled_out(text), style="dim"))

    def finished(self, message: str) -> None:
        """Take the bar away."""
        self._bar.stop()
        if message:
            self._console.print(Text(message))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _spelled_out(text: str) -> str:
    """The text with control characters as Python writes them, so that none moves the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
