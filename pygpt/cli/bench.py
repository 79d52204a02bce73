"""`pygpt bench`: what the machine can do, and how much of that a model gets."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

from pygpt.cli.common import EXIT_CODES, OK, add_engine_flags, open_engine
from pygpt.errors import InvalidRequestError

_DESCRIPTION = """\
Measure how fast a model runs here, without MODEL the one that comes with pygpt, and which share that is of
what the machine could do at the same moment. Nothing else should run meanwhile.

  pygpt bench model.pygpt                        # decode, batch, prefill, start-up, memory
  pygpt bench model.pygpt --picture roofline.png
  pygpt bench model.pygpt --device cuda          # on a GPU, beside the bandwidth of its memory
  pygpt bench --machine                          # the limits alone: memory, caches, arithmetic, barrier
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand `bench`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "bench",
        usage="pygpt bench [MODEL | --machine] [options]",
        description=_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="a .pygpt file (default: the bundled model)"
    )
    parser.add_argument("--machine", action="store_true", help="measure the machine alone")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="sequences at once (default: 8)")
    parser.add_argument("--tokens", type=int, metavar="N", help="tokens to write (default: 128)")
    parser.add_argument("--prompt-tokens", type=int, metavar="N", help="prompt to read (default: 512)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draw the roofline; batches 2, 4, ...")
    parser.add_argument("--force", action="store_true", help="replace PNG if it exists")
    add_engine_flags(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Measure as the flags say; the exit code."""
    return _machine(arguments) if arguments.machine else _model(arguments)


def _machine(arguments: argparse.Namespace) -> int:
    from pygpt.bench import machine
    from pygpt.bench.tables import machine_json, machine_lines
    from pygpt.cli.progress import progress_bar

    if arguments.model is not None or arguments.picture is not None:
        raise InvalidRequestError("--machine", "measures no model: leave out MODEL and --picture")
    said = {"--batch": arguments.batch != 8, "--tokens": arguments.tokens, "--force": arguments.force}
    said |= {"--prompt-tokens": arguments.prompt_tokens, "--max-context": arguments.max_context}
    for flag, value in said.items():
        if value not in (None, False):
            raise InvalidRequestError(flag, "is about a model, and --machine measures none")
    threads = None if arguments.threads is None else [arguments.threads]
    with progress_bar() as progress:
        limits = machine(threads, repeats=arguments.repeats, progress=progress)
    _print(json.dumps(machine_json(limits)) if arguments.json else "\n".join(machine_lines(limits)))
    return OK


def _model(arguments: argparse.Namespace) -> int:
    from pygpt.bench.model import Settings, measure
    from pygpt.bench.model_tables import model_json, model_lines
    from pygpt.bench.rates import REPEATS
    from pygpt.cli.progress import progress_bar

    if arguments.device == "cuda":
        return _gpu(arguments)
    arguments.device = "cpu"  # what "auto" means where the processor's roofs are drawn
    settings = Settings(
        tokens=arguments.tokens,
        prompt_tokens=arguments.prompt_tokens,
        batches=_batches(arguments.batch, drawn=arguments.picture is not None),
        repeats=REPEATS.check("repeats", arguments.repeats),
    )
    _check_picture(arguments)
    options = {
        name: getattr(arguments, name)
        for name in ("device", "threads", "max_context", "kv_dtype", "mmap", "verify")
    }
    with progress_bar() as progress:
        report = measure(
            lambda: open_engine(arguments.model, arguments, prefix_cache=False), options, settings, progress
        )
    _print(json.dumps(model_json(report)) if arguments.json else "\n".join(model_lines(report)))
    if arguments.picture is not None:
        from pygpt.bench.picture import draw

        draw(report, arguments.picture)
    return OK


def _gpu(arguments: argparse.Namespace) -> int:
    from pygpt.bench.gpu import copy_gb_s, gpu_json, gpu_lines, measure
    from pygpt.bench.rates import REPEATS

    if arguments.picture is not None:
        raise InvalidRequestError("--picture", "draws the processor's roofs; leave it out with --device cuda")
    with open_engine(arguments.model, arguments, prefix_cache=False) as engine:
        context = engine.info["context_length"]
        report = measure(
            engine,
            tokens=min(240, context - 16) if arguments.tokens is None else arguments.tokens,
            prompt_tokens=min(512, context - 1)
            if arguments.prompt_tokens is None
            else arguments.prompt_tokens,
            batches=_batches(arguments.batch, drawn=False),
            repeats=REPEATS.check("repeats", arguments.repeats),
            copy_gb_s=copy_gb_s(),
        )
    _print(json.dumps(gpu_json(report)) if arguments.json else "\n".join(gpu_lines(report)))
    return OK


def _batches(largest: int, *, drawn: bool) -> tuple[int, ...]:
    """Numbers of sequences beside 1; in a picture the powers of two on the way as well."""
    if largest < 1:
        raise InvalidRequestError("batch", f"must be at least 1, got {largest}")
    powers = [1 << power for power in range(1, largest.bit_length()) if 1 << power < largest] if drawn else []
    return (*powers, largest) if largest > 1 else ()


def _check_picture(arguments: argparse.Namespace) -> None:
    """Before minutes are spent on measuring.

    Raises:
        InvalidRequestError: it exists. FileNotFoundError: its folder does not. MissingExtraError.
    """
    path: Path | None = arguments.picture
    if path is None:
        return
    from pygpt.bench.picture import check_matplotlib

    check_matplotlib()
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not arguments.force:
        raise InvalidRequestError("--picture", f"{path} exists; --force replaces it")


def _print(text: str) -> None:
    from pygpt.repl.sanitize import visible

    sys.stdout.write(visible(text, sys.stdout.encoding) + "\n")
