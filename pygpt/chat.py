"""How a model writes a conversation down: the template in its file, and what of a conversation fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pygpt.blobs import json_blob, text_blob
from pygpt.errors import InvalidRequestError, ModelFileError
from pygpt.kinds import Texts, shown
from pygpt.params import SamplingParams
from pygpt.tokenizer import Tokenizer

if TYPE_CHECKING:
    import jinja2

    from pygpt import _core

ROLES = ("system", "user", "assistant")
MAX_MESSAGES = 1024
MAX_RENDERED = 1 << 24  # characters; a template that writes more is broken or hostile
_STOPS = Texts(16, 256)
_TEMPLATE = "chat_template.jinja"
_WHO = f"the model's chat template (blob {_TEMPLATE})"
_TOKENS = ("bos_token", "eos_token")  # what templates call them
_MAX_TOKEN = 256  # characters
# Noncharacters: "never interchanged" (Unicode 15, section 23.7), so one that no message has is free to mark
# a place.
_MARKS = [chr(code_point) for code_point in range(0xFDD0, 0xFDF0)]


class ChatTemplate:
    """A model's chat template with its settings: the blobs `chat_template.jinja` and `chat.json` of
    docs/format.md.

    Attributes:
        stop: texts that end an answer.
        stop_token_ids: special tokens that end one.
        user, assistant: the speakers' names where the template makes a dialogue of the messages, else None.
    """

    def __init__(
        self,
        source: str,
        settings: Mapping[str, Any],
        tokenizer: Tokenizer | None,
        *,
        path: str = "",
        **tokens: str,
    ) -> None:
        self._source = source
        self._tokenizer = tokenizer
        self._path = path
        self._tokens: dict[str, str | None] = {**tokens}
        special = {} if tokenizer is None else tokenizer.special_tokens
        try:
            stops = _STOPS.check("stop", settings.get("stop", []))
            self.stop = tuple(each for each in stops if each not in special)
            self.stop_token_ids = tuple(special[each] for each in stops if each in special)
            self.user = _name("user", settings.get("user"))
            self.assistant = _name("assistant", settings.get("assistant"))
            self._tokens |= {name: _token(name, settings[name]) for name in _TOKENS if name in settings}
        except InvalidRequestError as error:
            raise ModelFileError(path, "invalid_chat", str(error), "blob chat.json") from error

    @classmethod
    def from_file(cls, file: _core.ModelFile, tokenizer: Tokenizer | None) -> ChatTemplate | None:
        """The template of a model file, or None if it has none.

        Raises:
            ModelFileError: a blob that is not what docs/format.md says.
        """
        source = text_blob(file, _TEMPLATE)
        if source is None:
            return None
        settings = json_blob(file, "chat.json", dict) or {}
        config = file.config
        ends = config["stop_tokens"] or []
        written = {v: k for k, v in tokenizer.special_tokens.items()} if tokenizer is not None else {}
        tokens = {
            "bos_token": written.get(config["start_token"], ""),
            "eos_token": written.get((*ends, -1)[0], ""),
        }
        return cls(source, settings, tokenizer, path=file.path, **tokens)

    def render(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        user: str | None = None,
        assistant: str | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The conversation as the model reads it, up to where its answer begins.

        Raises:
            InvalidRequestError: messages that are none, names for a template without names, or what the
                template itself refuses.
            ModelFileError: the template is no valid Jinja.
        """
        names = self._names(user, assistant)
        return self._write(_checked(messages), names, add_generation_prompt=add_generation_prompt)

    def check(self) -> None:
        """Compile the template, which is else done when it is first used, and let it write a message down.

        Raises:
            ModelFileError: it is no valid Jinja, or is more than pygpt runs. That it refuses the message is
                its right.
        """
        from pygpt.chat_meter import TemplateLimitError

        _ = self._compiled
        try:
            self.render([{"role": "user", "content": "hi"}])
        except InvalidRequestError as error:
            if isinstance(error.__cause__, TemplateLimitError):
                section = f"blob {_TEMPLATE}"
                raise ModelFileError(self._path, "invalid_chat", str(error.__cause__), section) from error

    def end_of_turn(self) -> str | None:
        """The special token that the template writes behind an answer: what the model was taught to end one
        with. None where it writes none, or refuses a plain conversation.

        Raises:
            ModelFileError: the template is no valid Jinja.
        """
        answer = "An answer."
        talk = [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": answer}]
        try:
            _, found, rest = self.render(talk, add_generation_prompt=False).rpartition(answer)
        except InvalidRequestError:
            return None
        return self._tokenizer.leading_special(rest) if self._tokenizer and found else None

    def token_ids(
        self, messages: Sequence[Mapping[str, str]], *, user: str | None = None, assistant: str | None = None
    ) -> list[int]:
        """The rendered conversation's tokens. Special tokens come from the template only, never from a
        message.

        Raises: as `render`; InvalidRequestError also for characters that the vocabulary lacks.
        """
        tokenizer = self._tokenizer
        if tokenizer is None:
            raise InvalidRequestError(
                "messages", "the model file has no tokenizer, so it cannot read messages"
            )
        names, messages = self._names(user, assistant), _checked(messages)
        if not tokenizer.special_tokens:
            text = self._write(messages, names)
            _check_readable(messages, tokenizer)
            return tokenizer.encode(text, param="messages")
        mark = _unused_mark(messages)
        marked = [
            {key: each[key] if key == "role" else tokenizer.broken_up(each[key], mark) for key in each}
            for each in messages
        ]
        names = {who: tokenizer.broken_up(name, mark) for who, name in names.items()}
        return tokenizer.encode_marked(self._write(marked, names), mark, param="messages")

    def stopping(self, params: SamplingParams) -> SamplingParams:
        """The parameters, with the special tokens that end an answer."""
        if params.ignore_eos or not self.stop_token_ids:
            return params
        return replace(params, stop_token_ids=(*params.stop_token_ids, *self.stop_token_ids))

    @staticmethod
    def check_name(param: str, name: str) -> str:
        """A speaker's name as it may be used. Raises InvalidRequestError."""
        return _name(param, name) or ""

    def _names(self, user: str | None, assistant: str | None) -> dict[str, str]:
        """The speakers' names by what the template calls them. Raises InvalidRequestError."""
        for param, name in (("user", user), ("assistant", assistant)):
            if _name(param, name) is not None and self.user is None:
                raise InvalidRequestError(param, "the speakers of this model have no names")
        names = {"user": user or self.user, "assistant": assistant or self.assistant}
        return {who: name for who, name in names.items() if name is not None}

    def _write(
        self,
        messages: Sequence[Mapping[str, str]],
        names: Mapping[str, str],
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        # As transformers calls a template: these two are there, and tokens that a tokenizer lacks are not.
        absent = {"tools": None, "documents": None}
        tokens = {name: token for name, token in self._tokens.items() if token is not None}
        return self._render(
            messages=messages, add_generation_prompt=add_generation_prompt, **absent, **tokens, **names
        )

    def _render(self, **variables: Any) -> str:
        from pygpt.chat_meter import TemplateLimitError, metered

        parts: list[str] = []
        size = 0
        template = self._compiled
        try:
            with metered():
                for part in template.generate(variables):
                    parts.append(part)
                    size += len(part)
                    if size > MAX_RENDERED:
                        raise TemplateLimitError(f"writes over {MAX_RENDERED} characters")
        except TemplateLimitError as error:
            raise InvalidRequestError("messages", f"{_WHO} {error}") from error
        except Exception as error:  # a template can fail in as many ways as a program
            reason = f"{_WHO} refuses them: {str(error)[:1000] or type(error).__name__}"
            raise InvalidRequestError("messages", reason) from error
        return "".join(parts)

    @cached_property
    def _compiled(self) -> jinja2.Template:
        # Here, not at the top: a model that only continues texts needs no jinja2, and its import takes 40 ms.
        import jinja2

        from pygpt.chat_meter import metered
        from pygpt.chat_sandbox import Sandbox

        try:
            with metered():
                return Sandbox().from_string(self._source)
        except jinja2.TemplateSyntaxError as error:
            where = f"line {error.lineno}: {error.message}"
            raise ModelFileError(self._path, "invalid_chat", where, f"blob {_TEMPLATE}") from error
        except Exception as error:  # the compiler of Python, below Jinja's, has limits of many kinds
            where = f"cannot be compiled: {error or type(error).__name__}"
            raise ModelFileError(self._path, "invalid_chat", where, f"blob {_TEMPLATE}") from error


def newest_turns(
    messages: Sequence[Mapping[str, str]], size: Callable[[list[Mapping[str, str]]], int], limit: int
) -> tuple[list[Mapping[str, str]], int]:
    """What fits: the messages without the oldest turns, as whole turns, and how many turns had to go.

    A turn is a message of the user and what follows it. What stands before the first turn stays, and so does
    the last turn, even if it alone is too long. `size` counts tokens.
    """
    begins = [place for place, message in enumerate(messages) if message["role"] == "user"]
    head = list(messages[: begins[0]]) if begins else list(messages)
    for dropped, begin in enumerate(begins):
        rest = [*head, *messages[begin:]]
        if dropped == len(begins) - 1 or size(rest) <= limit:
            return rest, dropped
    return list(messages), 0


def _checked(messages: Sequence[Mapping[str, str]]) -> Sequence[Mapping[str, str]]:
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence) or not messages:
        raise InvalidRequestError(
            "messages", f"must be a list of at least one message, got {shown(messages)}"
        )
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequestError("messages", f"at most {MAX_MESSAGES} messages, got {len(messages)}")
    for place, message in enumerate(messages):
        where = f"message {place}"
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise InvalidRequestError(
                "messages", f"{where} must be a dict with a role of {', '.join(ROLES)}, got {shown(message)}"
            )
        if not isinstance(message.get("content"), str):
            raise InvalidRequestError(
                "messages", f"{where}: content must be a text, got {shown(message.get('content'))}"
            )
        for key, value in message.items():
            if not isinstance(key, str) or not isinstance(value, str):
                reason = f"{where}: {shown(key)} must be a text, got {shown(value)}"
                raise InvalidRequestError("messages", reason)
    return messages


def _check_readable(messages: Sequence[Mapping[str, str]], tokenizer: Tokenizer) -> None:
    """Raises InvalidRequestError with the place in a message, not in what the template makes of it."""
    for place, message in enumerate(messages):
        if tokenizer.unknown_characters(message["content"]):
            try:
                tokenizer.encode(message["content"], param="messages")
            except InvalidRequestError as error:
                raise InvalidRequestError("messages", f"message {place}: {error.message}") from None


def _token(param: str, value: object) -> str | None:
    """A special token as it is written. Raises InvalidRequestError."""
    if value is not None and (not isinstance(value, str) or len(value) > _MAX_TOKEN):
        raise InvalidRequestError(
            param, f"must be a text of at most {_MAX_TOKEN} characters, got {shown(value)}"
        )
    return value


def _name(param: str, value: object) -> str | None:
    """A speaker's name: one short line."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > 64 or not value.isprintable():
        raise InvalidRequestError(
            param, f"must be a name of at most 64 printable characters, got {shown(value)}"
        )
    return value


def _unused_mark(messages: Sequence[Mapping[str, str]]) -> str:
    used = set().union(*(text for each in messages for text in each.values()))
    return next((mark for mark in _MARKS if mark not in used), _MARKS[0])
