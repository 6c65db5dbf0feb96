"""What the figures mean: is it healthy, and will the queue clear. Pure arithmetic, no reading."""

from queuescope.health.drain import Drain, DrainState, drain
from queuescope.health.verdict import Finding, Health, Limits, Measured, Verdict, Worse, judge

__all__ = [
    "Drain",
    "DrainState",
    "Finding",
    "Health",
    "Limits",
    "Measured",
    "Verdict",
    "Worse",
    "drain",
    "judge",
]
