"""What the sources besides Prometheus say: the best figure of each measure, sources and acts in
the words that the page shows. All times that leave here are the source's, as the charts' are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from queuescope.health import Finding, Health
from queuescope.panels import Measure
from queuescope.timeseries import State
from queuescope.view.overview.words import Figure
from queuescope.view.present.live_sources import Acts, Failures, LiveSource, Origin
from queuescope.view.present.questions import Present

MOST_ACTS = 200
"""So many of the newest acts are told at most."""


def best_figure(
    measure: Measure, figure: Figure, sources: Iterable[LiveSource], offset_seconds: float
) -> Figure:
    """The figure of ``measure``: that of the source which tells it best, while that answers.

    Otherwise ``figure``, that of Prometheus, and why; where neither has one of now, the newest of
    the last good ones. ``offset_seconds`` is how far the clock of Prometheus is ahead of ours.
    """
    source = next((one for one in sources if measure.id in one.measures), None)
    if source is None:
        return figure
    live = source.figures.get(measure.id)
    as_of = None if source.as_of is None else source.as_of + offset_seconds
    own = None
    if live is not None and as_of is not None:
        own = Figure(
            Present(live.shown, as_of, source.cause, over_seconds=live.over_seconds),
            None if live.beside is None else Present(live.beside, as_of, source.cause),
            origin=source.origin,
            out_of=live.out_of,
            remark=live.remark,
            notes=live.notes,
            quantiles=live.quantiles,
        )
    if own is not None and source.is_fresh:
        return own
    if source.is_fresh:
        why = source.why_not.get(measure.id, "")
        return replace(
            figure,
            notes=(f"Not from {source.origin.words}: {why}.",) if why else (),
            is_unmeasured=figure.is_unmeasured and measure.id not in source.expected,
        )
    is_known = figure.shown.value is not None and not figure.is_stale
    is_newer = figure.shown.as_of is None or (as_of is not None and as_of > figure.shown.as_of)
    if own is not None and not is_known and (figure.shown.value is None or is_newer):
        return own
    return replace(figure, missed=source.cause, is_unmeasured=False)


def source_findings(sources: Iterable[LiveSource], offset_seconds: float) -> list[Finding]:
    """Each source that does not answer, and what the others say beyond figures."""
    sources = tuple(sources)
    away = [
        Finding(
            source.origin,
            Health.UNKNOWN,
            since=None if source.failing_since is None else source.failing_since + offset_seconds,
            cause=source.cause,
        )
        for source in sources
        if not source.is_fresh
    ]
    return away + [finding for source in sources if source.is_fresh for finding in source.findings]


def source_content(
    sources: Iterable[LiveSource], measures: Mapping[str, Measure], offset_seconds: float
) -> list[dict[str, Any]]:
    """Each source with its state, as of when, and what it is asked for."""

    def moment(at: float | None) -> float | None:
        return None if at is None else at + offset_seconds

    return [
        {
            "id": source.origin,
            "title": source.origin.heading,
            "state": source.state,
            "asOf": moment(source.as_of),
            "since": moment(source.failing_since),
            "cause": source.cause,
            "kind": source.kind,
            "tells": [one.title for name, one in measures.items() if name in source.measures],
        }
        for source in sources
    ]


def act_content(
    acts: Acts | None, sources: Iterable[LiveSource], offset_seconds: float
) -> dict[str, Any] | None:
    """The newest acts and how far they can be trusted; None where there is no audit."""
    audit = next((source for source in sources if source.origin is Origin.AUDIT), None)
    if audit is None:
        return None
    found = Acts() if acts is None else acts
    shown = found.acts[-MOST_ACTS:]
    begin = found.begin
    if len(found.acts) > len(shown):
        begin = shown[0].at
    return {
        "state": State.IDLE if audit.is_fresh and not shown else audit.state,
        "asOf": None if audit.as_of is None else audit.as_of + offset_seconds,
        "begin": None if begin is None else begin + offset_seconds,
        "list": [
            {
                "at": act.at + offset_seconds,
                "actor": act.actor,
                "words": act.words,
                "result": act.result,
                "detail": act.detail,
            }
            for act in shown
        ],
    }


def failure_content(failures: Failures | None, offset_seconds: float) -> dict[str, Any] | None:
    """The failures of the last day; None where there is no job history."""
    if failures is None:
        return None

    def moment(at: float | None) -> float | None:
        return None if at is None else at + offset_seconds

    state = State.STALE if failures.cause else State.FRESH if failures.count else State.IDLE
    if failures.as_of is None:
        state = State.UNAVAILABLE
    return {
        "state": state,
        "cause": failures.cause or ("" if failures.as_of else "it has not been read yet"),
        "asOf": moment(failures.as_of),
        "since": moment(failures.failing_since),
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
                "lastAt": moment(group.last_at),
                "tenants": group.tenants,
                "tenantCount": group.tenant_count,
            }
            for group in failures.groups
        ],
        "last": [
            {
                "id": job.id,
                # In an address it stands as it is, whatever cannot be seen in it.
                "find": quote(job.id, safe="", errors="replace"),
                "name": job.name,
                "tenant": job.tenant,
                "status": job.status,
                "at": moment(job.at),
                "error": job.error_class,
                "message": " ".join(job.message.split()),
            }
            for job in failures.last
        ],
    }
