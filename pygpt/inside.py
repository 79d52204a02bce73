"""What a model computes on its way from tokens to logits: hidden states, attention, embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pygpt.errors import EngineClosedError, InvalidRequestError, NumericalError
from pygpt.kinds import Choice, Flag, checked_int
from pygpt.params import SamplingParams
from pygpt.requests import Facts, Prompt, Prompts, build, listed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pygpt import _core
    from pygpt.transcript import Transcript

    Floats = NDArray[np.float32]

PARCEL_BYTES = 64 << 20  # of the states of texts that are embedded at once

_POOLING = Choice(("mean", "last"))
# Asked for as logprobs would be: none of the prompt may be dropped.
WHOLE_PROMPT = SamplingParams(max_tokens=0, prompt_logprobs=0, on_overflow="stop")


class Inside(ABC):
    """The part of `Engine` that looks into the model.

    All of it is what the engine computes with anyway, in binary32, with the cache's own keys: the same bits
    whatever the threads, the chunks of the prompt, and what else runs.
    """

    _facts: Facts

    def hidden_states(self, prompt: Prompt) -> Floats:
        """The residual stream at every position of a prompt: float32 [n_layer + 1, T, d_model].

        Entry 0 is the embedding, entry i what stands behind block i - 1, as the next block reads it. All are
        before the final norm: the head reads the final norm of the last entry.

        Raises:
            ContextLengthError: more tokens than the context.
            OutOfMemory: the states would not fit.
            NumericalError: the weights made no finite number.
        """
        return self._shown([prompt], "states")[0]

    def attention(self, prompt: Prompt, layer: int) -> Floats:
        """The attention weights of a layer: float32 [n_head, T, T].

        Row i of a head holds what position i gives to each position; the rows sum to 1, and nothing is given
        to later positions. (Vaswani et al. 2017, section 3.2.1: the softmax that the values are weighed
        with.)

        Args:
            layer: 0 to n_layer - 1.

        Raises:
            InvalidRequestError: there is no such layer.
            ContextLengthError, OutOfMemory, NumericalError: see `hidden_states`.
        """
        n_layer = self._facts.config["n_layer"]
        if n_layer == 0:
            raise InvalidRequestError("layer", "this model has no layers, and so no attention")
        return self._shown([prompt], "attention", layer=checked_int("layer", layer, 0, n_layer - 1))[0]

    def embed(
        self,
        texts: Prompt | Prompts,
        *,
        pooling: Literal["mean", "last"] = "mean",
        normalize: bool = True,
    ) -> Floats:
        """A vector for a text, or for each of a list: float32 [d_model], or [n, d_model].

        It is the last block's output behind the final norm, as the head reads it: its mean over all
        positions, or that of the last position, which alone has seen the whole text. A GPT was not trained to
        compare texts: near vectors mean that it would continue alike.

        Args:
            texts: a text, bytes or token ids, or a list of them.
            pooling: "mean" or "last".
            normalize: scale to length 1, so that a dot product is a cosine.

        Raises:
            InvalidRequestError: an argument that cannot be used.
            ContextLengthError, OutOfMemory, NumericalError: see `hidden_states`.
        """
        import numpy as np

        _POOLING.check("pooling", pooling)
        Flag().check("normalize", normalize)
        prompts, many = listed(texts)
        if not many and isinstance(prompts[0], Sequence) and not len(prompts[0]):
            many = not isinstance(prompts[0], str | bytes)  # [] is a list of no texts
            prompts = [] if many else prompts
        vectors = np.empty((len(prompts), self._facts.config["d_model"]), np.float32)
        for i, states in enumerate(self._shown_in_turn(prompts, "embedding")):
            pooled = states.mean(axis=0, dtype=np.float64) if pooling == "mean" else states[-1].astype(float)
            vectors[i] = pooled / (np.linalg.norm(pooled) or 1.0) if normalize else pooled
        return vectors if many else vectors[0]

    def _shown(self, prompts: Sequence[object], look: str, layer: int = 0) -> list[Floats]:
        return list(self._shown_in_turn(prompts, look, layer))

    def _shown_in_turn(self, prompts: Sequence[object], look: str, layer: int = 0) -> Iterator[Floats]:
        """What each prompt shows, so many at once as PARCEL_BYTES hold; all are checked before one runs."""
        requests, transcripts = build(prompts, WHOLE_PROMPT, self._facts)
        for request in requests:
            request.prompt_logprobs, request.look, request.layer = -1, look, layer
        row_bytes = 4 * self._facts.config["d_model"]
        for part in _parcels([len(each.prompt) * row_bytes for each in requests]):
            self._run(requests[part], transcripts[part], until_done=True)
            for transcript in transcripts[part]:
                yield _finite(transcript.shown)
                transcript.shown = None

    @abstractmethod
    def _run(
        self, requests: Sequence[_core.Request], transcripts: Sequence[Transcript], *, until_done: bool
    ) -> None:
        """Run requests to their end."""


def _parcels(sizes: Sequence[int]) -> Iterator[slice]:
    """Runs of things that together have at most PARCEL_BYTES, and at least one."""
    first, total = 0, 0
    for i, size in enumerate(sizes):
        if i > first and total + size > PARCEL_BYTES:
            yield slice(first, i)
            first, total = i, 0
        total += size
    if sizes:
        yield slice(first, len(sizes))


def _finite(shown: Any) -> Floats:
    import numpy as np

    if shown is None:
        raise EngineClosedError("the engine was closed before the answer was there")
    if not np.isfinite(shown).all():
        raise NumericalError("the model's states are not finite: its weights are damaged or too large")
    result: Floats = shown
    return result
