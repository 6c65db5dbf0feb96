"""Colours by name, which the page resolves for the reader's theme.

The series colours are those of Okabe and Ito (2008), which can be distinguished with all common
kinds of colour blindness; the style sheet has a darker and a lighter shade of each for the two
themes.
"""

from __future__ import annotations

DEPTH = "var(--qs-series-1)"
SUCCESS = "var(--qs-series-2)"
QUANTILE_COLOURS = ("var(--qs-series-3)", "var(--qs-series-4)", "var(--qs-series-5)")
# Neighbours differ in lightness as well as in hue.
BREAKDOWN = tuple(f"var(--qs-series-{number})" for number in (1, 4, 2, 5, 7, 3, 6, 8))
TEXT = "var(--qs-text)"
MUTED = "var(--qs-muted)"
GRID = "var(--qs-grid)"
LIMIT = "var(--qs-limit)"
SURFACE = "var(--qs-surface)"
BORDER = "var(--qs-border)"
FONT = "var(--qs-font)"
