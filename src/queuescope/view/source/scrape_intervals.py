"""How often each metric is scraped, and when within the interval, measured from its samples."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping

import numpy as np

from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import Matcher, render_matchers, union, with_label
from queuescope.prometheus.promql import selector as of_name
from queuescope.timeseries import Grid, Labels
from queuescope.view.source.sample_extent import newest_sample
from queuescope.view.source.scrapes import Scrape, Scrapes

_USUAL_INTERVALS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 150, 180, 240, 300, 600, 900)
_COUNTED_SECONDS = 900
_COMPARED_SECONDS = 1_800
SCRAPED_WITHIN_DAYS = 7
_SPACINGS = 3
_PHASES = 8
_CHECKED_INTERVALS = 10
_CLEAR_RATIO = 0.03
_FEWEST_COUNTED = 4
_MAX_DOUBTS = 12
_METRIC = "queuescope_metric"
_WHICH = "queuescope_which"
_RESOLUTION_SECONDS = 0.001
_LOOK_SECONDS = 5


async def measure_scrape(
    client: PrometheusClient, metric: str, matchers: str, now: float, known: Scrape | None
) -> Scrape | None:
    """How ``metric`` is scraped; None if it has fewer than two samples."""
    selector = scraped_selector(metric, matchers)
    at = await newest_sample(client, selector, now, SCRAPED_WITHIN_DAYS)
    if at is None:
        return None
    intervals = await _intervals(client, metric, matchers, at)
    if not intervals:
        return None
    fastest, slowest = min(intervals), max(intervals)
    if fastest != slowest:
        return Scrape(fastest, slowest)
    phase = await _phase(client, selector, fastest, at)
    if phase is None:
        return Scrape(fastest, slowest)
    same = known is not None and (known.fastest_seconds, known.slowest_seconds) == (
        fastest,
        slowest,
    )
    before = known.phase_seconds if known is not None and same else None
    return Scrape(fastest, slowest, _steadied(phase, before, fastest))


async def still_hold(
    client: PrometheusClient,
    metrics: tuple[str, ...],
    matchers: str,
    now: float,
    known: Scrapes,
) -> bool:
    """Whether metrics with present samples still have the ``known`` intervals and phases."""
    parts = {}
    for metric in metrics:
        selector = scraped_selector(metric, matchers)
        scrape = known.by_metric.get(metric, known.usual)
        count = f"count_over_time({selector}[{_CHECKED_INTERVALS * scrape.slowest_seconds}s])"
        texts = {"most": f"max({count})", "fewest": f"min({count})"}
        if not scrape.is_mixed:
            texts["phase"] = _phases_of(selector, scrape.slowest_seconds)
        parts[metric] = union(_WHICH, texts)
    phases: dict[str, list[Labels]] = {metric: [] for metric in metrics}
    counts: dict[str, dict[str, float]] = {}
    for sample in (await client.query(union(_METRIC, parts), at=now)).samples:
        labels = dict(sample.labels)
        metric, which = labels[_METRIC], labels[_WHICH]
        if which == "phase":
            phases[metric].append(sample.labels)
        else:
            counts.setdefault(metric, {})[which] = sample.value
    return bool(counts) and all(
        _is_still(known.by_metric.get(metric), count, phases[metric])
        for metric, count in counts.items()
    )


def _is_still(known: Scrape | None, count: Mapping[str, float], phases: Iterable[Labels]) -> bool:
    """``count`` is the number of samples within ten intervals, of the series with the most and of
    the one with the fewest.
    """
    if known is None:
        return False
    most = _CHECKED_INTERVALS * known.slowest_seconds / known.fastest_seconds
    # A window may contain one sample more or less by chance, or after a lost scrape.
    if abs(count["most"] - most) > max(1, most * _CLEAR_RATIO):
        return False
    if abs(count["fewest"] - _CHECKED_INTERVALS) > 1:
        return False
    if known.is_mixed:
        return True
    phase, before = _common_phase(phases, known.slowest_seconds), known.phase_seconds
    now_known = None if phase is None else _steadied(phase, before, known.slowest_seconds)
    return now_known == before


def scraped_selector(metric: str, matchers: str) -> str:
    """A selector for one series of each histogram, since its buckets are sampled together."""
    return of_name(metric, _narrowed(metric, matchers))


def _narrowed(metric: str, matchers: str) -> str:
    one = ['le="+Inf"'] if metric.endswith("_bucket") else []
    return ",".join([*one, *filter(None, [matchers])])


async def _intervals(client: PrometheusClient, metric: str, matchers: str, at: float) -> set[int]:
    """The intervals at which the targets of ``metric`` are scraped, as of ``at``.

    The interval of a series that existed half an hour earlier follows from its number of samples.
    One that is younger, or was interrupted, is examined separately.
    """
    selector = scraped_selector(metric, matchers)
    window = f"[{_COMPARED_SECONDS * 1000 - 1}ms]"
    measured = (
        f"(timestamp({selector}) - timestamp({selector} offset {_COMPARED_SECONDS}s))"
        f" / (count_over_time({selector}{window}) >= {_FEWEST_COUNTED})"
    )
    guessed = f"{_COMPARED_SECONDS} / (count_over_time({selector}{window}) > 1)"
    either = (
        f"{with_label(measured, _WHICH, 'known')} or ignoring ({_WHICH})"
        f" {with_label(guessed, _WHICH, 'guessed')}"
    )
    answer = await client.query(
        f"topk by (job, instance) (1, {either}) or bottomk by (job, instance) (1, {either})", at=at
    )
    found: set[int] = set()
    doubts: dict[int, Labels] = {}
    for sample in answer.samples:
        labels = tuple(p for p in sample.labels if p[0] not in (_WHICH, "__name__"))
        usual = _usual(sample.value)
        is_known = (_WHICH, "known") in sample.labels
        if is_known and abs(sample.value / usual - 1) <= _CLEAR_RATIO:
            found.add(usual)
        else:
            doubts.setdefault(round(sample.value), labels)
    # Only the slowest and the fastest matter.
    rows = sorted(doubts)
    looked_at = (
        rows
        if len(rows) <= _MAX_DOUBTS
        else [*rows[: _MAX_DOUBTS // 2], *rows[-_MAX_DOUBTS // 2 :]]
    )
    spacings = await asyncio.gather(
        *(_spacing_of(client, metric, _exactly(doubts[row]), at) for row in looked_at)
    )
    found.update(_usual(spacing) for spacing in spacings if spacing)
    if not found:
        spacing = await _newest_spacing(client, metric, _narrowed(metric, matchers), at)
        spacing = spacing or await _usual_spacing(client, selector, at)
        found = {_usual(spacing)} if spacing else set()
    return found


async def _spacing_of(client: PrometheusClient, metric: str, labels: str, at: float) -> float:
    """Seconds between the newest samples of one series; 0 if unknown."""
    spacing = await _newest_spacing(client, metric, labels, at)
    if spacing:
        return spacing
    # Its interval may be longer than a plain selector looks back, or it may have ended.
    seen = f"timestamp({of_name(metric, labels)})[{_COMPARED_SECONDS}s:{_LOOK_SECONDS}s]"
    found = await client.query(
        f"(max_over_time({seen}) - min_over_time({seen})) / (changes({seen}) > 0)", at=at
    )
    return found.samples[0].value if found.samples else 0.0


def _usual(spacing: float) -> int:
    return min(_USUAL_INTERVALS, key=lambda usual: abs(math.log(usual / spacing)))


def _exactly(labels: Labels) -> str:
    return render_matchers(Matcher(name, "=", value) for name, value in labels)


def _steadied(phase: float, before: float | None, interval_seconds: int) -> float:
    """``before`` if the new measurement is next to it, since each change makes all history be
    fetched again.
    """
    if before is None:
        return phase
    apart = abs(phase - before)
    return before if min(apart, interval_seconds - apart) <= interval_seconds / _PHASES else phase


async def _phase(
    client: PrometheusClient, selector: str, interval_seconds: int, at: float
) -> float | None:
    """How long after a multiple of the interval samples are taken, in seconds; None if targets
    differ.

    Measured in eighths of the interval, so that jitter does not change the answer. A sample exactly
    on a multiple belongs to the last eighth of the interval before it.
    """
    found = await client.query(_phases_of(selector, interval_seconds), at=at)
    return _common_phase((sample.labels for sample in found.samples), interval_seconds)


def _phases_of(selector: str, interval_seconds: int) -> str:
    eighth = interval_seconds / _PHASES
    return (
        f'count_values("phase", floor((timestamp({selector}) - {_RESOLUTION_SECONDS / 2})'
        f" / {eighth}) % {_PHASES})"
    )


def _common_phase(found: Iterable[Labels], interval_seconds: int) -> float | None:
    eighth = interval_seconds / _PHASES
    seen = sorted(int(float(dict(labels)["phase"])) for labels in found)
    if len(seen) == 1:
        return (seen[0] + 0.5) * eighth
    if len(seen) == 2 and (seen[1] - seen[0]) % _PHASES in (1, _PHASES - 1):
        # With jitter across two eighths, the border between them.
        return interval_seconds if seen == [0, _PHASES - 1] else seen[1] * eighth
    return None


async def _newest_spacing(client: PrometheusClient, metric: str, matchers: str, at: float) -> float:
    """Seconds between the newest samples of the series that was scraped last; 0 if unknown.

    It needs few samples, so it also works for a source that has just been started.
    """
    newest = await client.query(f"topk(1, timestamp({of_name(metric, matchers)}))", at=at)
    if not newest.samples:
        return 0.0
    labels = _exactly(newest.samples[0].labels)
    times = [newest.samples[0].value]
    while len(times) <= _SPACINGS:
        before = await client.query(
            f"max(timestamp({of_name(metric, labels)}))", at=times[-1] - _RESOLUTION_SECONDS
        )
        if not before.samples:
            break
        times.append(before.samples[0].value)
    # The median, because a lost scrape doubles one of the distances.
    return float(np.median(-np.diff(times))) if len(times) > 1 else 0.0


async def _usual_spacing(client: PrometheusClient, selector: str, at: float) -> float:
    """The same, from the highest number of samples in any window of the last 7 days."""
    grid = Grid.ending_at(at, 7 * 86_400, 6 * 3_600)
    query = f"max(count_over_time({selector}[{_COUNTED_SECONDS}s]))"
    found = await client.query(query, at=at)
    most = max((sample.value for sample in found.samples), default=0.0)
    if most <= 1:
        values = (await client.query_range(query, grid)).frame.values
        most = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
    return _COUNTED_SECONDS / most if most > 1 else 0.0
