"""How pages show the status of a worker, and its scheduled jobs."""

from __future__ import annotations

from datetime import tzinfo

from queuescope.dashboard.ui.widgets import Markup, Tone, joined, moment

STATUS_TONES = {
    "active": Tone.BUSY,
    "idle": Tone.IDLE,
    "paused": Tone.IDLE,
    "held back by a rate limit": Tone.IDLE,
    "shutting down": Tone.BUSY,
    "stalled": Tone.WARN,
    "lost": Tone.BAD,
}


def scheduled_words(count: int, next_at: float | None, zone: tzinfo, now: float) -> Markup:
    """The number of scheduled jobs, of which the first is due at ``next_at`` (epoch seconds)."""
    next_due = () if next_at is None else (", next at ", moment(next_at, zone, now))
    return joined(f"{count:,} scheduled", *next_due)
