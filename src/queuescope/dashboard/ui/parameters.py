"""Parameters of an address: moments and texts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from queuescope.errors import ConfigurationError


def moment_text(at: datetime) -> str:
    """An instant as written in an address: UTC, ISO 8601, whole seconds."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def parse_moment(text: str) -> datetime | None:
    """The instant in a text from ``moment_text``, or in another one with an offset; None for any
    other text.
    """
    try:
        at = datetime.fromisoformat(text)
        # Near the limits of the calendar the conversion to another zone overflows.
        return None if at.tzinfo is None else at.astimezone(UTC) + timedelta(0)
    except (ValueError, OverflowError):
        return None


def epoch_seconds(name: str, text: str) -> float | None:
    """The parameter ``name`` of an address; None for an empty text.

    Raises ``ConfigurationError``, whose text may be shown to anyone.
    """
    if not text:
        return None
    at = parse_moment(text)
    if at is None:
        raise ConfigurationError(
            f"{name}={text[:40]!r}: give a moment such as 2026-11-24T07:00:00Z"
        )
    return at.timestamp()


def short_text(params: Mapping[str, str], name: str, limit: int) -> str:
    """The parameter ``name`` as it is written. Raises ``ConfigurationError`` if it is longer than
    ``limit`` characters.
    """
    text = params.get(name, "")
    if len(text) > limit:
        raise ConfigurationError(f"{name}: give at most {limit} characters")
    return text
