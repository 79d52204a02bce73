"""`pygpt train`: from a text to a trained model in a directory."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from pygpt.cli.common import EXIT_CODES
from pygpt.errors import InvalidRequestError, MissingExtraError, OutOfMemory
from pygpt.train.config import FIXED, PRESETS, SHAPE, TrainConfig

if TYPE_CHECKING:
    from pygpt.train.trainer import Trainer

_DESCRIPTION = """\
Train a GPT on a text.

  pygpt train python-docs -o out/docs                   # English that every Python carries
  pygpt train shakespeare.txt -o out/play --preset lecture --max-minutes 60
  pygpt train --resume -o out/play                      # after a crash, or Ctrl-C
  pygpt train stories/ -o out/stories --preset story    # byte-level BPE instead of characters
  pygpt train mine.txt -o out/mine --init-from out/ckpt.pt
  torchrun --nproc-per-node 2 -m pygpt train shakespeare.txt -o out/play

TEXT is a UTF-8 file, a folder of .txt, .md and .rst files, or python-docs. `pygpt export DIR` makes a
.pygpt file of the best weights, `pygpt watch DIR` lets you talk with them while they learn. Ctrl-C
saves and stops, and so do SIGTERM and SIGUSR1; twice stops at once. docs/training.md tells more.
"""
_EPILOG = f"{EXIT_CODES}, 143 SIGTERM"
_OF_THE_CHECKPOINT = {*SHAPE, "tokenizer", "vocab_size"} - {"context_length"}  # with --init-from
_NO_MEMORY = "out of memory; try a smaller batch-size or --accumulate N, a smaller context-length or d-model"
_SHORT_FLAGS = {"seed": ["-s"], "threads": ["-j"]}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the subcommand `train`; its default `run` is `run`."""
    parser = subparsers.add_parser(
        "train",
        help="train a small GPT on a text",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        usage="pygpt train TEXT -o DIR [--preset NAME] [options]\n       pygpt train --resume -o DIR",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("text", metavar="TEXT", nargs="?", help="a file, a folder, or python-docs")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="training directory to write")
    parser.add_argument(
        "--preset", choices=sorted(PRESETS), help="starting point (default: cpu; finetune with --init-from)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in DIR, with its hyper-parameters but for flags given, or begin it",
    )
    parser.add_argument(  # a flag of its own: with an optional value, --resume would take TEXT for it
        "--resume=strict",
        dest="resume",
        action="store_const",
        const="strict",
        help="the same, but fail if the newest checkpoint is damaged, or none is there",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace the run that is in DIR; with --resume, allow that the text has changed",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="try one step, say what a run takes, write nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    _add_config_flags(parser.add_argument_group("hyper-parameters, with the presets' values"))
    parser.set_defaults(run=run)
    return parser


def _add_config_flags(group: argparse._ArgumentGroup) -> None:
    """One flag a field of TrainConfig; flags that are not given leave no trace in the namespace."""
    hints = get_type_hints(TrainConfig, include_extras=True)
    for item in fields(TrainConfig):
        annotated, help_text = get_args(hints[item.name])
        kind = get_args(annotated)[0] if get_args(annotated) else annotated  # float | None -> float
        values = {
            name: getattr(preset, item.name)
            for name, preset in PRESETS.items()
            if name != "finetune" or item.name not in _OF_THE_CHECKPOINT
        }
        options: dict[str, Any] = {"type": kind, "metavar": "N" if kind in (int, float) else "NAME"}
        if kind is bool:
            options = {"action": argparse.BooleanOptionalAction}
        group.add_argument(
            *_SHORT_FLAGS.get(item.name, []),
            f"--{item.name.replace('_', '-')}",
            help=help_text + _shown(values),
            default=argparse.SUPPRESS,
            **options,
        )


def _shown(values: Mapping[str, Any]) -> str:
    """What a flag stands at in each preset, said once where they agree."""
    if len(set(values.values())) > 1:
        return " (" + ", ".join(f"{name}: {value}" for name, value in values.items()) + ")"
    value = next(iter(values.values()))
    return "" if value is None else f" ({value})"


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say; the exit code. Errors are the caller's to show."""
    try:
        return _run(args)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        raise MissingExtraError(f"training needs {error.name}: pip install 'pygpt[train]'") from error
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):  # torch's two
            raise OutOfMemory(_NO_MEMORY) from error
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = " ".join(str(error).partition("\n\n")[0].split())  # what follows is for torch's own people
        raise InvalidRequestError("compile", f"torch cannot compile here: {reason}; leave it out") from error
    except OutOfMemory:  # a MemoryError that says more
        raise
    except MemoryError as error:
        raise OutOfMemory(_NO_MEMORY) from error


def _run(args: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(args).items() if name in TrainConfig.__dataclass_fields__}
    _check_given(args, given)
    preset = PRESETS[args.preset or ("finetune" if "init_from" in given else "cpu")]
    config = replace(preset, **given)
    if args.dry_run:
        return _dry_run(args, config)
    if args.output is None:
        raise InvalidRequestError("output", "say where to write the model: -o DIR")
    if args.text is None and not args.resume:
        raise InvalidRequestError("text", "say what to train on: a file, a folder, or python-docs")

    from pygpt.train.processes import is_voice
    from pygpt.train.progress import ConsoleReporter, Reporter
    from pygpt.train.run import train
    from pygpt.train.stop import polite_signals

    reporter = Reporter() if args.quiet else ConsoleReporter()
    told = [_stopping] if is_voice() and not args.quiet else []
    with polite_signals(*told) as stop:
        try:
            result = train(
                args.text,
                args.output,
                config,
                force=args.force,
                resume=args.resume,
                changes=_preset_values(args.preset) | given,
                reporter=reporter,
                should_stop=stop,
            )
        except KeyboardInterrupt:
            if stop.signal is None or stop.asked:  # by Ctrl-C, the second time
                raise
            return 128 + stop.signal
    if is_voice():
        report = {"schema": "pygpt.train/1", "output": str(args.output), **asdict(result)}
        _say(json.dumps(report) if args.json else str(args.output))
    return 128 + stop.signal if result.stopped and stop.signal else 0


def _preset_values(name: str | None) -> dict[str, Any]:
    """What a preset that was named says; of the shape, finetune says nothing."""
    values = asdict(PRESETS[name]) if name else {}
    return {key: value for key, value in values.items() if name != "finetune" or key not in FIXED}


def _check_given(args: argparse.Namespace, given: Mapping[str, Any]) -> None:
    """Refuse flags that would say nothing."""
    shape = sorted(given.keys() & _OF_THE_CHECKPOINT - {"tokenizer"})
    if "init_from" in given and shape:
        raise InvalidRequestError(shape[0], "comes from the checkpoint of --init-from; leave it out")
    if "vocab_size" in given and not args.preset and given.get("tokenizer") != "bpe" and not args.resume:
        raise InvalidRequestError("vocab_size", "is for --tokenizer bpe; other vocabularies have their size")


def _dry_run(args: argparse.Namespace, config: TrainConfig) -> int:
    """Build the model, make a step to warm up and some to measure, and say what the run would take."""
    import time

    from pygpt.train.run import headline, prepare

    if args.text is None:
        raise InvalidRequestError("text", "say what to train on: a file, a folder, or python-docs")
    trainer = prepare(args.text, args.output or Path(), config)
    config, state, model = trainer.config, trainer.state, headline(trainer)
    trainer.train_step(0.0)
    began_s, step_s = time.monotonic(), 0.0
    while state.step < 2 or step_s * (state.step - 1) < 1.0:
        trainer.train_step(0.0)
        step_s = (time.monotonic() - began_s) / (state.step - 1)
    minutes = round(min(config.steps * step_s / 60, config.max_minutes or float("inf")), 1)
    report = {
        "schema": "pygpt.train-dry-run/1",
        "model": model,
        "tokens": config.steps * config.batch_size * config.context_length,
        "tokens_per_s": round(config.batch_size * config.context_length / step_s),
        "minutes": minutes,
        "memory_mib": _peak_memory_mib(trainer),
    }
    if args.json:
        _say(json.dumps(report))
    else:
        _say(
            f"{model}\n{config.steps:,} steps, {report['tokens']:,} tokens: about "
            f"{_duration(minutes)} at {report['tokens_per_s']:,} tokens/s, "
            f"{report['memory_mib']:,} MiB. Nothing was written."
        )
    return 0


def _duration(minutes: float) -> str:
    if minutes < 120:
        return f"{minutes:.1f} minutes"
    return f"{minutes / 60:.1f} hours" if minutes < 48 * 60 else f"{minutes / 60 / 24:.1f} days"


def _peak_memory_mib(trainer: Trainer) -> int:
    """The most memory used so far: of the GPU where that is used, else of the process."""
    if trainer.device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() >> 20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return peak >> 20 if sys.platform == "darwin" else peak >> 10


def _stopping() -> None:
    """From a signal's handler, which may stand inside a write to sys.stderr."""
    os.write(2, b"\nstopping behind this step; what was learnt is saved first (again: at once)\n")


def _say(text: str) -> None:
    print(text)  # noqa: T201  (the result of the command)
