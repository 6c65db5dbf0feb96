"""The standing in the words and numbers that the page shows.

A reason is a list of texts and instants (``{"at": epoch seconds}``, source time), which the page
writes in its reader's zone.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from queuescope.figures import Bounds, figure_words, over_words, value_words
from queuescope.health import Drain, DrainState, Finding, Health, Limits, Verdict, Worse
from queuescope.panels import Kind, Measure
from queuescope.panels.template import RECENT_SECONDS
from queuescope.timeseries import Floats, Reading, State
from queuescope.view.overview.alerts import Alerts
from queuescope.view.present.live_sources import Origin
from queuescope.view.present.questions import Present
from queuescope.view.source.scrapes import ago_words, late_words
from queuescope.words import counted, plural

Reason = list[str | dict[str, float]]

_MINUTE = 60
_SAME_RATIO = 0.005
_PARTIAL = "Prometheus warned that its answer may be incomplete"
_NOTHING = "Nothing happened to be measured."
_NO_OLDER = "there are no older jobs in the last minutes"
_SCRAPED_RARELY = "it is scraped so rarely that no shorter time holds enough samples"
_BETWEEN = "The buckets of the histogram tell no more than between what it lies."
STALL = "stall"
"""The rule of a queue in which work waits and none is completed."""
UNMEASURED = "unmeasured"
"""The rule of a page on which nothing that could be judged is measured."""
_OPERATIONS = {"path": "operations", "title": "Operations"}
_WORKERS = {"path": "workers", "title": "Workers"}
_PAGES = {
    "queue_depth": [_OPERATIONS],
    "success_rate": [{"path": "jobs", "title": "Jobs"}],
    "active_workers": [_WORKERS],
    "throughput": [_WORKERS],
    "oldest_waiting": [_OPERATIONS],
}
"""Where to go on from a card."""
_BEYOND = {Worse.ABOVE: "too high", Worse.BELOW: "too low"}


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure's figure of now: the one that card, chart and verdict have in common.

    ``beside`` is what the card tells beside it, where it does. ``outage`` says why the source does
    not answer, empty while it does. ``missed`` says why the figure is not from the source that
    would tell it best. ``out_of`` is the whole of which it counts a part, ``remark`` what should be
    seen of it at once, and ``notes`` are sentences for whoever looks closer. ``quantiles`` are all
    those that were measured together with it. What ``is_unmeasured`` no source has ever told.
    """

    shown: Present
    beside: Present | None = None
    outage: str = ""
    origin: Origin = Origin.PROMETHEUS
    missed: str = ""
    out_of: int | None = None
    remark: str = ""
    notes: tuple[str, ...] = ()
    quantiles: Mapping[float, float] = field(default_factory=dict)
    is_unmeasured: bool = False

    @property
    def is_stale(self) -> bool:
        """Whether what is shown is of ``shown.as_of`` and no newer one can be had."""
        return bool(self.outage or self.shown.cause)

    @property
    def whole(self) -> float | None:
        """What the card shows, where it is of now and all of it; else None."""
        return None if self.is_stale or self.shown.warnings else self.shown.value

    @property
    def cause(self) -> str:
        """Why there is nothing to show, or nothing newer, better or more than part of it."""
        own = self._own_cause
        if not self.missed:
            return own
        if self.shown.value is None or self.is_stale:
            return f"{self.missed}. {own[:1].upper()}{own[1:]}"
        return f"From {self.origin.words}: {self.missed}"

    @property
    def _own_cause(self) -> str:
        if self.is_stale:
            return self.outage or self.shown.cause
        if self.shown.as_of is None:
            return "Prometheus has not answered yet"
        if self.shown.warnings:
            return _PARTIAL
        if self.is_unmeasured:
            return "Not measured here"
        return "Nothing was measured in the last minutes" if self.shown.value is None else ""

    @property
    def doubt(self) -> str:
        """Why nothing is proven, where nothing is."""
        own = self.outage or self.shown.cause or (_PARTIAL if self.shown.warnings else "")
        return own if own and not self.missed else self.cause

    def proven(self, measure: Measure) -> float | None:
        """The figure that the verdict may judge; None: nothing is proven.

        An old one proves nothing. Part of the jobs that wait can prove that there are too many of
        them, but never that all is well; part of anything else proves nothing.
        """
        value, limits = self.shown.value, measure.limits
        if value is None or self.is_stale:
            return None
        if not self.shown.warnings:
            return value
        if (
            limits is None
            or limits.worse is not Worse.ABOVE
            or measure.panel.kind is not Kind.COUNT
        ):
            return None
        return None if limits.broken(value) is None else value


def verdict_content(
    verdict: Verdict,
    measures: dict[str, Measure],
    depth: float | None,
    unmeasured: Sequence[Measure] = (),
    *,
    late: Mapping[str, float],
    behind_seconds: float,
) -> dict[str, Any]:
    """The verdict with the reason of its worst finding, and every finding; what is not measured
    here is told beside a verdict that all is well. ``late`` is, by title, how old figures
    are that were judged, because samples arrive late: all of Prometheus by ``behind_seconds``.
    """
    findings: list[dict[str, Any]] = [
        {
            "rule": finding.measure,
            "state": finding.health,
            "reason": _reason(finding, measures.get(finding.measure), depth),
            "since": finding.since,
            "panel": _panel_of(measures.get(finding.measure)),
        }
        for finding in verdict.findings
    ]
    older = _late_reasons(late, behind_seconds)
    if findings:
        reason = [*findings[0]["reason"], *older]
    else:
        left_out = [m.title for m in unmeasured if _is_judged(m.limits)]
        limited = sum(_is_judged(m.limits) for m in measures.values()) - len(left_out)
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
    """What of the verdict was so a while ago."""
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


def card_content(
    measure: Measure,
    figure: Figure,
    changes: dict[str, Bounds | None],
    history: Reading,
    spark: Floats | None,
    *,
    outlook: Drain | None = None,
    drain: Mapping[str, Any] | None = None,
    ends: Mapping[str, Present] | None = None,
    says_why: bool = True,
) -> dict[str, Any]:
    """One card; ``drain`` is what it tells of how the queue moves (``drain_content``), and ``ends``
    what the curves of its chart come to now, by their names. Part of a figure is compared with
    nothing: it differs by what it lacks. Unless it ``says_why``, a card that was never measured
    says so in its details only.
    """
    kind, limits = measure.panel.kind, measure.limits
    worse = None if limits is None else limits.worse
    state = _state(figure, history)
    level = _level(figure, measure)
    if figure.shown.warnings and level == "good":
        level = "none"
    level_words = "" if level in ("none", "good") or worse is None else _BEYOND[worse]
    if figure.remark and not level_words and state in (State.FRESH, State.PARTIAL):
        level, level_words = "warn", figure.remark
    return {
        "id": measure.id,
        "title": measure.title,
        "state": state,
        "cause": _cause(figure, state) if says_why or not figure.is_unmeasured else "",
        "warnings": figure.shown.warnings,
        "asOf": figure.shown.as_of,
        "level": level,
        "levelWords": level_words,
        "words": _words(kind, figure.shown, figure.out_of),
        "origin": figure.origin,
        "instead": f"from {figure.origin.words}" if figure.missed else "",
        "details": _details(measure, figure, history, outlook),
        "unit": measure.panel.unit if kind is Kind.COUNT else "",
        "note": _note(measure, figure),
        "late": _late_words(figure),
        "beside": _beside(measure, figure),
        "changes": _judged(
            {"against": name, **_change(kind, worse, change, figure.shown)}
            for name, change in changes.items()
            if not figure.shown.warnings
        ),
        "spark": None
        if spark is None or history.frame is None
        else {
            "state": history.state,
            "values": base64.b64encode(spark.astype(np.float32).tobytes()).decode(),
            "from": history.frame.grid.start,
            "to": history.frame.grid.end,
        },
        "limit": None if limits is None else limits.degraded,
        "drain": drain,
        "panel": _panel_of(measure),
        "pages": _PAGES.get(measure.id, []),
        "ends": {
            name: {
                "value": end.value,
                "words": end.words(kind),
                "between": _finite(end.bounds),
                "over": over_words(end.over_seconds),
            }
            for name, end in (ends or {}).items()
            if end.value is not None and math.isfinite(end.value)
        },
    }


def _finite(bounds: Bounds | None) -> list[float | None] | None:
    return None if bounds is None else [b if math.isfinite(b) else None for b in bounds]


def drain_content(found: Drain, scheduled: int = 0) -> dict[str, Any]:
    """The drain verdict in a sentence's words, with its numbers. ``scheduled`` jobs wait for their
    time.
    """
    per_minute = None if found.growth_per_second is None else found.growth_per_second * _MINUTE
    brief, sentence = _drain_words(found, per_minute)
    if scheduled:
        # Without it nobody would know of them where nothing waits.
        is_empty = found.state is DrainState.EMPTY
        brief = f"{scheduled:,} scheduled" if is_empty else brief
        sentence += f" {scheduled:,} {plural(scheduled, 'is', 'are')} scheduled for later."
    return {
        "state": found.state,
        "brief": brief,
        "words": sentence,
        "seconds": found.seconds,
        "soonestSeconds": found.soonest_seconds,
        "latestSeconds": found.latest_seconds,
        "arrivalPerMinute": _per_minute(found.arrival_per_second),
        "completionPerMinute": _per_minute(found.completion_per_second),
    }


def alert_content(alerts: Alerts) -> dict[str, Any]:
    """The alerts and how far they can be trusted."""
    return {
        "alerts": [
            {
                "name": alert.name,
                "state": alert.state,
                "severity": alert.severity,
                "summary": alert.summary,
                "since": alert.since,
                "panel": alert.panel,
                "labels": dict(alert.labels),
            }
            for alert in alerts.active
        ],
        "alertsMore": alerts.more,
        "alertsState": alerts.state,
        "alertsCause": alerts.cause,
        "alertsAsOf": alerts.as_of,
    }


def _words(kind: Kind, shown: Present, out_of: int | None = None) -> str:
    if shown.value == 0 and shown.bounds is None and kind is Kind.LATENCY:
        return "0 s"
    words = shown.words(kind)
    return words if out_of is None else f"{words} of {out_of}"


def _beside(measure: Measure, figure: Figure) -> str:
    """What the card tells beside its figure; empty where that is not whole or not of now."""
    beside = figure.beside
    if beside is None or beside.value is None or math.isnan(beside.value):
        return ""
    is_old = beside.cause or (figure.outage and figure.origin is Origin.PROMETHEUS)
    if is_old or beside.warnings:
        return ""
    return f"{beside.words(measure.panel.kind)} in {measure.note}"


def _over_words(figure: Figure) -> str:
    """Over how long the figure was measured, where that is not the usual five minutes."""
    seconds = figure.shown.over_seconds
    if seconds is None or seconds == RECENT_SECONDS or figure.shown.value is None:
        return ""
    return f"over {over_words(seconds)}"


def _note(measure: Measure, figure: Figure) -> str:
    """What stands beside the title: what is unusual of the figure, else what it always is."""
    unusual = _late_words(figure) or _over_words(figure)
    return unusual or ("" if measure.has_beside else measure.note)


def _late_words(figure: Figure) -> str:
    return "" if figure.shown.value is None else ago_words(figure.shown.late_seconds)


def _details(
    measure: Measure, figure: Figure, history: Reading, outlook: Drain | None
) -> list[Reason]:
    """Where the figure is from and as of when, and what is to be known of it."""
    said: list[Reason] = []
    shown = figure.shown
    if shown.value is not None and shown.as_of is not None:
        said.append([f"From {figure.origin.words}, as of ", {"at": shown.as_of}, "."])
    if figure.cause:
        said.append([_sentence(figure.cause)])
    said += [[note] for note in figure.notes]
    if over := _over_words(figure):
        is_short = (shown.over_seconds or 0) < RECENT_SECONDS
        said.append([f"Measured {over}: {_NO_OLDER if is_short else _SCRAPED_RARELY}."])
    if shown.late_seconds:
        late = late_words(shown.late_seconds)
        said.append([f"Its samples arrive in Prometheus {late} late: none is younger."])
    if beside := _beside(measure, figure):
        said.append([f"{beside}."])
    if shown.bounds is not None:
        said.append([_BETWEEN])
    if outlook is not None:
        said.append([drain_content(outlook)["words"]])
    if limits := _limit_words(measure):
        said.append([limits])
    if figure.origin is not Origin.PROMETHEUS:
        curve: Reason = ["The curve and what it is compared with are from Prometheus"]
        if history.state is State.STALE and history.as_of is not None:
            curve += [", as of ", {"at": history.as_of}]
        said.append([*curve, "."])
    return said


def _limit_words(measure: Measure) -> str:
    limits, panel = measure.limits, measure.panel
    if limits is None:
        return ""
    parts = [
        f"{health} {limits.worse} {value_words(panel.kind, limit)}"
        for health, limit in (("degraded", limits.degraded), ("down", limits.down))
        if limit is not None
    ]
    return _sentence(", ".join(parts))


def _sentence(text: str) -> str:
    text = f"{text[:1].upper()}{text[1:]}"
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _state(figure: Figure, history: Reading) -> State:
    shown = figure.shown
    if shown.value is None:
        # What is missing in part of an answer may be in the rest of it.
        known = shown.as_of is not None and not figure.is_stale and not shown.warnings
        return State.EMPTY if known else State.UNAVAILABLE
    if figure.is_stale:
        return State.STALE
    if shown.warnings:
        return State.PARTIAL
    if math.isnan(shown.value):
        return State.IDLE
    lacks = figure.missed or history.state is State.PARTIAL
    return State.PARTIAL if lacks else State.FRESH


def _cause(figure: Figure, state: State) -> str:
    if state is State.IDLE:
        return _NOTHING
    return figure.cause or (_PARTIAL if state is State.PARTIAL else "")


def _level(figure: Figure, measure: Measure) -> str:
    """``good``, ``warn`` or ``bad`` by the limits; ``none`` where nothing is judged or proven."""
    limits, value = measure.limits, figure.proven(measure)
    if limits is None or not _is_judged(limits) or value is None or math.isnan(value):
        return "none"
    broken = limits.judged(value, figure.shown.bounds)
    if broken is None:
        return "good"
    return {Health.DOWN: "bad", Health.UNKNOWN: "none"}.get(broken[0], "warn")


def _is_judged(limits: Limits | None) -> bool:
    return limits is not None and limits.is_set


def _judged(changes: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Better or worse only by all that is compared with, and by two moments at least: one of them
    alone may itself have been unusual, such as a burst of yesterday.
    """
    found = list(changes)
    tones = {change["tone"] for change in found}
    if len(found) > 1 and len(tones) == 1:
        return found
    return [{**change, "tone": "neutral"} for change in found]


def _change(
    kind: Kind, worse: Worse | None, between: Bounds | None, present: Present
) -> dict[str, str]:
    """``between`` what the change lies; both are one where it is known exactly."""
    if between is None or present.value is None:
        return {"words": "no data", "direction": "none", "tone": "neutral"}
    shown, (change, most) = present.value, between
    is_exact = change == most
    if not is_exact and change <= 0 <= most:
        return {"words": "about the same", "direction": "same", "tone": "neutral"}
    if is_exact and (
        abs(change) <= _SAME_RATIO * max(abs(shown), abs(shown - change)) or _is_small(kind, change)
    ):
        return {"words": "the same", "direction": "same", "tone": "neutral"}
    direction = "up" if change > 0 else "down"
    if worse is None:
        tone = "neutral"
    else:
        tone = "worse" if (change > 0) == (worse is Worse.ABOVE) else "better"
    sign = "+" if change > 0 else "−"
    size = abs(change)
    if not is_exact:
        least, size = sorted((abs(change), abs(most)))
        if math.isinf(size) and _is_small(kind, least):
            words = "more" if change > 0 else "less"
        elif _is_small(kind, least):
            words = figure_words(kind, size, (0.0, size)).replace("up to ", f"up to {sign}")
        else:
            words = sign + figure_words(kind, least, (least, size))
        return {"words": words, "direction": direction, "tone": tone}
    words = (
        f"{size:.1f} points" if kind is Kind.PERCENT else value_words(kind, _rounded(kind, size))
    )
    return {"words": sign + words, "direction": direction, "tone": tone}


def _is_small(kind: Kind, change: float) -> bool:
    """Whether it would be written as 0."""
    return abs(change) < {Kind.PERCENT: 0.05, Kind.COUNT: 0.05, Kind.LATENCY: 0.5}[kind]


def _rounded(kind: Kind, value: float) -> float:
    return round(value) if kind is Kind.COUNT and value >= 10 else value


def _reason(finding: Finding, measure: Measure | None, depth: float | None) -> Reason:
    if finding.measure == STALL:
        jobs = "work waits" if depth is None else f"{_jobs(depth)} and none has been completed"
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
        return [f"{title} is {value}: whether that is beyond its limit, {limit}, is not known"]
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


def _panel_of(measure: Measure | None) -> str | None:
    return measure.panel.id if measure is not None and measure.on_page else None


def _per_minute(rate: float | None) -> float | None:
    return None if rate is None else rate * _MINUTE


def _drain_words(found: Drain, growth_per_minute: float | None) -> tuple[str, str]:
    """In a few words for a card, and in a sentence."""
    state = found.state
    if state is DrainState.EMPTY:
        return "nothing waits", "Nothing waits."
    if state is DrainState.CLEARING and found.soonest_seconds is not None:
        words = f"clears in {_range_words(found.soonest_seconds, found.latest_seconds)}"
        return words, f"The queue {words}, if it goes on as in the last minutes."
    if state is DrainState.STALLED:
        return "stalled", "Work waits and none is completed."
    if state is DrainState.WAITING:
        return (
            "none completed yet",
            "No job is completed yet; it is not known whether the queue clears.",
        )
    if state is DrainState.PAUSED:
        return "paused", "What waits is paused by an operator and is not taken."
    if state is DrainState.UNKNOWN or growth_per_minute is None:
        yet = " yet" if found.is_early else ""
        return "", f"It is not known{yet} whether the queue clears."
    if state is DrainState.STEADY:
        words = "holds its length"
        sentence = f"The queue {words}: as much arrives as is completed"
    else:
        rate = value_words(Kind.COUNT, _rounded(Kind.COUNT, round(growth_per_minute, 1)))
        words = f"grows by {rate} / min"
        sentence = f"The queue is growing by {rate} a minute"
    if not found.workers or not found.workers_needed:
        return words, f"{sentence}."
    workers = counted(found.workers, "worker")
    if state is DrainState.GROWING:
        needed = found.workers_needed
        return words, f"{sentence}: it will not clear with {workers}; {needed} would."
    return words, f"{sentence}. It would clear with more than {workers}."


_RANGE_UNITS: tuple[tuple[float, int, int, str], ...] = (
    (100.0, 10, 1, "s"),
    (6_000.0, 60, 60, "min"),
    (172_800.0, 3_600, 3_600, "h"),
    (math.inf, 86_400, 86_400, "d"),
)
"""Up to how many seconds, to what it is rounded, and in what it is told."""


def _range_words(soonest: float, latest: float | None) -> str:
    """From when to when, rounded outward: “5–8 min”, “about 40 s”, “20 min or more”."""
    most = soonest if latest is None else latest
    rounding, size, unit = next(unit[1:] for unit in _RANGE_UNITS if most <= unit[0])
    first = math.floor(soonest / rounding) * rounding // size
    if latest is None:
        least = max(first, rounding // size)
        return f"{least} {unit} or more"
    last = math.ceil(latest / rounding) * rounding // size
    if first <= 0:
        return f"less than {last} {unit}"
    return f"about {first} {unit}" if first == last else f"{first}–{last} {unit}"
