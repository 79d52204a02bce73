"""Attention as a page to explore: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import InvalidRequestError
from pygpt.kinds import checked_int
from pygpt.viz.labels import labels, prompt_ids

if TYPE_CHECKING:
    from pygpt.engine import Engine
    from pygpt.requests import Prompt

LARGEST_PAGE = 16 << 20  # weights, a byte each: more make a page that a browser opens slowly
FRAME_HEIGHT = 640  # pixels in a notebook


@dataclass(frozen=True, slots=True, eq=False)
class AttentionView:
    """Attention weights and the tokens that they are between. A notebook shows it as it is.

    In the page a layer and a head (or the mean of the heads) are chosen; pointing at a token shows where it
    looks, a click holds it.

    Attributes:
        tokens: a label for each position.
        layers: the layers shown, in order.
        weights: float32 [layers, n_head, T, T]; row i of a head is what position i gives to each.

    Raises:
        InvalidRequestError: the shapes do not fit together, or the page would be too large.
    """

    tokens: Sequence[str]
    layers: Sequence[int]
    weights: NDArray[np.float32] = field(repr=False)
    title: str = "Attention"

    def __post_init__(self) -> None:
        length = len(self.tokens)
        shape = self.weights.shape
        if len(shape) != 4 or shape[0] != len(self.layers) or shape[2:] != (length, length) or 0 in shape:
            raise InvalidRequestError(
                "weights",
                f"must be [{len(self.layers)} layers, heads, {length}, {length}], got {list(shape)}",
            )
        size = shape[0] * shape[1] * length * (length + 1) // 2
        if size > LARGEST_PAGE:
            raise InvalidRequestError(
                "layers",
                f"{shape[0]} layers of {shape[1]} heads over {length} tokens make {size >> 20} MiB, "
                f"a page has at most {LARGEST_PAGE >> 20} MiB; choose fewer layers or a shorter text",
            )

    def to_html(self) -> str:
        """The page. It loads nothing and sends nothing."""
        template = resources.files("pygpt.viz").joinpath("page.html").read_text("utf-8")
        before, after = template.split("@data@")
        return before.replace("@title@", html.escape(self.title)) + _script_safe(self._data()) + after

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the page to a file; its path. Raises OSError."""
        target = Path(path)
        target.write_text(self.to_html(), "utf-8")
        return target

    def _repr_html_(self) -> str:
        # In a frame of its own: neither its styles nor its script meet those of the notebook, or its cookies.
        page = html.escape(self.to_html(), quote=True)
        style = f"width:100%;height:{FRAME_HEIGHT}px;border:0"
        return f'<iframe sandbox="allow-scripts" title="Attention" style="{style}" srcdoc="{page}"></iframe>'

    def _data(self) -> dict[str, Any]:
        rows, columns = np.tril_indices(len(self.tokens))
        # A byte is enough for an eye, and what is said of the largest ones: a step is 0.4 %.
        steps = np.rint(self.weights[:, :, rows, columns].clip(0, 1) * 255).astype(np.uint8)
        return {
            "tokens": list(self.tokens),
            "layers": [int(layer) for layer in self.layers],
            "heads": self.weights.shape[1],
            "weights": base64.b64encode(steps.tobytes()).decode("ascii"),  # [layer][head][i][j <= i]
        }


def attention(
    engine: Engine, prompt: Prompt, layers: int | Sequence[int] | None = None, *, title: str | None = None
) -> AttentionView:
    """What an engine attends to in a prompt.

    Args:
        layers: a layer or some; None: all.

    Raises:
        InvalidRequestError: a layer that is not there, or too much for a page.
        ContextLengthError, OutOfMemory, NumericalError: see `Engine.attention`.
    """
    ids = prompt_ids(engine, prompt)
    config = engine.info["config"]
    if layers is None:
        chosen = list(range(config["n_layer"]))
    else:
        wanted = layers if isinstance(layers, Sequence) else [layers]
        chosen = [checked_int("layers", layer, 0, config["n_layer"] - 1) for layer in wanted]
    if not chosen:
        raise InvalidRequestError("layers", "must name at least one layer, or be None for all")
    words = labels(ids, engine.tokenizer)
    # Checks the size before anything is computed.
    blank = np.broadcast_to(np.float32(0), (len(chosen), config["n_head"], len(ids), len(ids)))
    AttentionView(words, chosen, blank)
    weights = np.stack([engine.attention(ids, layer) for layer in chosen])
    return AttentionView(words, chosen, weights, title or f"Attention of {Path(engine.info['path']).name}")


def _script_safe(data: dict[str, Any]) -> str:
    """JSON that may stand inside a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(data, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
