"""Phrases that several parts use: counts of things, lists of names, and install hints."""

from __future__ import annotations

from collections.abc import Sequence


def plural(count: float, one: str, many: str = "") -> str:
    """``one`` if ``count`` is exactly one, else ``many``, by default ``one`` with an s."""
    return one if count == 1 else many or f"{one}s"


def counted(count: int, one: str, many: str = "") -> str:
    """The number with its word: ``1 job``, ``2,000 jobs``, ``0 entries``."""
    return f"{count:,} {plural(count, one, many)}"


def listed(names: Sequence[str], limit: int = 3) -> str:
    """The first ``limit`` names, and how many more there are: ``a, b, c and 2 more``."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def to_install(extra: str) -> str:
    """How to install the missing package of an extra."""
    return f"install it with `pip install 'queuescope[{extra}]'`"
