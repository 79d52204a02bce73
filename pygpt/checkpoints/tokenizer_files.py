"""The tokenizer in the files beside a checkpoint, whichever tool wrote them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pygpt.checkpoints import bpe, tiktoken_file
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.tokenizer import MAX_VOCAB_SIZE, Tokenizer

MAX_JSON_BYTES = 64 << 20

_SENTENCEPIECE_NAME = "tokenizer.model"
_WAY_OUT = "transformers writes a tokenizer.json: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
# transformers' classes that a vocab.json and a merges.txt are enough for, and how they split texts.
_SPLITS = {"GPT2Tokenizer": "gpt2", "GPT2TokenizerFast": "gpt2", "Qwen2Tokenizer": "qwen2"}
_SPLITS |= {"Qwen2TokenizerFast": "qwen2", "PreTrainedTokenizerFast": "gpt2"}


def from_path(path: Path) -> Tokenizer:
    """The tokenizer that a file or a directory holds.

    Raises:
        InvalidRequestError: it cannot be read, or is none.
        ModelFileError: a pickle or a file of ranks that cannot be used.
    """
    if path.is_dir():
        found = in_directory(path)
        if found is None:
            looked = ", ".join([*_READERS, *("/".join(names) for names in _MERGES)])
            raise InvalidRequestError("tokenizer", f"{str(path)!r} holds none of {looked}")
        return found
    if path.suffix in (".pkl", ".pickle"):
        return tiktoken_file.from_pickle(path)
    if path.suffix == ".tiktoken":
        return tiktoken_file.from_ranks_file(path)
    for vocabulary, merges in _MERGES:
        if path.name in (vocabulary, merges):
            return _from_merges(path.with_name(vocabulary), path.with_name(merges))
    if path.suffix == ".model":
        raise _sentencepiece(path)
    return _from_json(path)


def in_directory(directory: Path) -> Tokenizer | None:
    """The tokenizer of a checkpoint's directory, or None if nothing there is one.

    Raises: as `from_path`.
    """
    for name, read in _READERS.items():
        if (directory / name).is_file():
            return read(directory / name)
    for vocabulary, merges in _MERGES:
        if (directory / vocabulary).is_file() and (directory / merges).is_file():
            return _from_merges(directory / vocabulary, directory / merges)
    if (directory / _SENTENCEPIECE_NAME).is_file():
        raise _sentencepiece(directory / _SENTENCEPIECE_NAME)
    return None


def files_of(directory: Path) -> tuple[Path, ...]:
    """Every file that `in_directory` may read."""
    names = [*_READERS, *(name for pair in _MERGES for name in pair), "tokenizer_config.json"]
    return tuple(directory / name for name in names)


def config_beside(directory: Path) -> Mapping[str, Any]:
    """The fields of a directory's tokenizer_config.json, which is transformers'; empty without one."""
    return json_object(directory / "tokenizer_config.json")


def json_object(path: Path) -> Mapping[str, Any]:
    """The object in a file of which we need little; empty where it is missing, too large, or none."""
    if not path.is_file() or path.stat().st_size > MAX_JSON_BYTES:
        return {}
    try:
        fields = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _from_json(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_json(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError("tokenizer", f"{str(path)!r} cannot be read: {error}") from error


def _from_merges(vocabulary: Path, merges: Path) -> Tokenizer:
    """GPT-2's files: the ids of tokens, and the pairs that are merged, best first, a line each."""
    fields = config_beside(vocabulary.parent)
    kind = _SPLITS.get(str(fields.get("tokenizer_class", "GPT2Tokenizer")))
    if kind is None:
        raise InvalidRequestError(
            "tokenizer",
            f"the tokenizer_config.json beside {str(vocabulary)!r} says {fields['tokenizer_class']!r}, and "
            f"vocab.json and merges.txt do not tell how that splits texts; {_WAY_OUT}",
        )
    try:
        ids = json.loads(vocabulary.read_text("utf-8"))
        lines = merges.read_text("utf-8").split("\n")
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequestError("tokenizer", f"{str(vocabulary)!r}: {error}") from error
    if not isinstance(ids, dict) or not all(
        type(index) is int and 0 <= index < MAX_VOCAB_SIZE for index in ids.values()
    ):
        raise InvalidRequestError("tokenizer", f"{str(vocabulary)!r} is no object of tokens and ids")
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    wrong = next((pair for pair in pairs if len(pair) != 2), None)
    if wrong is not None:
        raise InvalidRequestError("tokenizer", f"{str(merges)!r}: {' '.join(wrong)[:60]!r} is no pair")
    return bpe.from_merges(
        ids,
        [(left, right) for left, right in pairs],
        _special_tokens(fields, ids),
        kind=kind,
        add_prefix_space=fields.get("add_prefix_space") is True,
    )


def _special_tokens(fields: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, int]:
    """Those that tokenizer_config.json lists with their ids, and the end of a text, which GPT-2 has."""
    listed = fields.get("added_tokens_decoder")
    tokens = {
        about["content"]: int(index)
        for index, about in (listed.items() if isinstance(listed, dict) else ())
        if isinstance(about, dict) and isinstance(about.get("content"), str) and index.isdecimal()
        if about.get("special") and about["content"]
    }
    named = (fields.get(f"{name}_token") for name in ("bos", "eos", "pad", "unk"))
    for token in ("<|endoftext|>", *named):
        if isinstance(token, str) and token in ids:
            tokens[token] = ids[token]
    return tokens


def _sentencepiece(path: Path) -> ModelFileError:
    return ModelFileError(
        str(path),
        "invalid_tokenizer",
        f"is a SentencePiece model, which pygpt does not read; {_WAY_OUT}. Or export with "
        'tokenizer="none", for token ids only',
    )


# The first that is there is read.
_READERS: dict[str, Callable[[Path], Tokenizer]] = {
    "tokenizer.json": _from_json,
    "tokenizer.pkl": tiktoken_file.from_pickle,
    **{f"{name}.tiktoken": tiktoken_file.from_ranks_file for name in tiktoken_file.KNOWN},
}
_MERGES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))  # OpenAI's names are the latter
