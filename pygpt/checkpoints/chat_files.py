"""The chat template in the files beside a checkpoint, and what ends an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pygpt.chat import ChatTemplate
from pygpt.checkpoints.tokenizer_files import config_beside, json_object
from pygpt.errors import ModelFileError
from pygpt.tokenizer import Tokenizer

_FILES = ("chat_template.jinja", "tokenizer_config.json", "generation_config.json")

_MAX_STOPS = 16  # docs/format.md

# nanochat's render_conversation, https://github.com/karpathy/nanochat, nanochat/tokenizer.py: turns alternate
# and the user's comes first; what the system says stands in front of it. Its tools are not called here.
NANOCHAT = """\
{%- if messages[0].role == 'system' -%}
    {%- set scene, turns = messages[0].content ~ '\\n\\n', messages[1:] -%}
{%- else -%}
    {%- set scene, turns = '', messages -%}
{%- endif -%}
{%- if not turns -%}
    {{- raise_exception('the system message needs a user message behind it') -}}
{%- endif -%}
{{- '<|bos|>' -}}
{%- for message in turns -%}
    {%- if message.role != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
        {{- raise_exception('messages must alternate: user, assistant, user, ...') -}}
    {%- endif -%}
    {{- '<|' ~ message.role ~ '_start|>' ~ (scene if loop.first else '') ~ message.content -}}
    {{- '<|' ~ message.role ~ '_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant_start|>' -}}
{%- endif -%}
"""


def found(tokenizer: Tokenizer | None, *directories: Path) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The blobs `chat_template.jinja` and `chat.json` of the first directory that has a template, and what to
    know; none where none has.

    Raises:
        ModelFileError: the template is no valid Jinja.
    """
    notes: tuple[str, ...] = ()
    for directory in directories:
        blobs, more = _blobs(directory, tokenizer)
        notes += more
        if blobs:
            return blobs, notes
    return {}, notes


def files(*directories: Path) -> tuple[Path, ...]:
    """Every file that `found` may read."""
    return tuple(directory / name for directory in directories for name in _FILES)


def described(
    source: str,
    tokenizer: Tokenizer | None,
    *,
    ends: list[str | None] | None = None,
    tokens: Mapping[str, str | None] | None = None,
) -> dict[str, bytes]:
    """The blobs of a template, with the special token that it writes behind an answer, and `ends`, as stops.

    Raises:
        ModelFileError: the template is no valid Jinja.
    """
    settings: dict[str, Any] = dict(tokens or {})
    turn = ChatTemplate(source, settings, tokenizer, path="chat_template.jinja").end_of_turn()
    special = tokenizer.special_tokens if tokenizer else {}
    stops = dict.fromkeys(each for each in (turn, *(ends or ())) if each in special)
    settings = ({"stop": list(stops)[:_MAX_STOPS]} if stops else {}) | settings
    blobs = {"chat_template.jinja": source.encode("utf-8", "replace")}  # JSON can hold lone surrogates
    return blobs | ({"chat.json": json.dumps(settings).encode("ascii")} if settings else {})


def _blobs(directory: Path, tokenizer: Tokenizer | None) -> tuple[dict[str, bytes], tuple[str, ...]]:
    fields = config_beside(directory)
    source, notes = _source(directory, fields)
    if source is None:
        return {}, notes
    tokens = {name: _written(fields.get(name)) for name in ("bos_token", "eos_token") if name in fields}
    eos = json_object(directory / "generation_config.json").get("eos_token_id")
    ends = [tokens.get("eos_token"), *_special(eos if isinstance(eos, list) else [eos], tokenizer)]
    return described(source, tokenizer, ends=ends, tokens=tokens), notes


def _source(directory: Path, fields: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """The template: a file by itself, or in tokenizer_config.json, where older versions keep it."""
    file = directory / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text("utf-8"), ()
        except UnicodeDecodeError as error:
            raise ModelFileError(str(file), "invalid_chat", f"is not UTF-8: {error}") from error
    template = fields.get("chat_template")
    if not isinstance(template, list):
        return template if isinstance(template, str) else None, ()
    named = {str(each.get("name")): each.get("template") for each in template if isinstance(each, dict)}
    if isinstance(named.get("default"), str):
        return named["default"], ()
    names = ", ".join(named)
    return None, (
        f"no chat template: there are {names}, and none is called default; chat_template.jinja adds one",
    )


def _written(token: object) -> str | None:
    """A token of tokenizer_config.json: a text, or an object that describes it."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _special(ids: list[Any], tokenizer: Tokenizer | None) -> list[str | None]:
    written = {} if tokenizer is None else {index: token for token, index in tokenizer.special_tokens.items()}
    return [written.get(index) for index in ids if type(index) is int]
