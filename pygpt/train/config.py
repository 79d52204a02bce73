"""What a training run is made of: one dataclass, whose fields are also the flags of `pygpt train`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

from pygpt.errors import InvalidRequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Hyper-parameters of a run, each annotated with its line of help. The defaults are the preset `cpu`.

    Raises:
        InvalidRequestError: a value out of its range, named by field.
    """

    # The model: pygpt.model.ModelConfig checks its values; its vocabulary comes from the text. With init_from
    # all of it but dropout comes from there, and context_length only cuts it.
    n_layers: Annotated[int, "blocks"] = 4
    h: Annotated[int, "attention heads a block"] = 4
    d_model: Annotated[int, "width, divisible by the heads"] = 128
    context_length: Annotated[int, "tokens that the model sees at once"] = 64
    dropout: Annotated[float, "share of values zeroed while training"] = 0.0
    attention_dropout: Annotated[float | None, "the same for attention weights, where it differs"] = None
    activation: Annotated[str, "relu, gelu or gelu_tanh"] = "relu"
    bias: Annotated[bool, "biases on linear layers and layer norms"] = True
    tie_weights: Annotated[bool, "let the head use the token embedding's table"] = False
    init_from: Annotated[str | None, "begin with the weights of a checkpoint: all but dropout is its"] = None
    init_n_head: Annotated[int | None, "its attention heads, where it does not say"] = None
    init_attention_scale: Annotated[str | None, "head or width: what it scales by, as for export"] = None

    # The vocabulary.
    tokenizer: Annotated[str, "chars, bpe (learnt from the text), or a file: see docs/training.md"] = "chars"
    vocab_size: Annotated[int, "tokens of bpe, bytes among them"] = 4096
    cache: Annotated[str | None, "directory of the tokenised text, for runs to share"] = None

    # How it learns.
    steps: Annotated[int, "optimizer steps"] = 2000
    max_minutes: Annotated[float | None, "end after this time, fully annealed, even if steps remain"] = None
    batch_size: Annotated[int, "windows of context-length tokens a step, over all processes"] = 12
    accumulate: Annotated[int, "parts that a step's batch is computed in, to save memory"] = 1
    learning_rate: Annotated[float, "peak of the learning rate"] = 1e-3
    min_learning_rate: Annotated[float, "learning rate at the end of the cosine"] = 1e-4
    warmup_steps: Annotated[int, "steps over which the learning rate rises from 0"] = 100
    weight_decay: Annotated[float, "AdamW's decay of matrices; biases and norms have none"] = 0.1
    beta1: Annotated[float, "AdamW's memory of the gradient"] = 0.9
    beta2: Annotated[float, "AdamW's memory of the squared gradient"] = 0.99
    grad_clip: Annotated[float, "longer gradients are scaled down to this norm"] = 1.0
    on_nan: Annotated[str, "at a loss that is no number: stop, skip the batch, or rollback and skip"] = "stop"

    # What it shows and keeps.
    eval_interval: Annotated[int, "steps between evaluations; the best one's weights are kept"] = 250
    patience: Annotated[int | None, "end after this many evaluations without a better loss"] = None
    eval_windows: Annotated[int, "windows of validation text an evaluation reads; the last reads all"] = 200
    sample_length: Annotated[int, "tokens of sample text shown at each evaluation, or 0"] = 200
    save_interval: Annotated[int | None, "steps between checkpoints, where not the evaluations'"] = None
    keep_checkpoints: Annotated[int, "checkpoints kept to resume from"] = 2
    tensorboard: Annotated[bool, "write DIR/tensorboard too"] = False

    # The machine.
    device: Annotated[str, "cpu, cuda, mps or auto"] = "auto"
    precision: Annotated[str, "of matrix products, f32, tf32 or bf16; weights are f32"] = "f32"
    compile: Annotated[bool, "torch.compile the model: a minute before, faster steps on a GPU"] = False
    threads: Annotated[int | None, "CPU threads, where torch's own choice is not wanted"] = None
    seed: Annotated[int, "seed of weights, batches, dropout and samples"] = 1

    def __post_init__(self) -> None:
        for name, bound in _AT_LEAST.items():
            _require(name, getattr(self, name), lambda value, bound=bound: value >= bound, f">= {bound}")
        _require("seed", self.seed, lambda value: value < 1 << 63, "below 2^63")
        for name in ("learning_rate", "grad_clip", "max_minutes"):
            _require(name, getattr(self, name), lambda value: value > 0, "> 0")
        for name in ("dropout", "attention_dropout", "beta1", "beta2"):
            _require(name, getattr(self, name), lambda value: 0 <= value < 1, "in [0, 1)")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float):
                _require(item.name, value, math.isfinite, "finite")
        for name, choices in (("precision", PRECISIONS), ("on_nan", ON_NAN)):
            text = " or ".join(choices)
            _require(name, getattr(self, name), lambda value, choices=choices: value in choices, text)
        if self.batch_size % self.accumulate:
            raise InvalidRequestError(
                "accumulate", f"{self.accumulate} does not divide a batch_size of {self.batch_size}"
            )


PRECISIONS = ("f32", "tf32", "bf16")
ON_NAN = ("stop", "skip", "rollback")  # see pygpt.train.not_finite


_AT_LEAST = {
    "context_length": 1,
    "steps": 1,
    "batch_size": 1,
    "eval_interval": 1,
    "eval_windows": 1,
    "threads": 1,
    "min_learning_rate": 0,
    "warmup_steps": 0,
    "weight_decay": 0,
    "sample_length": 0,
    "seed": 0,
    "vocab_size": 256,
    "accumulate": 1,
    "patience": 1,
    "save_interval": 1,
    "keep_checkpoints": 1,
}

# The architecture. A run that goes on cannot change it, nor its vocabulary.
SHAPE = ("n_layers", "h", "d_model", "context_length", "activation", "bias", "tie_weights")
FIXED = (*SHAPE, "tokenizer", "vocab_size", "init_from", "init_n_head", "init_attention_scale")


def _require(name: str, value: Any, holds: Any, what: str) -> None:
    if value is not None and not holds(value):
        raise InvalidRequestError(name, f"must be {what}, got {value!r}")


# Named starting points; a flag given beside one overrides its field.
PRESETS: Mapping[str, TrainConfig] = {
    # Some minutes on a laptop's CPU.
    "cpu": TrainConfig(),
    # The lecture's model, 80 million tokens: some minutes on a GPU, a day on a CPU.
    "lecture": TrainConfig(
        n_layers=6, h=6, d_model=384, context_length=256, dropout=0.2, steps=5000, batch_size=64
    ),
    # 30 million parameters on 650 million tokens: stories, one GPU, an hour or two.
    "story": TrainConfig(
        n_layers=8, h=8, d_model=512, context_length=512, activation="gelu_tanh", tie_weights=True,
        tokenizer="bpe", vocab_size=8192, steps=10_000, batch_size=128, accumulate=2, learning_rate=6e-4,
        min_learning_rate=6e-5, warmup_steps=500, beta2=0.95, precision="bf16",
    ),
    # The shape of GPT-2's smallest, 124 million parameters, with nanoGPT's documented hyper-parameters: 300
    # billion tokens, days on several GPUs.
    "gpt2": TrainConfig(
        n_layers=12, h=12, d_model=768, context_length=1024, activation="gelu_tanh", tie_weights=True,
        tokenizer="bpe", vocab_size=50257, steps=600_000, batch_size=480, accumulate=5, learning_rate=6e-4,
        min_learning_rate=6e-5, warmup_steps=2000, beta2=0.95, eval_interval=1000, precision="bf16",
    ),
    # With --init-from: small steps from where someone else arrived.
    "finetune": TrainConfig(
        context_length=1024, dropout=0.1, steps=500, batch_size=8, learning_rate=5e-5, min_learning_rate=5e-6,
        warmup_steps=50, beta2=0.95, eval_interval=50, patience=5,
    ),
}  # fmt: skip
