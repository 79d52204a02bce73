"""Pictures of what an engine computes: attention as a page to explore, and matplotlib figures.

view = pygpt.viz.attention(engine, "To be, or not to be")
view                            # in a notebook
view.save("attention.html")     # one file, works without a network
"""

from __future__ import annotations

from pygpt.viz.figures import attention_maps, lens_table, loss_curves
from pygpt.viz.lens import LogitLens, logit_lens
from pygpt.viz.page import AttentionView, attention

__all__ = [
    "AttentionView",
    "LogitLens",
    "attention",
    "attention_maps",
    "lens_table",
    "logit_lens",
    "loss_curves",
]
