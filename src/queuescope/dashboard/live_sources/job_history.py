"""The results of the last day's jobs, as the job history reports them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from queuescope.figures import duration_words
from queuescope.panels import RANKED_QUANTILE
from queuescope.panels.template import RECENT_SECONDS
from queuescope.view.present.live_sources import FigureOrigin, LiveFigure, LiveReport, LiveSource
from queuescope.words import counted

if TYPE_CHECKING:
    from queuescope.jobs.totals import JobTotals
    from queuescope.known import Known

MEASURES = frozenset({"success_rate", "throughput", "p95_latency"})
_DAY_SECONDS = 86_400
_NOT_SORTED = (
    "more jobs ended in the last five minutes than can be sorted, or it is not known when they "
    "were due"
)


def history_source(known: Known[JobTotals]) -> LiveSource:
    """The results of the last day's jobs, as the job history reports them."""
    return LiveSource(FigureOrigin.JOB_HISTORY, known.map(_report), MEASURES)


def _report(totals: JobTotals) -> LiveReport:
    figures: dict[str, LiveFigure] = {}
    why_not = dict.fromkeys(MEASURES, "the job history holds no job of the last 24 hours")
    if totals.ended_in_day:
        why_not = {"p95_latency": _NOT_SORTED}
        lately = totals.covered(RECENT_SECONDS)
        notes: tuple[str, ...] = ()
        if totals.began_at is not None and totals.at - totals.began_at < _DAY_SECONDS:
            since = duration_words(totals.at - totals.began_at)
            notes = (f"The job history holds only the last {since}.",)
        figures = {
            "success_rate": LiveFigure(
                totals.success_percent_lately,
                totals.success_percent_of_day,
                notes=notes,
                over_seconds=lately,
            ),
            "throughput": LiveFigure(totals.ended_per_minute, over_seconds=lately),
        }
        if (latency := _latency(totals)) is not None:
            figures["p95_latency"] = latency
            del why_not["p95_latency"]
    return LiveReport(
        figures,
        why_not,
        completion_per_second=totals.left_per_second,
        completion_seconds=_less_than(totals, totals.window_seconds),
    )


def _less_than(totals: JobTotals, seconds: float) -> float | None:
    """The window that was counted, if the history holds less than the last ``seconds``;
    else None.
    """
    covered = totals.covered(seconds)
    return covered if covered < seconds else None


def _latency(totals: JobTotals) -> LiveFigure | None:
    """P95 and the other quantiles in milliseconds; None if the history cannot give them."""
    over = totals.covered(RECENT_SECONDS)
    if not totals.measured_lately:
        return LiveFigure(math.nan, over_seconds=over)
    p95 = totals.latencies.get(RANKED_QUANTILE)
    if p95 is None:
        return None
    exactly = {quantile: 1000 * seconds for quantile, seconds in totals.latencies.items()}
    jobs = counted(totals.measured_lately, "job")
    note = f"From {jobs} that succeeded or failed in the last {duration_words(over)}."
    return LiveFigure(1000 * p95, notes=(note,), quantiles=exactly, over_seconds=over)
