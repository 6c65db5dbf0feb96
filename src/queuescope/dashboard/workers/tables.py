"""The tables and sentences of the page of workers, made without reading anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from queuescope.dashboard.ui.states import as_of, known_part
from queuescope.dashboard.ui.widgets import (
    UNKNOWN,
    Align,
    Column,
    Markup,
    Tone,
    code,
    details,
    element,
    facts,
    figure,
    heading,
    joined,
    mark,
    moment,
    table,
)
from queuescope.dashboard.ui.workers import STATUS_TONES, scheduled_words
from queuescope.dashboard.worker_words import clock_words
from queuescope.dashboard.workers.trends import Trends, trend_chart, trend_remarks
from queuescope.figures.words import duration_words
from queuescope.words import counted, plural

if TYPE_CHECKING:
    from queuescope.known import Known
    from queuescope.watch import BrokerState
    from queuescope.watch.workers import RunningJob, Usage, WorkerDetails, WorkerList

SHOWN = 50
"""With more workers, those that need attention come first, and the rest are counted."""
_JOBS_SHOWN = 5

_LEVELS = {"high": ("high", Tone.WARN), "critical": ("at its limit", Tone.BAD)}
_ALIVE_COLUMNS = (
    Column("Worker"),
    Column("Queues"),
    Column("Up", Align.FIGURE),
    Column("Runs now", wide=True),
    Column("Ended", Align.FIGURE),
    Column("Per minute", Align.FIGURE),
    Column("CPU"),
    Column("Memory"),
    Column("Seven days"),
)
_LOST_COLUMNS = (
    Column("Worker"),
    Column("Last report"),
    Column("Forgotten in", Align.FIGURE),
    Column("Ran then", wide=True),
    Column("Ended", Align.FIGURE),
    Column("Seven days"),
)
_RULES = {
    "Status": "Active: it runs a job. Idle: it could, but no job waits. Paused: every queue that "
    "it serves is paused. Held back by a rate limit: the jobs that it has may not start yet. "
    "Shutting down: it was told to end; it finishes what it runs and takes no more. Stalled: it "
    "is alive but does not take the jobs that it should. Lost: it has not reported for 15 s.",
    "Far older than usual": "A job that has run three times as long as 95 % of its type did in the "
    "last day, and for at least a minute. If fewer than 20 of its type are known: for 10 min.",
    "Delivered again": "A worker had the job before: it was killed while running it, or returned "
    "it unfinished, as when shutting down. A job that kills its worker comes back each time.",
    "Ended": "Attempts since the worker started, including retried ones; per minute is over the "
    "last 5 min at most. Seven days shows attempts per minute, hour by hour.",
    "Fetched, scheduled": "Fetched: it has them, and they start when a place is free. Scheduled: "
    "it has them until they are due, by a countdown, an ETA or a retry; they do not count as "
    "waiting. When the worker ends they go back to the broker and count there.",
    "CPU, memory": "Measured against the cores that the worker may use and the memory limit of its "
    "container. From 80 % on it is high, from 95 % on at its limit.",
}


def worker_list_part(
    known: Known[BrokerState],
    workers: WorkerList,
    shown: Sequence[WorkerDetails],
    trends: Trends,
    *,
    zone: tzinfo,
    now: float,
    remarks: Sequence[Markup] = (),
    can_report: bool = True,
) -> Markup:
    """Everything that is known about the workers; the live ones in ``shown`` get a row each.
    Without ``can_report``, silent workers may be alive.
    """
    head = element(
        "div",
        summary(workers, is_fresh=known.is_fresh, can_report=can_report),
        as_of(known, zone, now),
        class_="qs-part-head",
    )
    left = len(workers.alive) - len(shown)
    more = element("p", f"{left:,} more live workers are not shown.", class_="qs-muted")
    alive = table(
        _ALIVE_COLUMNS,
        [_alive_row(entry, trends, zone, now) for entry in shown],
        caption="Live workers",
        empty=_empty_words(workers, can_report=can_report),
        stacks=True,
    )
    rules = details("How this is judged", facts(_RULES.items()), key="rules")
    return known_part(
        known,
        head,
        *remarks,
        element("div", alive, class_="qs-crew"),
        *([more] if left else []),
        *([_lost_part(workers, trends, zone, now, can_report=can_report)] if workers.lost else []),
        *trend_remarks(trends, zone, now),
        rules,
    )


def _empty_words(workers: WorkerList, *, can_report: bool) -> str:
    if workers.alive:
        return "No worker matches."
    return "No worker is alive." if can_report else "Not known: no worker can report."


def summary(workers: WorkerList, *, is_fresh: bool, can_report: bool = True) -> Markup:
    """How many workers are, or were, alive, and how many have each status."""
    alive, known = len(workers.alive), len(workers.alive) + len(workers.lost)
    be = "" if is_fresh else " was" if 1 in (alive, known) else " were"
    words = f"{alive:,} of {known:,} {plural(known, 'worker')}{be} alive"
    if not can_report:
        words = f"{counted(known, 'worker')}: not known which are alive"
    marks = [
        mark(f"{count:,} {status}", STATUS_TONES[status])
        for status, count in workers.counts.items()
        if count and (can_report or status != "lost")
    ]
    if workers.stuck_jobs:
        marks.append(mark(f"{counted(workers.stuck_jobs, 'job')} far older than usual", Tone.WARN))
    return element("p", element("strong", words), *marks, class_="qs-summary")


def by_urgency(entries: Sequence[WorkerDetails]) -> list[WorkerDetails]:
    """``entries`` with those that need attention first, otherwise in their order."""

    def rank(entry: WorkerDetails) -> int:
        if entry.worker.status == "stalled":
            return 0
        if entry.has_stuck_jobs:
            return 1
        levels = [usage.level for usage in (entry.cpu, entry.memory) if usage is not None]
        return 2 if any(level in _LEVELS for level in levels) else 3

    return sorted(entries, key=rank)


def found(entries: Sequence[WorkerDetails], text: str) -> list[WorkerDetails]:
    """Those with ``text`` in their name, a queue or a job type."""
    wanted = text.strip().casefold()

    def has(entry: WorkerDetails) -> bool:
        queues = (queue for queue, _ in entry.queues)
        jobs = (running.job.name for running in entry.jobs)
        return any(wanted in name.casefold() for name in (entry.worker.name, *queues, *jobs))

    return [entry for entry in entries if not wanted or has(entry)]


def _alive_row(entry: WorkerDetails, trends: Trends, zone: tzinfo, now: float) -> list[Any]:
    worker, report = entry.worker, entry.worker.report
    places = counted(report.pool_size, "place")
    return [
        element(
            "div",
            element("strong", worker.name),
            mark(worker.words, STATUS_TONES[worker.status]),
            _note(worker.reason) if worker.reason else "",
            _note(f"{report.pool}, {places}"),
            mark(f"clock {clock_words(worker)}", Tone.WARN) if worker.clock_off_seconds else "",
            class_="qs-worker",
            data_status=worker.status,
        ),
        _queues(entry),
        _long(worker.uptime_seconds),
        joined(_jobs(entry), _fetched(entry, zone, now)),
        _ended(entry),
        figure(entry.completion_rate.per_minute, digits=1) if entry.completion_rate else UNKNOWN,
        _cpu(entry.cpu),
        _memory(entry.memory),
        trend_chart(worker.name, trends),
    ]


def _lost_part(
    workers: WorkerList, trends: Trends, zone: tzinfo, now: float, *, can_report: bool
) -> Markup:
    title = "Lost" if can_report else "Silent"
    state = mark("lost", STATUS_TONES["lost"]) if can_report else mark("not known", Tone.UNKNOWN)
    return element(
        "section",
        heading(title, "forgotten 10 min after their last report"),
        table(
            _LOST_COLUMNS,
            [_lost_row(entry, state, trends, zone, now) for entry in workers.lost],
            caption="Lost workers" if can_report else "Silent workers",
            stacks=True,
        ),
        class_="qs-lost",
    )


def _lost_row(
    entry: WorkerDetails, state: Markup, trends: Trends, zone: tzinfo, now: float
) -> list[Any]:
    worker = entry.worker
    return [
        element(
            "div",
            element("strong", worker.name),
            state,
            class_="qs-worker",
            data_status=worker.status,
        ),
        joined(
            moment(worker.report.at, zone, now),
            _note(f"{duration_words(worker.silent_seconds)} ago"),
        ),
        _long(entry.dropped_in_seconds),
        _jobs(entry),
        _ended(entry),
        trend_chart(worker.name, trends),
    ]


def _queues(entry: WorkerDetails) -> Markup:
    lines = []
    for queue, state in entry.queues:
        state_mark = "" if state == "served" else mark(state, Tone.IDLE)
        lines.append(element("li", element("span", queue, class_="qs-queue"), state_mark))
    return element("ul", *lines, class_="qs-lines") if lines else element("span", "none")


def _jobs(entry: WorkerDetails) -> Markup:
    is_alive = entry.worker.is_alive
    if not entry.job_count:
        return element("span", "nothing", class_="qs-muted")
    lines = [_job(running, is_alive=is_alive) for running in entry.jobs[:_JOBS_SHOWN]]
    left = entry.job_count - len(lines)
    if left > 0:
        lines.append(element("li", f"and {left:,} more, all younger", class_="qs-muted"))
    if not is_alive:
        lines.append(element("li", _redelivery_words(entry), class_="qs-muted"))
    return element("ul", *lines, class_="qs-lines")


def _redelivery_words(entry: WorkerDetails) -> str:
    """What happens to the jobs of a lost worker, of which its report names at most 200."""
    report = entry.worker.report
    again = sum(
        report.redelivers if job.redelivers is None else job.redelivers for job in report.active
    )
    if again == len(report.active):
        return "The broker will deliver them again."
    if not again:
        return "Lost: the broker has no copy of them."
    gone = len(report.active) - again
    return f"The broker will deliver {again:,} of them again; it has no copy of {gone:,}."


def _fetched(entry: WorkerDetails, zone: tzinfo, now: float) -> Markup:
    """The fetched and the scheduled jobs, on a line each."""
    lines = []
    if entry.reserved_count:
        lines.append(_note(f"{entry.reserved_count:,} fetched"))
    if scheduled := entry.worker.report.scheduled:
        lines.append(_note(scheduled_words(scheduled, entry.worker.next_due_at, zone, now)))
    return joined(*lines)


def _job(running: RunningJob, *, is_alive: bool) -> Markup:
    job = running.job
    name = element("span", job.name, class_="qs-job", title=f"{job.id}, {job.queue}, {job.tenant}")
    age = element("span", _long(running.age_seconds), class_="qs-age")
    again = (mark("delivered again", Tone.WARN),) if job.is_redelivered else ()
    if not is_alive or not running.is_stuck:
        # The id, so that a job that keeps killing workers can be revoked.
        which = (_note(joined("id ", code(job.id))),) if again else ()
        return element("li", name, " ", age, *again, *which, data_again=bool(again))
    usual = running.usual
    why = (
        f"95 % of its type end within {duration_words(max(1.0, usual.p95_seconds))}"
        if usual is not None
        else "the usual runtime of its type is not known"
    )
    # On a line of its own, so that the growing age does not wrap it again.
    stuck_mark = mark("far older than usual", Tone.WARN)
    note = _note(joined(f"{why}; id ", code(job.id)))
    return element("li", name, " ", age, *again, stuck_mark, note, data_stuck=True)


def _ended(entry: WorkerDetails) -> Markup:
    report = entry.worker.report
    lines = [figure(report.processed)]
    if report.failed:
        ratio = 100 * report.failed / report.processed if report.processed else math.nan
        lines.append(_note(f"{report.failed:,} failed, {ratio:.1f} %"))
    if report.retried:
        lines.append(_note(f"{report.retried:,} retried"))
    return joined(*lines)


def _cpu(usage: Usage | None) -> Markup:
    if usage is None:
        return _not_measured()
    if usage.limit is None:
        return joined(figure(usage.used, "cores", digits=2), _note("no limit known"))
    cores = f"{usage.limit:g} {plural(usage.limit, 'core')}"
    return _meter(usage, f"{usage.used:.2f} of {cores}", "CPU")


def _memory(usage: Usage | None) -> Markup:
    if usage is None:
        return _not_measured()
    if usage.limit is None:
        return joined(element("span", _bytes(usage.used)), _note("no limit known"))
    return _meter(usage, f"{_bytes(usage.used)} of {_bytes(usage.limit)}", "Memory")


def _meter(usage: Usage, words: str, label: str) -> Markup:
    # Rounded down, so that the figure and its word agree at the thresholds.
    percent = math.floor(100 * (usage.ratio or 0.0) + 1e-9)
    level = str(usage.level)
    usage_mark = element("span", f"{percent} %")
    if level in _LEVELS:
        word, tone = _LEVELS[level]
        usage_mark = mark(f"{percent} %, {word}", tone)
    bar = element(
        "span",
        element("i", style=f"width:{min(100, percent)}%"),
        class_="qs-meter",
        data_level=level,
        role="meter",
        aria_label=label,
        aria_valuemin="0",
        aria_valuemax="100",
        aria_valuenow=str(percent),
    )
    return joined(usage_mark, bar, _note(words))


def _not_measured() -> Markup:
    return element("span", "not measured yet", class_="qs-muted")


def _bytes(count: float) -> str:
    for size, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if count >= size:
            return f"{count / size:.1f} {unit}" if size > 2**20 else f"{count / size:.0f} {unit}"
    return f"{count / 2**10:.0f} KiB"


def _long(seconds: float) -> Markup:
    """A duration in whole seconds."""
    return element("span", duration_words(seconds), class_="qs-figures")


def _note(text: str | Markup) -> Markup:
    return element("div", text, class_="qs-muted")
