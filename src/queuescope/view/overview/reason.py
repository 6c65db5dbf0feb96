"""What the verdict and the cards share."""

from __future__ import annotations

from queuescope.panels import Kind, Measure

Reason = list[str | dict[str, float]]
"""Texts and instants (``{"at": epoch seconds}``, source time); the page writes the instants in the
reader's time zone.
"""


def panel_of(measure: Measure | None) -> str | None:
    """The id of the chart that shows the measure; None if no chart does."""
    return measure.panel.id if measure is not None and measure.on_page else None


def is_judged(measure: Measure) -> bool:
    """Whether it has limits."""
    return measure.limits is not None and measure.limits.is_set


def rounded(kind: Kind, value: float) -> float:
    """``value`` as it is shown: large numbers of jobs without a fraction."""
    return round(value) if kind is Kind.COUNT and value >= 10 else value
