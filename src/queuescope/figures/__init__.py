"""How it looks: curves of a panel, and the Plotly figure that draws them."""

from queuescope.figures.curves import Curve, Curves, curves_of, with_open_step
from queuescope.figures.figure import SLOTS, common_layout, panel_figure
from queuescope.figures.words import duration_words, step_words, value_words

__all__ = [
    "SLOTS",
    "Curve",
    "Curves",
    "common_layout",
    "curves_of",
    "duration_words",
    "panel_figure",
    "step_words",
    "value_words",
    "with_open_step",
]
