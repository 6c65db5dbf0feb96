"""What both parts of the page of jobs share: bounded reads, and the state of the page.

Viewers of the same page share reads, and the last good answers are kept with their age when the
database fails.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import streamlit as st

from queuescope.dashboard.services import services
from queuescope.dashboard.ui.shared_answers import SharedAnswers
from queuescope.dashboard.ui.widgets import Markup, element
from queuescope.dashboard.watches import silent_history
from queuescope.errors import (
    JobStoreError,
    QueuescopeError,
    StoreErrorKind,
)
from queuescope.jobs.store import JobStore
from queuescope.known import Known

T = TypeVar("T")
FRESH_SECONDS = 5.0
READ_PATIENCE_SECONDS = 8.0
_answers: WeakKeyDictionary[JobStore, SharedAnswers] = WeakKeyDictionary()


def job_store() -> JobStore:
    store = services().jobs
    if store is None:
        raise RuntimeError("no job history is configured")
    return store


def shared_answer(
    store: JobStore,
    question: Hashable,
    ask: Callable[[], T],
    *,
    fresh_seconds: float = FRESH_SECONDS,
) -> Known[T]:
    """The answer of the history, shared with others who asked the same a moment ago."""
    answers = _answers.get(store)
    if answers is None:
        answers = _answers.setdefault(
            store,
            SharedAnswers(
                slow=silent_history, is_away=_is_away, patience_seconds=READ_PATIENCE_SECONDS
            ),
        )
    return answers.get(question, ask, fresh_seconds=fresh_seconds)


def _is_away(error: QueuescopeError) -> bool:
    """Whether every other query would fail in the same way, after the same wait."""
    kinds = (StoreErrorKind.DOWN, StoreErrorKind.LOCKED)
    return isinstance(error, JobStoreError) and error.kind in kinds


def ticked_in(key: str) -> tuple[str, ...]:
    """The values of the boxes that were ticked when the page was last drawn."""
    held = st.session_state.get(key)
    values = None if held is None else held.get("ticked")
    return tuple(str(value) for value in values) if isinstance(values, list | tuple) else ()


def put_in_address(name: str, value: str) -> None:
    """Put ``value`` into the address, or remove the parameter if it is empty."""
    if value:
        st.query_params[name] = value
    elif name in st.query_params:
        del st.query_params[name]


def part(name: str, kept: Known[Any], said: Markup, *parts: Markup) -> Markup:
    """A part of the page, greyed if it is old, except for ``said`` above it."""
    return element(
        "div",
        said,
        element("div", *parts, class_="qs-part-body"),
        class_="qs-part-of",
        data_part=name,
        data_state=kept.state,
    )
