"""`pygpt verify`: is the file whole, and does this machine compute with it what it must?"""

from __future__ import annotations

import argparse
import json
import sys

_DESCRIPTION = """\
Check every checksum of a .pygpt file, open its tokenizer and chat template, then replay its known answers
on this machine.

  pygpt verify gpt.pygpt
  pygpt verify gpt.pygpt --isa generic --threads 1
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the subcommand `verify`; its default `run` is `run`."""
    parser = subparsers.add_parser(
        "verify",
        help="check a .pygpt file and replay its known answers",
        description=_DESCRIPTION,
        epilog="exit codes: 0 good, 1 computes something else, 2 wrong arguments, 3 no usable model file\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", help="a .pygpt file")
    parser.add_argument(
        "--isa", default="", metavar="NAME", help="instruction set (default: PYGPT_ISA, or the best)"
    )
    parser.add_argument(
        "-j", "--threads", type=int, metavar="N", help="threads (default: PYGPT_THREADS, or chosen)"
    )
    parser.add_argument(
        "--device", default="cpu", choices=("cpu", "cuda"), help="where it is run (default: cpu)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Verify the file; the exit code. Errors are the caller's to show."""
    from pygpt.cli.export import parity_table
    from pygpt.cli.inspect import open_model_file
    from pygpt.divergence import explain
    from pygpt.fidelity import open_blobs
    from pygpt.opening import THREADS
    from pygpt.parity import known_answers, replay
    from pygpt.repl.sanitize import visible

    threads = None if args.threads is None else THREADS.check("threads", args.threads)
    file = open_model_file(args.file, verify="full")
    open_blobs(file)
    report = replay(file, isa=args.isa, threads=threads, device=args.device)
    passed = report is None or report.passed
    if args.json:
        parity = report.to_dict() if report else None
        facts = {"schema": "pygpt.verify/1", "path": args.file, "passed": passed, "parity": parity}
        print(json.dumps(facts, allow_nan=False))  # noqa: T201  (the result of the command)
    else:
        table = parity_table(report) if report else ["no known answers in this file: nothing to replay"]
        # Also the result. What the file says is shown, not obeyed.
        print(visible("\n".join(["checksums ok", *table]), sys.stdout.encoding))  # noqa: T201
    known = known_answers(file)
    if report and known and not report.stored.passed:
        print(explain(file, known, isa=args.isa, threads=threads), file=sys.stderr)  # noqa: T201
    return 0 if passed else 1
