"""The alerts that Prometheus has firing or pending, each with the chart that it is about."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from datetime import datetime

from queuescope.errors import SourceError
from queuescope.panels import Panel
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.client import Alert, Rule
from queuescope.timeseries import State

_log = logging.getLogger(__name__)

_MAX_ALERTS = 50
_NAMES = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_HIDDEN_LABELS = {"alertname", "severity"}


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """One alert. ``since`` is when it began (source time, epoch seconds), None when not told."""

    name: str
    state: str
    severity: str
    summary: str
    since: float | None
    panel: str | None
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Alerts:
    """Firing before pending, newest first. ``more`` counts those beyond the first fifty."""

    state: State = State.UNAVAILABLE
    active: tuple[ActiveAlert, ...] = ()
    more: int = 0
    as_of: float | None = None
    cause: str = ""


async def read_alerts(
    client: PrometheusClient,
    last: Alerts,
    panels: tuple[Panel, ...],
    error: SourceError | None,
    source_now: float,
) -> Alerts:
    """Ask for the rules with their alerts; while the source is away the last ones, as stale."""
    if error is None:
        try:
            groups = await client.rules()
        except SourceError as exc:
            _log.warning("cannot read the alerts: %s (%s)", exc, exc.detail)
            error = exc
        else:
            rules = [rule for group in groups for rule in group.rules]
            recorded = {rule.name: rule.query for rule in rules if rule.type == "recording"}
            found = [
                _active(alert, rule, panels, recorded)
                for rule in rules
                for alert in rule.alerts
                if alert.state in ("firing", "pending")
            ]
            found.sort(key=lambda alert: (alert.state != "firing", -(alert.since or 0)))
            return Alerts(
                State.FRESH if found else State.IDLE,
                tuple(found[:_MAX_ALERTS]),
                max(0, len(found) - _MAX_ALERTS),
                source_now,
            )
    state = State.UNAVAILABLE if last.as_of is None else State.STALE
    return replace(last, state=state, cause=str(error))


def _active(
    alert: Alert, rule: Rule, panels: tuple[Panel, ...], recorded: dict[str, str]
) -> ActiveAlert:
    annotations = alert.annotations
    summary = annotations.get("summary") or annotations.get("description") or ""
    return ActiveAlert(
        rule.name,
        alert.state,
        alert.labels.get("severity", ""),
        summary,
        _instant(alert.active_at),
        _panel(rule.query, panels, recorded),
        tuple(sorted((k, v) for k, v in alert.labels.items() if k not in _HIDDEN_LABELS)),
    )


def _panel(query: str, panels: tuple[Panel, ...], recorded: dict[str, str]) -> str | None:
    """The panel that reads what ``query`` reads first, be it through a recording rule."""
    for name in _NAMES.findall(query):
        names = set(_NAMES.findall(recorded[name])) if name in recorded else {name}
        for panel in panels:
            if names.intersection(panel.metrics):
                return panel.id
    return None


def _instant(text: str | None) -> float | None:
    try:
        return None if text is None else datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
