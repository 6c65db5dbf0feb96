"""The recent failures on the page of jobs: groups, the open one, and single failures."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from queuescope.dashboard.jobs.filter import TIMES
from queuescope.dashboard.jobs.reads import (
    job_store,
    part,
    put_in_address,
    shared_answer,
    ticked_in,
)
from queuescope.dashboard.jobs.retry import (
    Viewer,
    current_viewer,
    group_retriable,
    retriable,
    retry_bar,
    retry_note,
    to_be_retried,
    with_obstacles,
)
from queuescope.dashboard.jobs.tables import (
    GROUPS_LIMIT,
    GROUPS_SHOWN,
    failed_table,
    group_card,
    groups_table,
    trouble,
)
from queuescope.dashboard.services import services
from queuescope.dashboard.ui import operation_dialog
from queuescope.dashboard.ui.states import server_clock_remarks
from queuescope.dashboard.ui.widgets import (
    Markup,
    Tone,
    element,
    heading,
    joined,
    notice,
    show,
    show_live,
)
from queuescope.jobs.failures import (
    FailureGroup,
    FailureReport,
    GroupOrder,
    Span,
    failure_groups,
    last_failures,
)
from queuescope.jobs.job import Job
from queuescope.jobs.store import JobStore
from queuescope.known import Known

_SPANS = {"1h": "last hour", "24h": "last 24 hours", "7d": "last 7 days"}
_SINGLES = 10
_KEY, _LIMIT = "queuescope_failures", "queuescope_groups_limit"


def show_failures() -> None:
    """Groups of failures, the open one, and the last single failures."""
    store, viewer = job_store(), current_viewer()
    name, order = _wanted()
    # Includes jobs of workers of earlier versions whose clocks are ahead.
    span = Span(viewer.now - TIMES[name], viewer.now + TIMES["1h"])
    opened = st.query_params.get("group", "")

    def first_groups(limit: int) -> Known[FailureReport]:
        return shared_answer(
            store,
            ("groups", name, order, limit),
            lambda: failure_groups(store, span, limit=limit, order=order),
        )

    report = first_groups(st.session_state.get(_LIMIT, GROUPS_SHOWN))
    if opened and _is_cut_off(report.value, opened):
        # A small group, or one that shrinks while its jobs are sent again, stays open.
        report = first_groups(GROUPS_LIMIT)
    last = shared_answer(store, ("last", name), lambda: last_failures(store, span, limit=_SINGLES))
    groups = () if report.value is None else report.value.groups
    group = next((group for group in groups if group.fingerprint == opened), None)
    singles: Sequence[Job] = ()
    if group is not None:
        singles = (
            shared_answer(
                store,
                ("singles", name, opened),
                lambda: last_failures(store, span, limit=_SINGLES, fingerprint=opened),
            ).value
            or ()
        )
    ticked = ticked_in(_KEY)
    shown = [*(last.value or ()), *singles]
    viewer = with_obstacles(viewer, shown)
    chosen = to_be_retried(shown, ticked, viewer)
    card = None
    if group is not None:
        able = group_retriable(store, span, group, viewer).value
        card = group_card(group, singles, ticked, chosen, viewer, found=able)
    said = joined(
        operation_dialog.last_outcome(),
        *server_clock_remarks(services().clock_ahead),
        trouble(report, viewer),
    )
    parts = []
    if report.value is not None:
        parts.append(_groups(report.value, viewer, opened, card, _SPANS[name]))
    if last.value:
        parts.append(_last(last.value, ticked, chosen, viewer))
    live = show_live(part("failures", report, said, *parts), key=_KEY)
    match live.chosen:
        case ("group", fingerprint):
            put_in_address("group", "" if fingerprint == opened else fingerprint)
            st.rerun(scope="fragment")
        case ("groups", _):
            st.session_state[_LIMIT] = GROUPS_LIMIT
            st.rerun(scope="fragment")
        case ("retry-group", fingerprint):
            _retry_group(store, span, groups, fingerprint, viewer)
        case ("retry-chosen", _):
            operation_dialog.offer_retry(to_be_retried(shown, live.ticked, viewer))
    if live.ticked != ticked:
        st.rerun(scope="fragment")


def _opened(report: Known[FailureReport], fingerprint: str) -> FailureGroup | None:
    groups = () if report.value is None else report.value.groups
    return next((group for group in groups if group.fingerprint == fingerprint), None)


def _is_cut_off(report: FailureReport | None, fingerprint: str) -> bool:
    """Whether that group may be among those that ``report`` leaves out."""
    if report is None or report.group_count <= len(report.groups):
        return False
    return all(group.fingerprint != fingerprint for group in report.groups)


def _wanted() -> tuple[str, GroupOrder]:
    """The name of the span and the order of the groups, chosen beside the title."""
    # The two choices stay together where the screen is too narrow for the title beside them.
    with st.container(horizontal=True, vertical_alignment="bottom"):
        show(heading("Recent failures"))
        choices = st.container(horizontal=True, width="content")
    with choices:
        name = st.segmented_control(
            "Within",
            list(_SPANS),
            default="24h",
            required=True,
            key="failures",
            bind="query-params",
        )
        order = st.segmented_control(
            "Order",
            [order.value for order in GroupOrder],
            default=GroupOrder.BIGGEST.value,
            required=True,
            key="order",
            bind="query-params",
        )
    return name or "24h", GroupOrder(order or GroupOrder.BIGGEST)


def _groups(
    report: FailureReport, viewer: Viewer, opened: str, card: Markup | None, words: str
) -> Markup:
    if not report.failure_count:
        return notice(f"No job failed in the {words}.", tone=Tone.GOOD)
    found = groups_table(report, viewer, opened=opened, card=card, span_words=words)
    if opened and card is None:
        lost = notice(f"The open group is not among those of the {words}.")
        return joined(lost, found)
    return found


def _last(
    jobs: Sequence[Job], ticked: Sequence[str], chosen: Sequence[str], viewer: Viewer
) -> Markup:
    head = element(
        "div",
        element("h3", f"The last {len(jobs):,}" if len(jobs) > 1 else "The last one"),
        element("span", retry_bar(chosen, viewer), class_="qs-actions"),
        class_="qs-part-head",
    )
    failed = retriable([job.id for job in jobs], viewer.obstacles)
    refused = (
        element("p", f"Retry: {viewer.refusal}", class_="qs-muted", data_note="retry")
        if viewer.refusal
        else retry_note(failed, viewer)
    )
    return joined(
        head, refused, failed_table(jobs, ticked, viewer, caption="The last single failures")
    )


def _retry_group(
    store: JobStore,
    span: Span,
    groups: Sequence[FailureGroup],
    fingerprint: str,
    viewer: Viewer,
) -> None:
    group = next((one for one in groups if one.fingerprint == fingerprint), None)
    if group is None:
        # None of its jobs are failed any more, which the dialog says.
        operation_dialog.offer_retry((), group=fingerprint)
        return
    found = group_retriable(store, span, group, viewer)
    if found.error is not None or found.value is None:
        show(trouble(found, viewer))
        return
    operation_dialog.offer_retry(found.value.ids, group=fingerprint)
