"""`pygpt bench`: what the machine can do, and how much of that a model gets."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pygpt.cli.common import EXIT_CODES, OK

_DESCRIPTION = """\
Measure what this machine can do at most: bandwidth of memory and caches, arithmetic, the threads' barrier.

  pygpt bench --machine
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand `bench`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "bench",
        usage="pygpt bench --machine [options]",
        description=_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--machine", action="store_true", help="measure the machine alone")
    parser.add_argument("-j", "--threads", type=int, metavar="N", help="threads (default: all, one by one)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Measure as the flags say; the exit code."""
    return _machine(arguments)


def _machine(arguments: argparse.Namespace) -> int:
    from pygpt.bench import machine
    from pygpt.bench.tables import machine_json, machine_lines
    from pygpt.cli.progress import progress_bar

    threads = None if arguments.threads is None else [arguments.threads]
    with progress_bar() as progress:
        limits = machine(threads, repeats=arguments.repeats, progress=progress)
    _print(json.dumps(machine_json(limits)) if arguments.json else "\n".join(machine_lines(limits)))
    return OK


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
