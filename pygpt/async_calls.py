"""`await engine.agenerate(...)` and its like: what `Engine` offers to asyncio."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, overload

from pygpt.asynchronous import AsyncTextStream, Built, Switchboard, complete
from pygpt.completion import Completion
from pygpt.deadline import Deadline
from pygpt.params import SamplingParams
from pygpt.requests import Facts, Prompt, Prompts, build, grouped, listed, one_prompt

# Token ids, how to sample behind them, and the texts that end an answer.
Conversation = tuple[list[int], SamplingParams, Sequence[str]]


class AsyncCalls(ABC):
    """The calls of an engine for event loops; any number may run at once, in any number of loops. Waiting
    holds no loop up; encoding a long text and rendering a conversation do (docs/serving.md).

    A task that is cancelled, by hand or by `asyncio.timeout`, cancels its generation within one step.
    """

    _facts: Facts
    _board: Switchboard

    @overload
    async def agenerate(self, prompt: Prompt, params: SamplingParams | None = ..., *, timeout: float | None = ..., n: int, **keywords: Any) -> list[Completion]: ...  # noqa: E501  # fmt: skip
    @overload
    async def agenerate(self, prompt: Prompt, params: SamplingParams | None = ..., *, timeout: float | None = ..., **keywords: Any) -> Completion: ...  # noqa: E501  # fmt: skip
    @overload
    async def agenerate(self, prompt: Prompts, params: SamplingParams | None = ..., *, timeout: float | None = ..., n: int, **keywords: Any) -> list[list[Completion]]: ...  # noqa: E501  # fmt: skip
    @overload
    async def agenerate(self, prompt: Prompts, params: SamplingParams | None = ..., *, timeout: float | None = ..., **keywords: Any) -> list[Completion]: ...  # noqa: E501  # fmt: skip
    async def agenerate(
        self,
        prompt: Prompt | Prompts,
        params: SamplingParams | None = None,
        *,
        timeout: float | None = None,
        **keywords: Any,
    ) -> Any:
        """`generate`, waited for without a thread. The same arguments, results and errors."""
        deadline = Deadline(timeout)
        prompts, many = listed(prompt)
        chosen = SamplingParams.from_keywords(keywords, params)
        found = grouped(await self._acomplete(prompts, chosen, deadline), chosen.n)
        return found if many else found[0]

    def astream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        timeout: float | None = None,
        **keywords: Any,
    ) -> AsyncTextStream:
        """`stream`, for `async for`. The generation begins when the first piece is waited for, and what is
        wrong with the prompt is said then."""
        deadline = Deadline(timeout)
        return self._astream(one_prompt(prompt), SamplingParams.from_keywords(keywords, params), deadline)

    async def achat(
        self,
        messages: Sequence[Mapping[str, str]],
        params: SamplingParams | None = None,
        *,
        user: str | None = None,
        assistant: str | None = None,
        timeout: float | None = None,
        **keywords: Any,
    ) -> Any:
        """`chat`, waited for without a thread."""
        deadline = Deadline(timeout)
        ids, chosen, stops = self._conversation(messages, params, keywords, user, assistant)
        return grouped(await self._acomplete([ids], chosen, deadline, stops), chosen.n)[0]

    def achat_stream(
        self,
        messages: Sequence[Mapping[str, str]],
        params: SamplingParams | None = None,
        *,
        user: str | None = None,
        assistant: str | None = None,
        timeout: float | None = None,
        **keywords: Any,
    ) -> AsyncTextStream:
        """`chat_stream`, for `async for`."""
        deadline = Deadline(timeout)
        ids, chosen, stops = self._conversation(messages, params, keywords, user, assistant)
        return self._astream(ids, chosen, deadline, stops)

    async def _acomplete(
        self,
        prompts: Sequence[Any],
        params: SamplingParams,
        deadline: Deadline,
        stops: Sequence[str] = (),
    ) -> list[Completion]:
        def built() -> Built:
            return build(prompts, params, self._facts, stops)

        until_done = not (params.stop or stops)
        return await complete(self._board, built, sum(map(len, prompts)), deadline, until_done=until_done)

    def _astream(
        self, prompt: Any, params: SamplingParams, deadline: Deadline, stops: Sequence[str] = ()
    ) -> AsyncTextStream:
        def built() -> Built:
            return build([prompt], params, self._facts, stops)

        return AsyncTextStream(self._board, built, len(prompt), deadline)

    @abstractmethod
    def _conversation(
        self,
        messages: Sequence[Mapping[str, str]],
        params: SamplingParams | None,
        keywords: Mapping[str, Any],
        user: str | None,
        assistant: str | None,
    ) -> Conversation:
        """Messages as the model's own template writes them down, and how their answer is to end."""
