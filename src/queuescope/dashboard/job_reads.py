"""What both parts of the page of jobs need: bounded reads, and what a reader has done.

Reads are shared by all who look at the same, and their last good answers stay with their age when
the database fails.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import streamlit as st

from queuescope.dashboard import acts
from queuescope.dashboard.job_tables import CAN_BE_RETRIED, Reader
from queuescope.dashboard.kept import Kept, KeptAnswers
from queuescope.dashboard.services import services
from queuescope.dashboard.widgets import Markup, element, reader_zone
from queuescope.errors import JobStoreError, QueuescopeError, StoreErrorKind
from queuescope.jobs.store import Job, JobStore
from queuescope.operations.access import Role
from queuescope.operations.request import Request

T = TypeVar("T")
_FRESH_SECONDS = 5.0
_PATIENCE_SECONDS = 8.0
_answers: WeakKeyDictionary[JobStore, KeptAnswers] = WeakKeyDictionary()


def job_store() -> JobStore:
    store = services().jobs
    if store is None:
        raise RuntimeError("no job history is configured")
    return store


def reader_of_page() -> Reader:
    """For whom the page is made; whoever may not even look any more is shown out."""
    rights = acts.rights()
    if not rights.role.covers(Role.VIEWER):
        st.rerun()
    return Reader(reader_zone(), services().now(), rights.refusal(lambda: Request.retry(["any"])))


def asked(
    store: JobStore,
    question: Hashable,
    ask: Callable[[], T],
    *,
    fresh_seconds: float = _FRESH_SECONDS,
) -> Kept[T]:
    """What the history answers, or has answered a moment ago to whoever asked the same."""
    answers = _answers.get(store)
    if answers is None:
        answers = _answers.setdefault(
            store, KeptAnswers(slow=_slow, is_away=_is_away, patience_seconds=_PATIENCE_SECONDS)
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


def to_be_retried(jobs: Sequence[Job], ticked: Sequence[str]) -> list[str]:
    """Those of ``jobs`` that are ticked and can be retried, each once however often it is shown."""
    wanted = set(ticked)
    found = (job.id for job in jobs if job.id in wanted and job.status in CAN_BE_RETRIED)
    return list(dict.fromkeys(found))


def put_in_address(name: str, value: str) -> None:
    """Put ``value`` into the address, or take the parameter out of it."""
    if value:
        st.query_params[name] = value
    elif name in st.query_params:
        del st.query_params[name]


def part(name: str, kept: Kept[Any], said: Markup, *parts: Markup) -> Markup:
    """A part of the page, greyed where it is old, but for what is ``said`` above it."""
    return element(
        "div",
        said,
        element("div", *parts, class_="qs-part-body"),
        class_="qs-part-of",
        data_part=name,
        data_state=kept.state,
    )
