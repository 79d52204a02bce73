"""A matplotlib figure that shows itself. Imported only where matplotlib is there."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

DOTS_PER_INCH = 110


class ShownFigure(Figure):
    """Notebooks show it without pyplot, which would look for a display and keep every figure alive."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=DOTS_PER_INCH)
        return picture.getvalue()
