"""The roofline of a report as a picture: what the machine can do, where the model's work lies below it."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING

from pygpt.bench.roofline import attainable
from pygpt.bench.work import INT8_FORMATS
from pygpt.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pygpt.bench.model import ModelReport

_POINTS = 200


def check_matplotlib() -> None:
    """Before anything is measured. Raises MissingExtraError."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError('--picture needs matplotlib: pip install "pygpt[train]"')


def draw(report: ModelReport, path: Path) -> None:
    """Write the picture as PNG.

    Raises:
        MissingExtraError: matplotlib is missing. OSError: the file cannot be written.
    """
    check_matplotlib()
    from matplotlib.figure import Figure as Canvas  # not pyplot: that looks for a display

    canvas = Canvas(figsize=(8, 5), layout="constrained")
    axes = canvas.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = _range(report)
    for name, gb_s in roofs(report).items():
        _draw_roof(axes, name, gb_s, _reachable(report), (low, high))
    for name, gops in ceilings(report).items():
        axes.axhline(gops, color="0.4", linestyle="--", linewidth=1)
        axes.annotate(f"{name} {gops:,.0f}", (high, gops), ha="right", va="bottom", fontsize=8, color="0.3")
    for each in report.figures:
        axes.plot(each.intensity, each.gops, "o", color="tab:red")
        label = f"{each.name}, {each.tokens_per_s.median:,.0f} tok/s"
        axes.annotate(
            label,
            (each.intensity, each.gops),
            (7, -11),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xlim(low, high)
    axes.set_xlabel("operations for each byte")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(_title(report), fontsize=10)
    axes.grid(visible=True, which="both", linewidth=0.3)
    canvas.savefig(path, dpi=150, format="png")


def roofs(report: ModelReport) -> dict[str, float]:
    """Bandwidths by name, in GB/s."""
    bandwidths = report.bandwidths
    found = {"DRAM": bandwidths.dram.median}
    if bandwidths.llc is not None:
        found["last-level cache"] = bandwidths.llc.median
    return found


def ceilings(report: ModelReport) -> dict[str, float]:
    """Arithmetic by name, in GFLOP/s or GOP/s."""
    found = {"f32 FMA": report.fma_gflops.median}
    if report.int8_gops.median > 0:
        found["int8"] = report.int8_gops.median
    return found


def _reachable(report: ModelReport) -> float:
    """The ceiling above this model's work: int8's where its weights are bytes."""
    found = ceilings(report)
    multiplies_bytes = not INT8_FORMATS.isdisjoint(report.info["formats"])
    return max(found.values()) if multiplies_bytes else found["f32 FMA"]


def _draw_roof(axes: Axes, name: str, gb_s: float, highest: float, ends: tuple[float, float]) -> None:
    low, high = ends
    xs = [low * (high / low) ** (index / _POINTS) for index in range(_POINTS + 1)]
    axes.plot(xs, [attainable(x, gb_s, highest) for x in xs], color="tab:blue", linewidth=1.2)
    at = low * (high / low) ** 0.03
    slope = math.degrees(math.atan(gb_s))  # of the tangent there, before the axes' logarithms
    axes.text(
        at, 1.12 * at * gb_s, f"{name} {gb_s:,.0f} GB/s", fontsize=8, color="tab:blue",
        rotation=slope, rotation_mode="anchor", transform_rotates_text=True,
    )  # fmt: skip


def _range(report: ModelReport) -> tuple[float, float]:
    """Intensities to show: all points, and where the slowest roof meets the highest ceiling."""
    knee = _reachable(report) / min(roofs(report).values())
    intensities = [each.intensity for each in report.figures]
    return min(*intensities, knee) / 4, max(*intensities, knee) * 4


def _title(report: ModelReport) -> str:
    info = report.info
    name = Path(info["path"]).name.replace("$", r"\$")
    return f"{name}: {'/'.join(info['formats'])}, {info['isa']}, threads {info['threads']}"
