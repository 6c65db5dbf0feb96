"""Numbers that lie between two words: which of them is shown depends on the last bits."""

from __future__ import annotations

from queuescope.figures import Bounds, figure_words
from queuescope.panels import Kind

_LAST_BITS = 5e-10


def words_of(kind: Kind, value: float, bounds: Bounds | None = None) -> set[str]:
    """What a page may write for ``value``: at a tie of rounding either neighbour is right."""
    if kind is Kind.PERCENT and value == 100:
        # A perfect score is no tie.
        return {figure_words(kind, value)}
    return {figure_words(kind, value * (1 + off), bounds) for off in (-_LAST_BITS, _LAST_BITS)}
