"""Which failed jobs a viewer can retry, and why not the others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo

import streamlit as st

from queuescope.dashboard.jobs.reads import FRESH_SECONDS, READ_PATIENCE_SECONDS, shared_answer
from queuescope.dashboard.services import services
from queuescope.dashboard.ui.rights import visitor_rights
from queuescope.dashboard.ui.shared_answers import SharedAnswers
from queuescope.dashboard.ui.widgets import Markup, action_button, element, moment, viewer_zone
from queuescope.dashboard.watches import silent_broker
from queuescope.jobs.failures import FailureGroup, Span, failed_ids
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.known import Known
from queuescope.operations.access import Role
from queuescope.operations.request import Request
from queuescope.operations.retries import Obstacle, Retries
from queuescope.watch.broker import refuses_reports

CAN_BE_RETRIED = frozenset({JobStatus.FAILED, JobStatus.LOST})


@dataclass(frozen=True, slots=True)
class Viewer:
    """The viewer of the page. ``zone`` and ``now`` are theirs; ``refusal`` says why they cannot
    retry, or is empty; ``obstacles`` are, by job id, the reasons why no one can retry a job.
    """

    zone: tzinfo
    now: float
    refusal: str
    obstacles: Mapping[str, Obstacle] = field(default_factory=dict)

    def moment(self, at: float | None) -> Markup:
        return moment(at, self.zone, self.now)


@dataclass(frozen=True, slots=True)
class Retriable:
    """The ids of failed jobs that can be sent again, and for the ``others`` the reasons why not,
    each with the number of jobs.
    """

    ids: tuple[str, ...]
    others: Mapping[str, int]

    @property
    def count(self) -> int:
        return len(self.ids) + sum(self.others.values())


def retriable(ids: Sequence[str], obstacles: Mapping[str, Obstacle]) -> Retriable:
    """Split the ``ids`` of failed jobs into those that can be sent again and the others."""
    return Retriable(
        tuple(one for one in ids if one not in obstacles),
        Counter(obstacles[one].they for one in ids if one in obstacles),
    )


def retry_words(found: Retriable) -> str:
    """How many can be sent again, and why not all; empty if all can."""
    if not found.others:
        return ""
    whole = f"{len(found.ids):,} of {found.count:,} failed jobs can be sent again; "
    return whole + "; ".join(f"{count:,} {they}" for they, count in found.others.items()) + "."


def retry_note(found: Retriable, viewer: Viewer) -> Markup:
    """Why not all can be sent again, for readers who cannot hover over a box to see it."""
    words = "" if viewer.refusal else retry_words(found)
    return element("p", words, class_="qs-muted", data_note="retry") if words else Markup("")


def current_viewer() -> Viewer:
    """The viewer of the page. A visitor who may no longer view it gets the login page."""
    rights = visitor_rights()
    if not rights.role.covers(Role.VIEWER):
        st.rerun()
    refusal = rights.refusal(lambda: Request.retry(["any"]))
    if not refusal and (retries := _retries()) is not None:
        refusal = retries.refusal
    return Viewer(viewer_zone(), services().now(), refusal)


def with_obstacles(viewer: Viewer, jobs: Iterable[Job]) -> Viewer:
    """``viewer`` with the obstacles of those ``jobs`` that no one can retry."""
    return replace(viewer, obstacles=_obstacles(jobs, viewer.now))


def group_retriable(
    store: JobStore, span: Span, group: FailureGroup, viewer: Viewer
) -> Known[Retriable]:
    """The jobs of ``group`` that can be sent again."""

    def ask() -> Retriable:
        ids = failed_ids(store, span, group.fingerprint).ids
        queues = store.queues_of(ids)
        jobs = [replace(group.example, id=one, queue=queues.get(one, "")) for one in ids]
        return retriable(ids, _obstacles(jobs, viewer.now))

    question = ("retriable", round(span.until - span.since), group.fingerprint)
    return shared_answer(store, question, ask)


def _retries() -> Retries | None:
    """What the workers can retry, by their last reports; None if these are unknown."""
    broker = services().broker
    known = None if broker is None else broker.known
    state = None if known is None else known.fresh_value
    if known is None or state is None or refuses_reports(services().writing_error):
        return None
    fleet = state.fleet
    is_new = known.fresh_seconds(time.time()) <= fleet.timings.lost_seconds
    if is_new and (fleet.lost or not fleet.alive):
        # Workers that seem lost may not have reported yet.
        return None
    return Retries(worker.report for worker in fleet.alive)


def _obstacles(jobs: Iterable[Job], now: float) -> dict[str, Obstacle]:
    """The obstacle of each failed job that has one, by id."""
    failed = {job.id: job for job in jobs if job.status in CAN_BE_RETRIED}
    retries, context = _retries(), services().operations_context
    if retries is None or context is None or not failed:
        return {}
    kept = None
    if retries.needs_arguments:
        ids = tuple(sorted(failed))
        kept = _broker_answers.get(
            (id(context), ids),
            lambda: context.broker.kept_arguments(ids),
            fresh_seconds=FRESH_SECONDS,
        )
    found = {}
    for job in failed.values():
        # A kept message may be gone by now; what is unknown here, the worker decides.
        is_kept = None if kept is None or kept.error or kept.value is None else job.id in kept.value
        ago = None if job.finished_at is None else now - job.finished_at
        obstacle = retries.obstacle(job.name, job.queue, is_kept=is_kept, ended_seconds_ago=ago)
        if obstacle is not None:
            found[job.id] = obstacle
    return found


def to_be_retried(jobs: Sequence[Job], ticked: Sequence[str], viewer: Viewer) -> list[str]:
    """The ids of ``jobs`` that are ticked and can be retried, each once even if shown several
    times.
    """
    wanted = set(ticked) - viewer.obstacles.keys()
    found = (job.id for job in jobs if job.id in wanted and job.status in CAN_BE_RETRIED)
    return list(dict.fromkeys(found))


def retry_bar(chosen: Sequence[str], viewer: Viewer) -> Markup:
    """The button for the ticked jobs."""
    words = f"Retry {len(chosen):,} chosen" if chosen else "Retry chosen"
    return action_button(
        words,
        "chosen",
        of="retry-chosen",
        label=words,
        refusal=viewer.refusal or ("" if chosen else "Tick failed jobs first."),
    )


_broker_answers = SharedAnswers(slow=silent_broker, patience_seconds=READ_PATIENCE_SECONDS)
