"""The content from the sources besides Prometheus: sources, past operations and failures, in the
words that the page shows. All times are given by Prometheus's clock, like those of the charts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from queuescope.health import Finding, Health
from queuescope.known import Known
from queuescope.panels import Measure
from queuescope.timeseries import State
from queuescope.view.present.live_sources import Failures, FigureOrigin, LiveSource, PastOperations

MOST_OPERATIONS = 200
"""The most past operations that are shown; older ones are left out."""


def source_findings(sources: Iterable[LiveSource], offset_seconds: float) -> list[Finding]:
    """One finding for each source that does not answer, and the findings that the others report."""
    sources = tuple(sources)
    away = [
        Finding(
            source.origin,
            Health.UNKNOWN,
            since=_moment(source.known.failing_since, offset_seconds),
            cause=source.cause,
        )
        for source in sources
        if not source.is_fresh
    ]
    fresh = [source.report for source in sources if source.is_fresh]
    return away + [finding for report in fresh for finding in report.findings]


def source_content(
    sources: Iterable[LiveSource], measures: Mapping[str, Measure], offset_seconds: float
) -> list[dict[str, Any]]:
    """Each source with its state, its as-of time, and the measures that it reports."""
    return [
        {
            "id": source.origin,
            "title": source.origin.heading,
            "state": source.known.state,
            "asOf": _moment(source.known.as_of, offset_seconds),
            "since": _moment(source.known.failing_since, offset_seconds),
            "cause": source.cause,
            "kind": source.known.kind,
            "measures": [one.title for name, one in measures.items() if name in source.measures],
            "notes": source.notes,
        }
        for source in sources
    ]


def operations_content(
    operations: PastOperations | None, sources: Iterable[LiveSource], offset_seconds: float
) -> dict[str, Any] | None:
    """The newest past operations, with the state of the audit; None if there is no audit."""
    audit = next((source for source in sources if source.origin is FigureOrigin.AUDIT), None)
    if audit is None:
        return None
    found = PastOperations() if operations is None else operations
    shown = found.operations[-MOST_OPERATIONS:]
    begin = found.begin
    if len(found.operations) > len(shown):
        begin = shown[0].at
    return {
        "state": State.IDLE if audit.is_fresh and not shown else audit.known.state,
        "asOf": _moment(audit.known.as_of, offset_seconds),
        "begin": _moment(begin, offset_seconds),
        "list": [
            {
                "at": one.at + offset_seconds,
                "actor": one.actor,
                "words": one.words,
                "result": one.result,
                "detail": one.detail,
            }
            for one in shown
        ],
    }


def failure_content(known: Known[Failures] | None, offset_seconds: float) -> dict[str, Any] | None:
    """The failures of the last day; None if there is no job history."""
    if known is None:
        return None
    failures = known.value or Failures()
    return {
        "state": State.IDLE if known.is_fresh and not failures.count else known.state,
        "cause": known.cause or ("" if known.value else "it has not been read yet"),
        "asOf": _moment(known.as_of, offset_seconds),
        "since": _moment(known.failing_since, offset_seconds),
        "count": failures.count,
        "groupCount": failures.group_count,
        "isWhole": failures.is_whole,
        "groups": [
            {
                "id": group.fingerprint,
                "name": group.name,
                "error": group.error_class,
                "pattern": group.pattern,
                "count": group.count,
                "lastAt": _moment(group.last_at, offset_seconds),
                "tenants": group.tenants,
                "tenantCount": group.tenant_count,
            }
            for group in failures.groups
        ],
        "last": [
            {
                "id": job.id,
                # The address needs the real id, including characters that cannot be seen.
                "find": quote(job.id, safe="", errors="replace"),
                "name": job.name,
                "tenant": job.tenant,
                "status": job.status,
                "at": _moment(job.at, offset_seconds),
                "error": job.error_class,
                "message": " ".join(job.message.split()),
            }
            for job in failures.last
        ],
    }


def _moment(at: float | None, offset_seconds: float) -> float | None:
    """The same instant by the clock of Prometheus, which is ``offset_seconds`` ahead of ours."""
    return None if at is None else at + offset_seconds
