"""From a text source to a trained model in a directory: what `pygpt train` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from pygpt.model import Block, Model, ModelConfig
from pygpt.tokenizer import Tokenizer
from pygpt.train import checkpoint
from pygpt.train.config import TrainConfig
from pygpt.train.data import load_text, split
from pygpt.train.progress import Reporter
from pygpt.train.trainer import Corpus, Result, Trainer


def train(
    source: str | Path,
    directory: Path,
    config: TrainConfig,
    *,
    force: bool = False,
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Train a fresh model on the text and leave it in the directory (see `pygpt.train.checkpoint`).

    Args:
        source: a file, a folder or "python-docs" (see `pygpt.train.data.load_text`).
        directory: made if it is not there.
        config: `PRESETS["cpu"]` is a start.
        force: replace a run that is in the directory.
        reporter: is told what happens.
        should_stop: asked after every step; true ends the run there, with the best weights saved.

    Raises:
        InvalidRequestError: the text, the directory or a value of the config cannot be used.
        NumericalError: the loss is not finite; the best weights so far are on disk.
    """
    reporter = reporter or Reporter()
    trainer = prepare(source, directory, config)
    with checkpoint.claim(directory, force=force):
        reporter.started(headline(trainer))
        try:
            return trainer.run(reporter, should_stop)
        except BaseException:
            reporter.finished("")
            raise


def prepare(source: str | Path, directory: Path, config: TrainConfig) -> Trainer:
    """Read the text, then make its vocabulary and a fresh model. Writes nothing.

    Raises:
        InvalidRequestError: the text or a value of the config cannot be used.
    """
    text = load_text(source)
    tokenizer = Tokenizer.from_text(text)
    ids, validation_ids = split(torch.tensor(tokenizer.encode(text)), config.context_length)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    model = Model.from_config(model_config(config, tokenizer.vocab_size))
    if config.attention_dropout is not None:
        for block in model.blocks:
            if isinstance(block, Block):
                block.attn.weight_dropout = config.attention_dropout
    return Trainer(model, Corpus(tokenizer, ids, validation_ids), config, directory)


def model_config(config: TrainConfig, n_vocab: int) -> ModelConfig:
    """The architecture that a training config describes, for a vocabulary of this size."""
    return ModelConfig(
        context_length=config.context_length,
        d_model=config.d_model,
        h=config.h,
        n_layers=config.n_layers,
        n_vocab=n_vocab,
        dropout=config.dropout,
        activation=config.activation,  # type: ignore[arg-type]  # ModelConfig checks it
        bias=config.bias,
        tie_weights=config.tie_weights,
    )


def headline(trainer: Trainer) -> str:
    """One line: the size of the model, of the text and of a step."""
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    config, corpus = trainer.config, trainer.corpus
    return (
        f"{parameters:,} parameters on {trainer.device}; {len(corpus.train):,} tokens to train on, "
        f"{len(corpus.validation):,} to validate, vocabulary {corpus.tokenizer.vocab_size}; "
        f"{config.batch_size * config.context_length:,} tokens a step, seed {config.seed}"
    )
