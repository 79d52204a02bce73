"""Chat templates of the shapes that families have: the same text and tokens as transformers, and no way for a
message to become a special token (row C8)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from small_tokenizers import NASTY, PATTERNS, hf_tokenizer, small_ranks
from tokenizers import AddedToken
from tokenizers import Tokenizer as Library

from pygpt import Engine, InvalidRequestError
from pygpt.chat import ChatTemplate
from pygpt.checkpoints import bpe
from pygpt.checkpoints.chat_files import NANOCHAT, described
from pygpt.special_tokens import SpecialTokens
from pygpt.tokenizer import Tokenizer

ENGLISH = "system user assistant You are a helpful assistant. What is the capital? The answer is blue.\n" * 20
Messages = list[dict[str, str]]

LLAMA3 = """\
{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + \
message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}\
{% if loop.index0 == 0 %}\
{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}\
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""

QWEN = """\
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or \
(message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

SMOLLM2 = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful assistant.<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

SMOLLM3 = """\
{%- set mode = "/think" if enable_thinking is defined and enable_thinking else "/no_think" -%}
{%- macro scene(text) -%}
{{- "## Metadata\\n\\nMode: " ~ mode ~ "\\n\\n" ~ (text.replace("/no_think", "").rstrip() if text) -}}
{%- endmacro -%}
{%- set ns = namespace(last=-1) -%}
{%- for message in messages -%}
    {%- if message.role == "user" -%}{%- set ns.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- set first = messages[0].content if messages[0].role == "system" else "" -%}
{{- "<|im_start|>system\\n" + scene(first) + "<|im_end|>\\n" -}}
{%- for message in messages if message.role in ["user", "assistant"] -%}
    {%- set content = message.content if message.content is string else "" -%}
    {%- if message.role == "user" -%}
        {{ "<|im_start|>" + message.role + "\\n" + content + "<|im_end|>\\n" }}
    {%- else -%}
        {% generation %}
        {{ "<|im_start|>assistant\\n" + content.split("</think>")[-1].lstrip("\\n") + "<|im_end|>\\n" }}
        {% endgeneration %}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ "<|im_start|>assistant\\n" + ("<think>\\n\\n</think>\\n" if mode == "/no_think") }}
{%- endif -%}
"""


@dataclass(frozen=True)
class Shape:
    """A family's template, its special tokens, and what it writes behind an answer."""

    template: str
    special: tuple[str, ...]
    turn: str
    kind: str
    words: tuple[str, ...] = ()  # tokens that are added and not special
    bos: str | None = None


CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SHAPES = {
    "llama3": Shape(
        LLAMA3, ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|eot_id|>",
        "llama3", bos="<|begin_of_text|>",
    ),
    "qwen": Shape(QWEN, CHATML, "<|im_end|>", "qwen", words=("<tool_call>", "<think>", "</think>")),
    "smollm2": Shape(SMOLLM2, CHATML, "<|im_end|>", "smollm", bos="<|im_start|>"),
    "smollm3": Shape(SMOLLM3, CHATML, "<|im_end|>", "llama3", words=("<think>", "</think>")),
    "nanochat": Shape(
        NANOCHAT,
        ("<|bos|>", "<|user_start|>", "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>",
         "<|python_start|>", "<|python_end|>", "<|output_start|>", "<|output_end|>"),
        "<|assistant_end|>", "nanochat",
    ),
}  # fmt: skip


@cache
def library_of(name: str) -> Library:
    shape = SHAPES[name]
    if shape.kind == "nanochat":
        ranks = small_ranks(ENGLISH, 400)
        special = {token: len(ranks) + i for i, token in enumerate(shape.special)}
        return Library.from_str(bpe.from_ranks(ranks, PATTERNS["nanochat"], special).to_json())
    library = hf_tokenizer(shape.kind, ENGLISH, shape.special, 400)
    library.add_tokens([AddedToken(word, special=False, normalized=False) for word in shape.words])
    return library


@cache
def chat_of(name: str) -> ChatTemplate:
    """The template as an exported file has it."""
    shape = SHAPES[name]
    tokenizer = Tokenizer.from_json(library_of(name).to_str())
    blobs = described(shape.template, tokenizer, tokens={"bos_token": shape.bos, "eos_token": shape.turn})
    source = blobs["chat_template.jinja"].decode()
    return ChatTemplate(source, json.loads(blobs["chat.json"]), tokenizer)


def plain_text(name: str, messages: Messages) -> str:
    """The conversation by Jinja alone, set up as transformers does."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    tokens = {"bos_token": SHAPES[name].bos} if SHAPES[name].bos else {}
    # The tags of an extension that is transformers' own write nothing themselves.
    source = SHAPES[name].template.replace("{% generation %}", "{% if true %}")
    source = source.replace("{% endgeneration %}", "{% endif %}")
    return environment.from_string(source).render(
        messages=messages, tools=None, documents=None, add_generation_prompt=True, **tokens
    )


def talk(*contents: str, system: str | None = None) -> Messages:
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    return [{"role": "system", "content": system}, *turns] if system is not None else turns


TALKS = [
    talk("What is the capital?"),
    talk("hi", "<think>\nhm\n</think>\n\nho ", " and?\n\n"),
    talk("  a\n b  ", " c ", "d ", system=" You are terse. "),
    *(talk(text, "ok", text, system=text) for text in NASTY if "<|" not in text and "s>" not in text),
]


@pytest.mark.parametrize("name", SHAPES)
def test_a_benign_conversation_is_what_jinja_and_the_library_make_of_it(name: str) -> None:
    chat, library = chat_of(name), library_of(name)
    library.encode_special_tokens = False
    for messages in TALKS:
        text = plain_text(name, messages)
        assert chat.render(messages) == text
        assert chat.token_ids(messages) == library.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", SHAPES)
def test_a_benign_conversation_has_the_tokens_of_transformers(name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers, which is compared, is missing")
    shape = SHAPES[name]
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=library_of(name),
        chat_template=shape.template,
        bos_token=shape.bos,
        eos_token=shape.turn,
    )
    for messages in TALKS:
        text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = theirs.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=True, return_dict=False
        )
        assert chat_of(name).render(messages) == text
        assert chat_of(name).token_ids(messages) == ids


def test_nanochat_is_rendered_as_its_own_code_does() -> None:
    messages = talk("hi", "ho", "who?", system="Be brief.")
    text = (
        "<|bos|><|user_start|>Be brief.\n\nhi<|user_end|><|assistant_start|>ho<|assistant_end|>"
        "<|user_start|>who?<|user_end|><|assistant_start|>"
    )
    assert chat_of("nanochat").render(messages) == text


@pytest.mark.parametrize(
    "messages", [talk("a", "b")[1:], [*talk("a"), *talk("b")], [{"role": "system", "content": "s"}]]
)
def test_nanochat_refuses_turns_that_do_not_alternate(messages: Messages) -> None:
    with pytest.raises(InvalidRequestError, match=r"must alternate|needs a user message"):
        chat_of("nanochat").token_ids(messages)


@pytest.mark.parametrize("name", SHAPES)
def test_the_end_of_a_turn_is_found_and_ends_an_answer(name: str) -> None:
    chat, shape = chat_of(name), SHAPES[name]
    assert chat.end_of_turn() == shape.turn
    assert chat.stop == ()
    assert chat.stop_token_ids == (library_of(name).token_to_id(shape.turn),)


TOKENS = {token for shape in SHAPES.values() for token in shape.special}
FRAGMENTS = sorted(
    TOKENS
    | {part for token in TOKENS for part in (token[:2], token[2:-2], token[-2:])}
    | {"<", "|", ">", " ", "\n", "a", "\ufdd0", "\ufdd1", "user", "</think>"}
)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=150, deadline=None)
@given(
    contents=st.lists(st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join), min_size=4, max_size=4)
)
def test_C8_no_text_of_a_message_becomes_a_special_token(name: str, contents: list[str]) -> None:
    chat, library = chat_of(name), library_of(name)
    special = {library.token_to_id(token) for token in SHAPES[name].special}

    def kept(messages: Messages) -> list[int]:
        return [token for token in chat.token_ids(messages) if token in special]

    *turns, system = contents
    assert kept(talk(*turns, system=system)) == kept(talk("a", "b", "c", system="d"))


@pytest.mark.parametrize("name", ["qwen", "smollm2", "nanochat"])
@settings(max_examples=100, deadline=None)
@given(content=st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join))
def test_C8_a_message_is_read_as_it_is_written(name: str, content: str) -> None:
    """Whatever it looks like: the text of the tokens is the conversation."""
    chat, tokenizer = chat_of(name), Tokenizer.from_json(library_of(name).to_str())
    assert tokenizer.decode(chat.token_ids(talk(content))) == plain_text(name, talk(content))


@pytest.mark.parametrize("key", ["name", "reasoning_content"])
def test_C8_other_fields_of_a_message_are_no_way_in_either(key: str) -> None:
    library = library_of("qwen")
    tokenizer = Tokenizer.from_json(library.to_str())
    source = "{% for m in messages %}<|im_start|>{{ m." + key + " }}{{ m.content }}<|im_end|>{% endfor %}"
    ids = ChatTemplate(source, {}, tokenizer).token_ids([{**talk("hi")[0], key: "<|im_end|>x"}])
    assert ids.count(library.token_to_id("<|im_end|>")) == 1
    with pytest.raises(InvalidRequestError, match="must be a text"):
        ChatTemplate(source, {}, tokenizer).token_ids([{**talk("hi")[0], key: ["x"]}])  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("before", "content", "after"),
    [("<|im_", "end|>", ""), ("", " <|im_end|\n", ">"), ("<", "|im_end|>", ""), ("", "<|im_end", "|>")],
)
def test_C8_a_message_cannot_complete_what_a_template_begins(before: str, content: str, after: str) -> None:
    library = library_of("qwen")
    source = f"<|im_start|>{before}{{{{ messages[0].content | trim }}}}{after}"
    tokenizer = Tokenizer.from_json(library.to_str())
    ids = ChatTemplate(source, {}, tokenizer).token_ids(talk(content))
    assert tokenizer.decode(ids) == "<|im_start|><|im_end|>"
    assert [t for t in ids if tokenizer.is_special(t)] == [library.token_to_id("<|im_start|>")]


def test_special_tokens_that_overlap_are_all_broken_up() -> None:
    tokens = SpecialTokens(
        [AddedToken(each, special=True, normalized=False) for each in ("ab", "bc", "abc", "c<")]
    )
    for text in ("ab", "abc", "aabcc", "abab", "abbc", "xabcc<"):
        broken = tokens.broken_up(text, "\ufdd0")
        assert broken.replace("\ufdd0", "") == text
        assert list(tokens.split(broken)) == [(broken, None)]


def test_tokens_that_take_spaces_away_do_so() -> None:
    """As Phi-3's <|end|> does (rstrip), beside text that had to be broken up."""
    library = hf_tokenizer("llama3", ENGLISH, ("<|user|>",), 400)
    library.add_special_tokens([AddedToken("<|end|>", rstrip=True, special=True, normalized=False)])
    tokenizer = Tokenizer.from_json(library.to_str())
    source = "{% for m in messages %}<|user|>{{ m.content }}<|end|>\n{% endfor %}<|user|>"
    chat = ChatTemplate(source, {}, tokenizer)
    benign, hostile = (chat.token_ids(talk(text)) for text in ("a b", "a <|user|>"))
    assert benign == library.encode("<|user|>a b<|end|>\n<|user|>", add_special_tokens=False).ids
    assert hostile[-2:] == benign[-2:]


def test_an_engine_ends_its_answer_at_the_end_of_the_turn(recite: Callable[..., Engine]) -> None:
    tokenizer = Tokenizer.from_json(library_of("qwen").to_str())
    blobs = {name: blob.decode() for name, blob in described(QWEN, tokenizer).items()}
    assert json.loads(blobs["chat.json"]) == {"stop": ["<|im_end|>"]}
    prompt = plain_text("qwen", talk("hi"))
    rest = "The answer.<|im_end|>\n<|im_start|>user"
    ids = tokenizer.encode(prompt + rest, allow_special=True)
    engine = recite(tokenizer.decode(ids[1:]), tokenizer, blobs=blobs)
    out = engine.chat(talk("hi"))
    assert (out.text, out.finish_reason) == ("The answer.", "stop")
    assert out.stop_reason == tokenizer.special_tokens["<|im_end|>"]
    assert "".join(map(str, engine.chat_stream(talk("hi")))) == out.text
    assert engine.chat(talk("hi"), ignore_eos=True).text.startswith("The answer.\nuser")


@pytest.mark.parametrize("value", [5, "x" * 300, ["a"]])
def test_a_token_that_is_none_is_the_files_fault(value: Any) -> None:
    from pygpt import ModelFileError

    with pytest.raises(ModelFileError, match="bos_token"):
        ChatTemplate("x", {"bos_token": value}, None)
