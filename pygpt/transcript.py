"""One sample on its way from the core's events to text."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pygpt.completion import Completion, FinishReason, TextPiece, Timings, TokenLogprobs, Usage
from pygpt.errors import Error, InvalidRequestError, NumericalError, OutOfMemory
from pygpt.params import SamplingParams
from pygpt.stop_strings import StopFinder
from pygpt.stream_decoder import StreamDecoder
from pygpt.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pygpt import _core

_ERRORS: dict[str, type[Error]] = {"numerical": NumericalError, "memory": OutOfMemory}


class Transcript:
    """Decodes a sample's tokens, finds its stop string and keeps its books.

    generate and stream both read their text here, so they cannot differ.

    Attributes:
        finished: the core's last event has been read.
        cut: a stop string was found; what the core still sends is ignored.
        late: the call's time ran out before the text's end.
        logits: at the prompt's positions, where asked for: float32 [T, vocab_size].
        shown: what the request's look asked for.
    """

    def __init__(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        tokenizer: Tokenizer | None,
        *,
        seed: int,
        sample: int = 0,
        stops: Sequence[str] = (),
        prefix: str = "",
    ) -> None:
        self._prompt_ids = list(prompt_ids)
        self._params = params
        self._seed = seed
        self._sample = sample
        skip = params.skip_special_tokens
        self._decoder = None if tokenizer is None else StreamDecoder(tokenizer, skip_special_tokens=skip)
        self._stops = StopFinder([*params.stop, *stops])
        self._token_ids: list[int] = []
        self._begins: list[int] = []  # of each token: characters of text that were complete before it
        self._logprobs: list[TokenLogprobs] = []
        self._prompt_logprobs: list[TokenLogprobs] | None = None if params.prompt_logprobs is None else []
        self._decoded = 0  # characters
        self._text = [prefix]
        self._released = 0  # characters that may be shown, without the prefix
        self._shown_texts = 0
        self._shown_tokens = 0
        self._reason: FinishReason | None = None
        self._stop_reason: str | int | None = None
        self._last: _core.Event | None = None
        self.cut = False
        self.late = False
        self.logits: NDArray[np.float32] | None = None
        self.shown: NDArray[np.float32] | None = None

    @property
    def finished(self) -> bool:
        return self._last is not None

    def feed(self, event: _core.Event) -> TextPiece | None:
        """Read an event; what can be shown now, if anything.

        Raises:
            InvalidRequestError: the request's rules leave no token to choose.
            NumericalError, OutOfMemory, Error: the event says that the core failed.
        """
        if event.error == "constraint":
            raise self._no_choice(event.message)
        if event.error not in (None, "deadline"):
            raise _ERRORS.get(str(event.error), Error)(event.message)
        if event.logits is not None:
            self.logits = event.logits
        if event.shown is not None:
            self.shown = event.shown
        if event.prompt_logprobs:
            self._prompt_logprobs = _frozen(event.prompt_logprobs)
        if not self.cut:
            self._read_tokens(event)
        if event.finish_reason is not None:
            self._finish(event)
        return self._next_piece()

    def completion(self) -> Completion:
        """The whole, once finished."""
        assert self._last is not None
        assert self._reason is not None
        dropped = self._last.prompt_tokens_dropped
        return Completion(
            text="".join(self._text),
            token_ids=self._token_ids,
            finish_reason=self._reason,
            stop_reason=self._stop_reason,
            logprobs=None if self._params.logprobs is None else self._logprobs,
            prompt_token_ids=self._prompt_ids,
            prompt_logprobs=self._prompt_logprobs,
            usage=Usage(
                len(self._prompt_ids) - dropped, len(self._token_ids), dropped, self._last.cached_tokens
            ),
            timings=Timings(self._last.queue_s, self._last.prefill_s, self._last.decode_s),
            seed=self._seed,
            sample=self._sample,
        )

    def _no_choice(self, message: str | None) -> Error:
        """That no token is left: the rule of the request that may have done it, or the model's fault."""
        for name in ("allowed_token_ids", "logit_bias", "min_tokens"):
            if getattr(self._params, name):
                return InvalidRequestError(name, f"{message}")
        return NumericalError("the model's logits leave no token to choose: its weights are damaged")

    def _read_tokens(self, event: _core.Event) -> None:
        self._logprobs += _frozen(event.logprobs)
        for token in event.token_ids:
            self._token_ids.append(token)
            self._begins.append(self._decoded)
            if self._decoder is not None:
                self._read_text(self._decoder.feed(token))
            if self.cut:
                return

    def _read_text(self, text: str) -> None:
        self._decoded += len(text)
        if len(self._token_ids) <= self._params.min_tokens:
            self._release(text)
            return
        released, stop = self._stops.feed(text)
        self._release(released)
        if stop is not None:
            self._cut_at(stop)

    def _finish(self, event: _core.Event) -> None:
        self._last = event
        if not self.cut and self._decoder is not None:
            self._read_text(self._decoder.finish())
        if not self.cut:
            released, stop = self._stops.finish()
            self._release(released)
            if stop is not None:
                self._cut_at(stop)
        if not self.cut:
            self.late = event.error == "deadline"
            reason = "cancelled" if self.late else event.finish_reason
            self._reason = reason  # type: ignore[assignment]  # the core's words are these
            self._stop_reason = event.stop_token

    def _cut_at(self, stop: str) -> None:
        """The text ends here: keep the tokens that begin before its end."""
        self.cut = True
        self._reason, self._stop_reason = "stop", stop
        if self._params.include_stop_str_in_output:
            self._release(stop)
        kept = bisect_left(self._begins, self._released)
        del self._token_ids[kept:], self._begins[kept:], self._logprobs[kept:]

    def _release(self, text: str) -> None:
        if text:
            self._text.append(text)
            self._released += len(text)

    def _next_piece(self) -> TextPiece | None:
        """What has been released since the last piece; after a cut, all of it with the core's last event."""
        if self.cut and not self.finished:
            return None
        tokens = len(self._token_ids)
        if not self.finished and self._decoder is not None:
            tokens = bisect_left(self._begins, self._released)
        text = "".join(self._text[self._shown_texts :])
        first, self._shown_tokens, self._shown_texts = self._shown_tokens, tokens, len(self._text)
        if not self.finished and not text and tokens == first:
            return None
        return TextPiece(
            text=text,
            token_ids=self._token_ids[first:tokens],
            logprobs=None if self._params.logprobs is None else self._logprobs[first:tokens],
            sample=self._sample,
            finish_reason=self._reason if self.finished else None,
            completion=self.completion() if self.finished else None,
        )


def _frozen(logprobs: Sequence[_core.TokenLogprobs]) -> list[TokenLogprobs]:
    return [TokenLogprobs(each.token_id, each.logprob, tuple(each.top)) for each in logprobs]
