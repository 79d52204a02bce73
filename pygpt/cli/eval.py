"""`pygpt eval`: how well a model predicts a text."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pygpt.cli.common import EXIT_CODES, OK, add_engine_flags, open_engine
from pygpt.errors import InvalidRequestError

if TYPE_CHECKING:
    from pygpt.evaluation import Evaluation

_DESCRIPTION = """\
How well a model predicts a text: loss in nats a token, perplexity, bits a byte. As in training: windows of
the model's context, side by side; a rest that is shorter than a window is left out (of a .jsonl it counts).

  pygpt eval model.pygpt held_out.txt
  pygpt eval model.pygpt data/openwebtext/val.bin --windows 200     # nanoGPT's uint16 ids
  pygpt eval model.pygpt pages.jsonl --stride 512 --json            # each line's "text" by itself
"""
SCHEMA = "pygpt.eval/1"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the subcommand `eval`; its default `run` is `run`."""
    parser = subparsers.add_parser(
        "eval",
        help="measure how well a model predicts a text",
        description=_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a .pygpt file")
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="a text, .jsonl, or .bin of uint16"
    )
    parser.add_argument(
        "--stride", type=int, metavar="N", help="tokens between windows (default: the context, no overlap)"
    )
    parser.add_argument("--windows", type=int, metavar="N", help="read only N windows, evenly spread")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_engine_flags(parser)
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Evaluate as the flags say; the exit code."""
    from pygpt.cli.progress import progress_bar
    from pygpt.evaluation import evaluate
    from pygpt.evaluation_files import token_ids_of
    from pygpt.repl.sanitize import visible

    with open_engine(arguments.model, arguments) as engine, progress_bar() as progress:
        read = [token_ids_of(path, engine.tokenizer) for path in arguments.files]
        rests = {rest for _, rest in read}
        if len(rests) > 1:
            raise InvalidRequestError(
                "FILE", "name .jsonl files by themselves: the rest of a text counts there"
            )
        found = evaluate(
            engine,
            [ids for texts, _ in read for ids in texts],
            stride=arguments.stride,
            rest=rests.pop(),
            windows=arguments.windows,
            progress=progress,
        )
        path = os.fsdecode(engine.info["path"])
    if arguments.json:
        named = {"schema": SCHEMA, "model": path, "files": list(map(str, arguments.files))}
        sys.stdout.write(json.dumps(named | asdict(found), allow_nan=False) + "\n")
    else:
        sys.stdout.write(visible("\n".join(_lines(found)), sys.stdout.encoding) + "\n")
    return OK


def _lines(found: Evaluation) -> list[str]:
    rows = [("loss", f"{found.loss:.4f} nats a token"), ("perplexity", f"{found.perplexity:.4g}")]
    if found.bits_per_byte is not None and found.bits_per_character is not None:
        rows += [("bits a byte", f"{found.bits_per_byte:.4f}")]
        rows += [("bits a character", f"{found.bits_per_character:.4f}")]
    apart = "" if found.stride == found.context else f", {found.stride} apart"
    windows = f"in {found.windows:,} windows of {found.context}{apart}"
    rows += [("scored", f"{found.tokens:,} tokens {windows}; {found.left_out:,} tokens left out")]
    return [f"{name:<18}{value}" for name, value in rows]
