"""`pygpt inspect`: what a `.pygpt` file holds."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pygpt._core import ModelFile

_DESCRIPTION = """\
Show what a .pygpt file holds: architecture, sizes, tokenizer, sampling defaults, where it came from.

  pygpt inspect gpt.pygpt
  pygpt inspect gpt.pygpt --json --tensors
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the subcommand `inspect`; its default `run` is `run`."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what a .pygpt file holds",
        description=_DESCRIPTION,
        epilog="exit codes: 0 done, 2 wrong arguments, 3 not a usable model file\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", help="a .pygpt file")
    parser.add_argument("--tensors", action="store_true", help="list every tensor")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Show the file; the exit code. Errors are the caller's to show."""
    facts = describe(open_model_file(args.file, verify="header"), with_tensors=args.tensors)
    print(json.dumps(facts, allow_nan=False) if args.json else "\n".join(_lines(facts)))  # noqa: T201  (the command's result)
    return 0


def open_model_file(path: str, *, verify: Literal["header", "full"]) -> ModelFile:
    """The file, opened and checked.

    Raises:
        ModelFileError: also where it is missing or unreadable.
    """
    from pygpt._core import ModelFile
    from pygpt.errors import ModelFileError

    try:
        return ModelFile(path, verify=verify)
    except OSError as error:
        raise ModelFileError(path, "unreadable", error.strerror or str(error)) from error


def describe(file: ModelFile, *, with_tensors: bool) -> dict[str, Any]:
    """Everything about the file, for JSON."""
    from pygpt.blobs import json_blob

    formats = sorted({tensor.format for tensor in file.tensors if tensor.kind != "vector"})
    facts: dict[str, Any] = {
        "schema": "pygpt.inspect/1",
        "path": file.path,
        "bytes": file.bytes,
        "parameters": sum(tensor.rows * tensor.cols for tensor in file.tensors),
        "formats": formats,
        "config": file.config,
        "defaults": file.defaults,
        "blobs": file.blobs,
        "tokenizer": _tokenizer(file),
        "provenance": json_blob(file, "provenance.json", dict),
    }
    if with_tensors:
        keys = ("name", "kind", "format", "rows", "cols", "offset", "bytes", "crc32c")
        facts["tensors"] = [{key: getattr(tensor, key) for key in keys} for tensor in file.tensors]
    return facts


def _tokenizer(file: ModelFile) -> dict[str, Any] | None:
    from pygpt.blobs import file_tokenizer

    tokenizer = file_tokenizer(file)
    if tokenizer is None:
        return None
    return {"model": json.loads(tokenizer.to_json())["model"]["type"], "tokens": tokenizer.vocab_size}


def _lines(facts: dict[str, Any]) -> list[str]:
    """The same for people. What came out of the file is quoted, so that it cannot move the terminal."""
    config = facts["config"]
    tokenizer = facts["tokenizer"]
    lines = [
        ascii(facts["path"])[1:-1],
        f"  {facts['bytes']:,} bytes, {facts['parameters']:,} parameters, {' '.join(facts['formats'])}",
        *(f"  {key:<18} {_shown(value)}" for key, value in config.items()),
        f"  {'tokenizer':<18} "
        + (f"{tokenizer['model']}, {tokenizer['tokens']:,} tokens" if tokenizer else "none: token ids only"),
    ]
    for title in ("defaults", "provenance", "blobs"):
        entries = facts[title] or {}
        shown = ", ".join(f"{_shown(key)} {_shown(value)}" for key, value in entries.items()) or "none"
        lines.append(f"  {title:<18} {shown}")
    for tensor in facts.get("tensors", ()):
        shape = f"{tensor['rows']} x {tensor['cols']}"
        kind = f"{tensor['kind']:<7} {tensor['format']:<5}"
        lines.append(f"  {tensor['name']:<22} {kind} {shape:>16} {tensor['bytes']:>12,} bytes")
    return lines


def _shown(value: object) -> str:
    """A value in one printable line."""
    if value is None or value == []:
        return "none"
    if isinstance(value, float):
        return f"{value:.7g}"
    return ascii(value)[1:-1] if isinstance(value, str) else ascii(value)
