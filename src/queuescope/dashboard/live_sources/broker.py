"""Queues and workers, as the broker reports them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from queuescope.dashboard.worker_words import ahead_words, clock_words, several_of
from queuescope.errors import QueuescopeError
from queuescope.figures import duration_words
from queuescope.health import Finding, Health
from queuescope.view.present.live_sources import FigureOrigin, LiveFigure, LiveReport, LiveSource
from queuescope.watch.broker import refuses_reports
from queuescope.words import counted, listed, plural

if TYPE_CHECKING:
    from queuescope.broker.worker import Worker
    from queuescope.known import Known
    from queuescope.watch import BrokerState

_NAMED = 3
_MEASURES = frozenset({"queue_depth", "active_workers", "oldest_waiting"})
# Jobs of other projects may not carry the time since when they wait, which is no failure.
_EXPECTED = frozenset({"queue_depth", "active_workers"})
_NOT_IN_BROKER = {
    "queue_depth": "no worker reports to the broker which queues it serves, and the setting queues "
    "names none",
    "active_workers": "no worker has reported to the broker in the last ten minutes",
    "oldest_waiting": "the waiting jobs do not carry the time since when they wait",
}


def broker_source(known: Known[BrokerState], writing: QueuescopeError | None = None) -> LiveSource:
    """Queues and workers as the broker reports them. ``writing`` is the error of a test write, if
    it failed: if workers cannot report, it is unknown which are alive.
    """
    return LiveSource(
        FigureOrigin.BROKER, known.map(lambda state: _report(state, writing)), _MEASURES
    )


def _report(state: BrokerState, writing: QueuescopeError | None) -> LiveReport:
    figures = dict(_broker_figures(state))
    why_not = {**_NOT_IN_BROKER, "oldest_waiting": _unknown_age(state)}
    findings = [*_held_findings(state), *_unread_findings(state)]
    if refuses_reports(writing):
        figures.pop("active_workers", None)
        why_not["active_workers"] = f"workers cannot report: {writing}"
        cause = f"workers cannot report and jobs cannot be sent: {writing}"
        findings.insert(0, Finding("broker_refuses", Health.DEGRADED, cause=cause))
    else:
        findings = [*_worker_findings(state), *findings]
    return LiveReport(
        figures,
        why_not,
        _EXPECTED,
        tuple(findings),
        held_back=_is_held_back(state),
        scheduled=0 if (scheduled := state.fleet.scheduled()) is None else scheduled.count,
        depths=state.depths,
    )


def _broker_figures(state: BrokerState) -> Mapping[str, LiveFigure]:
    fleet = state.fleet
    figures: dict[str, LiveFigure] = {}
    notes: tuple[str, ...]
    if state.depth is not None:
        waiting = [f"{queue.queue}: {queue.depth}" for queue in state.queues if queue.depth]
        notes = (f"{listed(waiting)}.",) if len(state.queues) > 1 and waiting else ()
        notes = (*notes, *_scheduled_notes(state))
        figures["queue_depth"] = LiveFigure(float(state.depth), notes=notes)
    if state.oldest_age_seconds is not None:
        figures["oldest_waiting"] = LiveFigure(
            state.oldest_age_seconds * 1000, notes=_age_notes(state)
        )
    # Workers that never report may also be running, so the absence of all reports is not 0 workers.
    if fleet.workers:
        lost = [worker.name for worker in fleet.lost]
        notes = (f"Lost: {listed(lost)}.",) if lost else ()
        notes = (*notes, *_ending_notes(state))
        figures["active_workers"] = LiveFigure(
            float(len(fleet.alive)),
            out_of=len(fleet.workers),
            remark=f"{len(lost)} lost" if lost else "",
            notes=notes,
        )
    return figures


def _age_notes(state: BrokerState) -> tuple[str, ...]:
    """How the oldest job's age was found, if the clock of its sender may be off."""
    oldest = state.oldest
    if oldest is None:
        return ()
    words = ""
    if oldest.sender_ahead:
        words = (
            f"Its sender’s clock is {ahead_words(oldest.sender_ahead)} compared to the broker’s; "
            "the age is corrected by that."
        )
    elif oldest.is_age_doubtful:
        words = (
            f"The queue {oldest.queue} was empty after that: the job was put back, or its "
            "sender’s clock is behind."
        )
    return (words,) if words else ()


def _unknown_age(state: BrokerState) -> str:
    """Why the wait of the oldest job is unknown."""
    for queue in state.queues:
        if queue.depth and queue.oldest_age_seconds is None and queue.sender_ahead:
            ahead = ahead_words(queue.sender_ahead)
            return (
                f"the clock of the sender of the oldest job in {queue.queue} is {ahead} or more, "
                "compared to the broker’s"
            )
    return _NOT_IN_BROKER["oldest_waiting"]


def _scheduled_notes(state: BrokerState) -> tuple[str, ...]:
    scheduled = state.fleet.scheduled()
    if scheduled is None:
        return ()
    verb = plural(scheduled.count, "is", "are")
    due = ""
    if scheduled.next_at is not None:
        seconds = max(0.0, scheduled.next_at - state.at)
        due = f"; the next is due in {duration_words(seconds)}"
    return (f"{scheduled.count:,} more {verb} scheduled for later{due}.",)


def _ending_notes(state: BrokerState) -> tuple[str, ...]:
    """Remarks on live workers that rightly take no jobs, on workers with the same name, and on
    workers whose clock is off.
    """
    fleet = state.fleet
    names = [several_of(name, len(fleet.named(name))) for name in fleet.shared_names()]
    return (
        *(f"{words}." for words in names[:_NAMED]),
        *_taking_nothing(state),
        *(
            f"The clock of {worker.name} is {clock_words(worker)}"
            f"{'' if worker.corrects_times else ', and so are the times of its jobs'}."
            for worker in fleet.with_clocks_off()[:_NAMED]
        ),
    )


def _taking_nothing(state: BrokerState) -> tuple[str, ...]:
    return tuple(
        f"{status.capitalize()}: {listed(names)}."
        for status in ("shutting down", "held back by a rate limit")
        if (names := [w.name for w in state.fleet.alive if w.status == status])
    )


def _worker_findings(state: BrokerState) -> Iterable[Finding]:
    fleet = state.fleet
    stalled = [worker for worker in fleet.alive if worker.status == "stalled"]
    if stalled:
        none_works = len(stalled) == len(fleet.alive)
        health = Health.STALLED if none_works else Health.DEGRADED
        yield Finding("workers_stalled", health, cause=_stalled_words(stalled, len(fleet.alive)))
    if fleet.lost:
        names = [worker.name for worker in fleet.lost]
        verb = plural(len(names), "is", "are")
        cause = f"{len(names)} of {_workers(len(fleet.workers))} {verb} lost: {listed(names)}"
        yield Finding("workers_lost", Health.DEGRADED, cause=cause)


def _held_findings(state: BrokerState) -> Iterable[Finding]:
    held = [q for q in state.queues if q.depth and state.desired.pauses(q.queue)]
    if held:
        count = sum(queue.depth for queue in held)
        names = [queue.queue for queue in held]
        verb = plural(len(names), "is", "are")
        waiting = counted(count, "job waits", "jobs wait")
        cause = f"{listed(names)} {verb} paused, and {waiting} there"
        yield Finding("paused", Health.DEGRADED, cause=cause)


def _unread_findings(state: BrokerState) -> Iterable[Finding]:
    """Findings on data in the broker that was not read, so that the rest does not pass for all."""
    count = len(state.unreadable)
    if count:
        verb = plural(count, "is", "are")
        names = listed(list(state.unreadable))
        cause = (
            f"{counted(count, 'entry', 'entries')} among the workers' reports {verb} unreadable, "
            f"of another version or damaged: {names}"
        )
        yield Finding("reports_unreadable", Health.DEGRADED, cause=cause)
    if state.desired_fault:
        yield Finding("desired_damaged", Health.DEGRADED, cause=state.desired_fault)
    if state.unread:
        cause = f"{state.unread:,} of the workers' reports were not read: there are too many"
        yield Finding("reports_unread", Health.DEGRADED, cause=cause)
    if state.left_out_queues:
        left_out = counted(state.left_out_queues, "queue was", "queues were")
        cause = f"{left_out} not read: workers name too many, or their keys hold no messages"
        yield Finding("queues_unread", Health.DEGRADED, cause=cause)


def _stalled_words(stalled: list[Worker], alive: int) -> str:
    first = stalled[0]
    verb = plural(len(stalled), "is", "are")
    reason = first.reason.rstrip(".")
    return f"{len(stalled)} of {_workers(alive)} {verb} stalled: {first.name}: {reason}"


def _is_held_back(state: BrokerState) -> bool:
    waiting = [queue.queue for queue in state.queues if queue.depth]
    return bool(waiting) and all(state.desired.pauses(queue) for queue in waiting)


def _workers(count: int) -> str:
    return counted(count, "worker")
