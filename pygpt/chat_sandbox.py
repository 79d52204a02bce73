"""Where a model file's chat template runs: it may come from anyone, so what it can take is counted.

Bounded: every text, list and number that literals, operators, methods and filters make; what is written,
captures too; the turns of all loops and the calls of all macros together; what comparisons, tests and slices
look at; and the time of the whole.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from string import Formatter
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes, pass_context
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace

from pygpt.chat_meter import LEAST, MAX_SOURCE, METER, TemplateLimitError, check_size, weight

_MAX_NUMBER = 1 << 63
_MAX_INDENT = 64
_CALL = 256  # characters that a call counts as: its time

# Of texts, the methods that make nothing much longer than what goes in, once `format`, `join` and `replace`
# have been looked at.
_TEXT_METHODS = frozenset({
    "capitalize", "count", "endswith", "find", "format", "index", "isalnum", "isalpha", "isascii",
    "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower",
    "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition",
    "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper",
})  # fmt: skip
_ITEM_FILTERS = frozenset({  # pass items on, and write none of them
    "attr", "count", "d", "default", "dictsort", "first", "items", "last", "length", "list", "map", "max",
    "min", "reject", "rejectattr", "reverse", "round", "safe", "select", "selectattr", "sort", "unique",
})  # fmt: skip
_TEXT_FILTERS = frozenset({
    "abs", "capitalize", "e", "escape", "float", "forceescape", "indent", "int", "join", "lower", "replace",
    "string", "title", "tojson", "trim", "upper",
})  # fmt: skip
_COMPARING = frozenset({"dictsort", "max", "min", "sort", "unique"})
_GLOBALS = frozenset({"range", "dict", "namespace"})
_DATE_FORMAT = re.compile(r"(?:[^%]|%-?[A-Za-z%])*")  # no width: it would be made
_WIDE_FORMAT = re.compile(r"%(\([^)]*\))?[^a-zA-Z%]*(\*|\d{3})")


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}`: in training, what the assistant says; here, what it holds."""

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=lineno)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as the templates of chat models use it, without the parts that could take any amount."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        # Nothing is computed while it compiles: `finalize` wants a context, so constants wait for it, too.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
            finalize=_written,
            optimized=False,
        )
        kept = {name: self.globals[name] for name in _GLOBALS}
        # Templates that were written for transformers call these two, and its tojson.
        self.globals = kept | {"range": _range, "raise_exception": _refuse, "strftime_now": _now}
        self.filters["tojson"] = _tojson
        self.filters = {name: _guarded(name, self.filters[name]) for name in _ITEM_FILTERS | _TEXT_FILTERS}
        self.filters |= {"_counted": _counted, "_joined": _joined, "_weighed": _weighed}
        tests: dict[str, Any] = {**self.tests}
        self.tests = {name: _weighing(test) for name, test in tests.items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_SOURCE:
            raise TemplateLimitError(f"is longer than {MAX_SOURCE} characters")
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            if loop.recursive:
                raise jinja2.TemplateSyntaxError("a recursive loop, which pygpt does not run", loop.lineno)
            loop.iter = _filtered(loop.iter, "_counted")
        for output in tree.find_all(nodes.Output):  # so that `finalize` sees constant text, too
            output.nodes = [_constant(each) for each in output.nodes]
        for parent in [tree, *tree.find_all(nodes.Node)]:
            _replace_parts(parent)
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        METER.get().spend()
        _BINARY[operator](left, right)
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and abs(result) > _MAX_NUMBER:
            raise TemplateLimitError("makes a number beyond 64 bits")
        return result

    def call(__self, __context: Context, __obj: Any, *args: Any, **keywords: Any) -> Any:  # noqa: N805
        owner = getattr(__obj, "__self__", None)
        METER.get().spend(_CALL + _length(owner))
        if isinstance(owner, str):
            _check_method(owner, __obj.__name__, args)
        elif isinstance(owner, list | tuple | dict):  # count and index compare
            _weighed(owner)
        # A macro keeps what it is called with in a tuple or a dict.
        _weighed([each for each in (*args, *keywords.values()) if not isinstance(each, Namespace)])
        return super().call(__context, __obj, *args, **keywords)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        text: str = value.__self__

        def checked(*args: Any, **keywords: Any) -> str:
            fields = [spec for _, field, spec, _ in Formatter().parse(text) if field is not None]
            if any(fields):
                raise TemplateLimitError("gives a width or a format to str.format")
            check_size(len(text) + len(fields) * (weight(args) + weight(keywords)))
            return wrapped(*args, **keywords)

        return checked


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict | range) else 0


def _check_sum(left: Any, right: Any) -> None:
    size = sum(weight(each) for each in (left, right) if _length(each))
    check_size(size)
    METER.get().spend(size)


def _check_product(left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if _length(many) and isinstance(times, int):
            check_size(weight(many) * max(times, 0))
            METER.get().spend(weight(many) * max(times, 0))


def _check_power(left: Any, right: Any) -> None:
    both = isinstance(left, int) and isinstance(right, int) and right > 0
    # What is shorter is made in no time, and refused then.
    if both and abs(left).bit_length() * right > 1024:
        raise TemplateLimitError("makes a number beyond 64 bits")


def _check_format(left: Any, right: Any) -> None:
    if isinstance(left, str):
        if _WIDE_FORMAT.search(left):
            raise TemplateLimitError("formats with a width of more than 99")
        check_size(len(left) + left.count("%") * (99 + weight(right)))


_BINARY: dict[str, Callable[[Any, Any], None]] = {
    "+": _check_sum,
    "*": _check_product,
    "**": _check_power,
    "%": _check_format,
}


def _check_method(text: str, name: str, args: tuple[Any, ...]) -> None:
    if name not in _TEXT_METHODS:
        raise TemplateLimitError(f"calls the method {name} of a text, which pygpt does not run")
    if name == "join" and args:
        _check_join(text, args[0])
    if name == "replace" and len(args) > 1:
        _check_replace(text, args[0], args[1])


def _check_join(separator: Any, items: Any) -> None:
    check_size(weight(items) + weight(separator) * _length(items))


def _check_replace(text: str, old: Any, new: Any) -> None:
    weight([old, new])
    old, new = str(old), str(new)
    check_size(len(text) + text.count(old) * max(len(new) - len(old), 0))


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, counted, and refused where it would make too much."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0  # before it stands the context

    @wraps(function)
    def guarded(*args: Any, **keywords: Any) -> Any:
        value = list(args[first]) if isinstance(args[first], Iterator) else args[first]
        METER.get().spend(_length(value))
        if name in _TEXT_FILTERS:
            weight(value)
        elif name in _COMPARING:
            _weighed(value)
        if name in _GROWING:
            _GROWING[name](value, [*args[first + 1 :], *keywords.values()])
        return function(*args[:first], value, *args[first + 1 :], **keywords)

    return guarded


def _check_indented(value: Any, others: list[Any]) -> None:
    """For `tojson` and `indent`: a new line and its indent for each line or item."""
    width = max([4, *(each for each in others if isinstance(each, int)), *map(_length, others)])
    if width > _MAX_INDENT:
        raise TemplateLimitError(f"indents by more than {_MAX_INDENT}")
    size = weight(value)
    check_size(size + width * (value.count("\n") if isinstance(value, str) else size // LEAST))


_GROWING: dict[str, Callable[[Any, list[Any]], None]] = {
    "indent": _check_indented,
    "tojson": _check_indented,
    "join": lambda value, others: _check_join(others[0] if others else "", value),
    "replace": lambda value, others: _check_replace(str(value), *others[:2]) if len(others) > 1 else None,
}


@pass_context
def _written(context: Context, value: Any) -> Any:
    del context
    METER.get().write(weight(value))
    return value


def _range(*args: int) -> range:
    made = safe_range(*args)
    METER.get().spend(len(made))
    return made


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(str(message)[:1000])


def _now(format: str) -> str:
    """The date and time here, as transformers gives it to templates."""
    if not isinstance(format, str) or len(format) > 64 or not _DATE_FORMAT.fullmatch(format):
        raise TemplateLimitError("asks for the time in a format that pygpt does not write")
    return time.strftime(format)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it: without Jinja's escapes for HTML, keys as they come."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _weighed(value: Any) -> Any:
    """The value, paid for by all that is in it: comparing, copying or hashing it takes as long as that is."""
    METER.get().spend(0 if isinstance(value, Namespace) else weight(value))
    return value


def _weighing(test: Callable[..., Any]) -> Callable[..., Any]:
    """The test, which may compare."""

    @wraps(test)
    def weighing(*args: Any, **keywords: Any) -> Any:
        for each in args:
            if isinstance(each, str | list | tuple | dict):
                _weighed(each)
        return test(*args, **keywords)

    return weighing


def _counted(items: Any) -> Iterable[Any]:
    """The items; each costs fuel."""
    meter = METER.get()

    def each() -> Iterator[Any]:
        for item in items:
            meter.spend()
            yield item

    return each()


def _joined(parts: list[Any]) -> str:
    check_size(weight(parts))
    return "".join(map(str, parts))


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=node.environment)


def _constant(node: nodes.Expr) -> nodes.Expr:
    if isinstance(node, nodes.TemplateData):
        return nodes.Const(node.data, lineno=node.lineno, environment=node.environment)
    return node


def _replace_parts(parent: nodes.Node) -> None:
    """What stands below a node and makes or looks at any amount, through a filter that weighs it."""
    for field, value in parent.iter_fields():
        if isinstance(value, list):
            setattr(parent, field, [_replaced(parent, each) for each in value])
        else:
            setattr(parent, field, _replaced(parent, value))


def _replaced(parent: nodes.Node, value: Any) -> Any:
    if isinstance(value, nodes.Concat):  # a ~ b
        parts = nodes.List(value.nodes, lineno=value.lineno, environment=value.environment)
        return _filtered(parts, "_joined")
    literal = isinstance(value, nodes.List | nodes.Dict) or (
        isinstance(value, nodes.Tuple) and value.ctx == "load"
    )
    compared = isinstance(parent, nodes.Compare | nodes.Operand) and isinstance(value, nodes.Expr)
    sliced = (
        isinstance(parent, nodes.Getitem) and isinstance(parent.arg, nodes.Slice) and value is parent.node
    )
    if (literal or compared or sliced) and not isinstance(value, nodes.Operand | nodes.Const):
        return _filtered(value, "_weighed")
    return value
