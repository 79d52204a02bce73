"""Which family a checkpoint belongs to, told from the names and shapes of its tensors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pygpt.checkpoints import (
    bigram,
    build_nanogpt,
    hf_gpt2,
    hf_llama,
    hf_mistral,
    hf_nanochat,
    hf_qwen2,
    hf_qwen3,
    hf_smollm3,
    lecture,
    llama2c,
    llmc,
    mingpt,
    nanochat,
    nanogpt,
    pygpt_family,
    rasbt,
)
from pygpt.checkpoints.base import Family, Imported, Options, Source
from pygpt.checkpoints.canonical import shorten
from pygpt.checkpoints.loading import load, without_common_part
from pygpt.checkpoints.lora import merged
from pygpt.errors import InvalidRequestError, ModelFileError

# The first that recognises a checkpoint reads it.
FAMILIES: tuple[Family, ...] = (
    bigram.FAMILY,
    lecture.FAMILY,
    llmc.FAMILY,
    build_nanogpt.FAMILY,
    mingpt.FAMILY,
    nanogpt.FAMILY,
    hf_gpt2.FAMILY,
    nanochat.FAMILY,
    rasbt.FAMILY,
    pygpt_family.FAMILY,
    llama2c.FAMILY,
    hf_mistral.FAMILY,
    hf_nanochat.FAMILY,
    hf_qwen2.FAMILY,
    hf_qwen3.FAMILY,
    hf_smollm3.FAMILY,
    hf_llama.FAMILY,
)
_MOST_WRAPPED = 4  # modules around the network whose names stand in front of every tensor's
_MOST_COMPARED = 32  # names; a family has some twenty


def read(source: object, options: Options) -> Imported:
    """The checkpoint at a path, in a state_dict or in a torch module, in pygpt's own words.

    Raises:
        ModelFileError: it cannot be opened, is of no family known here, or is incomplete; the adapter does
            not fit it.
        InvalidRequestError: something that the checkpoint does not record must be given, or is given that its
            family does not have.
    """
    opened = load(source)
    if options.lora is None:
        return read_source(opened, options)
    imported = read_source(merged(opened, options.lora), options)
    return replace(imported, provenance={**imported.provenance, "lora": Path(options.lora).resolve().name})


def read_source(source: Source, options: Options) -> Imported:
    """The same for a checkpoint that is open."""
    candidate: Source | None = source
    for _ in range(_MOST_WRAPPED):
        family = next((each for each in FAMILIES if candidate and each.recognise(candidate)), None)
        if candidate and family:
            if options.nanochat_gen is not None and family is not nanochat.FAMILY:
                message = f"is for nanochat's own checkpoints; this one is of the family {family.title}"
                raise InvalidRequestError("nanochat_gen", message)
            imported = family.read(candidate, options)
            gaps = imported.tokenizer.gaps() if imported.tokenizer else None
            return replace(
                imported,
                files=(*source.files, *options.files(), *imported.files),
                notes=imported.notes if gaps is None else (*imported.notes, gaps),
            )
        candidate = candidate and without_common_part(candidate)
    raise _unrecognised(source)


def _unrecognised(source: Source) -> ModelFileError:
    """What the checkpoint resembles most, and how it differs."""
    found = set(sorted({_pattern(name) for name in source.tensors})[:_MOST_COMPARED])
    # Of those that are equally alike, the one of which least is missing.
    alike = {f.title: (_likeness(_patterns(f), found), -len(_missing(f, found))) for f in FAMILIES}
    nearest = max(FAMILIES, key=lambda family: alike[family.title])
    missing, extra = _missing(nearest, found), found - _patterns(nearest)
    return source.error(
        "unknown_family",
        f"is of no family that this version knows (`pygpt export --list-families`). The nearest is "
        f"{nearest.title}; missing: {_with_nearest(missing, extra)}; extra: "
        f"{shorten(sorted(extra)) or 'nothing'}",
    )


def _likeness(known: set[str], found: set[str]) -> float:
    """How alike two sets of names are, 0 to 1: every name counts as much as it resembles its nearest."""
    return (_resemblance(known, found) + _resemblance(found, known)) / 2


def _resemblance(names: set[str], others: set[str]) -> float:
    """Mean over the names of the likeness to the nearest other (difflib's ratio: 1 is the same)."""
    total = 0.0
    for name in names:
        matcher = difflib.SequenceMatcher(b=name, autojunk=False)
        best = 1.0 if name in others else 0.0
        for other in others if best < 1.0 else ():
            matcher.set_seq1(other)
            if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best:
                best = max(best, matcher.ratio())
        total += best
    return total / max(len(names), 1)


def _with_nearest(missing: Iterable[str], extra: set[str]) -> str:
    """The missing names, each with the one that may be meant for it."""
    said = []
    for name in sorted(missing):
        near = difflib.get_close_matches(name, sorted(extra), n=1, cutoff=0.7)
        said.append(f"{name} (is it {near[0]}?)" if near else name)
    return shorten(said) or "nothing"


def _missing(family: Family, found: set[str]) -> set[str]:
    return {_pattern(name) for name in family.required} - found


def _patterns(family: Family) -> set[str]:
    return {_pattern(name) for name in (*family.required, *family.optional)}


def _pattern(name: str) -> str:
    """A tensor's name with every number as *, at most 100 characters."""
    return re.sub(r"\{\w\}|\d+", "*", name[:100])
