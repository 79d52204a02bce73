"""The tokenizer and the chat template beside the weights of a Hugging Face checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from pygpt.checkpoints import vocabulary
from pygpt.checkpoints.base import Options
from pygpt.tokenizer import Tokenizer

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_MAX_TOKENIZER_CONFIG_BYTES = 16 << 20


def tokenizer(directory: Path | None, options: Options) -> tuple[Tokenizer | None, tuple[str, ...]]:
    """The vocabulary that is given, else the directory's own, and a line where there is none."""
    given = vocabulary.given(options)
    if given is not None or vocabulary.refused(options):
        return given, ()
    if directory is not None and (directory / "tokenizer.json").is_file():
        return vocabulary.from_file(directory / "tokenizer.json"), ()
    return None, ("no tokenizer: the file speaks token ids only; tokenizer= adds one",)


def chat_template(directory: Path | None) -> dict[str, bytes]:
    """The template of the directory, which older versions keep in tokenizer_config.json."""
    if directory is None:
        return {}
    file, older = directory / "chat_template.jinja", directory / "tokenizer_config.json"
    if file.is_file():
        return {"chat_template.jinja": file.read_bytes()}
    if not older.is_file() or older.stat().st_size > _MAX_TOKENIZER_CONFIG_BYTES:
        return {}
    try:
        fields = json.loads(older.read_text("utf-8"))
    except (ValueError, RecursionError):  # it is the tokenizer's, and we take the template only
        return {}
    template = fields.get("chat_template") if isinstance(fields, dict) else None
    return {"chat_template.jinja": template.encode("utf-8")} if isinstance(template, str) else {}
