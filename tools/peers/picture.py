"""A bar chart of the decode speeds, one panel a model."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.catalogue import CONTENDERS, OURS
from peers.figures import Group, Spread, spread

# Wong's palette, told apart by colour-blind readers too (Nature Methods 8, 441, 2011).
COLOURS = {
    "pygpt": "#0072B2",
    "llama.cpp": "#E69F00",
    "ctranslate2": "#009E73",
    "transformers": "#CC79A7",
    "torch": "#999999",
}
PATTERNS = {32: "", 16: "//", 8: "..", 4: "xx"}


def draw(groups: Sequence[Group], path: Path) -> None:
    """Write a PNG: tokens a second on a logarithmic axis, fastest on top, whiskers from the worst round to
    the best.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    panels = [(group, bars) for group in groups if (bars := _bars(group))]
    heights = [len(bars) + 2 for _, bars in panels]
    figure, axes = pyplot.subplots(
        len(panels),
        1,
        figsize=(9, 0.3 * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axis, (group, bars) in zip(axes[:, 0], panels, strict=True):
        _panel(axis, group, bars)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _bars(group: Group) -> list[tuple[str, str, int, Spread]]:
    """(name, engine, bits, speed), slowest first."""
    found = []
    for each in CONTENDERS:
        speed = spread(group.figures.get(each.name, {}).get("decode", ()))
        if speed is not None:
            found.append((each.name, each.engine, each.bits, speed))
    return sorted(found, key=lambda bar: bar[3].median)


def _panel(axis: Any, group: Group, bars: Sequence[tuple[str, str, int, Spread]]) -> None:
    names, engines, bits, speeds = zip(*bars, strict=True)
    medians = [speed.median for speed in speeds]
    drawn = axis.barh(
        names,
        medians,
        color=[COLOURS[engine] for engine in engines],
        hatch=[PATTERNS[each] for each in bits],
        edgecolor="white",
        xerr=[
            [speed.median - speed.low for speed in speeds],
            [speed.high - speed.median for speed in speeds],
        ],
        ecolor="#444444",
        error_kw={"linewidth": 1},
    )
    axis.bar_label(
        drawn, [f"{value:.0f}" if value >= 100 else f"{value:.1f}" for value in medians], padding=4
    )
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.grid(axis="x", color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_xlim(min(medians) / 2, max(speed.high for speed in speeds) * 2)
    for label, engine in zip(axis.get_yticklabels(), engines, strict=True):
        label.set_fontweight("bold" if engine == OURS else "normal")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(f"{group.title}, {group.threads} thread{'s' if group.threads > 1 else ''}", loc="left")
    axis.set_xlabel("decoded tokens a second, batch 1 (log scale)")
