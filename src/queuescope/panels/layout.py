"""The ``[[row]]`` tables of a panel file: which charts are side by side, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from queuescope.errors import ConfigurationError
from queuescope.panels.checks import check_keys, suggestion, texts

Rows = tuple[tuple[str, ...], ...]
"""The ids of the panels in each row, from the top."""

_SIDE_BY_SIDE = 3
"""How many charts fit in one row on a laptop."""


def default_rows(panels: Sequence[str]) -> Rows:
    """The rows of a file without any: ``panels`` in their order, each row filled before
    the next.
    """
    starts = range(0, len(panels), _SIDE_BY_SIDE)
    return tuple(tuple(panels[start : start + _SIDE_BY_SIDE]) for start in starts)


def parse_rows(tables: Any, place: str, panels: Sequence[str]) -> Rows:
    """Validate the rows. ``panels`` are the ids in the same file, each of which must be in one row.

    Raises ``ConfigurationError``.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(f"{place}: rows are written as [[row]] tables")
    rows = tuple(
        _row(table, f"{place}, row {number}", panels)
        for number, table in enumerate(tables, start=1)
    )
    placed: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        for panel in row:
            if panel in placed:
                raise ConfigurationError(
                    f"{place}, row {number}: the panel {panel!r} is already in row {placed[panel]}"
                )
            placed[panel] = number
    for panel in panels:
        if panel not in placed:
            raise ConfigurationError(
                f"{place}: the panel {panel!r} is in no row; add it to one, or leave out all "
                "[[row]] tables"
            )
    return rows


def _row(table: dict[str, Any], place: str, panels: Sequence[str]) -> tuple[str, ...]:
    check_keys(table, {"panels"}, place)
    row = texts(table, "panels", place)
    if not row:
        raise ConfigurationError(f"{place}: 'panels' must name at least one panel")
    for panel in row:
        if panel not in panels:
            raise ConfigurationError(
                f"{place}: there is no panel {panel!r} in this file{suggestion(panel, panels)}"
            )
    return row
