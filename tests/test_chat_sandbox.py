"""Chat templates of hostile files: little memory, little time, and an error that names the blob."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from pygpt import Engine, InvalidRequestError, ModelFileError
from pygpt.chat import ChatTemplate

HI = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
BLOB = "blob chat_template.jinja"
PATIENCE_S = 20  # some 2 s here; a machine may be busy

LARGE = [
    '{{ "a" * 1500000000 }}', '{{ 1500000000 * "a" }}', "{{ [0] * 10**9 }}", '{{ "%1000000000d" % 1 }}',
    '{{ "%*d" % (1000000000, 1) }}', '{{ "a".ljust(10**9) }}', '{{ "a".rjust(10**9) }}',
    '{{ "a".center(10**9) }}', '{{ "a".zfill(10**9) }}', '{{ "{:1000000000}".format(1) }}',
    '{{ "{:{}}".format(1, 10**9) }}', '{{ "a"|center(10**9) }}', '{{ "a\n"|indent(10**9) }}',
    '{{ "%1000000000d"|format(1) }}', "{{ [1]|tojson(indent=10**9) }}", "{{ [1]|batch(10**9, 0)|list }}",
    "{{ lipsum(n=10**6) }}", "{{ 10**10**9 }}", "{{ 9**9**9 }}", '{{ "\t".expandtabs(10**9) }}',
    '{{ ("a"*4000000).replace("a", "a"*1000) }}', '{{ ("a"*4000000)|replace("a", "b"*1000) }}',
    '{{ ("a"*4000000).join(range(1000)|map("string")|list) }}', '{{ range(1000)|join("a"*4000000) }}',
    '{{ "a".translate({97: "b"*16000000}) }}',
    "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aa') %}{% for i in range(60) %}"
    "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=2) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{% set x = 'aa' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40,
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) if 0 %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% set x = range(99999)|list %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for i in range(99999) %}{% set x %}" + "y" * 200_000 + "{% endset %}{% endfor %}",
    # What takes long in one go: two structures of 2**60 parts each are compared, hashed, searched, sorted.
    *("{% set ns = namespace(x=1, y=1) %}{% for i in range(60) %}" + grow + "{% endfor %}" + use
      for grow, use in (
          ("{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}", "{{ ns.x == ns.y }}"),
          ("{% set ns.x = (ns.x, ns.x) %}", "{{ {ns.x: 1} | length }}"),
          ("{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% set ns.y = {'a': ns.y, 'b': ns.y} %}",
           "{{ ns.x is eq ns.y }}"),
          ("{% set ns.x = [ns.x] + [ns.x] %}{% set ns.y = [ns.y] * 2 %}", "{{ ns.x in [ns.y] }}"),
          ("{% set ns.x = dict(a=ns.x, b=ns.x) %}{% set ns.y = dict(a=ns.y, b=ns.y) %}",
           "{{ [ns.x].count(ns.y) }}"),
      )),
    "{% macro two() %}{% set ns.x = varargs %}{% endmacro %}{% set ns = namespace(x=1) %}"
    "{% for i in range(60) %}{{ two(ns.x, ns.x) }}{% endfor %}{{ {ns.x: 1} | length }}",
    "{% set x = 'a' * 16000000 %}{% for i in range(99999) %}{% if 'ab' in x %}{% endif %}{% endfor %}",
    "{% set x = [0] * 400000 %}{% for i in range(99999) %}{% set y = x[1:] %}{% endfor %}",
    "{{ strftime_now('%1000000000d') }}",
]  # fmt: skip


@pytest.mark.parametrize("source", LARGE, ids=lambda source: source[:50])
def test_H6_a_template_that_takes_too_much_is_stopped(source: str) -> None:
    began = time.monotonic()
    with pytest.raises((InvalidRequestError, ModelFileError), match=BLOB):
        ChatTemplate(source, {}, None, path="a.pygpt").render(HI)
    assert time.monotonic() - began < PATIENCE_S


@pytest.mark.parametrize(
    "source",
    ["{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "{{ " + "-" * 3000 + "1 }}", "{% for %}", "{{ 1|nope }}",
     "{% for i in [1] %}" * 25 + "{% endfor %}" * 25, "{% if 1 %}" * 500 + "{% endif %}" * 500,
     "{% for i in [1] recursive %}{{ loop([i]) }}{% endfor %}", "x" * 300_000, "{% include 'a' %}{{ 1 +"],
    ids=lambda source: source[:30],
)  # fmt: skip
def test_a_template_that_does_not_compile_is_the_files_fault(source: str) -> None:
    made = ChatTemplate(source, {}, None, path="a.pygpt")
    for use in (made.check, lambda: made.render(HI)):
        with pytest.raises(ModelFileError) as caught:
            use()
        assert (caught.value.section, caught.value.code) == (BLOB, "invalid_chat")


def test_settings_that_nest_too_deep_are_named(recite: Callable[..., Engine]) -> None:
    with pytest.raises(ModelFileError, match=r"blob chat\.json"):
        recite("abc", blobs={"chat_template.jinja": "x", "chat.json": "[" * 100_000})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% endfor %}",
         "1/2,2/2"),
        ("{% for m in messages if m.role == 'user' %}{{ m['content'] | trim }}{% endfor %}", "hi"),
        ("{{ messages | map(attribute='role') | join(', ') }}", "user, assistant"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "hi"}'),
        ("{{ '<b>&' | tojson }}{{ {'b': 1, 'a': [2]} | tojson(indent=1) }}",
         '"<b>&"{\n "b": 1,\n "a": [\n  2\n ]\n}'),
        ("{{ strftime_now('%d %B %Y') | length > 9 }}{{ tools is none }}{{ user is defined }}\n",
         "TrueTrueFalse"),
        ("{% if messages[0] == messages[0] and (1, 2) == (1, 2) and 'h' in messages[0].content %}x{% endif %}"
         "{% for a, b in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}{{ messages[::-1][0].content }}",
         "x12ho"),
        ("{{ 'a' ~ 1 ~ 'b' }}{{ 'a' + 'b' }}{{ 2 * 3 }}{{ '-' * 3 }}{{ '%s!' % 'x' }}{{ 5 % 3 }}",
         "a1bab6---x!2"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
         "{{ ns.n }}",
         "2"),
        ("{% macro say(m) %}[{{ m.role.upper() }}]{% endmacro %}{% for m in messages %}{{ say(m) }}"
         "{% endfor %}",
         "[USER][ASSISTANT]"),
        ("{{ messages[0].content.replace('h', 'H').split('i')[0] }}{{ '{}-{}'.format(1, 2) }}", "H1-2"),
        ("{{ missing is defined }}{% for x in missing %}{% endfor %}{{ missing | default('d') }}", "Falsed"),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% break %}"
         "{% endfor %}",
         "ho"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ range(3) | list }}", "a1[0, 1, 2]"),
        ("{% for m in messages | reverse %}{{ loop.previtem.content if not loop.first }}{{ m.content }}"
         "{% endfor %}",
         "hohohi"),
    ],
)  # fmt: skip
def test_what_chat_templates_use_works(source: str, text: str) -> None:
    assert ChatTemplate(source, {}, None).render(HI) == text
