"""Words about workers and clocks that several pages share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queuescope.figures.words import duration_words

if TYPE_CHECKING:
    from queuescope.broker.worker import Worker


def several_of(name: str, count: int) -> str:
    """A remark on several workers with the same name."""
    return f"{'Two' if count == 2 else f'{count:,}'} workers are called {name}"


def clock_words(worker: Worker) -> str:
    """How far a worker's clock is off, such as “1 h ahead”."""
    return ahead_words(worker.clock_off_seconds)


def ahead_words(seconds: float) -> str:
    """How far a clock is ahead, or behind if ``seconds`` is negative."""
    return f"{duration_words(abs(seconds))} {'ahead' if seconds > 0 else 'behind'}"
