"""From a text source to a trained model in a directory: what `pygpt train` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from pygpt._core.bench import available_memory
from pygpt.errors import InvalidRequestError, OutOfMemory
from pygpt.model import Block, Model
from pygpt.tokenizer import Tokenizer
from pygpt.train import checkpoint
from pygpt.train.config import TrainConfig
from pygpt.train.data import PYTHON_DOCS, size_of, text_files
from pygpt.train.initial import Start, fresh, imported, model_config, resumed
from pygpt.train.optimizer import check_precision, choose_device
from pygpt.train.processes import Processes, joined
from pygpt.train.progress import Reporter
from pygpt.train.resume import Saved, changed, find, newest, restore
from pygpt.train.tokens import LARGE_BYTES, Corpus, load_corpus
from pygpt.train.trainer import Result, Trainer

Resume: TypeAlias = bool | Literal["strict"]


def train(
    source: str | Path | None,
    directory: Path,
    config: TrainConfig,
    *,
    force: bool = False,
    resume: Resume = False,
    changes: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Train a model on the text and leave it in the directory (see `pygpt.train.checkpoint`).

    Args:
        source: a file, a folder or "python-docs" (see `pygpt.train.data.load_text`); None is the text of the
            run that is resumed.
        directory: made if it is not there.
        config: `PRESETS["cpu"]` is a start.
        force: replace a run that is in the directory; with `resume`, go on though the text has changed.
        resume: go on with the run in the directory from its newest checkpoint that is whole, with its own
            hyper-parameters; begin it where it never came to save one. "strict": only from the newest, whole
            or not.
        changes: hyper-parameters to change on resuming.
        reporter: is told what happens.
        should_stop: asked after every step; true ends the run there, saved.

    Raises:
        InvalidRequestError: the text, the directory or a value of the config cannot be used.
        ModelFileError: the checkpoints, or the one to begin from, cannot be used.
        NumericalError: the loss is not finite; the best weights and the checkpoints so far are on disk.
        OSError: something cannot be written; the checkpoints so far are on disk.
    """
    model_config(config, 1)  # what is impossible is told before anything is touched
    device = choose_device(config.device)
    check_precision(config.precision, device)
    with (
        joined(device) as processes,
        _claimed(directory, processes, force=force, resume=resume),
    ):
        reporter = reporter if reporter and processes.is_first else Reporter()
        try:
            trainer = _begin(
                source, directory, config, processes, reporter, changes or {}, force=force, resume=resume
            )
            reporter.started(headline(trainer))
            return trainer.run(reporter, should_stop)
        except BaseException:
            reporter.finished("")
            raise


def prepare(source: str | Path, directory: Path, config: TrainConfig) -> Trainer:
    """Read the text, then make its vocabulary and a model to train, in this process alone. Writes nothing.

    Raises:
        InvalidRequestError: the text or a value of the config cannot be used.
        ModelFileError: the checkpoint to begin from cannot be used.
    """
    text = _named(source)
    start = imported(config) if config.init_from else fresh(text, config, _untold)
    corpus = load_corpus(text, start.tokenizer, start.config.context_length, None, _untold)
    return _trainer(start, corpus, directory, Processes())


def headline(trainer: Trainer) -> str:
    """One line: the size of the model, of the text and of a step."""
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    config, corpus, state = trainer.config, trainer.corpus, trainer.state
    count = trainer.processes.count
    return (
        f"{parameters:,} parameters on {trainer.device}{f' in {count} processes' if count > 1 else ''}; "
        f"{len(corpus.train):,} tokens to train on, {len(corpus.validation):,} to validate, vocabulary "
        f"{corpus.tokenizer.vocab_size}; {config.batch_size * config.context_length:,} tokens a step, seed "
        f"{config.seed}{f'; goes on behind step {state.step:,}' if state.step else ''}"
    )


def _begin(
    source: str | Path | None,
    directory: Path,
    config: TrainConfig,
    processes: Processes,
    reporter: Reporter,
    changes: Mapping[str, Any],
    *,
    force: bool,
    resume: Resume,
) -> Trainer:
    """The run as it is before its first step: a new one, or where its checkpoint was."""
    saved = _found(directory, processes, reporter, resume) if resume else None
    if saved is not None:
        config = changed(saved.config, changes, reporter.noted)
    elif source is None:
        raise InvalidRequestError("text", "say what to train on: there is no checkpoint that tells")
    text = saved.source if source is None and saved is not None else _named(source or "")
    start = _start(text, config, saved, processes, reporter)
    corpus = _corpus(text, start, directory, processes, reporter)
    trainer = _trainer(start, corpus, directory, processes)
    if saved is None:
        if processes.is_first:
            checkpoint.remove_run(directory, keep=_cache(text, config, directory))
        return trainer
    if corpus.text_sha256 != saved.text_sha256 and not force:
        raise InvalidRequestError(
            "text",
            f"{text} is not the text that the run was trained on; --force goes on with it all the same",
        )
    restore(saved, trainer)
    if processes.is_first and trainer.state.best_step and checkpoint.kept(directory) is None:
        reporter.noted(f"{directory / checkpoint.WEIGHTS}, the best weights, is lost; the next best is kept")
        trainer.state.best_loss = float("inf")
    return trainer


def _found(directory: Path, processes: Processes, reporter: Reporter, resume: Resume) -> Saved | None:
    """The checkpoint that the first process chooses."""
    if not processes.is_first:
        return processes.told(None)
    return processes.told(newest(directory) if resume == "strict" else find(directory, reporter.noted))


def _start(
    text: str, config: TrainConfig, saved: Saved | None, processes: Processes, reporter: Reporter
) -> Start:
    if saved is not None:
        return resumed(saved, config)
    if config.init_from:
        return imported(config)
    start = fresh(text, config, reporter.preparing) if processes.is_first else None
    written = processes.told(start.tokenizer.to_json() if start is not None else "")
    tokenizer = start.tokenizer if start is not None else Tokenizer.from_json(written)
    return Start(config, tokenizer, tokenizer.vocab_size)


def _corpus(text: str, start: Start, directory: Path, processes: Processes, reporter: Reporter) -> Corpus:
    """The tokenised text; where it goes to a file, the first process writes it and the others wait."""
    cache = _cache(text, start.config, directory)
    length = start.config.context_length
    if not processes.is_first:
        processes.told(None)
    corpus = load_corpus(text, start.tokenizer, length, cache, reporter.preparing)
    if processes.is_first:
        processes.told(None)
    return corpus


def _cache(text: str, config: TrainConfig, directory: Path) -> Path | None:
    if config.cache is not None:
        if Path(config.cache).is_file():
            raise InvalidRequestError("cache", f"{config.cache} is a file; name a directory")
        return Path(config.cache)
    return directory / checkpoint.TOKENS if size_of(text) >= LARGE_BYTES else None


def _trainer(start: Start, corpus: Corpus, directory: Path, processes: Processes) -> Trainer:
    config = start.config
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    _check_memory(start)
    torch.manual_seed(config.seed)
    model: Model = start.model()
    if config.attention_dropout is not None:
        for block in model.blocks:
            if isinstance(block, Block):
                block.attn.weight_dropout = config.attention_dropout
    return Trainer(model, corpus, config, directory, processes)


def _check_memory(start: Start) -> None:
    """Told here, and not by the system, which may end any process for it."""
    with torch.device("meta"):
        model = Model.from_config(model_config(start.config, start.n_vocab))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    needed, available = parameters * _BYTES_A_PARAMETER, available_memory()
    if choose_device(start.config.device).type == "cpu" and needed > available:
        raise OutOfMemory(
            f"{parameters:,} parameters need {needed >> 20:,} MiB to be trained, and {available >> 20:,} MiB "
            "are free; try a smaller d-model, n-layers or vocab-size"
        )


_BYTES_A_PARAMETER = 16  # the weight, its gradient and AdamW's two means, all f32


@contextmanager
def _claimed(directory: Path, processes: Processes, *, force: bool, resume: Resume) -> Iterator[None]:
    """The first process claims the directory, for all."""
    if not processes.is_first:
        yield
        return
    with checkpoint.claim(directory, force=force, resume=bool(resume)):
        yield


def _named(source: str | Path) -> str:
    """The source as it is written down: found from any directory.

    Raises:
        InvalidRequestError: a folder without text files.
    """
    if source == PYTHON_DOCS:
        return PYTHON_DOCS
    text_files(source)
    return str(Path(source).absolute())


def _untold(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
