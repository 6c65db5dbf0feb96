"""Which alerts of the source concern this page, and which chart each concerns."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from queuescope.errors import ConfigurationError, SourceError
from queuescope.panels import Panel
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import Matcher, render_matchers

logger = logging.getLogger(__name__)

_RULES_KEPT_SECONDS = 600.0
_NAMES = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*|"[^"\\]+"')
# By convention such an alert is not sent to anyone. The best known one, Watchdog, always fires, to
# show that alerting works.
_NOT_SEVERITY_NONE = Matcher("severity", "!=", "none")


class AlertScope:
    """Which alerts concern this page: those that ``matchers`` select, without those of severity
    “none”.

    Raises ``ConfigurationError`` for a regular expression that only Prometheus could read.
    """

    def __init__(self, matchers: Sequence[Matcher] = ()) -> None:
        self._matchers = (*matchers, _NOT_SEVERITY_NONE)
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
        """``selector``, rendered PromQL, narrowed to the alerts of this scope."""
        return f"{selector},{render_matchers(self._matchers)}"

    def _matches(self, matcher: Matcher, value: str) -> bool:
        expression = self._expressions.get(matcher)
        is_met = value == matcher.value if expression is None else bool(expression.fullmatch(value))
        return is_met == (not matcher.operator.startswith("!"))


class AlertRules:
    """Which chart each alert concerns; fetched rarely, since rules change rarely, and once for all
    callers. Belongs to one event loop.
    """

    def __init__(
        self,
        client: PrometheusClient,
        panels: tuple[Panel, ...],
        clock: Callable[[], float],
        scope: AlertScope,
    ) -> None:
        self.scope = scope
        self._client = client
        self._panels = panels
        self._clock = clock
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()
        self.panel_of: dict[str, str | None] = {}
        """By alert name, the panel that the alert concerns; None if it concerns none."""

    async def renew(self, names: Iterable[str] = ()) -> None:
        """Fetch the rules if they are old, or one of ``names`` is unknown. Never raises for a
        source.
        """
        async with self._asking:
            young = 0 <= self._clock() - self._asked_at < _RULES_KEPT_SECONDS
            if not young or not set(names) <= self.panel_of.keys():
                await self._fetch(names)

    async def _fetch(self, names: Iterable[str]) -> None:
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


def _panel(query: str, panels: tuple[Panel, ...], recorded: dict[str, str]) -> str | None:
    """The panel that reads the first known metric of ``query``, also through a recording rule."""
    for name in _names(query):
        names = set(_names(recorded[name])) if name in recorded else {name}
        for panel in panels:
            if names.intersection(panel.all_metrics):
                return panel.id
    return None


def _names(query: str) -> list[str]:
    """All words that may be metric names, also quoted ones."""
    return [name.strip('"') for name in _NAMES.findall(query)]
