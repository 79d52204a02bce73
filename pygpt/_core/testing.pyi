"""Every kernel, offered to numpy with a named ISA ("": the best). For tests; no part of the public interface."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import Request

Floats = NDArray[np.float32]

def matmul(
    x: Floats,
    w: Floats,
    format: str,
    *,
    isa: str = "",
    bias: Floats | None = None,
    y: Floats | None = None,
    first: int = 0,
    last: int = -1,
    far: bool = False,
) -> Floats:
    """x [rows, k] (rounded to bytes, if the format is quantised) times w [n, k] packed in `format`, plus bias [n], plus y; only the panels [first, last) of 16 columns."""

def layer_norm(
    x: Floats, gain: Floats, bias: Floats | None = None, epsilon: float = 1e-5, *, isa: str = ""
) -> Floats: ...
def rms_norm(x: Floats, gain: Floats, epsilon: float = 1e-5, *, isa: str = "") -> Floats: ...
def rotate(x: Floats, theta: float, first: int = 0, *, isa: str = "") -> Floats:
    """Rows of one head of q or k [rows, head_dim] at the rotary positions first, first + 1, ..."""

def activate(x: Floats, activation: str, *, isa: str = "") -> Floats:
    """activation: "relu", "gelu" (erf), "gelu_tanh" or "silu"."""

def gate(x: Floats, activation: str, *, isa: str = "") -> Floats:
    """activation(x[:, 0]) * x[:, 1] of panels [panels, 2, 16]."""

def exp(x: Floats, *, isa: str = "") -> Floats: ...
def attend(
    q: Floats,
    k: Floats,
    v: Floats,
    scale: float,
    *,
    kv_dtype: str = "f32",
    isa: str = "",
    filler: float = 0.0,
    together: int = 1,
) -> Floats:
    """One causal head: q holds the last rows of the positions in k and v; `filler` is what lies in the cache behind them.

    `together`: rows that one call attends, 1..6.
    """

def quantise(x: Floats, *, isa: str = "") -> tuple[NDArray[np.int8], Floats, NDArray[np.int32]]:
    """What quantised matrices read of activations [rows, k]: bytes [rows, k], scales and starts [rows, groups of 64]."""

def choose(logits: Floats, request: Request, output: Sequence[int] = ()) -> int:
    """The token that the request's rules choose after `output`; -1: a logit is not finite, -2: every token is forbidden."""

def philox(counter: Sequence[int], key: int) -> list[int]: ...
def uniform(seed: int, sample: int, index: int) -> float: ...
def sampling_exp(x: float) -> float: ...
