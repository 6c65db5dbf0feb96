"""The page of operations: queues, workers, purges, and the audit."""

from __future__ import annotations

import time

import streamlit as st

from queuescope.dashboard.operations.audit_search import search_audit
from queuescope.dashboard.operations.tables import (
    audit_part,
    purges_part,
    queues_part,
    rights_notice,
    workers_part,
)
from queuescope.dashboard.services import services
from queuescope.dashboard.ui import operation_dialog
from queuescope.dashboard.ui.rights import Rights, visitor_rights
from queuescope.dashboard.ui.states import server_clock_remarks
from queuescope.dashboard.ui.widgets import (
    element,
    heading,
    notice,
    show,
    show_live,
    viewer_zone,
)
from queuescope.dashboard.watches import OperationsWatches
from queuescope.errors import RefusedError
from queuescope.operations.access import Role
from queuescope.operations.request import Request

_TICK_SECONDS = 2.0
_VERIFY_PATIENCE_SECONDS = 5.0


def show_operations() -> None:
    """The possible operations on queues, jobs and workers, and the past ones."""
    show(element("h1", "Operations"))
    acting = services().operations
    if acting is None:
        show(notice(services().without_broker))
        return
    st.fragment(_queues_and_workers, run_every=_TICK_SECONDS)()
    st.fragment(_jobs, run_every=_TICK_SECONDS)()
    st.fragment(_records, run_every=_TICK_SECONDS)(acting)
    st.fragment(search_audit)()


def _queues_and_workers() -> None:
    broker = services().broker
    if broker is None:
        return
    rights, zone, now, known = _rights(), viewer_zone(), time.time(), broker.known
    live = show_live(
        rights_notice(rights),
        operation_dialog.last_outcome(),
        *server_clock_remarks(services().clock_ahead),
        queues_part(known, rights, zone, now),
        workers_part(known, rights, zone, now),
        key="queuescope_queues",
    )
    if live.chosen is not None:
        _begin(*live.chosen)


def _jobs() -> None:
    show(
        heading("Jobs", "failed jobs are retried on the Jobs page, one by one or as a group"),
    )
    rights = _rights()
    refusal = rights.refusal(lambda: Request.revoke("any"))
    with st.form("queuescope_job", border=False), st.container(horizontal=True):
        job_id = st.text_input(
            "Id of a job to be revoked", label_visibility="collapsed", placeholder="Id of a job"
        )
        is_asked = st.form_submit_button("Revoke", disabled=bool(refusal), help=refusal or None)
    if is_asked and job_id.strip():
        operation_dialog.offer_revoke(job_id.strip())


def _records(acting: OperationsWatches) -> None:
    rights, zone, now = _rights(), viewer_zone(), time.time()
    live = show_live(
        purges_part(acting.purges.known, rights, zone, now),
        audit_part(acting.audit.known, acting.chain.known, zone, now),
        key="queuescope_records",
    )
    if live.chosen is None:
        return
    if live.chosen == ("verify", "chain"):
        acting.verifier.start_over()
        acting.chain.refresh(patience_seconds=_VERIFY_PATIENCE_SECONDS)
    else:
        _begin(*live.chosen)


def _rights() -> Rights:
    """The visitor's rights. A visitor who may no longer view the page, as after a login expired,
    gets the login page.
    """
    found = visitor_rights()
    if not found.role.covers(Role.VIEWER):
        st.rerun()
    return found


def _begin(operation: str, subject: str) -> None:
    """Begin the operation of a button. A browser may send anything: an impossible request is
    dropped, and any other is checked like every operation.
    """
    try:
        match operation:
            case "pause":
                operation_dialog.offer(Request.pause(subject))
            case "resume":
                operation_dialog.offer(Request.resume(subject))
            case "purge":
                operation_dialog.offer(Request.purge(subject))
            case "restore":
                operation_dialog.offer(Request.restore(subject))
            case "scale":
                operation_dialog.offer_scale(subject)
    except RefusedError:
        return
