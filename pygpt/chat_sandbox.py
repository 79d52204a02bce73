"""Where a model file's chat template runs: it may come from anyone, so what it can take is counted.

Bounded: every text, list and number that operators, methods and filters make; what is written, captures too;
the turns of all loops and the calls of all macros together. Not bounded one by one: slices, comparisons and
`in`, which take as long as their operands are long; there are at most FUEL of them in loops.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from string import Formatter
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace

MAX_TEXT = 1 << 24  # characters of a text, or items of a list
MAX_SOURCE = 1 << 18  # characters of a template; the longest that are known have some 20,000
MAX_WRITTEN = 1 << 26  # characters, into captures too
FUEL = 1_000_000  # turns of loops, calls, and each 64 characters or items that one of them reads
_MAX_NUMBER = 1 << 63
_MAX_INDENT = 64
_LEAST = 8  # characters that a short text, a number or a list counts as
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
_GLOBALS = frozenset({"range", "dict", "namespace"})
_WIDE_FORMAT = re.compile(r"%(\([^)]*\))?[^a-zA-Z%]*(\*|\d{3})")


class TemplateLimitError(Exception):
    """The template takes too much."""


class _Meter:
    """What one rendering has taken."""

    def __init__(self) -> None:
        self._fuel = FUEL
        self._written = 0

    def spend(self, size: int = 0) -> None:
        self._fuel -= 1 + size // 64
        if self._fuel < 0:
            raise TemplateLimitError(f"takes more than {FUEL} steps")

    def write(self, size: int) -> None:
        self._written += size
        if self._written > MAX_WRITTEN:
            raise TemplateLimitError(f"writes over {MAX_WRITTEN} characters")


_METER: ContextVar[_Meter] = ContextVar("meter")


@contextmanager
def metered() -> Iterator[None]:
    """Everything that templates do inside takes from one allowance. TemplateLimitError where it ends."""
    token = _METER.set(_Meter())
    try:
        yield
    finally:
        _METER.reset(token)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as the templates of chat models use it, without the parts that could take any amount."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        # Nothing is computed while it compiles: `finalize` wants a context, so constants wait for it, too.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            extensions=["jinja2.ext.loopcontrols"],
            finalize=_written,
            optimized=False,
        )
        kept = {name: self.globals[name] for name in _GLOBALS}
        # Templates that were written for transformers call raise_exception.
        self.globals = kept | {"range": _range, "raise_exception": _refuse}
        self.filters = {name: _guarded(name, self.filters[name]) for name in _ITEM_FILTERS | _TEXT_FILTERS}
        self.filters |= {"_counted": _counted, "_joined": _joined}

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
            _replace_joins(parent)
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _METER.get().spend()
        _BINARY[operator](left, right)
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and abs(result) > _MAX_NUMBER:
            raise TemplateLimitError("makes a number beyond 64 bits")
        return result

    def call(__self, __context: Context, __obj: Any, *args: Any, **keywords: Any) -> Any:  # noqa: N805
        owner = getattr(__obj, "__self__", None)
        _METER.get().spend(_CALL + _length(owner))
        if isinstance(owner, str):
            _check_method(owner, __obj.__name__, args)
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
            _check_size(len(text) + len(fields) * (weight(args) + weight(keywords)))
            return wrapped(*args, **keywords)

        return checked


def weight(value: Any) -> int:
    """Characters that the value takes when it is written, about. Raises TemplateLimitError above MAX_TEXT."""
    total, open_ = 0, [value]
    while open_:
        each = open_.pop()
        if isinstance(each, Namespace):
            raise TemplateLimitError("writes a namespace")
        if isinstance(each, Mapping):
            open_ += [*each.keys(), *each.values()]
        elif isinstance(each, Collection) and not isinstance(each, str | bytes | range):
            open_ += each
        total += max(len(each), _LEAST) if isinstance(each, str | bytes) else _LEAST
        if total + len(open_) > MAX_TEXT:
            raise TemplateLimitError(f"makes more than {MAX_TEXT} characters")
    return total


def _check_size(size: int) -> None:
    if size > MAX_TEXT:
        raise TemplateLimitError(f"makes more than {MAX_TEXT} characters")


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict | range) else 0


def _check_sum(left: Any, right: Any) -> None:
    _check_size(_length(left) + _length(right))
    _METER.get().spend(_length(left) + _length(right))


def _check_product(left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if _length(many) and isinstance(times, int):
            _check_size(_length(many) * max(times, 0))
            _METER.get().spend(_length(many) * max(times, 0))


def _check_power(left: Any, right: Any) -> None:
    both = isinstance(left, int) and isinstance(right, int) and right > 0
    # What is shorter is made in no time, and refused then.
    if both and abs(left).bit_length() * right > 1024:
        raise TemplateLimitError("makes a number beyond 64 bits")


def _check_format(left: Any, right: Any) -> None:
    if isinstance(left, str):
        if _WIDE_FORMAT.search(left):
            raise TemplateLimitError("formats with a width of more than 99")
        _check_size(len(left) + left.count("%") * (99 + weight(right)))


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
    _check_size(weight(items) + weight(separator) * _length(items))


def _check_replace(text: str, old: Any, new: Any) -> None:
    weight([old, new])
    old, new = str(old), str(new)
    _check_size(len(text) + text.count(old) * max(len(new) - len(old), 0))


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, counted, and refused where it would make too much."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0  # before it stands the context

    @wraps(function)
    def guarded(*args: Any, **keywords: Any) -> Any:
        value = list(args[first]) if isinstance(args[first], Iterator) else args[first]
        _METER.get().spend(_length(value))
        if name in _TEXT_FILTERS:
            weight(value)
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
    _check_size(size + width * (value.count("\n") if isinstance(value, str) else size // _LEAST))


_GROWING: dict[str, Callable[[Any, list[Any]], None]] = {
    "indent": _check_indented,
    "tojson": _check_indented,
    "join": lambda value, others: _check_join(others[0] if others else "", value),
    "replace": lambda value, others: _check_replace(str(value), *others[:2]) if len(others) > 1 else None,
}


@pass_context
def _written(context: Context, value: Any) -> Any:
    del context
    _METER.get().write(weight(value))
    return value


def _range(*args: int) -> range:
    made = safe_range(*args)
    _METER.get().spend(len(made))
    return made


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(str(message)[:1000])


def _counted(items: Any) -> Iterable[Any]:
    """The items; each costs fuel."""
    meter = _METER.get()

    def each() -> Iterator[Any]:
        for item in items:
            meter.spend()
            yield item

    return each()


def _joined(parts: list[Any]) -> str:
    _check_size(weight(parts))
    return "".join(map(str, parts))


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=node.environment)


def _constant(node: nodes.Expr) -> nodes.Expr:
    if isinstance(node, nodes.TemplateData):
        return nodes.Const(node.data, lineno=node.lineno, environment=node.environment)
    return node


def _replace_joins(parent: nodes.Node) -> None:
    """`a ~ b` below a node as a filter, which can look at the sizes first."""
    for field, value in parent.iter_fields():
        if isinstance(value, list):
            setattr(parent, field, [_as_filter(each) for each in value])
        else:
            setattr(parent, field, _as_filter(value))


def _as_filter(value: Any) -> Any:
    if not isinstance(value, nodes.Concat):
        return value
    parts = nodes.List(value.nodes, lineno=value.lineno, environment=value.environment)
    return _filtered(parts, "_joined")
