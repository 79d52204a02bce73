"""Prefixes on disk: what is saved is used again, and what is damaged or foreign is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import small_models

from pygpt import Engine, EngineClosedError, Error, InvalidRequestError, ModelFileError
from pygpt.prefix_file import HEADER_LIMIT, MAGIC

PROMPT = "To be, or not to be: that is the question Whether"  # more than a page


def test_a_prefix_is_read_back_by_another_engine(engine: Engine, small_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "to be.prefix"
    assert engine.save_prefix(path, PROMPT) == len(PROMPT)
    wanted = engine.generate(PROMPT + " it", max_tokens=9, seed=1)
    with Engine(small_model) as other:
        assert other.load_prefix(path) == other.tokenizer.encode(PROMPT)  # type: ignore[union-attr]
        found = other.generate(PROMPT + " it", max_tokens=9, seed=1)
        assert found.usage.cached_tokens == len(PROMPT)
        assert (found.text, found.token_ids) == (wanted.text, wanted.token_ids)
        other.load_prefix(path)  # again
    again = tmp_path / "again.prefix"
    engine.save_prefix(again, PROMPT)
    assert sorted(os.listdir(tmp_path)) == ["again.prefix", "to be.prefix"]  # and no temporary


@pytest.fixture
def saved(engine: Engine, tmp_path: Path) -> Path:
    engine.save_prefix(tmp_path / "saved.prefix", PROMPT)
    return tmp_path / "saved.prefix"


def refused(engine: Engine, path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        engine.load_prefix(path)
    assert len(engine.generate("a", max_tokens=2).token_ids) == 2
    return caught.value.code


def test_a_prefix_of_another_model_or_cache_is_refused(
    engine: Engine, small_model: Path, saved: Path, tmp_path: Path
) -> None:
    with Engine(small_model, kv_dtype="int8") as other:
        assert refused(other, saved) == "other_engine"
    with Engine(small_models.random_model(tmp_path / "other.pygpt", seed=1)) as other:
        assert refused(other, saved) == "other_engine"
    assert engine.load_prefix(saved)


def header_changed(**changes: object) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        magic, line, rest = content.split(b"\n", 2)
        return b"\n".join([magic, json.dumps(json.loads(line) | changes).encode(), rest])

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda _: b"", "not_a_prefix"),
        (lambda content: b"x" + content[1:], "not_a_prefix"),
        (lambda content: content[:-1], "truncated"),
        (lambda content: content + b"x", "truncated"),
        (lambda content: content[: len(MAGIC) + 9], "invalid_header"),
        (lambda content: MAGIC + b"[" * 3000 + content, "invalid_header"),
        (lambda content: MAGIC + b" " * HEADER_LIMIT + content, "invalid_header"),
        (lambda content: MAGIC + b"[]\n" + content, "invalid_header"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "checksum"),
        (header_changed(tokens=2**62), "invalid_header"),
        (header_changed(tokens=0), "invalid_header"),
        (header_changed(tokens=-1), "invalid_header"),
        (header_changed(tokens=True), "invalid_header"),
        (header_changed(tokens=2.0), "invalid_header"),
        (header_changed(tokens=33), "truncated"),
        (header_changed(tokens_crc32c=1), "checksum"),
        (header_changed(kv_page_bytes=1), "other_engine"),
        (header_changed(version="0"), "other_engine"),
        (header_changed(isa="vax"), "other_engine"),
    ],
)
def test_a_damaged_prefix_is_refused(
    engine: Engine, saved: Path, change: Callable[[bytes], bytes], code: str
) -> None:
    saved.write_bytes(change(saved.read_bytes()))
    assert refused(engine, saved) == code


def test_any_byte_that_is_changed_is_noticed(engine: Engine, saved: Path) -> None:
    content = saved.read_bytes()
    for at in range(0, len(content), 97):
        saved.write_bytes(content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :])
        with pytest.raises(ModelFileError):
            engine.load_prefix(saved)


def test_what_is_no_file_is_refused_at_once(engine: Engine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert refused(engine, tmp_path / "fifo") == "not_a_file"
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises((OSError, ModelFileError)):
            engine.load_prefix(path)
    with pytest.raises(OSError, match="no directory"):
        engine.save_prefix(tmp_path / "no" / "where", PROMPT)


def test_without_a_prefix_cache_there_is_nothing_to_save(small_model: Path, tmp_path: Path) -> None:
    with Engine(small_model, prefix_cache=False) as engine:
        assert engine.generate(PROMPT, max_tokens=2).usage.cached_tokens == 0
        assert engine.generate(PROMPT, max_tokens=2).usage.cached_tokens == 0
        with pytest.raises(Error, match="not in the cache"):
            engine.save_prefix(tmp_path / "p", PROMPT)
    assert os.listdir(tmp_path) == []
    with pytest.raises(EngineClosedError):
        engine.load_prefix(tmp_path / "p")
    with pytest.raises(InvalidRequestError, match="prefix_cache"):
        Engine(small_model, prefix_cache="no")  # type: ignore[arg-type]


def test_a_prefix_can_be_saved_and_loaded_while_others_generate(engine: Engine, tmp_path: Path) -> None:
    streams = [engine.stream("a", max_tokens=10**9) for _ in range(3)]
    for _ in range(20):
        engine.save_prefix(tmp_path / "p", PROMPT)
        assert len(engine.load_prefix(tmp_path / "p")) == len(PROMPT)
    for stream in streams:
        assert next(stream).text
        stream.close()
