"""Several processes that train one model, each on its share of every batch, as `torchrun` starts them.

    torchrun --nproc-per-node 2 -m pygpt train ...

Only the first of them, rank 0, writes and shows anything; what it decides, the others are told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from pygpt.errors import DeviceError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """All processes of a run, seen from one of them. By default it is alone.

    Attributes:
        rank: which one this is, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of the items, whose number divides among the processes."""
        mine: NDArray[np.int64] = items.reshape(self.count, -1)[self.rank]
        return mine

    def told(self, value: T) -> T:
        """The first process's value."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values)
        return values[0]

    def agreed(self, stop: bool, elapsed_s: float) -> tuple[bool, float]:
        """Whether any process wants to stop, and the first one's time."""
        if self.count == 1:
            return stop, elapsed_s
        views: list[tuple[bool, float]] = [(False, 0.0)] * self.count
        distributed.all_gather_object(views, (stop, elapsed_s))
        return any(view[0] for view in views), views[0][1]

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of each value over the processes."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values / self.count


def is_voice() -> bool:
    """Whether this process is the one that speaks, also before and after `joined`."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes of this run while the body runs: those of `torchrun`, whose environment says who is who.

    Raises:
        DeviceError: this torch cannot talk to other processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    if not distributed.is_available():
        raise DeviceError("this torch comes without torch.distributed; train in one process")
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()
