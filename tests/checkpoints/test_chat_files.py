"""Chat templates beside a checkpoint: found, with what ends an answer, or refused where none can be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llama import LlamaConfig, random_llama, save_llama
from small_models import byte_tokenizer

import pygpt
from pygpt import ModelFileError
from pygpt.checkpoints import chat_files
from pygpt.cli.main import main

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOKENIZER = byte_tokenizer("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TALK = [{"role": "user", "content": "hi"}]


def put(directory: Path, name: str, content: Any) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


def test_the_templates_own_file_comes_before_that_of_the_config(tmp_path: Path) -> None:
    put(tmp_path, "chat_template.jinja", CHATML)
    put(tmp_path, "tokenizer_config.json", {"chat_template": "older"})
    blobs, notes = chat_files.found(TOKENIZER, tmp_path)
    assert blobs["chat_template.jinja"].decode() == CHATML
    assert json.loads(blobs["chat.json"]) == {"stop": ["<|im_end|>"]}
    assert notes == ()


def test_what_ends_an_answer_is_gathered(tmp_path: Path) -> None:
    put(
        tmp_path,
        "generation_config.json",
        {"eos_token_id": [TOKENIZER.special_tokens["<|endoftext|>"], 5, "x"]},
    )
    about = {
        "chat_template": CHATML,
        "bos_token": None,
        "eos_token": {"content": "<|im_end|>", "lstrip": False},
    }
    put(tmp_path, "tokenizer_config.json", about)
    blobs, _ = chat_files.found(TOKENIZER, tmp_path / "none", tmp_path)
    assert json.loads(blobs["chat.json"]) == {
        "stop": ["<|im_end|>", "<|endoftext|>"], "bos_token": None, "eos_token": "<|im_end|>",
    }  # fmt: skip


def test_of_several_templates_the_default_is_taken(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": CHATML}]
    put(tmp_path, "tokenizer_config.json", {"chat_template": named})
    assert chat_files.found(TOKENIZER, tmp_path)[0]["chat_template.jinja"].decode() == CHATML
    put(tmp_path, "tokenizer_config.json", {"chat_template": named[:1]})
    blobs, notes = chat_files.found(TOKENIZER, tmp_path)
    assert blobs == {}
    assert "tool_use" in notes[0]


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"chat_template": 5}', '{"chat_template": [5, {"name": [1]}]}', "\ufeff"]
)
def test_a_directory_without_a_usable_template_has_none(content: str, tmp_path: Path) -> None:
    assert chat_files.found(TOKENIZER, tmp_path) == ({}, ())
    put(tmp_path, "tokenizer_config.json", content)
    assert chat_files.found(TOKENIZER, tmp_path)[0] == {}


def test_a_template_that_ends_no_turn_has_no_stop() -> None:
    for source in (
        "{{ messages[0].content }}",
        "{{ raise_exception('no') }}",
        "{{ messages[-1].content }}x<|im_end|>",
    ):
        assert chat_files.described(source, TOKENIZER).keys() == {"chat_template.jinja"}


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A checkpoint with a tokenizer beside it."""
    config = LlamaConfig(vocab_size=TOKENIZER.vocab_size, num_hidden_layers=1)
    source = save_llama(random_llama(config), tmp_path / "llama")
    put(source, "tokenizer.json", TOKENIZER.to_json())
    return source


def test_a_chat_model_is_exported_as_one(llama: Path) -> None:
    put(llama, "tokenizer_config.json", {"chat_template": CHATML, "eos_token": "<|endoftext|>"})
    with pygpt.Engine(pygpt.export(llama, verify=False)) as engine:
        assert engine.chat_template is not None
        assert engine.chat_template.render(TALK) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        ends = [TOKENIZER.special_tokens[token] for token in ("<|im_end|>", "<|endoftext|>")]
        assert engine.chat_template.stop_token_ids == tuple(ends)
        out = engine.chat(TALK, max_tokens=3, logit_bias={ends[0]: 100})
        assert (out.text, out.finish_reason, out.stop_reason) == ("", "stop", ends[0])


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "source", [ENDLESS, "{{ '" + "a" * 300_000 + "' }}", "{% for %}", "{% include 'x' %"]
)
def test_a_template_that_never_ends_or_is_none_stops_the_export(
    source: str, llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(llama, "chat_template.jinja", source)
    assert main(["export", str(llama), "--no-verify"]) == 3
    assert "chat_template.jinja" in capsys.readouterr().err
    assert not llama.with_suffix(".pygpt").exists()


def test_a_template_that_is_no_text_is_refused(llama: Path) -> None:
    (llama / "chat_template.jinja").write_bytes(b"caf\xe9")
    with pytest.raises(ModelFileError, match="not UTF-8"):
        pygpt.export(llama, verify=False)


def test_a_template_that_refuses_is_no_fault(llama: Path) -> None:
    put(llama, "chat_template.jinja", "{{ raise_exception('a system message comes first') }}")
    path = pygpt.export(llama, verify=False)
    with pygpt.Engine(path) as engine, pytest.raises(pygpt.InvalidRequestError, match="comes first"):
        engine.chat(TALK)
