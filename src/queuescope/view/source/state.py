"""Where the source stands, for whoever reads of it beside the charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from queuescope.errors import SourceError
from queuescope.panels import Resolution
from queuescope.view.present.values import PresentValues
from queuescope.view.source.scrapes import Scrapes, metrics_of


@dataclass(frozen=True, slots=True)
class Bearings:
    """Where the source stands: its clock, what is known of its scrapes, and whether it answers.

    ``source_now`` is the moment that readings are of; ``offset_seconds`` is how far its clock is
    ahead of ours.
    """

    source_now: float
    scrapes: Scrapes
    epoch: str | None
    error: SourceError | None
    failing_since: float | None
    offset_seconds: float = 0.0

    def resolution(self, step_seconds: int, *templates: str) -> Resolution:
        """What ``templates`` are rendered with, in steps of ``step_seconds``."""
        names = (name for template in templates for name in metrics_of(template))
        return self.scrapes.resolution(step_seconds, dict.fromkeys(names))


class Surveyor(Protocol):
    """Whoever knows the bearings and the present values."""

    @property
    def present(self) -> PresentValues: ...

    async def bearings(self, *, max_age_seconds: float) -> Bearings:
        """As of present values that are not older; never raises for a source that fails."""
        ...
