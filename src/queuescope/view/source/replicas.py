"""Whether a source holds each series several times, scraped by several Prometheus servers.

That is so where series come in groups that differ in one label alone, a label that stands on all of
them, and the members of a group count alike.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from queuescope.panels import Dashboard
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import label_text, selector, union
from queuescope.timeseries import Labels
from queuescope.words import plural

_LOOKED_AT = 200
"""Series of each metric: those that count highest, so that replicas come together."""

_METRIC = "queuescope_metric"
_SPAN = "15m"
_TARGET_LABELS = ("instance", "pod", "container", "job")
_EXPORTED = "exported_"
_REPLICA = re.compile(r"replica|^prometheus$|^monitor$", re.IGNORECASE)
_MOST_REPLICAS = 8
_PAIRED = 0.9
# Of a label that is named so, values that only resemble each other are enough: gauges move between
# two scrapes. Any other must have counted exactly the same, and enough to be no coincidence.
_ALIKE_IF_NAMED, _ALIKE = 0.5, 0.98
_COUNTED = 100.0


async def find_replica_labels(
    client: PrometheusClient, dashboard: Dashboard, matchers: str, at: float
) -> tuple[str, ...]:
    """The labels that tell replicas apart, besides those that ``dashboard`` allows for; empty where
    each series is there once. Raises ``SourceError``.
    """
    metrics = dict.fromkeys(name for panel in dashboard.all_panels for name in panel.metrics)
    parts = {}
    for metric in metrics:
        newest = f"last_over_time({selector(metric, matchers)}[{_SPAN}])"
        if dashboard.replica_labels:
            newest = (
                f"max without ({', '.join(map(label_text, dashboard.replica_labels))}) ({newest})"
            )
        parts[metric] = f"topk({_LOOKED_AT}, {newest})"
    answer = await client.query(union(_METRIC, parts), at=at)
    series = {sample.labels: sample.value for sample in answer.samples}
    return replica_labels(series, breakdowns=dashboard.breakdowns)


def replica_labels(series: Mapping[Labels, float], *, breakdowns: Sequence[str]) -> tuple[str, ...]:
    """The labels by which alone groups of ``series`` differ, the one that is named so first.

    ``breakdowns`` are labels that say something of jobs.
    """
    if not series:
        return ()
    common = set.intersection(*({name for name, _ in labels} for labels in series))
    names = sorted(common - {_METRIC, "__name__", "le", "quantile"})
    for group in _moving_together(names, series):
        named = sorted(name for name in group if _REPLICA.search(name))
        others = [name for name in group if name not in named]
        if _are_replicas(group, series, named=bool(named), breakdowns=breakdowns):
            return (*named, *others)
    return ()


def replica_words(labels: Sequence[str]) -> str:
    """What to say of replicas that differ in ``labels``, and the setting to write."""
    which = plural(len(labels), "label")
    return (
        f"Each series is there more than once, apart in the {which} {' and '.join(labels)}: "
        "several Prometheus servers scrape the same targets, and every count is multiplied. "
        f'Set replica_labels = "{",".join(labels)}" to count each once.'
    )


def _moving_together(names: Iterable[str], series: Iterable[Labels]) -> list[tuple[str, ...]]:
    """``names`` that have several values, in groups of those of which each tells the others."""
    values = {name: tuple(dict(labels)[name] for labels in series) for name in names}
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, found in values.items():
        distinct = {value: number for number, value in enumerate(dict.fromkeys(found))}
        if 2 <= len(distinct) <= _MOST_REPLICAS:
            groups[tuple(distinct[value] for value in found)].append(name)
    found_groups = [tuple(group) for group in groups.values()]
    return sorted(found_groups, key=lambda group: not any(map(_REPLICA.search, group)))


def _are_replicas(
    group: Sequence[str],
    series: Mapping[Labels, float],
    *,
    named: bool,
    breakdowns: Sequence[str],
) -> bool:
    of_jobs = set(breakdowns) - set(_TARGET_LABELS)
    if of_jobs.intersection(group):
        return False
    exported = {name for labels in series for name, _ in labels if name.startswith(_EXPORTED)}
    # Another target is another source of its own, unless a federation hides whose it is.
    if any(n in group and _EXPORTED + n not in exported for n in ("instance", "pod", "container")):
        return False
    groups: dict[Labels, list[float]] = defaultdict(list)
    for labels, value in series.items():
        groups[tuple(pair for pair in labels if pair[0] not in group)].append(value)
    several = [values for values in groups.values() if len(values) > 1]
    if len(several) < _PAIRED * len(groups):
        return False
    finite = [values for values in several if all(map(math.isfinite, values))]
    lowest = sum(abs(min(values, key=abs)) for values in finite)
    highest = sum(abs(max(values, key=abs)) for values in finite)
    if named:
        return lowest >= _ALIKE_IF_NAMED * highest
    return highest >= _COUNTED and lowest >= _ALIKE * highest
