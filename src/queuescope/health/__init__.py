"""The health verdict, and the forecast of when the queue clears. Pure arithmetic."""

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
