"""The engine as people use it: text in, text out. What happens per token happens in the C++ core."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from pygpt import prefix_file
from pygpt.async_calls import AsyncCalls, Conversation
from pygpt.asynchronous import Switchboard
from pygpt.blobs import file_tokenizer
from pygpt.chat import ChatTemplate
from pygpt.completion import Completion, Score
from pygpt.deadline import Deadline
from pygpt.errors import EngineClosedError, ForkedEngineError, InvalidRequestError, NumericalError
from pygpt.inside import WHOLE_PROMPT, Inside
from pygpt.opening import absolute, describe, open_core, open_file, recorded_defaults
from pygpt.params import SamplingParams
from pygpt.requests import Facts, Prompt, Prompts, build, grouped, listed, one_prompt
from pygpt.scoring import scored
from pygpt.stream import TextStream, read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pygpt import _core
    from pygpt.transcript import Transcript

# How long the core is waited for in one go. In between the main thread, and no other, sees Ctrl-C.
POLL_S, MAIN_POLL_S = 0.05, 0.01

Messages = Sequence[Mapping[str, str]]


class Engine(AsyncCalls, Inside):
    """A model file, opened and ready to generate. Any number of threads may use one engine at once.

    Args:
        path: a `.pygpt` file, as `pygpt.export` writes it.
        device: "cpu", "cuda" (docs/cuda.md, not yet run on hardware), or "auto": the CPU.
        threads: workers of the CPU, or None: PYGPT_THREADS, else chosen from the CPUs that it may use.
        max_context: tokens of prompt and completion at most, or None: the model's own context.
        kv_dtype: type of the KV cache: "auto", "f32", "f16", "bf16", "int8".
        max_running: sequences (samples of prompts) that run at once at most, or None: 64. The others wait,
            and start in the order in which they came.
        max_waiting: how many sequences may wait beyond those, or None: any number.
        prefix_cache: whether the beginning of a prompt that was read before is not computed again. No bit of
            any result depends on it; `Usage.cached_tokens` counts.
        mmap: map the file (it must not be truncated while open; replacing it by export is safe), or read it.
            A file of up to 64 MiB is always read.
        verify: "full" checks every checksum, "header" the header's, "off" none; "auto" is full up to 64 MB.

    The environment's PYGPT_ISA forces the instruction set of the kernels.

    Attributes:
        tokenizer: the model's, or None if the file has none (then prompts are token ids and texts are empty).
        chat_template: how the model writes a conversation down, or None if it is no chat model.

    Raises:
        ModelFileError: the file is no model that this version can run.
        OutOfMemory, DeviceError, InvalidRequestError, OSError
    """

    def __init__(
        self,
        path: str | bytes | PathLike[str] | PathLike[bytes],
        *,
        device: str = "auto",
        threads: int | None = None,
        max_context: int | None = None,
        kv_dtype: Literal["auto", "f32", "f16", "bf16", "int8"] = "auto",
        max_running: int | None = None,
        max_waiting: int | None = None,
        prefix_cache: bool = True,
        mmap: bool = True,
        verify: Literal["auto", "full", "header", "off"] = "auto",
    ) -> None:
        self._path = absolute(path)
        self._file_options = {"mmap": mmap, "verify": verify}
        self._core_options: dict[str, Any] = {
            "device": device, "threads": threads, "max_context": max_context, "kv_dtype": kv_dtype,
            "max_running": max_running, "max_waiting": max_waiting, "prefix_cache": prefix_cache,
        }  # fmt: skip
        self._pid = os.getpid()
        self._closed = False
        file = open_file(self._path, mmap=mmap, verify=verify)  # kept by the core alone, which close() ends
        self.tokenizer = file_tokenizer(file)
        self.chat_template = ChatTemplate.from_file(file, self.tokenizer)
        defaults = recorded_defaults(file)
        self._core = open_core(file, **self._core_options)
        self._info = describe(file, self._core)
        self._board = Switchboard(self._submit, self._take)
        self._facts = Facts(file.config, defaults, self._info["context_length"], self.tokenizer)

    @overload
    def generate(self, prompt: Prompt, params: SamplingParams | None = ..., *, n: int, **keywords: Any) -> list[Completion]: ...  # noqa: E501  # fmt: skip
    @overload
    def generate(
        self, prompt: Prompt, params: SamplingParams | None = ..., **keywords: Any
    ) -> Completion: ...
    @overload
    def generate(self, prompt: Prompts, params: SamplingParams | None = ..., *, n: int, **keywords: Any) -> list[list[Completion]]: ...  # noqa: E501  # fmt: skip
    @overload
    def generate(
        self, prompt: Prompts, params: SamplingParams | None = ..., **keywords: Any
    ) -> list[Completion]: ...
    def generate(
        self,
        prompt: Prompt | Prompts,
        params: SamplingParams | None = None,
        *,
        timeout: float | None = None,
        **keywords: Any,
    ) -> Any:
        """Continue a prompt (a text, bytes or token ids), or each of a list of prompts, in one batch.

        Keywords are the fields of `SamplingParams`, on top of `params`. After `timeout` seconds, waiting
        included, what still runs is ended.

        Returns:
            A Completion for one prompt, and a list in the prompts' order for a list of them. With n above 1,
            a list of n Completions takes the place of each Completion.

        Raises:
            InvalidRequestError: a parameter or prompt that cannot be used. An unknown keyword is a TypeError
            too. ContextLengthError: more tokens than the context, where on_overflow is "stop" or "error".
            NumericalError: the weights made no finite number.
            DeadlineExceeded: `timeout` ran out; its `completions` have what was written until then.
            OverloadedError: more sequences than may wait; none of these has been started.
            EngineClosedError, ForkedEngineError, OutOfMemory
        """
        deadline = Deadline(timeout)
        prompts, many = listed(prompt)
        chosen = SamplingParams.from_keywords(keywords, params)
        found = grouped(self._complete(prompts, chosen, (), deadline), chosen.n)
        return found if many else found[0]

    __call__ = generate

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        timeout: float | None = None,
        **keywords: Any,
    ) -> TextStream:
        """As `generate` for one prompt, in pieces as they come. With n above 1 a piece says whose it is:
        `sample`.

        The generation runs from here on; closing or losing the stream cancels it. Raises as `generate` does;
        DeadlineExceeded behind the last piece.
        """
        deadline = Deadline(timeout)
        chosen = SamplingParams.from_keywords(keywords, params)
        return self._stream(one_prompt(prompt), chosen, (), deadline)

    def chat(
        self,
        messages: Messages,
        params: SamplingParams | None = None,
        *,
        user: str | None = None,
        assistant: str | None = None,
        timeout: float | None = None,
        **keywords: Any,
    ) -> Any:
        """The answer to a conversation, written down by the model's own template. Returns as `generate` does.

        Args:
            messages: dicts with `role` ("system", "user", "assistant") and `content`.
            user, assistant: the speakers' names, where the model's template makes a dialogue of the messages.

        Raises:
            InvalidRequestError: messages that are none, or a model without a chat template. See also
                `generate`.
        """
        deadline = Deadline(timeout)
        ids, chosen, stops = self._conversation(messages, params, keywords, user, assistant)
        return grouped(self._complete([ids], chosen, stops, deadline), chosen.n)[0]

    def chat_stream(
        self,
        messages: Messages,
        params: SamplingParams | None = None,
        *,
        user: str | None = None,
        assistant: str | None = None,
        timeout: float | None = None,
        **keywords: Any,
    ) -> TextStream:
        """As `chat`, in pieces as they come."""
        deadline = Deadline(timeout)
        ids, chosen, stops = self._conversation(messages, params, keywords, user, assistant)
        return self._stream(ids, chosen, stops, deadline)

    def score(self, texts: Prompts) -> list[Score]:
        """Log-probability of each text (or list of token ids) under the model, in nats.

        Raises:
            ContextLengthError: a text has more tokens than the context.
            InvalidRequestError: a text of fewer than two tokens: there is nothing to predict.
            NumericalError: the weights made no finite number.
        """
        prompts, many = listed(texts)
        if not many:
            if isinstance(prompts[0], str | bytes) or len(prompts[0]) > 0:
                raise InvalidRequestError("texts", "must be a list of texts, or of lists of token ids")
            return []
        return [scored(each, self.tokenizer) for each in self._complete(prompts, WHOLE_PROMPT)]

    def window_logprobs(self, windows: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability of each token but the first of windows of token ids, in nats.

        A window may be one token longer than the context: its last is predicted and not read, as in training.

        Raises: as `score`.
        """
        requests, transcripts = [], []
        for window in windows:
            if len(window) < 2:
                raise InvalidRequestError("windows", "a window of fewer than two tokens has none to predict")
            # The only token that may follow is the last; logprobs are of the distribution before that rule.
            asked = SamplingParams(
                max_tokens=1, allowed_token_ids=tuple(window[-1:]), prompt_logprobs=0, logprobs=0,
                ignore_eos=True, on_overflow="slide",
            )  # fmt: skip
            made = build([window[:-1]], asked, self._facts)
            requests += made[0]
            transcripts += made[1]
        self._run(requests, transcripts, until_done=True)
        done = [each.completion() for each in transcripts]
        return [[t.logprob for t in (*(c.prompt_logprobs or ()), *(c.logprobs or ()))] for c in done]

    def logits(self, ids: Prompt) -> NDArray[np.float32]:
        """The model's logits at every position of a prompt: float32 [T, vocab_size].

        Raises:
            ContextLengthError: more tokens than the context.
            NumericalError: the weights made no finite number.
        """
        import numpy as np

        requests, transcripts = build([ids], WHOLE_PROMPT, self._facts)
        requests[0].prompt_logprobs, requests[0].logits = -1, True
        self._run(requests, transcripts, until_done=True)
        logits = transcripts[0].logits
        if logits is None:
            raise EngineClosedError("the engine was closed before the logits were there")
        if not np.isfinite(logits).all():
            raise NumericalError("the model's logits are not finite: its weights are damaged or too large")
        return logits

    def save_prefix(self, path: str | PathLike[str], prompt: Prompt) -> int:
        """Write what reading a prompt leaves in the cache to a file, for `load_prefix`; the number of tokens.

        The file is replaced whole or not at all. It belongs to this model, `kv_dtype`, instruction set and
        version of pygpt.

        Raises:
            InvalidRequestError, ContextLengthError: see `generate`; or the engine has no prefix cache.
            OSError
        """
        asked = SamplingParams(max_tokens=0, on_overflow="stop")
        (read,) = self._complete([prompt], asked)
        pages = self._core.save_prefix(read.prompt_token_ids)
        prefix_file.write(path, self._info, read.prompt_token_ids, pages)
        return len(read.prompt_token_ids)

    def load_prefix(self, path: str | PathLike[str]) -> list[int]:
        """Read what `save_prefix` wrote into the cache; the prompt's token ids. Prompts that begin with them
        are then not computed from their start.

        Raises:
            ModelFileError: the file is damaged, or belongs to another model or engine.
            OSError, OutOfMemory
        """
        self._check_usable()
        ids, pages = prefix_file.read(path, self._info)
        self._core.load_prefix(ids, pages)
        return ids

    @property
    def info(self) -> dict[str, Any]:
        """The file, the architecture (`config`), recorded `defaults`, `provenance`, and how the engine runs
        them; also after close."""
        return copy.deepcopy(self._info)

    def close(self) -> None:
        """Cancel what runs and free the memory. Harmless when called again; in a forked child it does
        nothing."""
        if not self._closed and os.getpid() == self._pid:
            self._closed = True
            self._core.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        name = os.path.basename(os.fsdecode(self._path))
        if self._closed:
            return f"<pygpt.Engine {name!r}, closed>"
        info = self.info
        return (
            f"<pygpt.Engine {name!r}: {info['parameters']:,} parameters in {'/'.join(info['formats'])}, "
            f"context {self._facts.context}, threads {info['threads']}, {info['isa']}>"
        )

    def __reduce__(self) -> tuple[Callable[..., Engine], tuple[Any, ...]]:
        """Pickles as path and options: the receiver opens the file anew."""
        return _reopen, (self._path, self._file_options | self._core_options)

    def _conversation(
        self,
        messages: Messages,
        params: SamplingParams | None,
        keywords: Mapping[str, Any],
        user: str | None,
        assistant: str | None,
    ) -> Conversation:
        template = self.chat_template
        if template is None:
            raise InvalidRequestError(
                "messages",
                "this model has no chat template: it continues texts; use generate, or export it with one",
            )
        ids = template.token_ids(messages, user=user, assistant=assistant)
        return ids, template.stopping(SamplingParams.from_keywords(keywords, params)), template.stop

    def _complete(
        self,
        prompts: Sequence[object],
        params: SamplingParams,
        stops: Sequence[str] = (),
        deadline: Deadline | None = None,
    ) -> list[Completion]:
        deadline = deadline or Deadline(None)
        requests, transcripts = build(prompts, params, self._facts, stops)
        # Stop strings are found on this side, so with them the tokens are wanted as they come; else once, at
        # the end.
        self._run(requests, transcripts, deadline, until_done=not (params.stop or stops))
        deadline.check(transcripts)
        return [each.completion() for each in transcripts]

    def _stream(
        self, prompt: object, params: SamplingParams, stops: Sequence[str], deadline: Deadline
    ) -> TextStream:
        requests, transcripts = build([prompt], params, self._facts, stops)
        ticket = self._submit(requests, timeout_s=deadline.left_s())
        return TextStream(self._poll, ticket, transcripts, deadline)

    def _run(
        self,
        requests: Sequence[_core.Request],
        transcripts: Sequence[Transcript],
        deadline: Deadline | None = None,
        *,
        until_done: bool,
    ) -> None:
        """Run requests to their end; whatever interrupts it, Ctrl-C too, cancels them."""
        if not requests:
            return
        ticket = self._submit(requests, timeout_s=deadline.left_s() if deadline else None)
        try:
            while not all(each.finished for each in transcripts):
                read(self._poll(ticket, until_done=until_done), ticket, transcripts)
        except BaseException:
            ticket.cancel()
            raise

    def _submit(self, requests: Sequence[_core.Request], **how: Any) -> _core.Ticket:
        self._check_usable()
        return self._core.submit(requests, **how)

    def _poll(self, ticket: _core.Ticket, *, until_done: bool = False) -> list[_core.Event]:
        self._check_usable()
        main = threading.current_thread() is threading.main_thread()
        return self._checked(ticket.poll(MAIN_POLL_S if main else POLL_S, until_done))

    def _take(self, ticket: _core.Ticket) -> list[_core.Event]:
        """What is there already."""
        self._check_usable()
        return self._checked(ticket.poll(0))

    def _checked(self, events: list[_core.Event]) -> list[_core.Event]:
        if any(event.finish_reason == "cancelled" for event in events):
            self._check_usable()  # cancelled by close(): an error, not a short text
        return events

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedEngineError(
                "this engine was opened before a fork and its workers are in the parent; open an Engine in "
                "this process, or start processes with spawn or forkserver"
            )
        if self._closed:
            raise EngineClosedError("this engine was closed; open another Engine")


def _reopen(path: str | bytes, options: Mapping[str, Any]) -> Engine:
    return Engine(path, **options)
