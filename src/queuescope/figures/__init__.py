"""The curves of a panel, and the Plotly figure that draws them."""

from queuescope.figures.curves import (
    Curve,
    Curves,
    curves_of,
    quantile_name,
    with_open_step,
)
from queuescope.figures.export import POINT_COLUMNS, PointZone, points_csv
from queuescope.figures.figure import SLOTS, common_layout, panel_figure
from queuescope.figures.words import (
    Bounds,
    duration_words,
    figure_words,
    over_words,
    step_words,
    value_words,
)

__all__ = [
    "POINT_COLUMNS",
    "SLOTS",
    "Bounds",
    "Curve",
    "Curves",
    "PointZone",
    "common_layout",
    "curves_of",
    "duration_words",
    "figure_words",
    "over_words",
    "panel_figure",
    "points_csv",
    "quantile_name",
    "step_words",
    "value_words",
    "with_open_step",
]
