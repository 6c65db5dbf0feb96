"""The job history on the page of jobs: filters, pages, and the file of matching jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from datetime import datetime, tzinfo
from typing import TypeVar

import streamlit as st

from queuescope.dashboard.jobs.export import JOBS_CSV
from queuescope.dashboard.jobs.filter import (
    CUSTOM,
    NAMES,
    TIMES,
    page_text,
    parse_filter,
    parse_page,
    query_of,
)
from queuescope.dashboard.jobs.reads import (
    job_store,
    part,
    put_in_address,
    shared_answer,
    ticked_in,
)
from queuescope.dashboard.jobs.retry import (
    CAN_BE_RETRIED,
    Viewer,
    current_viewer,
    retriable,
    retry_bar,
    retry_note,
    to_be_retried,
    with_obstacles,
)
from queuescope.dashboard.jobs.tables import count_words, jobs_table, pager, trouble
from queuescope.dashboard.ui import operation_dialog
from queuescope.dashboard.ui.parameters import moment_text, parse_moment
from queuescope.dashboard.ui.widgets import (
    Markup,
    Tone,
    download_link,
    element,
    heading,
    joined,
    notice,
    show,
    show_live,
)
from queuescope.errors import ConfigurationError
from queuescope.jobs.export import ROWS_LIMIT
from queuescope.jobs.job import JobStatus
from queuescope.jobs.search import (
    JobCount,
    JobFilter,
    JobPage,
    Place,
    count_jobs,
    find_jobs,
    known_values,
)
from queuescope.jobs.store import JobStore
from queuescope.known import Known
from queuescope.shown_text import as_written, shown_apart

T = TypeVar("T")
_CHOICES = {"tenant": "tenant", "type": "name", "queue": "queue", "worker": "worker"}
"""The columns that jobs can be filtered by, by their names on the page."""
_VALUES_FRESH_SECONDS = 60.0
# A search that finds nothing continues by itself for this long.
_SEARCH_SECONDS = 1.0
_EARLIEST, _LATEST = datetime(2000, 1, 1), datetime(2100, 1, 1)  # noqa: DTZ001 - of any zone
_FILTER, _PAGE = "queuescope_jobs_filter", "queuescope_jobs_page"


def show_history() -> None:
    """The jobs that match the filters, page by page, and the file of them."""
    store, viewer = job_store(), current_viewer()
    show(heading("Job history"))
    params = _filters(store, viewer)
    if params != st.session_state.setdefault(_FILTER, params):
        st.session_state[_FILTER] = params
        put_in_address("page", "")
    older, newer = parse_page(st.query_params.get("page", ""))
    try:
        wanted = parse_filter(params, viewer.now)
    except ConfigurationError as exc:
        show(notice(f"The address has an invalid filter: {exc}.", tone=Tone.WARN))
        return
    query = query_of(params)
    page = _pinned(store, (query, older, newer), lambda: _search(store, wanted, older, newer))
    count = shared_answer(store, ("count", query), lambda: count_jobs(store, wanted))
    ticked = ticked_in("queuescope_jobs")
    jobs = () if page.value is None else page.value.jobs
    viewer = with_obstacles(viewer, jobs)
    chosen = to_be_retried(jobs, ticked, viewer)
    failed = [job.id for job in jobs if job.status in CAN_BE_RETRIED]
    parts = []
    if page.value is not None:
        is_first = page.value.newer is None
        parts += [
            _line(page, count, query, chosen, viewer, is_first=is_first),
            retry_note(retriable(failed, viewer.obstacles), viewer) if failed else Markup(""),
            jobs_table(page.value, ticked, viewer, empty=_nothing(page.value, params)),
            _looked_back(page.value, viewer),
            element("div", pager(page.value, is_first=is_first), class_="qs-pages"),
        ]
    live = show_live(part("history", page, trouble(page, viewer), *parts), key="queuescope_jobs")
    match live.chosen:
        case ("page", way) if page.value is not None:
            _turn(page.value, way)
        case ("refresh", _):
            st.session_state.pop(_PAGE, None)
            st.rerun(scope="fragment")
        case ("retry-chosen", _):
            operation_dialog.offer_retry(to_be_retried(jobs, live.ticked, viewer))
    if live.ticked != ticked:
        st.rerun(scope="fragment")


def _filters(store: JobStore, viewer: Viewer) -> dict[str, str]:
    """The filter widgets; returns their values as written in an address."""
    if {"from", "to"} & set(st.query_params) and "time" not in st.query_params:
        st.session_state.setdefault("time", CUSTOM)
    params = dict.fromkeys(NAMES, "")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        params["find"] = (
            st.text_input(
                "Find",
                max_chars=200,
                placeholder="id of a job, or words of its error",
                key="find",
                bind="query-params",
                width=270,
            )
            or ""
        )
        params["status"] = (
            st.selectbox(
                "Status",
                [status.value for status in JobStatus],
                index=None,
                placeholder="any",
                key="status",
                bind="query-params",
                width=140,
            )
            or ""
        )
        known = _known_values(store)
        for name, column in _CHOICES.items():
            values = known.get(column, [])
            chosen = (
                st.selectbox(
                    name.capitalize(),
                    values,
                    index=None,
                    placeholder="any",
                    format_func=shown_apart(values),
                    accept_new_options=True,
                    key=name,
                    bind="query-params",
                    width=160,
                )
                or ""
            )
            # An unknown value was copied from the screen, or comes from an address.
            params[name] = chosen if chosen in values else as_written(chosen)
        params["time"] = (
            st.selectbox(
                "Time",
                [*TIMES, CUSTOM],
                index=None,
                placeholder="any",
                key="time",
                bind="query-params",
                width=150,
            )
            or ""
        )
        if params["time"] == CUSTOM:
            params["from"] = _moment("From", "from", viewer.zone)
            params["to"] = _moment("To", "to", viewer.zone)
        if any(params.values()):
            st.button("Clear", on_click=_clear)
    return params


def _known_values(store: JobStore) -> dict[str, list[str]]:
    """The values in the columns that jobs can be filtered by, as far as they can be read. After a
    failure the next column is not read: each would take the full timeout.
    """
    found: dict[str, list[str]] = {}
    for column in _CHOICES.values():
        kept = shared_answer(
            store,
            ("values", column),
            lambda column=column: known_values(store, column),  # type: ignore[misc]
            fresh_seconds=_VALUES_FRESH_SECONDS,
        )
        if kept.value is not None:
            found[column] = [value for value in kept.value.values if value.strip()]
        if kept.error is not None:
            break
    return found


def _moment(label: str, name: str, zone: tzinfo) -> str:
    """A bound of the time range, in UTC in the address and in ``zone`` on the page."""
    text = st.query_params.get(name, "")
    at = parse_moment(text)
    try:
        held = None if at is None else at.astimezone(zone).replace(tzinfo=None, microsecond=0)
    except OverflowError:
        held = None
    if held is not None and not _EARLIEST <= held < _LATEST:
        held = None
    picked = st.datetime_input(
        label,
        held,
        min_value=_EARLIEST,
        max_value=_LATEST,
        step=60,
        # Another time in the address needs another widget: a widget keeps its first value.
        key=f"queuescope_{name}_{text}",
        width=190,
    )
    if _minute(picked) != _minute(held):
        text = "" if picked is None else moment_text(picked.replace(tzinfo=zone))
        put_in_address(name, text)
    return text


def _minute(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(second=0, microsecond=0)


def _clear() -> None:
    for name in ("find", "status", "time", *_CHOICES):
        st.session_state[name] = "" if name == "find" else None
    for name in ("from", "to"):
        put_in_address(name, "")


def _search(
    store: JobStore, wanted: JobFilter, older: Place | None, newer: Place | None
) -> JobPage:
    """One page; the newest one if nothing is newer than what was asked for."""
    until = time.monotonic() + _SEARCH_SECONDS
    page = find_jobs(store, wanted, older_than=older, newer_than=newer)
    goes_up = newer is not None and older is None
    while not page.jobs and time.monotonic() < until:
        further = page.newer if goes_up else page.older
        if further is None:
            break
        page = (
            find_jobs(store, wanted, newer_than=further)
            if goes_up
            else find_jobs(store, wanted, older_than=further)
        )
    return find_jobs(store, wanted) if goes_up and page.newer is None else page


def _line(
    page: Known[JobPage],
    count: Known[JobCount],
    query: str,
    chosen: Sequence[str],
    viewer: Viewer,
    *,
    is_first: bool,
) -> Markup:
    """The number of jobs, the as-of time, and the buttons."""
    words = "" if count.value is None else count_words(count.value)
    as_of = joined(" as of ", viewer.moment(page.as_of))
    said = element(
        "p",
        element("b", words),
        element("span", as_of, class_="qs-muted"),
        class_="qs-said",
        role="status",
    )
    refresh = element(
        "button", "Refresh", type="button", class_="qs-action", data_of="refresh", data_value="now"
    )
    file = download_link(
        "Download CSV",
        JOBS_CSV,
        query,
        title=f"All matching jobs, newest first; at most {ROWS_LIMIT:,}.",
    )
    held = page.value
    ways = Markup("") if held is None else pager(held, is_first=is_first)
    buttons = element("span", retry_bar(chosen, viewer), refresh, file, ways, class_="qs-actions")
    return element("div", said, buttons, class_="qs-part-head")


def _nothing(page: JobPage, params: dict[str, str]) -> str:
    if page.searched_back_to is not None:
        return "Nothing found yet."
    if any(params.values()):
        return "No job matches."
    return "The job history holds no jobs yet. Workers fill it once job_store_url is set for them."


def _looked_back(page: JobPage, viewer: Viewer) -> Markup:
    if page.searched_back_to is None:
        return Markup("")
    return element(
        "p",
        *("Searched back to ", viewer.moment(page.searched_back_to), " so far."),
        class_="qs-muted",
    )


def _turn(page: JobPage, way: str) -> None:
    """Go to another page; a page that is not offered is ignored."""
    place = {"older": page.older, "newer": page.newer, "newest": None}.get(way)
    if place is None and way != "newest":
        return
    put_in_address("page", "" if place is None else page_text(way, place))
    st.rerun(scope="fragment")


def _pinned(store: JobStore, question: Hashable, ask: Callable[[], T]) -> Known[T]:
    """The answer from when the viewer came to this page, so that rows do not move while they are
    used.
    """
    held = st.session_state.get(_PAGE)
    if isinstance(held, tuple) and held[0] == question and held[1].error is None:
        kept: Known[T] = held[1]
        return kept
    kept = shared_answer(store, ("page", question), ask, fresh_seconds=1.0)
    st.session_state[_PAGE] = (question, kept)
    return kept
