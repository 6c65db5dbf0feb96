"""The alerts that are firing or pending in Prometheus, each with the chart that it concerns.

Which alerts concern this page is decided once, by ``AlertScope``: for the list, for the marks on
the charts, and for the verdict.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.health import Finding, Health
from queuescope.known import Known
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.client import Alert
from queuescope.timeseries import State
from queuescope.view.source.alert_rules import AlertRules
from queuescope.view.source.state import SourceState

logger = logging.getLogger(__name__)

_MAX_ALERTS = 50
_KEPT_SECONDS = 15.0
_HIDDEN_LABELS = {"alertname", "severity"}
_MOST_NAMED = 5
_PASSING = (
    SourceErrorKind.CANNOT_CONNECT,
    SourceErrorKind.TIMEOUT,
    SourceErrorKind.BUSY,
    SourceErrorKind.SERVER_ERROR,
)

ALERT = "alert"
"""The rule of an alert that fires."""


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """One alert. ``since`` is when it began (source time, epoch seconds), None when unknown."""

    name: str
    state: str
    severity: str
    summary: str
    since: float | None
    panel: str | None
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Alerts:
    """Active alerts, firing before pending, newest first. ``more`` counts those beyond the first
    fifty; ``firing`` holds all firing ones.
    """

    active: tuple[ActiveAlert, ...] = ()
    more: int = 0
    firing: tuple[ActiveAlert, ...] = ()


def alert_findings(known: Known[Alerts], *, source_answers: bool) -> list[Finding]:
    """What the alerts mean for the verdict: one finding for each name and severity that fires.

    If alerts cannot be read now, but could before or will be once the source recovers, it is
    unknown whether any fires. For a source that has never listed alerts there is no finding.
    """
    if not source_answers:
        # An unreachable source is a finding of its own.
        return []
    if known.error is not None:
        is_lost = known.value is not None or known.kind in _PASSING
        cause = f"it is not known whether alerts are firing: {known.cause}"
        return [Finding(ALERT, Health.UNKNOWN, cause=cause)] if is_lost else []
    groups: dict[tuple[str, str], list[ActiveAlert]] = {}
    for alert in known.value.firing if known.value else ():
        groups.setdefault((alert.name, alert.severity), []).append(alert)
    found = [
        Finding(
            ALERT,
            Health.DEGRADED,
            since=min((one.since for one in group if one.since is not None), default=None),
            cause=_firing_words(name, severity, len(group)),
        )
        for (name, severity), group in groups.items()
    ]
    more = len(found) - _MOST_NAMED
    if more > 1:
        others = Finding(ALERT, Health.DEGRADED, cause=f"{more} more alerts are firing")
        return [*found[:_MOST_NAMED], others]
    return found


def _firing_words(name: str, severity: str, count: int) -> str:
    of = f" ({severity})" if severity else ""
    times = f", {count} times" if count > 1 else ""
    return f"alert {name}{of} is firing{times}"


class AlertReader:
    """Fetches the active alerts; ``rules`` say which of them concern this page."""

    def __init__(
        self,
        client: PrometheusClient,
        rules: AlertRules,
        clock: Callable[[], float],
        *,
        replica_labels: Collection[str] = (),
    ) -> None:
        """Alerts that differ only in ``replica_labels`` count as one: several servers list it."""
        self._client = client
        self._clock = clock
        self._replica_labels = replica_labels
        self._rules = rules
        self._last: Known[Alerts] = Known()
        self._asked_at = float("-inf")

    async def read(self, source: SourceState, *, anew: bool = False) -> Known[Alerts]:
        """The alerts of the last seconds, or with ``anew`` those of now; while the source is away,
        the last known ones. Times are the source's.
        """
        young = 0 <= self._clock() - self._asked_at < _KEPT_SECONDS
        if source.error is not None:
            self._last = self._last.failed(source.error, source.now)
        elif anew or not (self._last.is_fresh and young):
            self._asked_at = self._clock()
            try:
                self._last = self._last.answered(await self._fetch(), source.now)
            except SourceError as exc:
                logger.warning("cannot read the alerts: %s (%s)", exc, exc.detail)
                self._last = self._last.failed(exc, source.now)
        return self._last

    async def _fetch(self) -> Alerts:
        alerts = [
            alert
            for alert in await self._client.alerts()
            if alert.state in ("firing", "pending") and self._rules.scope.holds(alert.labels)
        ]
        names = {_name(alert) for alert in alerts}
        if names:
            await self._rules.renew(names)
        panel_of = self._rules.panel_of
        found = [
            _active(alert, panel_of.get(_name(alert)), self._replica_labels) for alert in alerts
        ]
        if self._replica_labels:
            # If several servers list one alert, keep the one that fires, then the one that began
            # first.
            found.sort(key=lambda alert: (alert.state != "firing", alert.since or 0))
            once = {(one.name, one.severity, one.labels): one for one in reversed(found)}
            found = list(once.values())
        found.sort(key=lambda alert: (alert.state != "firing", -(alert.since or 0)))
        return Alerts(
            tuple(found[:_MAX_ALERTS]),
            max(0, len(found) - _MAX_ALERTS),
            tuple(alert for alert in found if alert.state == "firing"),
        )


def _name(alert: Alert) -> str:
    return alert.labels.get("alertname", "")


def _active(alert: Alert, panel: str | None, replica_labels: Collection[str]) -> ActiveAlert:
    annotations = alert.annotations
    summary = annotations.get("summary") or annotations.get("description") or ""
    return ActiveAlert(
        _name(alert),
        alert.state,
        alert.labels.get("severity", ""),
        # Summaries may have several lines, and are shown in one.
        " ".join(summary.split()),
        _instant(alert.active_at),
        panel,
        tuple(
            (k, v)
            for k, v in sorted(alert.labels.items())
            if k not in _HIDDEN_LABELS and k not in replica_labels
        ),
    )


def _instant(text: str | None) -> float | None:
    try:
        return None if text is None else datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def alert_content(known: Known[Alerts]) -> dict[str, Any]:
    """The alerts with their state and as-of time."""
    alerts = known.value or Alerts()
    return {
        "alerts": [
            {
                "name": alert.name,
                "state": alert.state,
                "severity": alert.severity,
                "summary": alert.summary,
                "since": alert.since,
                "panel": alert.panel,
                "labels": dict(alert.labels),
            }
            for alert in alerts.active
        ],
        "alertsMore": alerts.more,
        "alertsState": State.IDLE if known.is_fresh and not alerts.active else known.state,
        "alertsCause": known.cause,
        "alertsAsOf": known.as_of,
    }
