"""What a run writes down about itself: metrics.jsonl, a picture of it, and TensorBoard's files where asked.

A run never fails for want of these: what cannot be written is told, once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pygpt.atomic import replacing
from pygpt.errors import MissingExtraError
from pygpt.train import checkpoint
from pygpt.train.config import TrainConfig
from pygpt.train.progress import Reporter


class Metrics:
    """The metrics of a run in a directory, which goes on behind a step. Only the first process writes.

    Raises:
        MissingExtraError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self, directory: Path, config: TrainConfig, reporter: Reporter, step: int, *, first: bool = True
    ) -> None:
        self._directory = directory
        self._reporter = reporter
        self._told: set[str] = set()
        self._first = first
        self._board = _board(directory) if config.tensorboard and first else None
        if step:
            self.go_back(step)

    def add(self, line: Mapping[str, float]) -> None:
        """Write the figures of an evaluation."""
        if not self._first:
            return
        self._try(checkpoint.METRICS, lambda: _append(self._directory / checkpoint.METRICS, line))
        if self._board is not None:
            board, step = self._board, int(line["step"])
            for name in ("train_loss", "validation_loss", "learning_rate"):
                self._try(checkpoint.BOARD, partial(board.add_scalar, name, line[name], step))

    def go_back(self, step: int) -> None:
        """Forget the lines behind a step: they come again."""
        if self._first:
            self._try(checkpoint.METRICS, lambda: _cut(self._directory / checkpoint.METRICS, step))

    def close(self) -> None:
        """Draw the picture; finish TensorBoard's files."""
        if self._first:
            self._try(checkpoint.CURVE, lambda: draw_curve(self._directory))
        if self._board is not None:
            self._try(checkpoint.BOARD, self._board.close)

    def _try(self, name: str, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception as error:  # whatever a picture or a tracker comes up with: the weights matter more
            if name not in self._told:
                what = f"{type(error).__name__}: {error}"
                self._reporter.noted(f"{name} cannot be written, and training goes on: {what}")
            self._told.add(name)


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without one that a crash tore."""
    path = directory / checkpoint.METRICS
    lines = []
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if isinstance(fields, dict) and isinstance(fields.get("step"), int):
            lines.append(fields)
    return lines


def draw_curve(directory: Path) -> None:
    """Draw the losses over tokens as curve.png; nothing where there is nothing to draw.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    lines = read_metrics(directory)
    if not lines:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # needs no display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    millions = [line["tokens"] / 1e6 for line in lines]
    axes.plot(millions, [line["train_loss"] for line in lines], ".-", label="training, with dropout")
    axes.plot(millions, [line["validation_loss"] for line in lines], ".-", label="validation")
    axes.set(xlabel="million tokens read", ylabel="loss, nats a token")
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(directory / checkpoint.CURVE) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _append(path: Path, line: Mapping[str, float]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _cut(path: Path, step: int) -> None:
    """Drop the lines behind a step, which come again, and a torn one."""
    lines = [json.dumps(line) + "\n" for line in read_metrics(path.parent) if line["step"] <= step]
    checkpoint.write_atomically(path, "".join(lines).encode())


def _board(directory: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("--tensorboard needs TensorBoard: pip install tensorboard") from error
    return SummaryWriter(directory / checkpoint.BOARD)
