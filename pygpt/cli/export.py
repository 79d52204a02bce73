"""`pygpt export`: from a PyTorch checkpoint to a `.pygpt` file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pygpt.errors import InvalidRequestError

if TYPE_CHECKING:
    from pygpt.exporter import Export
    from pygpt.parity import ParityReport, SetReport

_DESCRIPTION = """\
Make a .pygpt file of a PyTorch checkpoint, and prove that it computes the same.

  pygpt export out/shakespeare                        # a directory of pygpt train
  pygpt export out/ckpt.pt --dtype f32 -o gpt.pygpt   # nanoGPT, with its meta.pkl
  pygpt export model.pt --text input.txt              # the lecture's gpt.py

The family is recognised from the names in SOURCE (--list-families shows all). A checkpoint is never
run: pickles that hold code are refused.
"""
_EPILOG = """\
exit codes: 0 done, 1 failed (also: not the same), 2 wrong arguments, 3 not a usable checkpoint, 4 disk or
memory full, 130 stopped by Ctrl-C
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the subcommand `export`; its default `run` is `run`."""
    parser = subparsers.add_parser(
        "export",
        help="make a .pygpt file of a PyTorch checkpoint",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="SOURCE", help="a .pt, .pth or .safetensors file, or a directory")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PATH", help="file to write (default: beside SOURCE)"
    )
    parser.add_argument(
        "--dtype",
        default="auto",
        metavar="NAME",
        help="f32, f16, bf16, q8, q4, q4_pure, or auto: bf16 if SOURCE is, else f16",
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="training text, for its characters")
    parser.add_argument("--chars", metavar="STR", help="the characters themselves, in the order of their ids")
    parser.add_argument("--meta", type=Path, metavar="FILE", help="nanoGPT's meta.pkl")
    parser.add_argument(
        "--tokenizer",
        metavar="FILE",
        help="a tokenizer.json, tokenizer.pkl, vocab.json, or a directory with one; or none",
    )
    parser.add_argument("--n-head", type=int, metavar="N", help="heads a layer, where nothing records them")
    parser.add_argument(
        "--attention-scale", choices=("head", "width"), help="width: the lecture's code as the video shows it"
    )
    parser.add_argument(
        "--nanochat-gen", metavar="GEN", help="g3a or g3b, where nanochat's tensors are those of both"
    )
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="TEXT",
        help="a file of text like the training text, which decides what SOURCE does not record",
    )
    parser.add_argument(
        "--lora", type=Path, metavar="DIR", help="a PEFT LoRA adapter, to be merged into the weights"
    )
    parser.add_argument(
        "--no-verify", dest="verify", action="store_false", help="do not replay the known answers"
    )
    parser.add_argument(
        "--list-families", action=_ListFamilies, nargs=0, help="show what is recognised, and leave"
    )
    parser.add_argument("--force", action="store_true", help="replace the file that is there")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)
    return parser


class _ListFamilies(argparse.Action):
    """Print what export knows, as --help and --version do: whatever else is on the line."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from pygpt.checkpoints.recognise import FAMILIES

        for family in FAMILIES:
            rows = (("recognised by", family.told_by), ("beside it", family.beside))
            print(family.title, *(f"  {name:<15}{words}" for name, words in rows), sep="\n")  # noqa: T201
        parser.exit()


def run(args: argparse.Namespace) -> int:
    """Export as the arguments say; the exit code. Errors are the caller's to show."""
    from pygpt.checkpoints.base import Options
    from pygpt.cli.progress import progress_bar
    from pygpt.exporter import default_path, export_with_report
    from pygpt.repl.sanitize import visible

    target = args.output or default_path(args.source)
    if target.exists() and not args.force:
        raise InvalidRequestError("output", f"{target} exists; --force replaces it, -o names another file")
    options = Options(
        tokenizer=args.tokenizer,
        text=args.text,
        chars=args.chars,
        meta=args.meta,
        n_head=args.n_head,
        attention_scale=args.attention_scale,
        nanochat_gen=args.nanochat_gen,
        calibrate=args.calibrate,
        lora=args.lora,
    )
    with progress_bar() as progress:
        done = export_with_report(
            args.source, target, args.dtype, options, verify=args.verify, progress=progress
        )
    for note in (*done.notes, *done.assumptions):
        print(visible(f"note: {note}", sys.stderr.encoding), file=sys.stderr)  # noqa: T201
    # The result of the command. Paths and names are shown, not obeyed.
    print(_as_json(done) if args.json else visible(_as_text(done), sys.stdout.encoding))  # noqa: T201
    return 0


def _as_json(done: Export) -> str:
    return json.dumps(
        {
            "schema": "pygpt.export/1",
            "path": str(done.path),
            "dtype": done.dtype,
            "bytes": done.path.stat().st_size,
            "notes": done.notes,
            "assumptions": done.assumptions,
            "parity": done.report.to_dict() if done.report else None,
        },
        allow_nan=False,
    )


def _as_text(done: Export) -> str:
    size = done.path.stat().st_size
    lines = [f"{done.path}  {done.dtype}, {size / 1e6:,.1f} MB"]
    return "\n".join([*lines, *(parity_table(done.report) if done.report else ["not verified, as asked"])])


def parity_table(report: ParityReport) -> list[str]:
    """The report on a replay as lines of text, for `export` and `verify`."""

    def row(name: str, figures: SetReport) -> str:
        verdict = "ok" if figures.passed else "FAILED"
        return (
            f"{name:<22}{figures.max_abs:>14.2e}{figures.max_rel:>12.2e}{figures.budget:>10.1e}"
            f"{figures.top1:>8.0%}{figures.kl:>10.1e}  {verdict}"
        )

    columns = f"{'max |dlogit|':>14}{'relative':>12}{'allowed':>10}{'top-1':>8}{'KL, nats':>10}"
    return [
        f"{'engine against float64':<22}{columns}",
        row("  weights as stored", report.stored),
        row("  the original", report.original),
        f"{report.positions} positions of {report.prompt_tokens}; isa {report.isa}, {report.threads} threads",
        f"original: {' '.join(report.method.split())}",  # one line, whatever the file says
    ]
