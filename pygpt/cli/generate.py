"""`pygpt generate`: continue a text."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from pygpt.cli.common import EXIT_CODES, OK, add_engine_flags, open_engine
from pygpt.cli.sampling_flags import add_sampling_flags, sampling_params
from pygpt.completion import Completion
from pygpt.engine import Engine
from pygpt.errors import EngineClosedError, InvalidRequestError
from pygpt.params import SamplingParams
from pygpt.repl.sanitize import encodable, visible

_DESCRIPTION = """\
Continue a text with a model, without MODEL with the one that comes with pygpt; the text that it adds goes to
stdout as it comes.

  pygpt generate model.pygpt -p "ROMEO:" -n 200 -t 0.8 --seed 1
  cat scene.txt | pygpt generate model.pygpt - --stop '"\\n\\n"' --json
"""
SCHEMA = "pygpt.generate/1"
SEPARATOR = "\n---------------\n"


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand `generate`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "generate",
        usage="pygpt generate [MODEL] [-p PROMPT | -] [options]",
        description=_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="a .pygpt file (default: the bundled model)"
    )
    parser.add_argument(
        "stdin", nargs="?", choices=["-"], metavar="-", help="read the prompt from stdin, as it is"
    )
    parser.add_argument(
        "-p", "--prompt", metavar="TEXT", help="the prompt (default: the model's start token)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object when it is done")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell about seed and speed on stderr")
    add_sampling_flags(parser)
    add_engine_flags(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Generate as the flags say; the exit code."""
    if arguments.model == "-":  # `pygpt generate -`: the dash is no model
        arguments.model, arguments.stdin = None, "-"
    params = sampling_params(arguments)
    with open_engine(arguments.model, arguments) as engine:
        prompt = _prompt(arguments)
        if arguments.json:
            completions = _samples(engine, prompt, params)
            fields = {
                "schema": SCHEMA,
                "model": engine.info["path"],
                "completions": [asdict(each) for each in completions],
            }
            sys.stdout.write(json.dumps(fields) + "\n")
        elif params.n > 1:
            completions = _samples(engine, prompt, params)
            _write(SEPARATOR.join(each.text for each in completions))
            _end_line(completions[-1].text)
        else:
            completions = [_streamed(engine, prompt, params)]
    if arguments.verbose:
        for each in completions:
            sys.stderr.write(f"{_told(each)}\n")
    return OK


def _prompt(arguments: argparse.Namespace) -> str | bytes:
    """The prompt that was named; bytes of stdin are read as UTF-8, or as they are by a model that knows
    bytes."""
    if arguments.stdin is None:
        return arguments.prompt or ""
    if sys.stdin is None:  # the shell closed it
        raise InvalidRequestError("stdin", "is closed, and - asks for the prompt from there")
    return sys.stdin.buffer.read()


def _samples(engine: Engine, prompt: str | bytes, params: SamplingParams) -> list[Completion]:
    found = engine.generate(prompt, params)
    return found if isinstance(found, list) else [found]


def _streamed(engine: Engine, prompt: str | bytes, params: SamplingParams) -> Completion:
    last = None
    with engine.stream(prompt, params) as stream:
        for piece in stream:
            _write(piece.text)
            last = piece
    if last is None or last.completion is None:
        raise EngineClosedError("the engine was closed while it wrote")
    _end_line(last.completion.text)
    return last.completion


def _write(text: str) -> None:
    """To a file or a pipe the text as it is; a terminal is shown control characters, not sent them. What
    the encoding lacks is escaped."""
    shown = visible if sys.stdout.isatty() else encodable
    sys.stdout.write(shown(text, sys.stdout.encoding))
    sys.stdout.flush()


def _end_line(text: str) -> None:
    if not text.endswith("\n"):
        _write("\n")


def _told(completion: Completion) -> str:
    usage, timings = completion.usage, completion.timings
    speed = usage.completion_tokens / timings.decode_s if timings.decode_s > 0 else 0.0
    return (
        f"{completion.finish_reason}: {usage.prompt_tokens} prompt tokens, {usage.completion_tokens} new in "
        f"{timings.decode_s:.3f} s ({speed:,.0f}/s), seed {completion.seed}"
    )
