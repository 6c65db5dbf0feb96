"""Where the source stands, for whoever reads of it beside the charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from queuescope.errors import SourceError
from queuescope.panels import Resolution
from queuescope.snapshot.present import PresentValues


@dataclass(frozen=True, slots=True)
class Bearings:
    """Where the source stands: its clock, what is known of its scrapes, and whether it answers.

    ``source_now`` is the moment that readings are of; ``offset_seconds`` is how far its clock is
    ahead of ours.
    """

    source_now: float
    scrape_interval_seconds: int
    left_open: bool
    phases: dict[str, float | None]
    epoch: str | None
    error: SourceError | None
    failing_since: float | None
    offset_seconds: float = 0.0

    def resolution(self, step_seconds: int, metric: str | None = None) -> Resolution:
        phase = None if metric is None else self.phases.get(metric)
        return Resolution(step_seconds, self.scrape_interval_seconds, self.left_open, phase)


class Surveyor(Protocol):
    """Whoever knows the bearings and the present values."""

    @property
    def present(self) -> PresentValues: ...

    async def bearings(self, *, max_age_seconds: float) -> Bearings:
        """As of present values that are not older; never raises for a source that fails."""
        ...
