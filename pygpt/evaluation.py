"""How well a model predicts a text: loss, perplexity, bits a byte, as the training code defines them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import InvalidRequestError, NumericalError
from pygpt.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pygpt.engine import Engine

Ids = NDArray[np.integer]
Progress = Callable[[str, int, int], None]  # what is being done, how much is done, of how much

_TOKENS_AT_ONCE = 8192  # of windows that run side by side


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model makes of a text.

    Attributes:
        loss: nats a token: minus the mean log-probability of the scored tokens.
        perplexity: exp(loss).
        bits_per_byte, bits_per_character: of the text that the scored tokens stand for; special tokens stand
            for none and do not count. None where there is no text.
        tokens: scored; `left_out` could not be: the first of a text, and a rest shorter than a window.
        windows: in which they were read, of `context` tokens each, `stride` apart.
    """

    loss: float
    perplexity: float
    bits_per_byte: float | None
    bits_per_character: float | None
    tokens: int
    left_out: int
    bytes: int
    characters: int
    windows: int
    context: int
    stride: int


@dataclass(frozen=True, slots=True)
class Window:
    """The model reads the tokens [begin, end) of a text, and those of [first, end] are scored: each token is
    predicted from what stands before it in the window."""

    begin: int
    end: int
    first: int


def windows_of(size: int, context: int, stride: int, *, rest: bool) -> Iterator[Window]:
    """The windows of a text of `size` tokens, each of `context` tokens and its successor, `stride` apart; no
    token is scored twice.

    Args:
        rest: whether a last window that is shorter counts. If it does not, as in training, a text that is
            shorter than one window still is one.
    """
    scored = 0  # up to this token
    for begin in range(0, max(size - 1, 0), stride):
        end = min(begin + context, size - 1)
        full = end == begin + context
        if end <= scored or not (full or rest or begin == 0):
            return
        yield Window(begin, end, scored + 1)
        scored = end


def evaluate(
    engine: Engine,
    texts: Sequence[Ids],
    *,
    context: int | None = None,
    stride: int | None = None,
    rest: bool = False,
    windows: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """How well the model predicts texts, each by itself.

    As training defines it: window i reads the tokens [i * context, (i + 1) * context) and predicts the
    successor of each; a rest that is shorter than a window is left out.

    Args:
        texts: token ids [N] each.
        context: tokens a window; the model's context if None.
        stride: tokens from one window's begin to the next one's; the context, so that none overlap, if None.
            With a smaller one, every token behind the first window sees at least context - stride before it.
        rest: whether a rest that is shorter than a window is scored too.
        windows: read only so many windows, evenly spread, or None for all.

    Raises:
        InvalidRequestError: there is nothing to predict, an id is not in the vocabulary, or a number is out
            of range.
        NumericalError: the weights made no finite number.
    """
    longest: int = engine.info["context_length"]
    context = _within("context", longest if context is None else context, longest)
    stride = _within("stride", context if stride is None else stride, context)
    for place, ids in enumerate(texts):
        _check_ids(place, ids, engine.info["config"]["vocab_size"])
    planned = [(ids, window) for ids in texts for window in windows_of(len(ids), context, stride, rest=rest)]
    if not planned:
        raise InvalidRequestError("texts", "hold no two tokens in a row: there is nothing to predict")
    if windows is not None and _within("windows", windows, None) < len(planned):
        planned = [planned[i * len(planned) // windows] for i in range(windows)]
    tally = _Tally(engine.tokenizer)
    at_once = max(1, _TOKENS_AT_ONCE // context)
    for done in range(0, len(planned), at_once):
        if progress:
            progress("windows", done, len(planned))
        group = planned[done : done + at_once]
        read = [ids[window.begin : window.end + 1].tolist() for ids, window in group]
        for (_, window), tokens, logprobs in zip(group, read, engine.window_logprobs(read), strict=True):
            scored = window.end + 1 - window.first
            tally.add(tokens[-scored:], logprobs[-scored:])
    if progress:
        progress("windows", len(planned), len(planned))
    return tally.result(sum(map(len, texts)), len(planned), context, stride)


def _within(name: str, value: int, most: int | None) -> int:
    if type(value) is not int or value < 1 or (most is not None and value > most):
        bounds = "at least 1" if most is None else f"in 1..{most}"
        raise InvalidRequestError(name, f"must be {bounds}, got {value!r}")
    return value


def _check_ids(place: int, ids: Ids, vocab_size: int) -> None:
    if len(ids) and not (ids.min() >= 0 and ids.max() < vocab_size):  # without a copy: a shard may be large
        wrong = int(np.argmax((ids < 0) | (ids >= vocab_size)))
        where = f"token {int(ids[wrong])} at index {wrong} of text {place}"
        raise InvalidRequestError(
            "texts",
            f"{where} is not in the model's vocabulary, 0..{vocab_size - 1}: it is of another tokenizer",
        )


class _Tally:
    """Sums up."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._nll: list[float] = []  # of each window
        self._text_nll: list[float] = []  # the same without special tokens
        self._tokens = self._bytes = self._characters = 0

    def add(self, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
        nll = -math.fsum(logprobs)
        if not math.isfinite(nll):
            raise NumericalError(
                "the model's log-probabilities are not finite: its weights are damaged or too large"
            )
        self._nll.append(nll)
        self._tokens += len(tokens)
        if self._tokenizer is not None:
            special = self._tokenizer.is_special
            pairs = [pair for pair in zip(tokens, logprobs, strict=True) if not special(pair[0])]
            self._text_nll.append(-math.fsum(logprob for _, logprob in pairs))
            size, characters = self._tokenizer.extent([token for token, _ in pairs])
            self._bytes += size
            self._characters += characters

    def result(self, tokens: int, windows: int, context: int, stride: int) -> Evaluation:
        loss = math.fsum(self._nll) / self._tokens
        bits = math.fsum(self._text_nll) / math.log(2)
        return Evaluation(
            loss=loss,
            perplexity=math.exp(min(loss, 700.0)),  # exp overflows binary64 above 709
            bits_per_byte=bits / self._bytes if self._bytes else None,
            bits_per_character=bits / self._characters if self._characters else None,
            tokens=self._tokens,
            left_out=tokens - self._tokens,
            bytes=self._bytes,
            characters=self._characters,
            windows=windows,
            context=context,
            stride=stride,
        )
