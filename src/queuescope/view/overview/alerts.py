"""The alerts that Prometheus has firing or pending, each with the chart that it is about.

Which alerts concern this page is decided once, by ``AlertScope``: for the list, for the marks on
the charts, and for the verdict.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.health import Finding, Health
from queuescope.panels import Panel
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.client import Alert
from queuescope.prometheus.promql import Matcher, render_matchers
from queuescope.timeseries import State

logger = logging.getLogger(__name__)

_MAX_ALERTS = 50
_KEPT_SECONDS = 15.0
_RULES_KEPT_SECONDS = 600.0
_NAMES = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*|"[^"\\]+"')
_HIDDEN_LABELS = {"alertname", "severity"}
_MOST_NAMED = 5
# By convention such an alert notifies nobody; the best known fires always, to show that it can.
_FOR_NOBODY = Matcher("severity", "!=", "none")
_PASSING = (
    SourceErrorKind.CANNOT_CONNECT,
    SourceErrorKind.TIMEOUT,
    SourceErrorKind.BUSY,
    SourceErrorKind.SERVER_ERROR,
)

ALERT = "alert"
"""The rule of an alert that fires."""


class AlertScope:
    """Which alerts concern this page: those that ``matchers`` choose, as in a selector, without
    those of severity “none”.

    Raises ``ConfigurationError`` for an expression that only Prometheus could read.
    """

    def __init__(self, matchers: Sequence[Matcher] = ()) -> None:
        self._matchers = (*matchers, _FOR_NOBODY)
        self._expressions = {}
        for matcher in self._matchers:
            if matcher.operator in ("=~", "!~"):
                try:
                    self._expressions[matcher] = re.compile(matcher.value)
                except re.error as exc:
                    raise ConfigurationError(
                        f"alert_selector: {matcher.value!r} cannot be used: {exc}"
                    ) from exc

    def holds(self, labels: Mapping[str, str]) -> bool:
        return all(self._matches(one, labels.get(one.name, "")) for one in self._matchers)

    def narrowed(self, selector: str) -> str:
        """``selector``, rendered PromQL, of which only the alerts of this scope are left."""
        return f"{selector},{render_matchers(self._matchers)}"

    def _matches(self, matcher: Matcher, value: str) -> bool:
        expression = self._expressions.get(matcher)
        is_met = value == matcher.value if expression is None else bool(expression.fullmatch(value))
        return is_met == (not matcher.operator.startswith("!"))


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
    """Firing before pending, newest first. ``more`` counts those beyond the first fifty, and
    ``firing`` are all that fire. ``kind`` names the failure where there is a ``cause``.
    """

    state: State = State.UNAVAILABLE
    active: tuple[ActiveAlert, ...] = ()
    more: int = 0
    as_of: float | None = None
    cause: str = ""
    firing: tuple[ActiveAlert, ...] = ()
    kind: SourceErrorKind | None = None


def alert_findings(alerts: Alerts, *, source_answers: bool) -> list[Finding]:
    """What the alerts mean for the verdict: each that fires, once by name and severity.

    Where alerts could be read before, or will be once the source recovers, and cannot now, it is
    not known whether one fires; a source that never told any says nothing of it.
    """
    if not source_answers:
        # That the source is away is told by itself.
        return []
    if alerts.cause:
        is_lost = alerts.as_of is not None or alerts.kind in _PASSING
        cause = f"whether alerts are firing is not known: {alerts.cause}"
        return [Finding(ALERT, Health.UNKNOWN, cause=cause)] if is_lost else []
    groups: dict[tuple[str, str], list[ActiveAlert]] = {}
    for alert in alerts.firing:
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
            logger.warning("cannot read the rules of the alerts: %s (%s)", exc, exc.detail)
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
        scope: AlertScope,
        *,
        replica_labels: Collection[str] = (),
    ) -> None:
        """What differs in ``replica_labels`` alone is one alert, told by several servers."""
        self._client = client
        self._clock = clock
        self._replica_labels = replica_labels
        self._scope = scope
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
                logger.warning("cannot read the alerts: %s (%s)", exc, exc.detail)
                error = exc
        if error is not None:
            state = State.UNAVAILABLE if self._last.as_of is None else State.STALE
            self._last = replace(self._last, state=state, cause=str(error), kind=error.kind)
        return self._last

    async def _read(self, source_now: float) -> Alerts:
        alerts = [
            alert
            for alert in await self._client.alerts()
            if alert.state in ("firing", "pending") and self._scope.holds(alert.labels)
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
        once = {(one.name, one.severity, one.labels): one for one in reversed(told)}
        found = list(told if not self._replica_labels else once.values())
        found.sort(key=lambda alert: (alert.state != "firing", -(alert.since or 0)))
        return Alerts(
            State.FRESH if found else State.IDLE,
            tuple(found[:_MAX_ALERTS]),
            max(0, len(found) - _MAX_ALERTS),
            source_now,
            firing=tuple(alert for alert in found if alert.state == "firing"),
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
        # Rules are written in lines, and told in one.
        " ".join(summary.split()),
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
    for name in _names(query):
        names = set(_names(recorded[name])) if name in recorded else {name}
        for panel in panels:
            if names.intersection(panel.all_metrics):
                return panel.id
    return None


def _names(query: str) -> list[str]:
    """What may name a metric, also in quotes."""
    return [name.strip('"') for name in _NAMES.findall(query)]


def _instant(text: str | None) -> float | None:
    try:
        return None if text is None else datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
