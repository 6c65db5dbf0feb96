"""The tables of the page of jobs, made without reading anything.

Every text of a job is foreign, and is escaped by the widgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from queuescope.dashboard.jobs.retry import (
    CAN_BE_RETRIED,
    Retriable,
    Viewer,
    retry_bar,
    retry_note,
    retry_words,
)
from queuescope.dashboard.ui.widgets import (
    Align,
    Cell,
    Column,
    Markup,
    Tone,
    action_button,
    choice,
    code,
    details,
    element,
    facts,
    figure,
    foreign,
    joined,
    mark,
    notice,
    sentence,
    span,
    table,
    tick,
)
from queuescope.errors import JobStoreError, StoreErrorKind
from queuescope.jobs.failures import IDS_LIMIT, FailureGroup, FailureReport
from queuescope.jobs.fingerprint import words_and_variables
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.search import COUNT_LIMIT, JobCount, JobPage
from queuescope.known import Known
from queuescope.shown_text import is_fully_visible
from queuescope.words import counted

SUMMARY_LENGTH = 140
GROUPS_SHOWN = 10
"""How many groups are shown at first."""
GROUPS_LIMIT = 50
_TONES: dict[str, Tone] = {
    JobStatus.STARTED: Tone.BUSY,
    JobStatus.RETRYING: Tone.WARN,
    JobStatus.SUCCEEDED: Tone.GOOD,
    JobStatus.FAILED: Tone.BAD,
    JobStatus.REVOKED: Tone.IDLE,
    JobStatus.EXPIRED: Tone.WARN,
    JobStatus.IGNORED: Tone.IDLE,
    JobStatus.LOST: Tone.BAD,
}
_TROUBLES = {
    StoreErrorKind.DOWN: "The job history cannot be reached",
    StoreErrorKind.SLOW: "The job history does not answer in time",
    StoreErrorKind.LOCKED: "Another program has locked the job history",
    StoreErrorKind.READ_ONLY: "The job history is read-only, and has not been set up yet",
    StoreErrorKind.NO_PERMISSION: "The dashboard may not read the job history",
    StoreErrorKind.NOT_OURS: "The database of the job history belongs to another program",
    StoreErrorKind.UNUSABLE: "The job history gives no usable answer",
}
_GROUP_COLUMNS = (
    Column("Failure", wide=True),
    Column("Count", Align.FIGURE),
    Column("First seen", Align.FIGURE),
    Column("Last seen", Align.FIGURE),
    Column("Tenants"),
)
_FAILED_COLUMNS = (
    Column(""),
    Column("Ended", Align.FIGURE),
    Column("Type"),
    Column("Tenant"),
    Column("Worker"),
    Column("Job and error", wide=True),
)
_JOB_COLUMNS = (
    Column(""),
    Column("Ended", Align.FIGURE),
    Column("Status"),
    Column("Type"),
    Column("Tenant"),
    Column("Queue"),
    Column("Waited", Align.FIGURE),
    Column("Ran", Align.FIGURE),
    Column("Job and error", wide=True),
)


def trouble(kept: Known[Any], viewer: Viewer) -> Markup:
    """Why there is no newer data, or none at all; empty while the source answers."""
    if kept.error is None:
        return Markup("")
    kind = kept.error.kind if isinstance(kept.error, JobStoreError) else StoreErrorKind.UNUSABLE
    since = joined(", since ", viewer.moment(kept.failing_since))
    data = joined("; the data shown are of ", viewer.moment(kept.as_of)) if kept.as_of else ""
    return notice(
        joined(_TROUBLES[kind], since, data, "."), tone=Tone.BAD, detail=sentence(kept.error)
    )


def groups_table(
    report: FailureReport, viewer: Viewer, *, opened: str, card: Markup | None, span_words: str
) -> Markup:
    """The groups, which open by their names; ``card`` is shown below the open one."""
    groups = report.groups
    numbers = [number for number, group in enumerate(groups) if group.fingerprint == opened]
    return joined(
        table(
            _GROUP_COLUMNS,
            [_group_row(group, viewer) for group in groups],
            caption=f"Failures of the {span_words}, grouped",
            chosen=numbers[0] if numbers else None,
            below=card,
            stacks=True,
        ),
        _left_out(report),
    )


def _group_row(group: FailureGroup, viewer: Viewer) -> tuple[Cell, ...]:
    name = joined(
        choice(group.error_class or "no error class", group.fingerprint, of="group"),
        element("span", " in ", group.name, class_="qs-muted"),
    )
    return (
        joined(element("div", name), element("div", pattern(group.pattern), class_="qs-pattern")),
        figure(group.count),
        viewer.moment(group.first_at),
        viewer.moment(group.last_at),
        _tenants(group, 3),
    )


def _tenants(group: FailureGroup, shown: int) -> Markup:
    names = ", ".join(group.tenants[:shown])
    more = group.tenant_count - min(shown, len(group.tenants))
    rest = element("span", f" + {more:,} more", class_="qs-muted") if more else ""
    return joined(names, rest)


def _left_out(report: FailureReport) -> Markup:
    parts: list[Cell] = []
    if (more := report.group_count - len(report.groups)) > 0:
        kinds = counted(more, "more kind")
        if len(report.groups) < GROUPS_LIMIT:
            parts.append(choice(f"Show {kinds} of failure", "all", of="groups"))
        else:
            parts.append(f"{kinds} of failure are not shown. ")
    if not report.is_whole:
        parts.append(
            f"There are very many failures: only the newest {report.failure_count:,} are grouped."
        )
    return element("p", *parts, class_="qs-muted") if parts else Markup("")


def pattern(text: str) -> Markup:
    """A pattern with its placeholders set off from its words."""
    parts = words_and_variables(text)
    return joined(
        *(
            element("i", part, class_="qs-hole") if number % 2 == 1 else part
            for number, part in enumerate(parts)
        )
    )


def group_card(
    group: FailureGroup,
    singles: Sequence[Job],
    ticked: Sequence[str],
    chosen: Sequence[str],
    viewer: Viewer,
    *,
    found: Retriable | None = None,
) -> Markup:
    """One group: its facts, its newest failure in full, and its last single failures. ``found``
    says which can be sent again, if that is known.
    """
    example = group.example
    retry_all, refusal = f"Retry all {group.count:,}", viewer.refusal
    if group.count > IDS_LIMIT:
        retry_all = f"Retry the newest {IDS_LIMIT:,}"
    if found is not None and found.others:
        retry_all = f"Retry {len(found.ids):,} of {found.count:,}"
        refusal = refusal or ("" if found.ids else retry_words(found))
    head = element(
        "div",
        element("h3", group.error_class or "no error class", " in ", group.name),
        element(
            "span",
            action_button(
                retry_all,
                group.fingerprint,
                of="retry-group",
                label=f"{retry_all} of this group",
                refusal=refusal,
            ),
            retry_bar(chosen, viewer),
            action_button("Close", "", of="group", label="Close this group"),
            class_="qs-actions",
        ),
        class_="qs-part-head",
    )
    about = joined(
        element("h3", "All of them"),
        facts(
            [
                ("Message", pattern(group.pattern)),
                ("Count", figure(group.count)),
                ("First seen", viewer.moment(group.first_at)),
                ("Last seen", viewer.moment(group.last_at)),
                ("Tenants", _tenants(group, len(group.tenants))),
                ("Fingerprint", code(group.fingerprint)),
            ]
        ),
    )
    newest = joined(element("h3", "The newest"), facts(_about(example, viewer)))
    last = joined(
        element("h3", f"The last {len(singles):,}"),
        failed_table(
            singles, ticked, viewer, caption="The last failures of this group", with_type=False
        ),
    )
    two = element("div", element("div", about), element("div", newest), class_="qs-two")
    note = Markup("") if found is None else retry_note(found, viewer)
    return element(
        "div", head, note, two, _error(example), last, class_="qs-card-of", data_key="group"
    )


def failed_table(
    jobs: Sequence[Job],
    ticked: Sequence[str],
    viewer: Viewer,
    *,
    caption: str,
    with_type: bool = True,
) -> Markup:
    """Single failures, to be ticked."""
    shown = [column for column in _FAILED_COLUMNS if with_type or column.title != "Type"]
    return table(
        shown,
        [
            (
                _tick(job, ticked, viewer),
                viewer.moment(job.finished_at),
                *((job.name,) if with_type else ()),
                job.tenant,
                job.worker,
                job_details(job, viewer),
            )
            for job in jobs
        ],
        caption=caption,
        empty="No job failed.",
        stacks=True,
    )


def jobs_table(page: JobPage, ticked: Sequence[str], viewer: Viewer, *, empty: str) -> Markup:
    """A page of the history."""
    return table(
        _JOB_COLUMNS,
        [
            (
                _tick(job, ticked, viewer),
                _ended(job, viewer),
                mark(job.status, _TONES.get(job.status, Tone.UNKNOWN)),
                job.name,
                job.tenant,
                job.queue,
                span(job.wait_seconds),
                span(job.runtime_seconds),
                job_details(job, viewer),
            )
            for job in page.jobs
        ],
        caption="Jobs",
        empty=empty,
        stacks=True,
    )


def _ended(job: Job, viewer: Viewer) -> Markup:
    if job.finished_at is not None:
        return viewer.moment(job.finished_at)
    since = element("span", "since ", class_="qs-muted")
    return element("span", since, viewer.moment(job.started_at), class_="qs-figures")


def count_words(count: JobCount) -> str:
    """The number of jobs, as exactly as it is known."""
    if count.is_exact:
        return counted(count.count, "job")
    if count.count >= COUNT_LIMIT:
        return f"more than {COUNT_LIMIT:,} jobs"
    return f"at least {counted(count.count, 'job')}" if count.count else "not counted to the end"


def pager(page: JobPage, *, is_first: bool) -> Markup:
    """The buttons for the newest, newer and older jobs."""
    back = page.newer is not None

    def way(words: str, value: str, *, is_open: bool) -> Markup:
        return element(
            "button",
            words,
            type="button",
            class_="qs-action",
            data_of="page",
            data_value=value,
            disabled=not is_open,
        )

    older = "Look further back" if page.searched_back_to is not None else "Older"
    return element(
        "span",
        way("Newest", "newest", is_open=not is_first),
        way("Newer", "newer", is_open=back),
        way(older, "older", is_open=page.older is not None),
        class_="qs-actions",
    )


def job_details(job: Job, viewer: Viewer) -> Markup:
    """A job in one line, which opens to everything that is known about it."""
    name = code(job.id[:8] + ("…" if len(job.id) > 8 else ""))
    again = joined(" ", mark(f"begun {job.deliveries:,} times", Tone.BAD)) if _returns(job) else ""
    head = joined(name, again, " ", _summary(job))
    return details(head, facts(_about(job, viewer)), _error(job), key=job.id)


def _returns(job: Job) -> bool:
    """Whether it came back from a worker that did not finish it."""
    return job.deliveries > 1


def _summary(job: Job) -> str:
    message = " ".join(job.error_message.split())
    words = ": ".join(part for part in (job.error_class, message) if part)
    return words if len(words) <= SUMMARY_LENGTH else f"{words[: SUMMARY_LENGTH - 1]}…"


def _about(job: Job, viewer: Viewer) -> list[tuple[str, Cell]]:
    return [
        ("Job", code(job.id)),
        ("Tenant", job.tenant),
        ("Queue", job.queue),
        *((("Routing key", job.routing_key),) if job.routing_key not in ("", job.queue) else ()),
        ("Worker", job.worker),
        ("Attempts", figure(job.attempts)),
        *((("Deliveries", _deliveries(job)),) if _returns(job) else ()),
        ("Due", viewer.moment(job.enqueued_at)),
        ("Started", viewer.moment(job.started_at)),
        ("Ended", viewer.moment(job.finished_at)),
        *((("Retry", obstacle.words),) if (obstacle := viewer.obstacles.get(job.id)) else ()),
    ]


def _deliveries(job: Job) -> str:
    times = "once" if job.deliveries == 2 else f"{job.deliveries - 1:,} times"
    return f"{job.deliveries:,}: it came back {times} unfinished, as when its process dies"


def _error(job: Job) -> Markup:
    if not job.error_class and not job.error_message:
        return Markup("")
    return foreign(
        f"{job.error_class}: {job.error_message}" if job.error_class else job.error_message
    )


def _tick(job: Job, ticked: Sequence[str], viewer: Viewer) -> Cell:
    # A job whose id cannot be shown exactly cannot be chosen.
    if job.status not in CAN_BE_RETRIED or not is_fully_visible(job.id):
        return ""
    obstacle = viewer.obstacles.get(job.id)
    return tick(
        job.id,
        label=f"Choose job {job.id}",
        checked=job.id in ticked,
        refusal="" if obstacle is None else obstacle.words,
    )
