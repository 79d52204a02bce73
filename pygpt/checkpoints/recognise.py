"""Which family a checkpoint belongs to, told from the names and shapes of its tensors."""

from __future__ import annotations

import re
from dataclasses import replace

from pygpt.checkpoints import (
    hf_llama,
    hf_mistral,
    hf_nanochat,
    hf_qwen2,
    hf_qwen3,
    hf_smollm3,
    lecture,
    llama2c,
    nanochat,
    nanogpt,
    pygpt_family,
)
from pygpt.checkpoints.base import Family, Imported, Options, Source
from pygpt.checkpoints.canonical import shorten
from pygpt.checkpoints.loading import load
from pygpt.errors import ModelFileError

# The first that recognises a checkpoint reads it.
FAMILIES: tuple[Family, ...] = (
    lecture.FAMILY,
    nanogpt.FAMILY,
    nanochat.FAMILY,
    pygpt_family.FAMILY,
    llama2c.FAMILY,
    hf_mistral.FAMILY,
    hf_nanochat.FAMILY,
    hf_qwen2.FAMILY,
    hf_qwen3.FAMILY,
    hf_smollm3.FAMILY,
    hf_llama.FAMILY,
)


def read(source: object, options: Options) -> Imported:
    """The checkpoint at a path, in a state_dict or in a torch module, in pygpt's own words.

    Raises:
        ModelFileError: it cannot be opened, is of no family known here, or is incomplete.
        InvalidRequestError: something that the checkpoint does not record must be given.
    """
    return read_source(load(source), options)


def read_source(source: Source, options: Options) -> Imported:
    """The same for a checkpoint that is open."""
    for family in FAMILIES:
        if family.recognise(source):
            imported = family.read(source, options)
            gaps = imported.tokenizer.gaps() if imported.tokenizer else None
            return replace(
                imported,
                files=(*source.files, *options.files(), *imported.files),
                notes=imported.notes if gaps is None else (*imported.notes, gaps),
            )
    raise _unrecognised(source)


def _unrecognised(source: Source) -> ModelFileError:
    """What the checkpoint resembles most, and how it differs."""
    if any(name.endswith("h.0.attn.c_attn.weight") for name in source.tensors):
        message = "looks like Hugging Face's GPT-2 (nanoGPT's names, matrices transposed), not supported yet"
        return source.error("unsupported_family", message)
    found = {_pattern(name) for name in source.tensors}
    nearest = max(FAMILIES, key=lambda family: _likeness(family, found))
    required = {_pattern(name) for name in nearest.required}
    known = required | {_pattern(name) for name in nearest.optional}
    known_titles = ", ".join(family.title for family in FAMILIES)
    return source.error(
        "unknown_family",
        f"is no checkpoint that this version knows ({known_titles}). The nearest is {nearest.title}; "
        f"missing: {shorten(sorted(required - found)) or 'nothing'}; "
        f"extra: {shorten(sorted(found - known)) or 'nothing'}",
    )


def _likeness(family: Family, found: set[str]) -> float:
    """Share of names in common (Jaccard)."""
    known = {_pattern(name) for name in (*family.required, *family.optional)}
    return len(known & found) / len(known | found)


def _pattern(name: str) -> str:
    """A tensor's name with every number as *."""
    return re.sub(r"\{\w\}|\d+", "*", name)
