"""The dialog of an operation: what it will do, the confirmation, and the outcome.

One dialog for all pages. The pending operation is kept in the visitor's session and shown whenever
the page is drawn again; the visitor is identified again when it is planned and when it is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from queuescope.dashboard.services import services
from queuescope.dashboard.ui.operation_words import WORDINGS
from queuescope.dashboard.ui.pending_operation import PendingOperation
from queuescope.dashboard.ui.rights import no_broker
from queuescope.dashboard.ui.visitor import visitor
from queuescope.dashboard.ui.widgets import (
    Markup,
    Tone,
    element,
    joined,
    mark,
    moment,
    notice,
    show,
    viewer_zone,
)
from queuescope.errors import RefusedError
from queuescope.operations.audit import Outcome, Result
from queuescope.operations.request import Operation, Request
from queuescope.words import counted

if TYPE_CHECKING:
    from queuescope.broker.worker import Worker
    from queuescope.operations.request import Plan

_SESSION_KEY = "queuescope_operations"
_SIZE_LIMIT = 1000
_LAST_SECONDS = 600.0
_RESULTS = {
    Result.PENDING: ("No answer yet", Tone.BUSY),
    Result.DONE: ("Done", Tone.GOOD),
    Result.REFUSED: ("Refused", Tone.WARN),
    Result.FAILED: ("Failed", Tone.BAD),
    Result.UNKNOWN: ("Not known", Tone.UNKNOWN),
}


@dataclass(slots=True)
class VisitorOperations:
    """A visitor's pending operation with the dialog's title, and their last one."""

    title: str = ""
    pending: PendingOperation | None = None
    refusal: str = ""
    last: PendingOperation | None = None

    @property
    def is_open(self) -> bool:
        return self.pending is not None or bool(self.refusal)

    def clear(self) -> None:
        self.pending, self.refusal = None, ""


def offer(request: Request) -> None:
    """Open the dialog for ``request``; ends the present run of the script."""
    _begin(WORDINGS[request.operation].title, request=request)


def offer_retry(job_ids: Sequence[str], *, group: str = "") -> None:
    """Offer to retry failed jobs; ``group`` names their failure group, if they are one."""
    title = WORDINGS[Operation.RETRY].title
    try:
        request = Request.retry(job_ids, group=group)
    except RefusedError as exc:
        _begin(title, refusal=str(exc))
    else:
        _begin(title, request=request)


def offer_revoke(job_id: str) -> None:
    """Offer to revoke a job, and to end it if it is running."""

    def choose() -> Request | None:
        show(element("p", "Job ", _named(job_id)))
        refusal = _cannot_end(job_id)
        with st.form("queuescope_revoke", border=False):
            ends = st.checkbox("End it if it is running (terminate)", disabled=bool(refusal))
            if refusal:
                show(element("p", refusal, class_="qs-muted"))
            if not st.form_submit_button("Continue", type="primary"):
                return None
        return Request.revoke(job_id, terminate=ends)

    _begin(WORDINGS[Operation.REVOKE].title, choose=choose)


def offer_scale(worker: str) -> None:
    """Offer to change the pool size of ``worker``."""

    def choose() -> Request | None:
        found = _worker(worker)
        now = 1 if found is None else max(1, found.report.pool_size)
        show(element("p", "Worker ", _named(worker), f" has {counted(now, 'place')}."))
        with st.form("queuescope_scale", border=False):
            size = st.number_input("New number of places", 1, _SIZE_LIMIT, min(now, _SIZE_LIMIT))
            if not st.form_submit_button("Continue", type="primary"):
                return None
        return Request.scale(worker, int(size))

    _begin(WORDINGS[Operation.SCALE].title, choose=choose)


def show_pending() -> None:
    """Show the dialog of the pending operation, if there is one; for the start of the script."""
    mine = st.session_state.get(_SESSION_KEY)
    if isinstance(mine, VisitorOperations) and mine.is_open:
        st.dialog(mine.title, on_dismiss=mine.clear)(_draw)(mine)


def last_outcome() -> Markup:
    """The outcome of the visitor's last operation, shown for a while; from memory."""
    mine, now = _mine(), time.time()
    last = mine.last
    if last is None or last.request is None or mine.is_open:
        return Markup("")
    last.look(patience_seconds=0)
    outcome = last.outcome
    if outcome is None or not last.was_sent or now - last.outcome_at > _LAST_SECONDS:
        return Markup("")
    word, tone = _RESULTS[outcome.result]
    at = moment(last.outcome_at, viewer_zone(), now)
    words = joined(element("b", word), f": {last.request.words()}, ", at, f". {outcome.detail}")
    return notice(words, tone=tone)


def _mine() -> VisitorOperations:
    mine = st.session_state.get(_SESSION_KEY)
    if not isinstance(mine, VisitorOperations):
        mine = st.session_state[_SESSION_KEY] = VisitorOperations()
    return mine


def _begin(
    title: str,
    *,
    request: Request | None = None,
    choose: Callable[[], Request | None] | None = None,
    refusal: str = "",
) -> NoReturn:
    """Draw the page again, with the dialog from ``show_pending``.

    A dialog that a fragment opens belongs to the fragment: when the fragment reruns by itself, as
    these do, content that is being drawn in the dialog may lose its place in the browser.
    """
    mine, context = _mine(), services().operations_context
    mine.clear()
    mine.title = title
    if refusal or context is None:
        mine.refusal = refusal or no_broker()
    else:
        mine.pending = PendingOperation(context.operations, request, choose)
    st.rerun()


def _draw(mine: VisitorOperations) -> None:
    """Draw the dialog in its present state. The session state is not written here: a run may be
    interrupted at each write, and a sent operation must be noted before.

    Each step has a container of its own, which it leaves empty for the next: content stays in a
    container until another run, even below its replacement.
    """
    choosing, confirming, progress = st.empty(), st.empty(), st.empty()
    if _is_being_chosen(mine, choosing):
        return
    pending = mine.pending
    if pending is None:
        if mine.refusal:
            with progress.container():
                _show_outcome(Outcome(Result.REFUSED, mine.refusal))
                _buttons(mine, again=False)
        return
    if pending.plan is None and pending.outcome is None:
        with progress.container(), st.spinner("Checking what this affects …"):
            pending.prepare(visitor())
    if pending.outcome is None:
        with confirming.container():
            typed = _confirmation(mine, pending)
        if typed is None:
            return
        mine.last = pending
        if pending.plan is None or pending.plan.is_confirmed_by(typed):
            confirming.empty()
            with progress.container(), st.spinner("Working …"):
                pending.send(visitor(), typed)
        else:
            # A wrong confirmation is refused at once, and the form stays, to be corrected.
            pending.send(visitor(), typed)
        _renew()
        if pending.outcome is None:
            st.rerun()
        confirming.empty()
    elif pending.outcome.result is Result.PENDING:
        pending.look(patience_seconds=0)
    if pending.outcome is None:
        st.rerun()
    with progress.container():
        _show_outcome(pending.outcome)
        again = pending.outcome.result in (Result.REFUSED, Result.FAILED)
        looks_again = _buttons(mine, again=again)
    if looks_again:
        progress.empty()
        with confirming.container(), st.spinner("Working …"):
            pending.look()
        _renew()
        st.rerun()


def _is_being_chosen(mine: VisitorOperations, place: DeltaGenerator) -> bool:
    """Ask in ``place`` for the missing parts of the request; returns whether they are still
    missing.
    """
    pending = mine.pending
    if pending is None or pending.request is not None or pending.choose is None:
        return False
    with place.container():
        try:
            pending.request = pending.choose()
        except RefusedError as exc:
            mine.pending, mine.refusal = None, str(exc)
            place.empty()
            return False
    if pending.request is None:
        return True
    place.empty()
    return False


def _confirmation(mine: VisitorOperations, pending: PendingOperation) -> str | None:
    """Show the plan and a form; returns the typed text once the form is sent."""
    plan = pending.plan
    if plan is None:
        return None
    wording = WORDINGS[plan.request.operation]
    until = moment(plan.expires_at_ms / 1000, viewer_zone(), time.time())
    parts = [
        element("p", _touched(plan), class_="qs-lead"),
        element("h3", "What it does"),
        element("p", wording.does),
        element("h3", "What it does not do"),
        element("p", wording.does_not),
    ]
    if plan.warning:
        parts.append(notice(plan.warning, tone=Tone.WARN))
    if plan.phrase:
        parts.append(element("p", "To confirm, type ", _named(plan.phrase)))
    show(*parts)
    # The remark has a container of its own, so that the form below keeps its identity.
    remark = st.empty()
    if pending.remark:
        with remark:
            show(notice(pending.remark, tone=Tone.WARN))
    with st.form(f"queuescope_confirm_{pending.key}", border=False):
        typed = ""
        if plan.phrase:
            typed = st.text_input("Type it here", autocomplete="off")
        show(element("p", "Valid until ", until, ", for one use.", class_="qs-muted"))
        with st.container(horizontal=True):
            is_sent = st.form_submit_button(wording.button, type="primary")
            is_left = st.form_submit_button("Cancel")
    if is_left:
        mine.pending = None
        st.rerun()
    return typed if is_sent else None


def _buttons(mine: VisitorOperations, *, again: bool) -> bool:
    """The buttons below an outcome; returns whether the visitor wants to wait once more."""
    pending = mine.pending
    with st.container(horizontal=True):
        if st.button("Close", type="primary"):
            mine.clear()
            st.rerun()
        if pending is None:
            return False
        if again and st.button("Start again"):
            mine.pending = pending.again()
            st.rerun()
        is_open = pending.outcome is not None and pending.outcome.result is Result.PENDING
        return is_open and st.button("Check again")


def _show_outcome(outcome: Outcome) -> None:
    word, tone = _RESULTS[outcome.result]
    show(
        element(
            "div",
            element("p", mark(word, tone), class_="qs-lead"),
            element("p", outcome.detail),
            class_="qs-answer",
            role="status",
            data_state=outcome.result,
        )
    )


def _touched(plan: Plan) -> Markup:
    """What it affects now, in a sentence."""
    request, count = plan.request, plan.count
    subject = _named(request.subject)
    jobs = counted(count, "job")
    match request.operation:
        case Operation.PAUSE | Operation.RESUME:
            verb = "paused" if request.operation is Operation.PAUSE else "resumed"
            if request.is_for_all:
                return joined(f"All queues are to be {verb}: {count:,} of them.")
            return joined("Queue ", subject, f" is to be {verb}.")
        case Operation.PURGE:
            return joined(f"{jobs} wait in queue ", subject, ". ", _reserved(request.subject))
        case Operation.RESTORE:
            return joined(f"{jobs} of purge ", subject, " are to go back into their queue.")
        case Operation.RETRY:
            return joined(f"{jobs} that failed are to be sent again: ", subject, ".")
        case Operation.REVOKE if request.terminate:
            return joined("Job ", subject, " is to be ended if it is running.")
        case Operation.REVOKE:
            return joined("Job ", subject, " is never to start.")
        case Operation.SCALE:
            return joined(
                "Worker ",
                subject,
                f" has {counted(count, 'place')} and is to have ",
                request.size,
                ".",
            )


def _reserved(queue: str) -> str:
    """How many jobs of ``queue`` stay with the workers after a purge."""
    watch = services().broker
    state = None if watch is None else watch.known.fresh_value
    reading = None if state is None else state.queue(queue)
    if reading is None or reading.unacknowledged is None:
        return "How many more the workers hold is not known; those stay."
    if not reading.unacknowledged:
        return "The workers hold no others."
    return f"The workers hold {reading.unacknowledged:,} more, which stay and may run."


def _cannot_end(job_id: str) -> str:
    """Why a running job cannot be ended; empty if it can, or if that is unknown."""
    broker = services().broker
    state = None if broker is None else broker.known.value
    worker = None if state is None else state.fleet.running(job_id)
    return "" if worker is None else worker.cannot_end


def _worker(name: str) -> Worker | None:
    watch = services().broker
    state = None if watch is None else watch.known.value
    return None if state is None else state.fleet.get(name)


def _named(text: str) -> Markup:
    return element("code", text, class_="qs-named")


def _renew() -> None:
    """Make the page show the outcome of an operation soon."""
    acting, broker = services().operations, services().broker
    if acting is None or broker is None:
        return
    for watch in (broker, acting.audit, acting.purges, acting.chain):
        watch.refresh(patience_seconds=0)
