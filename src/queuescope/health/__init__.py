"""What the figures mean: is it healthy, and will the queue clear. Pure arithmetic, no reading."""

from queuescope.health.drain import Drain, DrainHistory, DrainState, drain, drain_history
from queuescope.health.verdict import Finding, Health, Limits, Measured, Verdict, Worse, judge

__all__ = [
    "Drain",
    "DrainHistory",
    "DrainState",
    "Finding",
    "Health",
    "Limits",
    "Measured",
    "Verdict",
    "Worse",
    "drain",
    "drain_history",
    "judge",
]
