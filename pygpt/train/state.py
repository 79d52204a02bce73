"""Where a run stands, but for its weights and the optimizer's.

A checkpoint holds it, so that the run goes on as if nothing had happened. It needs no random numbers: all of
them follow from (seed, batch).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(slots=True)
class State:
    """Where a run stands.

    Attributes:
        step: optimizer steps made.
        best_step, best_loss: the evaluation with the lowest validation loss, in nats a token.
        waited: evaluations since then.
        loss_sum, loss_count: of the steps since the last evaluation.
        elapsed_s: seconds trained, over all sessions.
        passed_over: batches that no step was made with (see `pygpt.train.not_finite`).
    """

    step: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    waited: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    elapsed_s: float = 0.0
    passed_over: int = 0

    @property
    def batch(self) -> int:
        """The number of the batch that the next step reads."""
        return self.step + self.passed_over

    def made_step(self, loss: float) -> None:
        """Count a step and its loss."""
        self.step += 1
        self.loss_sum += loss
        self.loss_count += 1

    def take_train_loss(self) -> float:
        """The mean loss of the steps since the last call, in nats a token."""
        mean = self.loss_sum / max(self.loss_count, 1)
        self.loss_sum, self.loss_count = 0.0, 0
        return mean

    def judge(self, loss: float) -> bool:
        """Count an evaluation; whether none was better."""
        best = loss < self.best_loss
        self.waited = 0 if best else self.waited + 1
        if best:
            self.best_step, self.best_loss = self.step, loss
        return best

    def to_json(self) -> dict[str, float | None]:
        """The fields; JSON has no infinity."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> State:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        values = {"passed_over": 0, **values}  # the first checkpoints do not have it
        named: dict[str, Any] = {item.name: values[item.name] for item in fields(cls)}
        if named["best_loss"] is None:
            named["best_loss"] = math.inf
        return cls(**named)
