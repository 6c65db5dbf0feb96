"""What both parts of the page of jobs need: bounded reads, and what a viewer has done.

Reads are shared by all who look at the same, and their last good answers stay with their age when
the database fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import streamlit as st

from queuescope.dashboard.jobs.tables import CAN_BE_RETRIED, Retriable, Viewer, retriable
from queuescope.dashboard.services import services
from queuescope.dashboard.ui.rights import visitor_rights
from queuescope.dashboard.ui.shared_answers import SharedAnswers
from queuescope.dashboard.ui.widgets import Markup, element, viewer_zone
from queuescope.errors import (
    BrokerError,
    BrokerErrorKind,
    JobStoreError,
    QueuescopeError,
    StoreErrorKind,
)
from queuescope.jobs.failures import FailureGroup, Span, failed_ids
from queuescope.jobs.job import Job
from queuescope.jobs.store import JobStore
from queuescope.known import Known
from queuescope.operations.access import Role
from queuescope.operations.request import Request
from queuescope.operations.retries import Obstacle, Retries
from queuescope.watch.broker import refuses_reports

T = TypeVar("T")
_FRESH_SECONDS = 5.0
_PATIENCE_SECONDS = 8.0
_answers: WeakKeyDictionary[JobStore, SharedAnswers] = WeakKeyDictionary()


def job_store() -> JobStore:
    store = services().jobs
    if store is None:
        raise RuntimeError("no job history is configured")
    return store


def current_viewer() -> Viewer:
    """For whom the page is made; whoever may not even look any more is shown out."""
    rights = visitor_rights()
    if not rights.role.covers(Role.VIEWER):
        st.rerun()
    refusal = rights.refusal(lambda: Request.retry(["any"]))
    if not refusal and (retries := _retries()) is not None:
        refusal = retries.refusal
    return Viewer(viewer_zone(), services().now(), refusal)


def with_obstacles(viewer: Viewer, jobs: Iterable[Job]) -> Viewer:
    """``viewer``, told of which of ``jobs`` nobody could send again."""
    return replace(viewer, obstacles=_obstacles(jobs, viewer.now))


def group_retriable(
    store: JobStore, span: Span, group: FailureGroup, viewer: Viewer
) -> Known[Retriable]:
    """Of the jobs of ``group`` those that can be sent again."""

    def ask() -> Retriable:
        ids = failed_ids(store, span, group.fingerprint).ids
        queues = store.queues_of(ids)
        jobs = [replace(group.example, id=one, queue=queues.get(one, "")) for one in ids]
        return retriable(ids, _obstacles(jobs, viewer.now))

    question = ("retriable", round(span.until - span.since), group.fingerprint)
    return asked(store, question, ask)


def _retries() -> Retries | None:
    """What the workers could send again, by their last reports; None where these are not known."""
    broker = services().broker
    known = None if broker is None else broker.known
    state = None if known is None else known.fresh_value
    if known is None or state is None or refuses_reports(services().writing_error):
        return None
    fleet = state.fleet
    is_new = known.fresh_seconds(time.time()) <= fleet.timings.lost_seconds
    if is_new and (fleet.lost or not fleet.alive):
        # Those that seem to be lost may not have reported yet.
        return None
    return Retries(worker.report for worker in fleet.alive)


def _obstacles(jobs: Iterable[Job], now: float) -> dict[str, Obstacle]:
    """What keeps each of those from being sent again of which something does."""
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
            fresh_seconds=_FRESH_SECONDS,
        )
    found = {}
    for job in failed.values():
        # What was kept a moment ago may be gone; what is not known is for the worker to say.
        is_kept = None if kept is None or kept.error or kept.value is None else job.id in kept.value
        ago = None if job.finished_at is None else now - job.finished_at
        obstacle = retries.obstacle(job.name, job.queue, is_kept=is_kept, ended_seconds_ago=ago)
        if obstacle is not None:
            found[job.id] = obstacle
    return found


def asked(
    store: JobStore,
    question: Hashable,
    ask: Callable[[], T],
    *,
    fresh_seconds: float = _FRESH_SECONDS,
) -> Known[T]:
    """What the history answers, or has answered a moment ago to whoever asked the same."""
    answers = _answers.get(store)
    if answers is None:
        answers = _answers.setdefault(
            store, SharedAnswers(slow=_slow, is_away=_is_away, patience_seconds=_PATIENCE_SECONDS)
        )
    return answers.get(question, ask, fresh_seconds=fresh_seconds)


def _slow() -> QueuescopeError:
    return JobStoreError("the job history does not answer in time", StoreErrorKind.SLOW)


def _is_away(error: QueuescopeError) -> bool:
    """Whether every other question would meet the same, after as long a wait."""
    kinds = (StoreErrorKind.DOWN, StoreErrorKind.LOCKED)
    return isinstance(error, JobStoreError) and error.kind in kinds


def ticked_in(key: str) -> tuple[str, ...]:
    """What was ticked when the page was last drawn."""
    held = st.session_state.get(key)
    values = None if held is None else held.get("ticked")
    return tuple(str(value) for value in values) if isinstance(values, list | tuple) else ()


def to_be_retried(jobs: Sequence[Job], ticked: Sequence[str], viewer: Viewer) -> list[str]:
    """Those of ``jobs`` that are ticked and can be retried, each once however often it is shown."""
    wanted = set(ticked) - viewer.obstacles.keys()
    found = (job.id for job in jobs if job.id in wanted and job.status in CAN_BE_RETRIED)
    return list(dict.fromkeys(found))


def put_in_address(name: str, value: str) -> None:
    """Put ``value`` into the address, or take the parameter out of it."""
    if value:
        st.query_params[name] = value
    elif name in st.query_params:
        del st.query_params[name]


def _broker_slow() -> QueuescopeError:
    return BrokerError(BrokerErrorKind.SLOW, "the broker does not answer in time")


_broker_answers = SharedAnswers(slow=_broker_slow, patience_seconds=_PATIENCE_SECONDS)


def part(name: str, kept: Known[Any], said: Markup, *parts: Markup) -> Markup:
    """A part of the page, greyed where it is old, but for what is ``said`` above it."""
    return element(
        "div",
        said,
        element("div", *parts, class_="qs-part-body"),
        class_="qs-part-of",
        data_part=name,
        data_state=kept.state,
    )
