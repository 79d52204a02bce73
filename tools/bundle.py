"""Make the model that comes with pygpt: a trained directory and the chat that turns its text into a dialogue.

    python tools/bundle.py build/bundled -o pygpt/models/shakespeare.pygpt

The chat template and its settings lie in tools/bundled_chat/; `pygpt.export` takes up what lies in the
directory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import pygpt

CHAT = Path(__file__).parent / "bundled_chat"
LARGEST = 24_000_000  # bytes that the package may carry
DEFAULTS = {"temperature": 0.8}  # a small model's tail is mostly noise


def bundle(directory: Path, output: Path, dtype: str) -> int:
    """Export `directory` with the chat to `output`; the size of the file in bytes."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / directory.resolve().name
        shutil.copytree(directory, copy)
        for file in CHAT.iterdir():
            shutil.copy(file, copy)
        record_defaults(copy / "config.json")
        output.parent.mkdir(parents=True, exist_ok=True)
        pygpt.export(copy, output, dtype=dtype)
    return output.stat().st_size


def record_defaults(config: Path) -> None:
    """Write the sampling defaults into a training directory's config.json, where the exporter finds them."""
    fields = json.loads(config.read_text("utf-8"))
    config.write_text(json.dumps({**fields, "defaults": DEFAULTS}), "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, metavar="TRAIN_DIR")
    parser.add_argument("-o", "--output", type=Path, default=Path("pygpt/models/shakespeare.pygpt"))
    parser.add_argument("--dtype", default="f16")
    arguments = parser.parse_args()
    size = bundle(arguments.directory, arguments.output, arguments.dtype)
    sys.stdout.write(f"{arguments.output}: {size:,} bytes\n")
    if size > LARGEST:
        sys.stderr.write(f"more than the {LARGEST:,} bytes that the package may carry\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
