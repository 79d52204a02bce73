"""Figures for matplotlib, drawn without pyplot: no window, no state that figures share."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import InvalidRequestError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pygpt.viz.lens import LogitLens

MOST_LABELS = 48  # tokens that are named at the sides of a map; more would be too small to read
_COLUMNS = 4  # maps side by side


def attention_maps(
    weights: NDArray[np.floating[Any]], tokens: Sequence[str] | None = None, *, title: str = ""
) -> Figure:
    """A heat map of one head [T, T], or one for each of some [n_head, T, T]: rows look at columns. The shade
    is the square root of the weight: a long past leaves little for each.

    Args:
        tokens: a label for each position, written at the sides while they are few.

    Raises:
        InvalidRequestError: not such a shape. MissingExtraError: matplotlib is not installed.
    """
    maps = weights[None] if weights.ndim == 2 else weights
    length = maps.shape[-1]
    if maps.ndim != 3 or maps.shape[1] != length or (tokens is not None and len(tokens) != length):
        raise InvalidRequestError("weights", f"must be [T, T] or [n_head, T, T], got {list(weights.shape)}")
    columns = min(len(maps), _COLUMNS)
    rows = math.ceil(len(maps) / columns)
    side = 4.2 if len(maps) == 1 else 2.9
    figure = _figure(side * columns, side * rows + 0.3)
    from matplotlib.colors import PowerNorm  # now it is known to be there

    for head, each in enumerate(maps):
        axes = figure.add_subplot(rows, columns, head + 1)
        axes.imshow(each, cmap="Blues", norm=PowerNorm(0.5, 0.0, 1.0))
        if len(maps) > 1:
            axes.set_title(f"head {head}", fontsize=9)
        _name_positions(axes, tokens if len(maps) == 1 or length <= MOST_LABELS // 2 else None)
    if title:
        figure.suptitle(_plain(title), fontsize=11)
    return figure


def lens_table(lens: LogitLens, *, title: str = "") -> Figure:
    """A table of the likeliest next token after each block (rows, from the embedding up) at each position;
    the darker, the surer.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    layers, length = lens.probabilities.shape
    figure = _figure(max(4.0, 0.62 * length + 1.4), 0.36 * layers + 1.3)
    axes = figure.add_subplot()
    axes.imshow(lens.probabilities, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for layer in range(layers):
        for position in range(length):
            surely = lens.probabilities[layer, position] > 0.6
            axes.text(
                position, layer, _plain(lens.words[layer][position]),
                ha="center", va="center", fontsize=8, color="white" if surely else "black", clip_on=True,
            )  # fmt: skip
    axes.set_yticks(range(layers), ["embedding", *(f"after h.{i}" for i in range(layers - 1))], fontsize=8)
    axes.set_xticks(range(length), [_plain(token) for token in lens.tokens], fontsize=8)
    axes.set_xlabel("the token read; in the cells, the one expected next", fontsize=9)
    if title:
        axes.set_title(_plain(title), fontsize=10)
    return figure


def loss_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]], *, floor: float | None = None, title: str = ""
) -> Figure:
    """Losses over steps, a line for each name.

    Args:
        curves: (step, loss in nats a token), by name.
        floor: a loss to hold them against, such as ln(vocabulary): drawn as a dotted line.

    Raises:
        InvalidRequestError: no curve, or an empty one. MissingExtraError: matplotlib is not installed.
    """
    if not curves or not all(curves.values()):
        raise InvalidRequestError("curves", "must hold curves of at least one point each")
    figure = _figure(6.4, 3.6)
    axes = figure.add_subplot()
    for name, points in curves.items():
        steps, losses = zip(*points, strict=True)
        axes.plot(steps, losses, label=_plain(name), marker="." if len(steps) < 30 else "")
    if floor is not None:
        axes.axhline(floor, color="grey", linestyle=":", linewidth=1)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats a token)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    if title:
        axes.set_title(_plain(title), fontsize=11)
    return figure


def _figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that a notebook shows by itself."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError('figures need matplotlib: pip install "pygpt[viz]"')
    from pygpt.viz.canvas import ShownFigure

    return ShownFigure(figsize=(width, height), layout="constrained")


def _name_positions(axes: Axes, tokens: Sequence[str] | None) -> None:
    if tokens is None or len(tokens) > MOST_LABELS:
        return
    names = [_plain(token) for token in tokens]
    size = 8 if len(names) <= 24 else 6
    axes.set_xticks(range(len(names)), names, fontsize=size, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(range(len(names)), names, fontsize=size)


def _plain(text: str) -> str:
    """Text that matplotlib takes as it stands: between two dollar signs it would read formulas."""
    return text.replace("$", r"\$")
