"""What a model is, as values: the `config` and `default` lines of a model file (docs/format.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

PANEL = 16  # rows of a panel of packed weights; every head's q, k and v begin at one

# Sampling defaults that a model may record, in file order.
DEFAULT_TYPES: Mapping[str, type] = {
    "temperature": float,
    "top_k": int,
    "top_k_ties": bool,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
}

# Config lines that are left out, where they hold these values; n_kv_head's is n_head.
IMPLIED: Mapping[str, Any] = {
    "n_kv_head": 0, "rope_theta": 0.0, "rope_frequencies": False, "rope_layers": "", "gate": False,
    "qk_norm": "none", "window": 0, "window_layers": "",
    "embedding_norm": False, "smear_width": 0, "layer_lambdas": False, "value_gate_width": 0,
    "value_gate_scale": 0.0, "value_layers": "", "backout_layer": None, "logit_cap": 0.0,
}  # fmt: skip


def layer_pattern(layers: Sequence[bool]) -> str:
    """Digits, the shortest that say in which layers something is done, cycled over them; empty: in all."""
    digits = "".join("01"[bool(layer)] for layer in layers)
    if "0" not in digits:
        return ""
    period = next(p for p in range(1, len(digits) + 1) if digits[p:] == digits[:-p])
    return digits[:period]


def _holds(pattern: str, layer: int) -> bool:
    return not pattern or pattern[layer % len(pattern)] == "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Everything about a model but its weights; the fields are the config keys of docs/format.md, in its
    order. A field that the config leaves out where it says nothing new has a default here.

    Which values are possible is decided in one place, `_core.tensor_specs`.
    """

    n_layer: int
    n_head: int
    n_kv_head: int = 0  # heads of k and v, which divide n_head; 0 stands for n_head
    head_dim: int
    d_model: int
    d_ff: int
    context_length: int
    vocab_size: int  # ids that may be sampled
    padded_vocab_size: int  # rows of the embedding and of the head
    norm: str = "layer_norm"
    norm_epsilon: float = 1e-5
    position: str = "learned"
    rope_theta: float = 0.0  # of rotary positions whose frequencies are its powers, else 0
    rope_frequencies: bool = False  # they are a tensor
    rope_layers: str = ""  # a digit for each layer, cycled: 1 where q and k are turned; empty: in all
    activation: str
    gate: bool = False
    attention_scale: float  # scores are attention_scale * q.k
    qk_norm: str = "none"
    window: int = 0  # positions that a row sees, its own among them; 0: all
    window_layers: str = ""  # as rope_layers: 1 where the window holds
    tied_head: bool
    qkv_bias: bool
    proj_bias: bool
    mlp_bias: bool
    norm_bias: bool
    head_bias: bool
    embedding_norm: bool = False
    smear_width: int = 0  # columns that gate what a position takes of the one before it; 0: nothing
    layer_lambdas: bool = False
    value_gate_width: int = 0  # columns that gate what v gets from a table of the tokens; 0: nothing
    value_gate_scale: float = 0.0
    value_layers: str = ""  # as rope_layers: 1 where there is such a table
    backout_layer: int | None = None
    logit_cap: float = 0.0  # 0: logits are as they are
    start_token: int | None = None
    stop_tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """n_kv_head 0 becomes what it stands for."""
        object.__setattr__(self, "n_kv_head", self.n_kv_head or self.n_head)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Architecture:
        """The architecture of an opened file: `_core.ModelFile.config`."""
        values = {field.name: config[field.name] for field in fields(cls)}
        return cls(**(values | {"stop_tokens": tuple(values["stop_tokens"] or ())}))

    @property
    def padded_head_dim(self) -> int:
        """Rows of one head's q, k or v in `attn.qkv`: head_dim rounded up to whole panels."""
        return -(-self.head_dim // PANEL) * PANEL

    @property
    def heads_per_group(self) -> int:
        """Heads of q that share one head of k and v."""
        return self.n_head // self.n_kv_head

    def turns(self, layer: int) -> bool:
        """Whether a layer turns q and k by their position."""
        return self.position == "rotary" and _holds(self.rope_layers, layer)

    def window_of(self, layer: int) -> int:
        """How many positions a row of a layer sees at most, its own the last of them."""
        return self.window if self.window and _holds(self.window_layers, layer) else self.context_length

    def has_values(self, layer: int) -> bool:
        """Whether the v of a layer has an embedding of the token."""
        return self.value_gate_width > 0 and _holds(self.value_layers, layer)

    def to_config(self) -> dict[str, str]:
        """The keys and their values as written in the file, in file order."""
        implied = {**IMPLIED, "n_kv_head": self.n_head}
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            key: format_value(value)
            for key, value in values.items()
            if key not in implied or value != implied[key]
        }

    def to_lines(self) -> list[str]:
        """The `config` lines of the header, without line ends."""
        return [f"config {key} {value}" for key, value in self.to_config().items()]


def format_value(value: bool | int | float | str | tuple[int, ...] | None) -> str:
    """A value as the header's grammar writes it; one value has one spelling."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(str(int(item)) for item in value)
    if isinstance(value, float | np.floating):
        # The engine computes in binary32: the shortest digits that name the same binary32, without an
        # exponent.
        return np.format_float_positional(np.float32(value), unique=True, trim="-")
    return str(value)
