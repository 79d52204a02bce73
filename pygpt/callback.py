"""What a model writes while it learns, in anyone's training loop."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pygpt.checkpoints.base import Options
from pygpt.checkpoints.recognise import read
from pygpt.engine import Engine
from pygpt.errors import InvalidRequestError
from pygpt.file import Contents, write
from pygpt.params import SamplingParams


class Callback:
    """Lets the engine write a sample every so many steps of a plain PyTorch loop.

        sample = pygpt.Callback(every=500, show=print, chars=chars, max_tokens=200)
        for step in range(1, steps + 1):
            ...
            sample(model, step)

    Args:
        every: steps between samples.
        prompt: what the model continues; "" begins where the family begins.
        show: is called with each sample, as in show=print.
        tokenizer, text, chars, meta, n_head: as for `pygpt.export`, where the module does not say.
        sampling: fields of `SamplingParams`.

    Raises:
        InvalidRequestError: every is below 1, or an argument is impossible.
    """

    def __init__(
        self,
        every: int,
        *,
        prompt: str = "",
        show: Callable[[str], object] | None = None,
        tokenizer: Any = None,
        text: str | PathLike[str] | None = None,
        chars: str | Sequence[str] | None = None,
        meta: str | PathLike[str] | None = None,
        n_head: int | None = None,
        **sampling: Any,
    ) -> None:
        if not isinstance(every, int) or every < 1:
            raise InvalidRequestError("every", f"must be a number of steps, at least 1, got {every!r}")
        self._every = every
        self._prompt = prompt
        self._show = show
        self._options = Options(tokenizer=tokenizer, text=text, chars=chars, meta=meta, n_head=n_head)
        self._params = SamplingParams.from_keywords({"max_tokens": 200} | sampling)

    def __call__(self, model: Any, step: int) -> str | None:
        """A sample of the model as it is now, if the step is one of those; else None.

        Args:
            model: a torch module of a family that `pygpt.export` reads; neither its weights nor its mode
                change.

        Raises:
            ModelFileError: it is of no such family, or its weights are not finite.
            InvalidRequestError: its vocabulary is not known.
        """
        if step % self._every:
            return None
        written = self.sample(model)
        if self._show is not None:
            self._show(written)
        return written

    def sample(self, model: Any) -> str:
        """The prompt and what the model makes of it now. Raises as a call does."""
        found = read(model, self._options)
        tensors = found.tensors
        blobs = dict(found.blobs)
        if found.tokenizer is not None:
            blobs["tokenizer.json"] = found.tokenizer.to_json().encode()
        contents = Contents(
            architecture=found.architecture, dtype="f32", weights=lambda name: tensors[name](), blobs=blobs
        )
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "sample.pygpt"
            path.touch()
            write(path, contents)  # without known answers: nobody keeps this file
            with Engine(path) as engine:
                return self._prompt + str(engine.generate(self._prompt, self._params).text)
