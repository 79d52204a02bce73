"""A flag for each field of SamplingParams, so that the vocabulary exists once."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from pygpt.kinds import Bias, Flag, Texts, TokenIds
from pygpt.params import SamplingParams, kind_of

_SHORT = {"max_tokens": "-n", "temperature": "-t", "seed": "-s"}
_PREFIX = "sampling."


def add_sampling_flags(
    parser: argparse.ArgumentParser, *, without: Collection[str] = (), helps: Mapping[str, str] | None = None
) -> None:
    """Add the flags; what is not given leaves no trace in the namespace. `helps`: other words by name."""
    group = parser.add_argument_group("sampling (defaults: what the model records, else temperature 1)")
    for field in fields(SamplingParams):
        if field.name in without:
            continue
        kind = kind_of(field)
        options: dict[str, Any] = {"metavar": kind.metavar}
        if isinstance(kind, Flag):
            options = {"action": argparse.BooleanOptionalAction}
        elif isinstance(kind, Texts | TokenIds | Bias):
            options["action"] = "append"  # may be given several times
        short = [_SHORT[field.name]] if field.name in _SHORT else []
        group.add_argument(
            *short,
            f"--{field.name.replace('_', '-')}",
            dest=_PREFIX + field.name,
            default=argparse.SUPPRESS,
            help=(helps or {}).get(field.name, field.metadata["help"]),
            **options,
        )


def sampling_params(arguments: argparse.Namespace) -> SamplingParams:
    """What the flags say.

    Raises:
        InvalidRequestError: a value that cannot be used.
    """
    given = {name: value for name, value in vars(arguments).items() if name.startswith(_PREFIX)}
    return SamplingParams.from_keywords(
        {(short := name.removeprefix(_PREFIX)): _value(short, value) for name, value in given.items()}
    )


def _value(name: str, written: Any) -> Any:
    kind = kind_of(SamplingParams.__dataclass_fields__[name])
    if isinstance(written, bool):
        return written
    if isinstance(kind, Bias):
        return {key: bias for text in written for key, bias in kind.parse(name, text).items()}
    if isinstance(kind, Texts):
        return [item for text in written for item in kind.parse(name, text)]
    if isinstance(kind, TokenIds):
        return [item for text in written for item in kind.parse(name, text)]
    return kind.parse(name, written)
