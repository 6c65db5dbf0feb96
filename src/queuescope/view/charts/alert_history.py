"""Alerts that were active in a range, with start and end, as Prometheus recorded them.

Each evaluation of a rule writes ``ALERTS`` and ``ALERTS_FOR_STATE`` (whose value is when the alert
began), and both end with the alert. A source that writes neither has no alert history.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cachetools import FIFOCache

from queuescope.cache import CachedReader
from queuescope.panels import Resolution
from queuescope.prometheus.promql import Matcher, duration, union
from queuescope.timeseries import Frame, Grid, Labels
from queuescope.view.charts.live_end import LiveEnds
from queuescope.view.charts.readings import MAX_CHARTS, Drawing, recheck_seconds
from queuescope.view.source.alert_rules import AlertRules

_MAX_SHOWN = 50
_LABEL = "queuescope_alert"
_BEGAN, _UNTIL, _FIRED = "began", "until", "fired"
_NOW = "now"
_OPEN = "alerts:"
_FINEST_SECONDS, _COARSEST_SECONDS = 15, 60
_HIDDEN_LABELS = {"alertname", "severity", "alertstate", "__name__", _LABEL}


@dataclass(frozen=True, slots=True)
class PastAlert:
    """``began`` and ``until`` are source times; ``until`` is None while the alert is active.
    ``fired`` says whether it ever fired, or was only pending.
    """

    name: str
    severity: str
    panel: str
    labels: tuple[tuple[str, str], ...]
    began: float
    until: float | None
    fired: bool

    def content(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "severity": self.severity,
            "panel": self.panel,
            "labels": dict(self.labels),
            "since": self.began,
            "until": self.until,
            "state": "firing" if self.fired else "pending",
        }


@dataclass(frozen=True, slots=True)
class PastAlerts:
    """The newest alerts of a range, oldest first; ``more`` counts the earlier ones."""

    shown: tuple[PastAlert, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    """A frame that was read at ``at`` (our clock), as of ``source_now``."""

    frame: Frame
    at: float
    source_now: float


class AlertHistories:
    """Reads the alerts of a range that concern one of the panels."""

    def __init__(
        self,
        rules: AlertRules,
        reader: CachedReader,
        clock: Callable[[], float],
        *,
        replica_labels: Collection[str] = (),
    ) -> None:
        """Alerts that differ only in ``replica_labels`` count as one: several servers list it."""
        self._reader = reader
        self._not_own = {"alertstate", "__name__", _LABEL, *replica_labels}
        self._clock = clock
        self._rules = rules
        self._kept = FIFOCache[tuple[str, Grid, str | None], _Kept](MAX_CHARTS)

    async def selector(self, *, may_ask: bool) -> str:
        """The matcher of the alerts that concern a panel, as PromQL; empty if none is known."""
        if may_ask:
            await self._rules.renew()
        names = [name for name, panel in self._rules.panel_of.items() if panel is not None]
        if not names:
            return ""
        chosen = Matcher("alertname", "=~", "|".join(map(re.escape, sorted(names))))
        return self._rules.scope.narrowed(str(chosen))

    async def read(self, selector: str, drawing: Drawing, resolution: Resolution) -> Frame:
        """The alerts recorded at the closed steps, kept as long as a chart is; empty while the
        source is away.
        """
        grid, source = drawing.grid, drawing.source
        if not selector:
            return Frame.empty(grid)
        key = (selector, grid, source.epoch)
        kept = self._kept.get(key)
        if kept is not None and drawing.may_keep:
            is_young = 0 <= self._clock() - kept.at < recheck_seconds(grid.step_seconds)
            if is_young and drawing.settles_at(resolution) <= kept.source_now:
                return kept.frame
        query = union(_LABEL, _texts(selector, resolution, grid.step_seconds))
        reading = await self._reader.read(query, grid, source_now=source.now, epoch=source.epoch)
        found = () if reading.frame is None else (reading.frame,)
        frame = Frame.assembled(grid, found)
        self._kept[key] = _Kept(frame, self._clock(), source.now)
        return frame

    def open_texts(
        self, selector: str, resolution: Resolution, open_seconds: float
    ) -> Mapping[str, str]:
        """The queries for the open step: PromQL by name."""
        texts = {
            f"{_OPEN}{name}": text
            for name, text in _texts(selector, resolution, open_seconds).items()
        }
        return {**texts, f"{_OPEN}{_NOW}": f"ALERTS_FOR_STATE{{{selector}}}"}

    def alerts(self, frame: Frame, live: LiveEnds | None) -> PastAlerts:
        """The alerts of the range from its closed steps and the open one."""
        live_at = None if live is None else live.at
        times = [*frame.grid.timestamps().tolist(), *([] if live_at is None else [live_at])]
        rows: dict[Labels, dict[str, list[float]]] = {}

        def put(labels: Labels, name: str, values: Sequence[float]) -> None:
            own = tuple(p for p in labels if p[0] not in self._not_own)
            pick = min if name in {_BEGAN, _NOW} else max
            empty = [math.nan] * len(times)
            row = rows.setdefault(own, {}).setdefault(name, empty)
            for at, value in enumerate(values, start=len(times) - len(values)):
                if not math.isnan(value):
                    row[at] = value if math.isnan(row[at]) else pick(row[at], value)

        for labels, values in zip(frame.series, frame.values, strict=True):
            padded = np.append(values, [] if live_at is None else [math.nan])
            put(labels, dict(labels).get(_LABEL, ""), padded.tolist())
        for name, series in ({} if live is None else live.series).items():
            if name.startswith(_OPEN):
                for labels, value in series:
                    put(labels, name.removeprefix(_OPEN), [value])
        found = [
            alert for labels, row in rows.items() for alert in self._activations(labels, row, times)
        ]
        found = [alert for alert in found if (alert.until or math.inf) >= frame.grid.start]
        found.sort(key=lambda alert: alert.began)
        return PastAlerts(tuple(found[-_MAX_SHOWN:]), max(0, len(found) - _MAX_SHOWN))

    def _activations(
        self, labels: Labels, row: Mapping[str, Sequence[float]], times: Sequence[float]
    ) -> list[PastAlert]:
        """Each time that one alert was active. Samples with the same start belong to one time."""
        nothing = [math.nan] * len(times)
        panel = self._rules.panel_of.get(dict(labels).get("alertname", ""))
        if panel is None:
            return []
        spans: dict[float, tuple[float, bool]] = {}
        steps = zip(
            times,
            row.get(_BEGAN, nothing),
            row.get(_UNTIL, nothing),
            row.get(_FIRED, nothing),
            strict=True,
        )
        for at, began, until, fired in steps:
            if math.isfinite(began):
                end = until if math.isfinite(until) else at
                spans[began] = (end, math.isfinite(fired) or spans.get(began, (0, False))[1])
        active = row.get(_NOW, nothing)[-1]
        pairs = dict(labels)
        return [
            PastAlert(
                pairs.get("alertname", ""),
                pairs.get("severity", ""),
                panel,
                tuple(pair for pair in labels if pair[0] not in _HIDDEN_LABELS),
                began,
                None if began == active else until,
                fired,
            )
            for began, (until, fired) in spans.items()
        ]


def _texts(selector: str, resolution: Resolution, seconds: float) -> Mapping[str, str]:
    """PromQL by name, over windows of ``seconds``: when the alert began, when it was last active,
    and when it last fired.
    """
    window = resolution.window(seconds)
    finest = min(max(seconds / 60, _FINEST_SECONDS), _COARSEST_SECONDS)
    every = duration(max(1, round(min(finest, seconds))))
    seen = f"ALERTS_FOR_STATE{{{selector}}}"
    fired = f'ALERTS{{alertstate="firing",{selector}}}'
    return {
        _BEGAN: f"last_over_time({seen}[{window}])",
        _UNTIL: f"max_over_time(timestamp({seen})[{window}:{every}])",
        _FIRED: f"max_over_time({fired}[{window}])",
    }
