"""From a frame to the curves that are drawn: quantiles, units, and the worst N of a breakdown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from queuescope.errors import ConfigurationError
from queuescope.panels import RANKED_QUANTILE, Kind, Panel, bucket_quantiles
from queuescope.panels.histogram import layout_breaks
from queuescope.panels.native import QUANTILE
from queuescope.timeseries import Floats, Frame, Grid, Labels


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One line of a chart: its name on screen, its stable identity, and its values in the panel's
    unit.

    ``live`` is the present value, at the end of the open step, and ``so_far`` the value over the
    open step so far; NaN if there is none. ``low`` and ``high`` are the bounds of values that are
    estimates, ``live_bounds`` those of ``live``. ``live_over_seconds`` is the window of ``live``;
    None for the value of one instant.
    """

    name: str
    uid: str
    values: Floats
    live: float = np.nan
    low: Floats | None = None
    high: Floats | None = None
    live_bounds: tuple[float, float] | None = None
    so_far: float = np.nan
    live_over_seconds: float | None = None

    def bounds(self, index: int) -> tuple[float, float] | None:
        """The bounds of that value; None if it is not an estimate or not a number."""
        if self.low is None or self.high is None or np.isnan(self.low[index]):
            return None
        return float(self.low[index]), float(self.high[index])


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """The curves of one chart. ``hidden`` counts the values of a breakdown that are not shown;
    ``unlabelled`` is the worst value of the series without its label, which are not drawn; None if
    there are none.

    ``at_least`` is the highest finite bucket bound (in the panel's unit) if a value reaches it: the
    true value may be higher. If several label values reach theirs, it is the lowest. ``relaid_at``
    is the first timestamp without a quantile because the buckets changed there.
    """

    grid: Grid
    curves: tuple[Curve, ...]
    hidden: int = 0
    at_least: float | None = None
    relaid_at: int | None = None
    unlabelled: float | None = None

    @property
    def has_numbers(self) -> bool:
        return self.has_live or any(np.isfinite(curve.values).any() for curve in self.curves)

    @property
    def has_live(self) -> bool:
        """Whether the open step has a value on any curve."""
        return any(np.isfinite(curve.live) for curve in self.curves)


def quantile_name(quantile: float) -> str:
    """The name on the page, such as ``P95``."""
    return f"P{quantile * 100:g}"


def with_open_step(frame: Frame, series: Sequence[tuple[Labels, float]]) -> Frame:
    """``frame`` with one more timestamp: the open step, whose values are in ``series``."""
    grid = frame.grid
    after = grid.end + grid.step_seconds
    values = np.array([[value] for _, value in series], dtype=np.float64).reshape(-1, 1)
    part = Frame(
        Grid(after, after, grid.step_seconds), tuple(labels for labels, _ in series), values
    )
    return Frame.assembled(Grid(grid.start, after, grid.step_seconds), (frame, part))


def _with_so_far(
    panel: Panel, curves: Curves, series: Sequence[tuple[Labels, float]], by: str | None
) -> Curves:
    """``curves`` with the values of ``series`` for the open step so far."""
    if not series:
        return curves
    grid = Grid(curves.grid.end, curves.grid.end, curves.grid.step_seconds)
    values = np.array([[value] for _, value in series], dtype=np.float64)
    frame = Frame(grid, tuple(labels for labels, _ in series), values)
    found = {curve.uid: float(curve.values[0]) for curve in _curves_of(panel, frame, by, 0).curves}
    shown = tuple(replace(one, so_far=found.get(one.uid, np.nan)) for one in curves.curves)
    return replace(curves, curves=shown)


def _worst_of(panel: Panel, curves: Curves, limit: int) -> Curves:
    """The ``limit`` worst curves of a breakdown, ranked by the points of each, its present value,
    and its value over the open step so far.
    """
    if len(curves.curves) <= limit:
        return curves

    def badness(curve: Curve) -> tuple[float, str]:
        known = np.append(curve.values, (curve.live, curve.so_far))
        return _badness(panel, known), curve.name

    ranked = sorted(curves.curves, key=badness)
    shown = tuple(sorted(ranked[:limit], key=lambda curve: curve.name))
    return replace(curves, curves=shown, hidden=curves.hidden + len(ranked) - limit)


def curves_of(
    panel: Panel,
    frame: Frame,
    by: str | None,
    limit: int,
    *,
    window_seconds: int = 0,
    has_open_step: bool = False,
    live_over_seconds: float | None = None,
    so_far: Sequence[tuple[Labels, float]] = (),
) -> Curves:
    """The curves of ``panel`` from the answer to its query.

    Without ``by`` there is one curve, or one for each of the panel's quantiles, with documented
    names. With it there is one for each of the worst ``limit`` values of the label (largest, or
    smallest for a percentage), ordered by name. Series without the label get no curve.
    ``window_seconds`` is how far back the rate of a point reaches, at least one step. With
    ``has_open_step`` the frame's last timestamp is the open step (see ``with_open_step``), measured
    over ``live_over_seconds``, and ``so_far`` is the query's answer for that step. Raises
    ``ConfigurationError`` for a query that returns several series for one curve.
    """
    curves = _curves_of(panel, frame, by, window_seconds)
    if has_open_step:
        curves = _with_so_far(panel, _opened(curves, live_over_seconds), so_far, by)
    return curves if by is None else _worst_of(panel, curves, limit)


def _opened(curves: Curves, live_over_seconds: float | None) -> Curves:
    """``curves`` with the last timestamp as their live value."""
    grid = curves.grid
    closed = tuple(
        replace(
            curve,
            values=curve.values[:-1],
            live=float(curve.values[-1]),
            low=None if curve.low is None else curve.low[:-1],
            high=None if curve.high is None else curve.high[:-1],
            live_bounds=curve.bounds(-1),
            live_over_seconds=live_over_seconds,
        )
        for curve in curves.curves
    )
    at = curves.relaid_at
    return replace(
        curves,
        grid=Grid(grid.start, grid.end - grid.step_seconds, grid.step_seconds),
        curves=closed,
        relaid_at=None if at == grid.end else at,
    )


def _curves_of(panel: Panel, frame: Frame, by: str | None, window_seconds: int) -> Curves:
    """The curves, not yet limited or with an open step."""
    if panel.quantiles:
        step = frame.grid.step_seconds
        return _latency(panel, frame, by, max(1, -(-window_seconds // step)))
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
    return _broken_down(panel, frame.grid, by, found)


def _latency(panel: Panel, frame: Frame, by: str | None, window_steps: int) -> Curves:
    groups: dict[str, dict[float, Floats]] = {}
    native: dict[str, dict[float, Floats]] = {}
    for row, pairs in enumerate(frame.series):
        labels = dict(pairs)
        group = "" if by is None else labels.get(by, "")
        bound = _bound(labels.get("le", ""))
        if bound is None:
            quantile = _bound(labels.get(QUANTILE, ""))
            if quantile is not None:
                native.setdefault(group, {})[quantile] = frame.values[row] * panel.scale
            continue
        buckets = groups.setdefault(group, {})
        held = buckets.get(bound)
        # `le="1"` and `le="1.0"`, from two client libraries, are one bucket.
        buckets[bound] = frame.values[row] if held is None else _sum(held, frame.values[row])
    quantiles = panel.quantiles if by is None else (RANKED_QUANTILE,)
    at_least: float | None = None
    computed: dict[str, Floats] = {}
    between: dict[str, tuple[Floats, Floats]] = {}
    relaid = np.zeros(len(frame.grid), dtype=bool)
    for group, buckets in groups.items():
        bounds = np.array(sorted(buckets))
        counts = np.stack([buckets[b] for b in bounds])
        found = bucket_quantiles(bounds, counts, quantiles)
        values = found.values
        breaks = layout_breaks(counts, window_steps)
        for part in (found.low, found.high, values):
            part[:, breaks] = np.nan
            np.multiply(part, panel.scale, out=part)
        relaid |= breaks
        if np.isposinf(found.high).any():
            top = float(bounds[-2]) * panel.scale
            at_least = top if at_least is None else min(at_least, top)
        computed[group], between[group] = values, (found.low, found.high)
    nothing = np.full((len(quantiles), len(frame.grid)), np.nan)
    for group, found_natively in native.items():
        values = computed.get(group, nothing)
        exact = np.stack([found_natively.get(q, nothing[0]) for q in quantiles])
        computed[group] = np.where(np.isnan(values), exact, values)
        between.setdefault(group, (nothing, nothing))
    at = int(frame.grid.timestamps()[relaid.argmax()]) if relaid.any() else None
    if by is None:
        rows = computed.get("", nothing)
        low, high = between.get("", (nothing, nothing))
        curves = tuple(
            Curve(
                quantile_name(quantile),
                f"{panel.id}-{quantile_name(quantile).lower()}",
                rows[row],
                low=low[row],
                high=high[row],
            )
            for row, quantile in enumerate(quantiles)
        )
        return Curves(frame.grid, curves, at_least=at_least, relaid_at=at)
    named = {group: values[0] for group, values in computed.items()}
    made = _broken_down(panel, frame.grid, by, named)
    shown = tuple(
        replace(curve, low=between[curve.name][0][0], high=between[curve.name][1][0])
        for curve in made.curves
    )
    return replace(made, curves=shown, at_least=at_least, relaid_at=at)


def _broken_down(panel: Panel, grid: Grid, by: str, found: dict[str, Floats]) -> Curves:
    curves = tuple(
        Curve(name, f"{panel.id}-{by}-{_identity(name)}", values)
        for name, values in sorted(found.items())
        if name
    )
    unlabelled = _worst_value(panel, found[""]) if "" in found else None
    return Curves(grid, curves, unlabelled=unlabelled)


def _badness(panel: Panel, values: Floats) -> float:
    """A sort key that is lower for a worse curve."""
    worst = _worst_value(panel, values)
    if worst is None:
        return np.inf
    return worst if panel.kind is Kind.PERCENT else -worst


def _worst_value(panel: Panel, values: Floats) -> float | None:
    """The largest, or for a percentage the smallest; None if there is no number."""
    if not np.isfinite(values).any():
        return None
    return float(np.nanmin(values) if panel.kind is Kind.PERCENT else np.nanmax(values))


def _identity(name: str) -> str:
    """A hash: Plotly puts a trace's identity into CSS selectors, which a label value
    could break.
    """
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if np.isnan(bound) else bound


def _sum(a: Floats, b: Floats) -> Floats:
    """The sum where both have a value, otherwise the one that exists."""
    total: Floats = np.where(np.isnan(a), b, np.where(np.isnan(b), a, a + b))
    return total
