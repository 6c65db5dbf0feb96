"""The source at one moment, for whoever reads of it."""

from __future__ import annotations

from dataclasses import dataclass

from queuescope.errors import QueuescopeError
from queuescope.known import Known
from queuescope.panels import Resolution
from queuescope.view.source.scrapes import Scrapes, metrics_of


@dataclass(frozen=True, slots=True)
class Contact:
    """What the source's last answer said: by how much its clock is ahead of ours, and its
    epoch.

    The epoch changes when another server answers, or the same one that was started anew; None
    where the source has none (VictoriaMetrics, and proxies that pass queries for data only).
    """

    offset_seconds: float = 0.0
    epoch: str | None = None


def contact_of(known: Known[Contact]) -> Contact:
    """The last contact; before the first, one with a clock like ours."""
    return known.value or Contact()


@dataclass(frozen=True, slots=True)
class SourceState:
    """``now`` is the moment that readings are of, by the source's clock; ``scrapes`` is how it is
    scraped, and ``contact`` whether it answers.
    """

    now: float
    scrapes: Scrapes
    contact: Known[Contact]

    @property
    def error(self) -> QueuescopeError | None:
        """Why it does not answer; None while it does."""
        return self.contact.error

    @property
    def epoch(self) -> str | None:
        return contact_of(self.contact).epoch

    @property
    def offset_seconds(self) -> float:
        """How far its clock is ahead of ours."""
        return contact_of(self.contact).offset_seconds

    @property
    def behind_seconds(self) -> float:
        """How far ``now`` is before its clock, where all samples arrive so late."""
        return self.scrapes.late.behind_seconds

    def resolution(self, step_seconds: int, *templates: str) -> Resolution:
        """What ``templates`` are rendered with, in steps of ``step_seconds``."""
        names = (name for template in templates for name in metrics_of(template))
        return self.scrapes.resolution(step_seconds, dict.fromkeys(names))
