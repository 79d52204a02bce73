"""Tokenizers beside a checkpoint: found, equal to the original library's, or refused (A25, A26, C6)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from families import NanoGPT, NanoGPTConfig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama import LlamaConfig, random_llama, save_llama
from small_tokenizers import NASTY, hf_tokenizer
from tokenizers import AddedToken, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

import pygpt
from pygpt import InvalidRequestError, ModelFileError
from pygpt.checkpoints import tokenizer_files, vocabulary
from pygpt.checkpoints.base import Options
from pygpt.tokenizer import Tokenizer

ENGLISH = "The quick brown fox jumps over the lazy dog; he said: don't, it's 12345 times. caf\u00e9\n" * 20
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
KINDS = ("llama3", "qwen", "smollm")


def vocabulary_files(
    library: Library, directory: Path, *, names: tuple[str, str] = ("vocab.json", "merges.txt")
) -> None:
    """A tokenizer as GPT-2's two files."""
    model = json.loads(library.to_str())["model"]
    ids = model["vocab"] | {token: library.token_to_id(token) for token in SPECIAL}
    pairs = [each.split(" ") if isinstance(each, str) else each for each in model["merges"]]
    (directory / names[0]).write_text(json.dumps(ids), "utf-8")
    (directory / names[1]).write_text("#version: 0.2\n" + "\n".join(map(" ".join, pairs)) + "\n", "utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_C6_tokens_of_a_tokenizer_json_are_those_of_the_library(kind: str, tmp_path: Path) -> None:
    library = hf_tokenizer(kind, ENGLISH, SPECIAL)
    library.save(str(tmp_path / "tokenizer.json"))
    ours = tokenizer_files.in_directory(tmp_path)
    assert ours is not None
    for text in NASTY:
        library.encode_special_tokens = False
        assert ours.encode(text, allow_special=True) == library.encode(text, add_special_tokens=False).ids, (
            text
        )
        library.encode_special_tokens = True
        ids = ours.encode(text)
        assert ids == library.encode(text, add_special_tokens=False).ids
        assert ours.decode(ids) == library.decode(ids, skip_special_tokens=False)
        if kind != "qwen":  # which normalizes
            assert ours.decode(ids) == text


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=30))
def test_C6_tokens_of_any_text_are_those_of_transformers(kind: str, text: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers, which is compared, is missing")
    library, ours = _pair(kind)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=library)
    assert ours.encode(text, allow_special=True) == theirs.encode(text, add_special_tokens=False)


_PAIRS: dict[str, tuple[Library, Tokenizer]] = {}


def _pair(kind: str) -> tuple[Library, Tokenizer]:
    if kind not in _PAIRS:
        library = hf_tokenizer(kind, ENGLISH, SPECIAL)
        _PAIRS[kind] = library, Tokenizer.from_json(library.to_str())
    return _PAIRS[kind]


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_gpt2_files_are_read(names: tuple[str, str], tmp_path: Path) -> None:
    library = hf_tokenizer("smollm", ENGLISH, SPECIAL)
    vocabulary_files(library, tmp_path, names=names)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for source in (tmp_path, tmp_path / names[0], tmp_path / names[1]):
        ours = vocabulary.given(Options(tokenizer=source))
        assert ours is not None
        assert ours.special_tokens == {"<|endoftext|>": library.token_to_id("<|endoftext|>")}
        library.encode_special_tokens = True
        for text in NASTY:
            assert ours.encode(text) == library.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "Qwen2Tokenizer"])
def test_C6_gpt2_files_give_the_tokens_of_transformers(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers, which is compared, is missing")
    library = hf_tokenizer("qwen", ENGLISH, SPECIAL)
    vocabulary_files(library, tmp_path)
    listed = {library.token_to_id(t): {"content": t, "special": True} for t in SPECIAL}
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": name, "added_tokens_decoder": listed, "model_max_length": 99})
    )
    ours = tokenizer_files.in_directory(tmp_path)
    theirs = getattr(transformers, name).from_pretrained(str(tmp_path))
    assert ours is not None
    assert set(ours.special_tokens) == set(SPECIAL)
    for text in NASTY:
        assert ours.encode(text, allow_special=True) == theirs.encode(text, add_special_tokens=False), text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds none of tokenizer.json, tokenizer.pkl, "),
        ({"vocab.json": "{}"}, "holds none of"),
        ({"vocab.json": "[]", "merges.txt": ""}, "no object of tokens and ids"),
        ({"vocab.json": '{"a": "b"}', "merges.txt": ""}, "no object of tokens and ids"),
        ({"vocab.json": '{"a": -1}', "merges.txt": ""}, "no object of tokens and ids"),
        ({"vocab.json": "{", "merges.txt": ""}, "vocab.json"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a b c"}, "'a b c' is no pair"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a b"}, "merges do not fit its vocabulary"),
        ({"vocab.json": '{"a": 0, "b": 1}', "merges.txt": "a b"}, "merges do not fit its vocabulary"),
        (
            {
                "vocab.json": '{"a": 0}',
                "merges.txt": "",
                "tokenizer_config.json": '{"tokenizer_class": "Bart"}',
            },
            "'Bart'.*AutoTokenizer",
        ),
        ({"tokenizer.model": "\n\x0e"}, "SentencePiece.*AutoTokenizer"),
        ({"tokenizer.json": "{}"}, "not a valid tokenizer.json"),
    ],
)
def test_A26_files_that_are_no_tokenizer_are_refused(
    files: dict[str, str], message: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises((InvalidRequestError, ModelFileError), match=message):
        vocabulary.given(Options(tokenizer=tmp_path))


def test_a_tokenizer_of_transformers_is_taken_and_left_as_it_is() -> None:
    class Fast:
        backend_tokenizer = hf_tokenizer("llama3", ENGLISH, SPECIAL)

    ours = vocabulary.given(Options(tokenizer=Fast()))
    assert ours is not None
    assert set(ours.special_tokens) == set(SPECIAL)
    assert Fast.backend_tokenizer.encode_special_tokens is False


def nanogpt(path: Path, rows: int) -> Path:
    model = NanoGPT(NanoGPTConfig(n_layer=1, vocab_size=rows))
    torch.save({"model": model.state_dict(), "model_args": vars(model.config)}, path)
    return path


def test_A25_a_tokenizer_larger_than_the_vocabulary_is_refused(tmp_path: Path) -> None:
    library = hf_tokenizer("llama3", ENGLISH, SPECIAL)
    rows = library.get_vocab_size() - 1
    source = nanogpt(tmp_path / "ckpt.pt", rows)
    with pytest.raises(ModelFileError, match=rf"{rows + 1} tokens, but the model has {rows}"):
        pygpt.export(source, tokenizer=library)
    assert not source.with_suffix(".pygpt").exists()


def test_A25_ids_without_a_token_are_never_sampled(tmp_path: Path) -> None:
    library = hf_tokenizer("llama3", ENGLISH, SPECIAL, 300)
    rows = library.get_vocab_size() + 61
    path = pygpt.export(nanogpt(tmp_path / "ckpt.pt", rows), tokenizer=library, verify=False)
    with pygpt.Engine(path) as engine:
        assert engine.info["config"]["vocab_size"] == library.get_vocab_size()
        outs = engine.generate([[1]] * 20, max_tokens=15, temperature=50.0, seed=0)
    assert max(token for out in outs for token in out.token_ids) < library.get_vocab_size()


def test_a_llama_takes_the_tokenizer_that_lies_beside_it(tmp_path: Path) -> None:
    library = hf_tokenizer("smollm", ENGLISH, ("<|endoftext|>",), 300)
    config = LlamaConfig(vocab_size=library.get_vocab_size() + 5)
    source = save_llama(random_llama(config), tmp_path / "llama")
    library.save(str(source / "tokenizer.json"))
    with pygpt.Engine(pygpt.export(source, verify=False)) as engine:
        assert engine.tokenizer is not None
        assert engine.tokenizer.encode(ENGLISH) == library.encode(ENGLISH).ids


def test_a_file_that_the_export_reads_is_not_replaced_but_its_neighbour_is(tmp_path: Path) -> None:
    library = hf_tokenizer("llama3", ENGLISH, SPECIAL, 300)
    library.save(str(tmp_path / "tokenizer.json"))
    source = nanogpt(tmp_path / "ckpt.pt", library.get_vocab_size())
    for _ in range(2):
        pygpt.export(source, tmp_path / "m.pygpt", tokenizer=tmp_path, verify=False)
    with pytest.raises(InvalidRequestError, match="must not be replaced"):
        pygpt.export(source, tmp_path / "tokenizer.json", tokenizer=tmp_path, verify=False)


def dropping(kind: str) -> Library:
    """A BPE without a token for the unknown, trained on "hello world" alone."""
    tokenizer = Library(models.BPE())
    words: Any = (
        pre_tokenizers.ByteLevel(add_prefix_space=False) if kind == "bytes" else pre_tokenizers.Whitespace()
    )
    tokenizer.pre_tokenizer = words
    tokenizer.train_from_iterator(["hello world"], trainers.BpeTrainer(show_progress=False))
    return tokenizer


@pytest.mark.parametrize("kind", ["bytes", "characters"])
def test_what_the_library_drops_without_a_word_is_an_error(kind: str, tmp_path: Path) -> None:
    library = dropping(kind)
    assert library.decode(library.encode("hello xorld").ids).replace(" ", "") != "helloxorld"  # the trap
    ours = Tokenizer.from_json(library.to_str())
    assert ours.encode("hello world") == library.encode("hello world").ids
    with pytest.raises(InvalidRequestError, match=r"'x' \(U\+0078\) at position 6 has no token"):
        ours.encode("hello xorld")
    assert ours.unknown_characters("hello x\u00e9") == {"x", "\u00e9"}
    with pytest.warns(UserWarning, match="no token for"):
        pygpt.export(nanogpt(tmp_path / "ckpt.pt", library.get_vocab_size()), tokenizer=library, verify=False)


@pytest.mark.parametrize("kind", ["bytes", "characters"])
def test_an_added_token_needs_no_other(kind: str) -> None:
    library = dropping(kind)
    library.add_special_tokens([AddedToken("<|x|>", special=True, normalized=False)])
    library.add_tokens([AddedToken("<q>", special=False, normalized=False)])
    ours = Tokenizer.from_json(library.to_str())
    ids = [library.token_to_id(token) for token in ("<|x|>", "<q>")]
    assert ours.encode("<|x|><q>", allow_special=True) == ids
    assert ours.encode("<q>") == ids[1:]
    with pytest.raises(InvalidRequestError, match="'<'"):
        ours.encode("<|x|>")


def test_a_whole_byte_level_vocabulary_drops_nothing() -> None:
    ours = Tokenizer(hf_tokenizer("smollm", ENGLISH, SPECIAL))
    assert ours.gaps() is None
    assert ours.unknown_characters("\u00e9\u4e2d\N{GRINNING FACE}\x00") == set()


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\N{GRINNING FACE}\ud83d"])
def test_C5_a_lone_surrogate_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="lone surrogate"):
        _pair("llama3")[1].encode(text, allow_special=True)
