"""Which buckets suffice to locate a quantile, so that not all have to be fetched.

A quantile depends only on the total and on the two buckets around it. The last answer with all
buckets shows which these are; each later answer shows whether they still are, which is so while the
quantile lies between the lowest and the highest of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from queuescope.panels import RANKED_QUANTILE
from queuescope.panels.template import RECENT_SECONDS
from queuescope.prometheus.promql import Matcher
from queuescope.timeseries import Floats, Labels

WHOLE_SECONDS = float(RECENT_SECONDS)
"""How often all buckets are fetched all the same, by default.

Finer buckets may have appeared between the known ones. For this long the window of a present
quantile mixes both layouts anyway.
"""

_LE = "le"
_BESIDE = 1
_WORTH_RATIO = 0.6


@dataclass(frozen=True, slots=True)
class _Chosen:
    """``texts`` are the buckets to fetch, as written in their label. The quantile must lie above
    ``lowest``, unless that is the first bucket, and not above ``highest``, unless that is the last.
    """

    texts: frozenset[str]
    lowest: float
    highest: float
    is_first: bool
    is_last: bool
    learnt_at: float


class QuantileBuckets:
    """Remembers, by query name, the buckets around its ``RANKED_QUANTILE``.

    ``clock`` gives our own time, epoch seconds. Nothing older than ``whole_seconds`` is used.
    """

    def __init__(self, clock: Callable[[], float], *, whole_seconds: float = WHOLE_SECONDS) -> None:
        self._clock = clock
        self._whole_seconds = whole_seconds
        self._known: dict[str, _Chosen] = {}

    def matcher(self, name: str) -> str:
        """The matcher for the buckets that suffice, as PromQL; empty if all are needed."""
        chosen = self._known.get(name)
        if chosen is None or not 0 <= self._clock() - chosen.learnt_at < self._whole_seconds:
            return ""
        return str(Matcher(_LE, "=~", "|".join(sorted(map(re.escape, chosen.texts)))))

    def learn(self, name: str, samples: Iterable[tuple[Labels, float]]) -> None:
        """Choose buckets from ``samples``, which hold all there are.

        Nothing is chosen if there is no quantile, or if only a few buckets would be left out.
        """
        self._known.pop(name, None)
        texts, bounds, counts = _buckets(samples)
        if len(bounds) < 2 or not math.isinf(bounds[-1]) or not counts[-1] > 0:
            return
        at = int(np.searchsorted(counts, RANKED_QUANTILE * counts[-1]))
        finite = len(bounds) - 1
        # The quantile's own bucket starts at the bound of the one below it.
        first = max(0, at - 1 - _BESIDE)
        last = min(finite, at + 1 + _BESIDE)
        chosen = {*bounds[first:last], math.inf}
        wanted = frozenset(text for text in texts if float(text) in chosen)
        if last > first and len(wanted) <= _WORTH_RATIO * len(texts):
            self._known[name] = _Chosen(
                wanted, bounds[first], bounds[last - 1], first == 0, last == finite, self._clock()
            )

    def is_enough(self, name: str, samples: Iterable[tuple[Labels, float]]) -> bool:
        """Whether ``samples``, fetched with ``matcher``, determine the quantile.

        They do if they are exactly the requested buckets and the quantile lies between them.
        """
        chosen = self._known.get(name)
        if chosen is None:
            return False
        texts, bounds, counts = _buckets(samples)
        if frozenset(texts) != chosen.texts or not np.isfinite(counts).all():
            return False
        rank = RANKED_QUANTILE * counts[-1]
        # Without observations there is no quantile, whichever buckets are fetched.
        is_idle = not counts.any()
        above = chosen.is_first or rank > counts[bounds.index(chosen.lowest)]
        below = chosen.is_last or rank <= counts[bounds.index(chosen.highest)]
        return bool(is_idle or (above and below))


def _buckets(
    samples: Iterable[tuple[Labels, float]],
) -> tuple[list[str], list[float], Floats]:
    """The label texts, and the bounds in ascending order with their cumulative counts."""
    found: dict[float, float] = {}
    texts = []
    for labels, value in samples:
        text = dict(labels).get(_LE, "")
        try:
            bound = float(text)
        except ValueError:
            continue
        if math.isnan(bound):
            continue
        texts.append(text)
        found[bound] = found.get(bound, 0.0) + value
    bounds = sorted(found)
    counts = np.maximum.accumulate(np.array([found[bound] for bound in bounds]))
    return texts, bounds, counts
