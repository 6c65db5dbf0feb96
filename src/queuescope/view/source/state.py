"""The state of the source at one instant, which readings are made with."""

from __future__ import annotations

from dataclasses import dataclass

from queuescope.errors import QueuescopeError
from queuescope.known import Known
from queuescope.panels import Resolution
from queuescope.view.source.scrapes import Scrapes, metrics_of


@dataclass(frozen=True, slots=True)
class Contact:
    """What the source's last answer showed: how far its clock is ahead of ours, and its epoch.

    The epoch changes when another server answers, or the same one after a restart; None if the
    source has none (VictoriaMetrics, and proxies that only pass queries for data).
    """

    offset_seconds: float = 0.0
    epoch: str | None = None


def contact_of(known: Known[Contact]) -> Contact:
    """The last contact; before the first, one whose clock agrees with ours."""
    return known.value or Contact()


@dataclass(frozen=True, slots=True)
class SourceState:
    """``now`` is the time of readings, by the source's clock; ``scrapes`` is how it is scraped, and
    ``contact`` whether it answers.
    """

    now: float
    scrapes: Scrapes
    contact: Known[Contact]

    @property
    def error(self) -> QueuescopeError | None:
        """Why the source does not answer; None while it does."""
        return self.contact.error

    @property
    def epoch(self) -> str | None:
        return contact_of(self.contact).epoch

    @property
    def offset_seconds(self) -> float:
        """How far the source's clock is ahead of ours."""
        return contact_of(self.contact).offset_seconds

    @property
    def behind_seconds(self) -> float:
        """How far ``now`` is behind the source's clock because all samples arrive late."""
        return self.scrapes.late.behind_seconds

    def resolution(self, step_seconds: int, *templates: str) -> Resolution:
        """The resolution for ``templates``, in steps of ``step_seconds``."""
        names = (name for template in templates for name in metrics_of(template))
        return self.scrapes.resolution(step_seconds, dict.fromkeys(names))
