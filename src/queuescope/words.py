"""Words that several parts write alike: numbers of things, and how to install what is missing."""

from __future__ import annotations


def plural(count: float, one: str, many: str = "") -> str:
    """``one`` where ``count`` is exactly one, else ``many``: without it, ``one`` with an s."""
    return one if count == 1 else many or f"{one}s"


def counted(count: int, one: str, many: str = "") -> str:
    """The number with its word: ``1 job``, ``2,000 jobs``, ``0 entries``."""
    return f"{count:,} {plural(count, one, many)}"


def to_install(extra: str) -> str:
    """What to do where a package of an extra is missing."""
    return f"install it with `pip install 'queuescope[{extra}]'`"
