"""Whether a source holds each series several times, because several Prometheus servers scrape it.

That is the case if series come in groups that differ only in one label, which all of them have, and
the members of a group have the same counts.
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
"""The number of series to compare for each metric: those with the highest values, so that replicas
are found together.
"""

_METRIC = "queuescope_metric"
_SPAN = "15m"
_TARGET_LABELS = ("instance", "pod", "container", "job")
_EXPORTED = "exported_"
_REPLICA = re.compile(r"replica|^prometheus$|^monitor$", re.IGNORECASE)
_MOST_REPLICAS = 8
_PAIRED = 0.9
# For a label with such a name, similar values suffice, since gauges move between two scrapes. For
# any other label the counts must be equal, and large enough not to be equal by chance.
_ALIKE_IF_NAMED, _ALIKE = 0.5, 0.98
_COUNTED = 100.0


async def find_replica_labels(
    client: PrometheusClient, dashboard: Dashboard, matchers: str, at: float
) -> tuple[str, ...]:
    """The labels that distinguish replicas, besides the ``replica_labels`` of ``dashboard``; empty
    if each series exists once. Raises ``SourceError``.
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
    """The labels in which alone groups of ``series`` differ; one with a typical name comes first.

    ``breakdowns`` are labels that describe jobs.
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
    """A sentence about replicas that differ in ``labels``, with the setting to write."""
    which = plural(len(labels), "label")
    return (
        f"Each series exists more than once, differing only in the {which} {' and '.join(labels)}: "
        "several Prometheus servers scrape the same targets, and every count is multiplied. "
        f'Set replica_labels = "{",".join(labels)}" to count each once.'
    )


def _moving_together(names: Iterable[str], series: Iterable[Labels]) -> list[tuple[str, ...]]:
    """``names`` that have several values, grouped by labels whose values determine each other."""
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
    # A different target is a different source, unless federation hides the target.
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
