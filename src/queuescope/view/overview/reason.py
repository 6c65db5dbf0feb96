"""What verdict and cards have in common."""

from __future__ import annotations

from queuescope.panels import Kind, Measure

Reason = list[str | dict[str, float]]
"""Texts and instants (``{"at": epoch seconds}``, source time), which the page writes in its
reader's zone.
"""


def panel_of(measure: Measure | None) -> str | None:
    """The chart that shows the measure; None where none does."""
    return measure.panel.id if measure is not None and measure.on_page else None


def is_judged(measure: Measure) -> bool:
    """Whether it has limits."""
    return measure.limits is not None and measure.limits.is_set


def rounded(kind: Kind, value: float) -> float:
    """A large number of jobs is shown without a fraction."""
    return round(value) if kind is Kind.COUNT and value >= 10 else value
