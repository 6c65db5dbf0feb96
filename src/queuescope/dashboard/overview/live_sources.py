"""What the watched sources say, in the terms of a standing: the only place that knows both.

Everything is read from memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from queuescope.dashboard.services import refuses_reports
from queuescope.dashboard.workers.tables import ahead_words, clock_words, several_of
from queuescope.errors import QueuescopeError, UnsupportedBrokerError
from queuescope.figures import duration_words
from queuescope.health import Finding, Health
from queuescope.jobs.fingerprint import words_and_variables
from queuescope.panels import RANKED_QUANTILE
from queuescope.panels.template import RECENT_SECONDS
from queuescope.view.present.live_sources import (
    Act,
    Acts,
    FailedGroup,
    FailedJob,
    Failures,
    LiveFigure,
    LiveSource,
    Origin,
)
from queuescope.words import counted, plural

if TYPE_CHECKING:
    from queuescope.broker.fleet import Worker
    from queuescope.dashboard.services import Services
    from queuescope.jobs.totals import JobTotals
    from queuescope.watch import BrokerPicture, FailurePicture, Sighting

_NAMED = 3
_DAY_SECONDS = 86_400
_BY_BROKER = frozenset({"queue_depth", "active_workers", "oldest_waiting"})
# The jobs of another project may not say since when they wait, and that is no failure.
_EXPECTED_OF_BROKER = frozenset({"queue_depth", "active_workers"})
_BY_HISTORY = frozenset({"success_rate", "throughput", "p95_latency"})
_OF_JOBS = _BY_HISTORY | {"queue_depth", "oldest_waiting"}
_NOT_SORTED = (
    "more jobs ended in the last five minutes than can be sorted, or it is not known since when "
    "they were due"
)
_NOT_IN_BROKER = {
    "queue_depth": "no worker tells the broker which queues it serves, and the setting queues "
    "names none",
    "active_workers": "no worker has reported to the broker in the last ten minutes",
    "oldest_waiting": "the jobs that wait in the broker do not say since when",
}


class WatchedSources:
    """``LiveSources`` of the running application; only what is configured is told of.

    With ``is_narrowed`` the page tells of some of the platform's jobs only. Broker and job history
    know no such choice, so figures of jobs are left to Prometheus.
    """

    def __init__(self, services: Services, *, is_narrowed: bool = False) -> None:
        self._services = services
        self._is_narrowed = is_narrowed

    def clock_ahead(self) -> float:
        return self._services.clock_ahead

    def sources(self) -> tuple[LiveSource, ...]:
        found = []
        if self._services.broker is not None:
            writing = self._services.writing_error
            ahead = self.clock_ahead()
            source = broker_source(self._services.broker.sighting, writing)
            depths = tuple((at + ahead, depth) for at, depth in source.depths)
            found.append(replace(source, depths=depths))
        if self._services.totals is not None:
            found.append(history_source(self._services.totals.sighting))
        if self._services.acts is not None:
            found.append(_source(Origin.AUDIT, self._services.acts.sighting))
        for origin, refusal in (
            (Origin.BROKER, self._services.refused_broker),
            (Origin.JOB_HISTORY, self._services.refused_jobs),
        ):
            # A broker of another kind is no failure: nobody can ask it anything.
            if refusal is not None and not isinstance(refusal, UnsupportedBrokerError):
                since = self._services.opened_at
                found.append(
                    LiveSource(
                        origin, cause=str(refusal), kind="configuration", failing_since=since
                    )
                )
        return tuple(without_jobs(one) for one in found) if self._is_narrowed else tuple(found)

    def acts(self) -> Acts | None:
        watch = self._services.acts
        recorded = None if watch is None else watch.sighting.value
        if recorded is None:
            return None
        ahead = self.clock_ahead()
        acts = (Act(a.at + ahead, a.actor, a.words, a.result, a.detail) for a in recorded.acts)
        return Acts(tuple(acts), None if recorded.begin is None else recorded.begin + ahead)

    def failures(self) -> Failures | None:
        watch = self._services.failures
        return None if watch is None else recent_failures(watch.sighting, self.clock_ahead())


def without_jobs(source: LiveSource) -> LiveSource:
    """``source`` without what it tells of all jobs of the platform."""
    return replace(
        source,
        measures=source.measures - _OF_JOBS,
        figures={name: one for name, one in source.figures.items() if name not in _OF_JOBS},
        completion_per_second=None,
        depths=(),
    )


def recent_failures(sighting: Sighting[FailurePicture], clock_ahead: float = 0.0) -> Failures:
    """The failures of the job history, whose times are the broker's; ``clock_ahead`` is how far our
    clock is ahead of that.
    """
    cause = "" if sighting.error is None else str(sighting.error)
    picture, since = sighting.value, sighting.failing_since
    if picture is None:
        return Failures(cause=cause, failing_since=since)
    report = picture.report
    return Failures(
        sighting.as_of,
        cause,
        since,
        tuple(
            FailedGroup(
                group.fingerprint,
                group.name,
                group.error_class,
                words_and_variables(group.pattern),
                group.count,
                group.last_at + clock_ahead,
                group.tenants,
                group.tenant_count,
            )
            for group in report.groups
        ),
        report.group_count,
        report.failure_count,
        report.is_whole,
        tuple(
            FailedJob(
                job.id,
                job.name,
                job.tenant,
                job.status,
                job.moment + clock_ahead,
                job.error_class,
                job.error_message,
            )
            for job in picture.last
        ),
    )


def broker_source(
    sighting: Sighting[BrokerPicture], writing: QueuescopeError | None = None
) -> LiveSource:
    """Queues and workers as the broker tells of them. ``writing`` is what a proof of writing met:
    where nobody can report, it is not known who lives.
    """
    picture = sighting.value
    if picture is None:
        return _source(Origin.BROKER, sighting, measures=_BY_BROKER)
    figures = dict(_broker_figures(picture))
    why_not = {**_NOT_IN_BROKER, "oldest_waiting": _unknown_age(picture)}
    findings = [*_held_findings(picture), *_unread_findings(picture)]
    if refuses_reports(writing):
        figures.pop("active_workers", None)
        why_not["active_workers"] = f"workers cannot report: {writing}"
        cause = f"workers cannot report, nor jobs be sent: {writing}"
        findings.insert(0, Finding("broker_refuses", Health.DEGRADED, cause=cause))
    else:
        findings = [*_worker_findings(picture), *findings]
    return _source(
        Origin.BROKER,
        sighting,
        measures=_BY_BROKER,
        figures=figures,
        why_not=why_not,
        expected=_EXPECTED_OF_BROKER,
        findings=tuple(findings) if sighting.error is None else (),
        held_back=_is_held_back(picture),
        scheduled=0 if (scheduled := picture.fleet.scheduled()) is None else scheduled.count,
        depths=picture.depths,
    )


def history_source(sighting: Sighting[JobTotals]) -> LiveSource:
    """What became of the jobs of the last day, as the job history tells of it."""
    totals = sighting.value
    if totals is None:
        return _source(Origin.JOB_HISTORY, sighting, measures=_BY_HISTORY)
    figures: dict[str, LiveFigure] = {}
    why_not = dict.fromkeys(_BY_HISTORY, "the job history holds no job of the last 24 hours")
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
    return _source(
        Origin.JOB_HISTORY,
        sighting,
        measures=_BY_HISTORY,
        figures=figures,
        why_not=why_not,
        completion_per_second=totals.left_per_second,
        completion_seconds=_less_than(totals, totals.window_seconds),
    )


def _less_than(totals: JobTotals, seconds: float) -> float | None:
    """Over how long it was counted, where the history holds less than the last ``seconds``."""
    covered = totals.covered(seconds)
    return covered if covered < seconds else None


def _latency(totals: JobTotals) -> LiveFigure | None:
    """P95 and its fellows in milliseconds; None where the history does not tell them."""
    over = totals.covered(RECENT_SECONDS)
    if not totals.measured_lately:
        return LiveFigure(math.nan, over_seconds=over)
    p95 = totals.latencies.get(RANKED_QUANTILE)
    if p95 is None:
        return None
    exactly = {quantile: 1000 * seconds for quantile, seconds in totals.latencies.items()}
    jobs = counted(totals.measured_lately, "job")
    note = f"That of the {jobs} that succeeded or failed in the last {duration_words(over)}."
    return LiveFigure(1000 * p95, notes=(note,), quantiles=exactly, over_seconds=over)


def _source(origin: Origin, sighting: Sighting[Any], **told: Any) -> LiveSource:
    error = sighting.error
    cause = "" if error is None else str(error)
    if sighting.value is None and not cause:
        cause = f"{origin.words} has not answered yet"
    return LiveSource(
        origin,
        as_of=sighting.as_of,
        cause=cause,
        kind=_kind(error),
        failing_since=sighting.failing_since,
        **told,
    )


def _kind(error: QueuescopeError | None) -> str:
    return str(getattr(error, "kind", "")) if error is not None else ""


def _broker_figures(picture: BrokerPicture) -> Mapping[str, LiveFigure]:
    fleet = picture.fleet
    figures: dict[str, LiveFigure] = {}
    notes: tuple[str, ...]
    if picture.depth is not None:
        waiting = [f"{queue.queue}: {queue.depth}" for queue in picture.queues if queue.depth]
        notes = (f"{_listed(waiting)}.",) if len(picture.queues) > 1 and waiting else ()
        notes = (*notes, *_scheduled_notes(picture))
        figures["queue_depth"] = LiveFigure(float(picture.depth), notes=notes)
    if picture.oldest_age_seconds is not None:
        figures["oldest_waiting"] = LiveFigure(
            picture.oldest_age_seconds * 1000, notes=_age_notes(picture)
        )
    # Workers that never report may run beside those that do; none at all is not known from here.
    if fleet.workers:
        lost = [worker.name for worker in fleet.lost]
        notes = (f"Lost: {_listed(lost)}.",) if lost else ()
        notes = (*notes, *_ending_notes(picture))
        figures["active_workers"] = LiveFigure(
            float(len(fleet.alive)),
            out_of=len(fleet.workers),
            remark=f"{len(lost)} lost" if lost else "",
            notes=notes,
        )
    return figures


def _age_notes(picture: BrokerPicture) -> tuple[str, ...]:
    """How the oldest job's age was found, where the clock of its sender may be off."""
    oldest = picture.oldest
    if oldest is None:
        return ()
    words = ""
    if oldest.sender_ahead:
        words = (
            f"The clock of whoever sent it is {ahead_words(oldest.sender_ahead)}, by the broker’s; "
            "its age is put right by that."
        )
    elif oldest.is_age_doubtful:
        words = (
            f"The queue {oldest.queue} was empty later than that: the job was put back, or the "
            "clock of whoever sent it is behind."
        )
    return (words,) if words else ()


def _unknown_age(picture: BrokerPicture) -> str:
    """Why it is not known how long the oldest job has waited."""
    for queue in picture.queues:
        if queue.depth and queue.oldest_age_seconds is None and queue.sender_ahead:
            ahead = ahead_words(queue.sender_ahead)
            return (
                f"the clock of whoever sent the oldest job in {queue.queue} is {ahead} or more, "
                "by the broker’s"
            )
    return _NOT_IN_BROKER["oldest_waiting"]


def _scheduled_notes(picture: BrokerPicture) -> tuple[str, ...]:
    scheduled = picture.fleet.scheduled()
    if scheduled is None:
        return ()
    verb = plural(scheduled.count, "is", "are")
    due = ""
    if scheduled.next_at is not None:
        seconds = max(0.0, scheduled.next_at - picture.at)
        due = f"; the next is due in {duration_words(seconds)}"
    return (f"{scheduled.count:,} more {verb} scheduled and wait for their time{due}.",)


def _ending_notes(picture: BrokerPicture) -> tuple[str, ...]:
    """Workers that live and take nothing, as they should, those that cannot be told apart, and
    those whose clock is off.
    """
    fleet = picture.fleet
    names = [several_of(name, len(fleet.named(name))) for name in fleet.namesakes()]
    return (
        *(f"{words}." for words in names[:_NAMED]),
        *_taking_nothing(picture),
        *(
            f"The clock of {worker.name} is {clock_words(worker)}"
            f"{'' if worker.puts_times_right else ', and the times of its jobs with it'}."
            for worker in fleet.with_clocks_off()[:_NAMED]
        ),
    )


def _taking_nothing(picture: BrokerPicture) -> tuple[str, ...]:
    return tuple(
        f"{status.capitalize()}: {_listed(names)}."
        for status in ("shutting down", "held back by a rate limit")
        if (names := [w.name for w in picture.fleet.alive if w.status == status])
    )


def _worker_findings(picture: BrokerPicture) -> Iterable[Finding]:
    fleet = picture.fleet
    stalled = [worker for worker in fleet.alive if worker.status == "stalled"]
    if stalled:
        none_works = len(stalled) == len(fleet.alive)
        health = Health.STALLED if none_works else Health.DEGRADED
        yield Finding("workers_stalled", health, cause=_stalled_words(stalled, len(fleet.alive)))
    if fleet.lost:
        names = [worker.name for worker in fleet.lost]
        verb = plural(len(names), "is", "are")
        cause = f"{len(names)} of {_workers(len(fleet.workers))} {verb} lost: {_listed(names)}"
        yield Finding("workers_lost", Health.DEGRADED, cause=cause)


def _held_findings(picture: BrokerPicture) -> Iterable[Finding]:
    held = [q for q in picture.queues if q.depth and picture.desired.pauses(q.queue)]
    if held:
        count = sum(queue.depth for queue in held)
        names = [queue.queue for queue in held]
        verb = plural(len(names), "is", "are")
        waiting = counted(count, "job waits", "jobs wait")
        cause = f"{_listed(names)} {verb} paused, and {waiting} there"
        yield Finding("paused", Health.DEGRADED, cause=cause)


def _unread_findings(picture: BrokerPicture) -> Iterable[Finding]:
    """What stands in the broker and is not known: nobody may take the rest for all."""
    count = len(picture.unreadable)
    if count:
        verb = plural(count, "is", "are")
        names = _listed(list(picture.unreadable))
        cause = (
            f"{counted(count, 'entry', 'entries')} among the workers' reports {verb} unreadable, "
            f"of another version or damaged: {names}"
        )
        yield Finding("reports_unreadable", Health.DEGRADED, cause=cause)
    if picture.desired_fault:
        yield Finding("desired_damaged", Health.DEGRADED, cause=picture.desired_fault)
    if picture.unread:
        cause = f"{picture.unread:,} of the workers' reports were not read: there are too many"
        yield Finding("reports_unread", Health.DEGRADED, cause=cause)
    if picture.left_out_queues:
        left_out = counted(picture.left_out_queues, "queue was", "queues were")
        cause = f"{left_out} not read: workers name too many, or their keys hold no messages"
        yield Finding("queues_unread", Health.DEGRADED, cause=cause)


def _stalled_words(stalled: list[Worker], alive: int) -> str:
    first = stalled[0]
    verb = plural(len(stalled), "is", "are")
    reason = first.reason.rstrip(".")
    return f"{len(stalled)} of {_workers(alive)} {verb} stalled: {first.name}: {reason}"


def _is_held_back(picture: BrokerPicture) -> bool:
    waiting = [queue.queue for queue in picture.queues if queue.depth]
    return bool(waiting) and all(picture.desired.pauses(queue) for queue in waiting)


def _workers(count: int) -> str:
    return counted(count, "worker")


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
