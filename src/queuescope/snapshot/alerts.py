"""The alerts that Prometheus has firing or pending, each with the chart that it is about."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from queuescope.errors import SourceError
from queuescope.panels import Panel
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.client import Alert
from queuescope.timeseries import State

_log = logging.getLogger(__name__)

_MAX_ALERTS = 50
_KEPT_SECONDS = 15.0
_RULES_KEPT_SECONDS = 600.0
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


class AlertRules:
    """Which chart each alert is about, asked for only as often as rules change."""

    def __init__(
        self, client: PrometheusClient, panels: tuple[Panel, ...], clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._panels = panels
        self._clock = clock
        self._asked_at = float("-inf")
        self.panel_of: dict[str, str | None] = {}
        """By the name of an alert, the panel that it is about; None: about no panel."""

    async def renew(self, names: Iterable[str] = ()) -> None:
        """Ask if it is long ago, or one of ``names`` is not known. Never raises for a source."""
        young = 0 <= self._clock() - self._asked_at < _RULES_KEPT_SECONDS
        if young and set(names) <= self.panel_of.keys():
            return
        self._asked_at = self._clock()
        try:
            rules = [rule for group in await self._client.rules() for rule in group.rules]
        except SourceError as exc:
            _log.warning("cannot read the rules of the alerts: %s (%s)", exc, exc.detail)
            return
        recorded = {rule.name: rule.query for rule in rules if rule.type == "recording"}
        self.panel_of = dict.fromkeys(names)
        for rule in rules:
            if rule.type == "alerting":
                panel = self.panel_of.get(rule.name)
                self.panel_of[rule.name] = panel or _panel(rule.query, self._panels, recorded)


class AlertReader:
    """Asks for the active alerts, and for the rules behind them only as often as these change."""

    def __init__(
        self,
        client: PrometheusClient,
        panels: tuple[Panel, ...],
        clock: Callable[[], float],
        *,
        replica_labels: Collection[str] = (),
    ) -> None:
        """What differs in ``replica_labels`` alone is one alert, told by several servers."""
        self._client = client
        self._clock = clock
        self._replica_labels = replica_labels
        self._rules = AlertRules(client, panels, clock)
        self._last = Alerts()
        self._asked_at = float("-inf")

    async def read(
        self, error: SourceError | None, source_now: float, *, anew: bool = False
    ) -> Alerts:
        """The alerts as of the last seconds, or with ``anew`` as of now; while the source is away
        (``error``) the last ones, as stale.
        """
        answered = self._last.state in (State.FRESH, State.IDLE)
        young = 0 <= self._clock() - self._asked_at < _KEPT_SECONDS
        if error is None and not (answered and young and not anew):
            self._asked_at = self._clock()
            try:
                self._last = await self._read(source_now)
            except SourceError as exc:
                _log.warning("cannot read the alerts: %s (%s)", exc, exc.detail)
                error = exc
        if error is not None:
            state = State.UNAVAILABLE if self._last.as_of is None else State.STALE
            self._last = replace(self._last, state=state, cause=str(error))
        return self._last

    async def _read(self, source_now: float) -> Alerts:
        alerts = [
            alert for alert in await self._client.alerts() if alert.state in ("firing", "pending")
        ]
        names = {_name(alert) for alert in alerts}
        if names:
            await self._rules.renew(names)
        panel_of = self._rules.panel_of
        told = [
            _active(alert, panel_of.get(_name(alert)), self._replica_labels) for alert in alerts
        ]
        # Of what several servers tell, the one that began first, and fires where one does.
        told.sort(key=lambda alert: (alert.state != "firing", alert.since or 0))
        once = {(alert.name, alert.labels): alert for alert in reversed(told)}
        found = list(told if not self._replica_labels else once.values())
        found.sort(key=lambda alert: (alert.state != "firing", -(alert.since or 0)))
        return Alerts(
            State.FRESH if found else State.IDLE,
            tuple(found[:_MAX_ALERTS]),
            max(0, len(found) - _MAX_ALERTS),
            source_now,
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
        summary,
        _instant(alert.active_at),
        panel,
        tuple(
            (k, v)
            for k, v in sorted(alert.labels.items())
            if k not in _HIDDEN_LABELS and k not in replica_labels
        ),
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
