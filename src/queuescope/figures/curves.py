"""From a frame to the curves that are drawn: quantiles, units, and the worst N of a breakdown."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from queuescope.errors import ConfigurationError
from queuescope.panels import RANKED_QUANTILE, Kind, Panel, bucket_quantiles
from queuescope.panels.histogram import layout_breaks
from queuescope.timeseries import Floats, Frame, Grid


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One line: its name on screen, its stable identity, and its values in the panel's unit."""

    name: str
    uid: str
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What one chart draws. ``hidden`` counts the series of a breakdown that are not shown.

    ``at_least`` is the highest finite bucket bound (in the panel's unit) when a value reaches
    it: the true value may be higher. Where several label values reach theirs, it is the lowest.
    ``relaid_at`` is the first timestamp that has no quantile because the buckets changed there.
    """

    grid: Grid
    curves: tuple[Curve, ...]
    hidden: int = 0
    at_least: float | None = None
    relaid_at: int | None = None

    @property
    def has_numbers(self) -> bool:
        return any(np.isfinite(curve.values).any() for curve in self.curves)


def curves_of(
    panel: Panel, frame: Frame, by: str | None, limit: int, *, window_seconds: int = 0
) -> Curves:
    """The curves of ``panel`` from the answer to its query.

    Without ``by`` there is one curve, or one for each of the panel's quantiles, under the names
    that the page promises. With it there is one for each value of the label, the worst first
    (largest, or smallest for a percentage), at most ``limit`` of them. Series without the label
    are one curve too, unless none has it: there is nothing to break down then. ``window_seconds``
    is how far back the rate of a point reaches, one step at least. Raises ``ConfigurationError``
    for a query that gives several series for one curve.
    """
    if panel.quantiles:
        step = frame.grid.step_seconds
        return _latency(panel, frame, by, limit, max(1, -(-window_seconds // step)))
    found = {
        dict(pairs).get(by, "") if by else "": frame.values[row] * panel.scale
        for row, pairs in enumerate(frame.series)
    }
    if len(found) < len(frame.series):
        wanted = f"one for each {by}" if by else "one"
        raise ConfigurationError(
            f"panel {panel.id!r}: its query gives {len(frame.series)} series instead of {wanted}; "
            "aggregate them in the panel file, such as sum$by(…)"
        )
    if by is None:
        values = found.get("", np.full(len(frame.grid), np.nan))
        return Curves(frame.grid, (Curve(panel.title, panel.id, values),))
    return _worst(panel, frame.grid, by, found, limit)


def _latency(panel: Panel, frame: Frame, by: str | None, limit: int, window_steps: int) -> Curves:
    groups: dict[str, dict[float, Floats]] = {}
    for row, pairs in enumerate(frame.series):
        labels = dict(pairs)
        group = "" if by is None else labels.get(by, "")
        bound = _bound(labels.get("le", ""))
        if bound is None:
            continue
        buckets = groups.setdefault(group, {})
        held = buckets.get(bound)
        # `le="1"` and `le="1.0"` of two client libraries are one bucket.
        buckets[bound] = frame.values[row] if held is None else _sum(held, frame.values[row])
    quantiles = panel.quantiles if by is None else (RANKED_QUANTILE,)
    at_least: float | None = None
    computed: dict[str, Floats] = {}
    relaid = np.zeros(len(frame.grid), dtype=bool)
    for group, buckets in groups.items():
        bounds = np.array(sorted(buckets))
        counts = np.stack([buckets[b] for b in bounds])
        values = bucket_quantiles(bounds, counts, quantiles)
        breaks = layout_breaks(counts, window_steps)
        values[:, breaks] = np.nan
        relaid |= breaks
        if len(bounds) > 1 and (values >= bounds[-2]).any():
            top = float(bounds[-2]) * panel.scale
            at_least = top if at_least is None else min(at_least, top)
        computed[group] = values * panel.scale
    at = int(frame.grid.timestamps()[relaid.argmax()]) if relaid.any() else None
    if by is None:
        rows = computed.get("", np.full((len(quantiles), len(frame.grid)), np.nan))
        curves = tuple(
            Curve(f"P{quantile * 100:g}", f"{panel.id}-p{quantile * 100:g}", rows[row])
            for row, quantile in enumerate(quantiles)
        )
        return Curves(frame.grid, curves, at_least=at_least, relaid_at=at)
    named = {group: values[0] for group, values in computed.items()}
    worst = _worst(panel, frame.grid, by, named, limit)
    return Curves(worst.grid, worst.curves, worst.hidden, at_least, at)


def _worst(panel: Panel, grid: Grid, by: str, found: dict[str, Floats], limit: int) -> Curves:
    if set(found) <= {""}:
        return Curves(grid, ())

    def badness(item: tuple[str, Floats]) -> tuple[float, str]:
        name, values = item
        if not np.isfinite(values).any():
            return (np.inf, name)
        if panel.kind is Kind.PERCENT:
            return (float(np.nanmin(values)), name)
        return (-float(np.nanmax(values)), name)

    ranked = sorted(found.items(), key=badness)
    shown = sorted(ranked[:limit])
    curves = tuple(
        Curve(name or "(none)", f"{panel.id}-{by}-{_identity(name)}", v) for name, v in shown
    )
    return Curves(grid, curves, max(0, len(ranked) - limit))


def _identity(name: str) -> str:
    """Plotly puts a trace's identity into CSS selectors, where a label value may break them."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if np.isnan(bound) else bound


def _sum(a: Floats, b: Floats) -> Floats:
    """The sum where both have a value, the one that has it elsewhere."""
    total: Floats = np.where(np.isnan(a), b, np.where(np.isnan(b), a, a + b))
    return total
