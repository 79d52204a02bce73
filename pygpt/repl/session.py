"""A conversation with a model: what was said, what of it fits, and how it is set up."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import fields, replace
from typing import Any

from pygpt.chat import newest_turns
from pygpt.completion import TextPiece
from pygpt.engine import Engine
from pygpt.errors import Error, InvalidRequestError
from pygpt.param_names import did_you_mean
from pygpt.params import SamplingParams, kind_of
from pygpt.plain_text import speakable
from pygpt.stream import TextStream

NOT_IN_CHAT = frozenset({"n", "echo", "logprobs", "prompt_logprobs"})  # an answer is one text
ANSWER_TOKENS = 512  # at most, where nothing else is said: a model that never stops is stopped
SPEAKERS = ("user", "assistant", "system")

Message = Mapping[str, str]


class Session:
    """One conversation. A model without a chat template has none: it continues each text by itself.

    Attributes:
        engine, params: what answers, and how.
        context: tokens that the model sees at once.
        messages: what was said and still counts.
        names: of the speakers, where the model's template makes a dialogue ("user", "assistant"), and the
            text in front of the conversation ("system").
    """

    def __init__(self, engine: Engine, params: SamplingParams, note: Callable[[str], None]) -> None:
        self.engine = engine
        self.params = params
        self.messages: list[Message] = []
        self.names: dict[str, str | None] = dict.fromkeys(SPEAKERS)
        if engine.chat_template is not None:
            self.names |= {"user": engine.chat_template.user, "assistant": engine.chat_template.assistant}
        self.context: int = engine.info["context_length"]
        self._note = note
        self._tries = 0
        self._check(params)

    def reload(self, engine: Engine) -> None:
        """Let another engine of the same vocabulary answer from here on; what was said and set stays."""
        self.engine = engine
        self.context = engine.info["context_length"]

    def used(self) -> int:
        """Tokens that the conversation takes of the context."""
        return self._size(self._conversation()) if self.messages else 0

    def say(self, text: str) -> Generator[TextPiece, None, None]:
        """The answer to a text, as it comes. Closing it early keeps what was answered so far; an error
        leaves the conversation as it was.

        Raises:
            InvalidRequestError: nothing of the text is in the model's vocabulary.
        """
        message = {"role": "user", "content": self._in_vocabulary(text)}
        self._tries = 0
        before = list(self.messages)
        self.messages.append(message)
        return self._answer(before)

    def retry(self) -> Generator[TextPiece, None, None]:
        """Another answer to the last text: by the next seed, if a seed is set.

        Raises:
            InvalidRequestError: nothing was said yet.
        """
        if not any(message["role"] == "user" for message in self.messages):
            raise InvalidRequestError("/retry", "nothing was said yet")
        before = list(self.messages)
        if self.messages[-1]["role"] == "assistant":
            self.messages.pop()
        self._tries += 1
        return self._answer(before)

    def clear(self) -> None:
        """Forget what was said."""
        self.messages.clear()

    def set(self, name: str, text: str) -> None:
        """Change a parameter or a speaker; an empty text, or "default", takes it back.

        Raises:
            InvalidRequestError: no such name, or a value that it cannot have.
        """
        name = name.replace("-", "_")
        default = text in ("", "default")
        if name in SPEAKERS:
            self._set_speaker(name, None if default else text)
            return
        known = {field.name: field for field in fields(SamplingParams) if field.name not in NOT_IN_CHAT}
        if name not in known:
            raise InvalidRequestError(name, f"no such setting{did_you_mean(name, [*known, *SPEAKERS])}")
        value: Any = known[name].default if default else kind_of(known[name]).parse(name, text)
        params = replace(self.params, **{name: value})
        self._check(params)
        self.params = params

    def settings(self) -> list[tuple[str, str]]:
        """What `set` can change and how it stands, most used first."""
        rows = [(name, value) for name, value in self.names.items() if value]
        recorded = self.engine.info["defaults"]
        for field in fields(SamplingParams):
            value = getattr(self.params, field.name)
            if field.name in NOT_IN_CHAT:
                continue
            if value is not field.default:
                rows.append((field.name, str(value)))
            elif field.name in recorded:
                rows.append((field.name, f"{recorded[field.name]} (recorded in the model)"))
        return rows

    def _check(self, params: SamplingParams) -> None:
        """Raises InvalidRequestError where a token id is not in the vocabulary."""
        params.rules({}, self.engine.info["config"]["vocab_size"])

    def _answer(self, before: list[Message]) -> Generator[TextPiece, None, None]:
        """The answer to the messages; `before` is what an error brings back."""
        said: list[str] = []
        try:
            with self._stream() as stream:
                for piece in stream:
                    said.append(piece.text)
                    yield piece
        except Error:
            self.messages, said = before, []
            raise
        finally:
            if answer := "".join(said).strip("\n"):
                self.messages.append({"role": "assistant", "content": answer})
            if self.engine.chat_template is None:
                del self.messages[:-2]  # each text is continued by itself; the last is kept for /retry

    def _stream(self) -> TextStream:
        params = self._params()
        if self.engine.chat_template is None:
            return self.engine.stream(self.messages[-1]["content"], params)
        room = min(params.max_tokens or ANSWER_TOKENS, self.context // 4)
        before = len(self.messages)
        kept, turns = newest_turns(self._conversation(), self._size, self.context - room)
        if turns:
            self.messages = [message for message in kept if message["role"] != "system"]
            self._note(f"the oldest {before - len(self.messages)} messages no longer fit and are forgotten")
        if self._size(kept) > self.context:
            self._note(f"your message is longer than the context of {self.context} tokens: its start is lost")
        user, assistant = self.names["user"], self.names["assistant"]
        return self.engine.chat_stream(kept, params, user=user, assistant=assistant)

    def _params(self) -> SamplingParams:
        changes: dict[str, Any] = {}
        if self.params.max_tokens is None:
            changes["max_tokens"] = ANSWER_TOKENS
        if self.params.on_overflow is None:
            changes["on_overflow"] = "shift"
        if self.params.seed is not None:
            changes["seed"] = (self.params.seed + self._tries) % 2**64
        return replace(self.params, **changes)

    def _conversation(self) -> list[Message]:
        system = self.names["system"]
        return [*([{"role": "system", "content": system}] if system else []), *self.messages]

    def _size(self, messages: list[Message]) -> int:
        template = self.engine.chat_template
        if template is None:
            return len(self.engine.tokenizer.encode(messages[-1]["content"])) if self.engine.tokenizer else 0
        return len(template.token_ids(messages, user=self.names["user"], assistant=self.names["assistant"]))

    def _in_vocabulary(self, text: str) -> str:
        tokenizer = self.engine.tokenizer
        if tokenizer is None:
            raise InvalidRequestError("model", "has no tokenizer: it cannot read text")
        known, left_out = speakable(text, tokenizer)
        if left_out:
            shown = " ".join(left_out[:20]) + (" ..." if len(left_out) > 20 else "")
            self._note(f"this model has never seen, so left out: {shown}")
        if text.strip() and not known.strip():
            raise InvalidRequestError("message", "nothing is left of it that this model's vocabulary has")
        return known

    def _set_speaker(self, name: str, text: str | None) -> None:
        template = self.engine.chat_template
        if template is None or (name != "system" and template.user is None):
            raise InvalidRequestError(name, "this model's conversations have no such part")
        text = None if text is None else self._in_vocabulary(text)
        default = None if name == "system" else getattr(template, name)
        if name != "system" and text is not None:
            template.check_name(name, text)
        self.names[name] = default if text is None else text
