"""The verdict with its reasons, as the page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from queuescope.figures import figure_words, value_words
from queuescope.health import Finding, Health, Verdict, Worse
from queuescope.panels import Kind, Measure
from queuescope.view.overview.reason import Reason, is_judged, panel_of
from queuescope.view.source.scrapes import ago_words, late_words
from queuescope.words import plural

STALL = "stall"
"""The rule for a queue whose jobs wait while none is completed."""
UNMEASURED = "unmeasured"
"""The rule for a page on which no judged measure has data."""


def verdict_content(
    verdict: Verdict,
    measures: dict[str, Measure],
    depth: float | None,
    unmeasured: Sequence[Measure] = (),
    *,
    late: Mapping[str, float],
    behind_seconds: float,
) -> dict[str, Any]:
    """The verdict with the reason of its worst finding, and all findings. A healthy verdict also
    names the measures that have no data here. ``late`` is, by title, how old judged figures are
    because their samples arrive late; ``behind_seconds`` is how late all samples are.
    """
    findings: list[dict[str, Any]] = [
        {
            "rule": finding.measure,
            "state": finding.health,
            "reason": _reason(finding, measures.get(finding.measure), depth),
            "since": finding.since,
            "panel": panel_of(measures.get(finding.measure)),
        }
        for finding in verdict.findings
    ]
    older = _late_reasons(late, behind_seconds)
    if findings:
        reason = [*findings[0]["reason"], *older]
    else:
        left_out = [m.title for m in unmeasured if is_judged(m)]
        limited = sum(is_judged(m) for m in measures.values()) - len(left_out)
        reason = [
            "the one check is within its limits"
            if limited == 1
            else f"all {limited} checks are within their limits",
            *older,
        ]
        if left_out:
            verb = plural(len(left_out), "is", "are")
            reason.append(f"; {_listed(left_out)} {verb} not measured here")
    return {
        "state": verdict.health,
        "words": verdict.health.capitalize(),
        "reason": reason,
        "findings": findings,
    }


def _late_reasons(late: Mapping[str, float], behind_seconds: float) -> list[str]:
    """Which parts of the verdict are of an earlier time."""
    said = []
    for seconds in sorted(set(late.values()) - {0.0}):
        if seconds == behind_seconds:
            words = late_words(seconds)
            said.append(f"; Prometheus is {words} behind, so this was {words} ago")
            continue
        titles = [title for title, one in late.items() if one == seconds]
        verb = plural(len(titles), "was", "were")
        said.append(f"; {_listed(titles)} {verb} so {ago_words(seconds)}")
    return said


def _reason(finding: Finding, measure: Measure | None, depth: float | None) -> Reason:
    if finding.measure == STALL:
        jobs = (
            "jobs are waiting" if depth is None else f"{_jobs(depth)} and none has been completed"
        )
        return [f"{jobs} for 10 min"]
    if finding.health is Health.UNKNOWN and finding.bounds is None:
        what = "" if measure is None else f"{measure.title} is not known: "
        return [what + finding.cause, *_since(finding)]
    if measure is None or measure.limits is None or finding.value is None or finding.limit is None:
        return [finding.cause, *_since(finding)]
    kind, unit = measure.panel.kind, measure.panel.unit
    value = figure_words(kind, finding.value, finding.bounds)
    limit = value_words(kind, finding.limit)
    if kind is Kind.COUNT:
        value, limit = f"{value} {unit}", f"{limit}"
    side = "limit" if measure.limits.worse is Worse.ABOVE else "should be at least"
    title = measure.title
    if finding.health is Health.UNKNOWN:
        return [f"{title} is {value}: it is not known whether that exceeds the limit, {limit}"]
    if measure.id == "active_workers" and finding.value == 0:
        return ["no worker is up", *_since(finding)]
    return [f"{title} is {value}, {side} {limit}", *_since(finding)]


def _since(finding: Finding) -> Reason:
    if finding.since is None:
        return []
    return [", since before " if finding.began_before else ", since ", {"at": finding.since}]


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _jobs(count: float) -> str:
    return f"{value_words(Kind.COUNT, count)} {plural(count, 'job waits', 'jobs wait')}"
