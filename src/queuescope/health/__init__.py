"""What the figures mean: is it healthy, and will the queue clear. Pure arithmetic, no reading."""

from queuescope.health.drain import (
    MEMORY_SECONDS,
    MOVEMENT_SECONDS,
    Drain,
    DrainHistory,
    DrainState,
    Movement,
    drain,
    drain_history,
    movement,
)
from queuescope.health.verdict import Finding, Health, Limits, Measured, Verdict, Worse, judge

__all__ = [
    "MEMORY_SECONDS",
    "MOVEMENT_SECONDS",
    "Drain",
    "DrainHistory",
    "DrainState",
    "Finding",
    "Health",
    "Limits",
    "Measured",
    "Movement",
    "Verdict",
    "Worse",
    "drain",
    "drain_history",
    "judge",
    "movement",
]
