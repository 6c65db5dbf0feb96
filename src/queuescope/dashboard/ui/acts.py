"""How a page offers an act: what it will do, the confirmation, and what became of it.

One dialog for all pages. A wish is kept in the visitor's session and shown wherever the page is
drawn anew; who it is that wishes is asked again at the plan and at the act, and the right is
checked where the act is carried out. What is disabled on a page is a courtesy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import streamlit as st

from queuescope.dashboard.auth.identity import Unidentified, access_of
from queuescope.dashboard.services import services
from queuescope.dashboard.ui.pending_operation import Answer, State, Wish
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
from queuescope.operations.access import Access, Actor, Origin, Role
from queuescope.operations.request import Operation, Request
from queuescope.words import counted

if TYPE_CHECKING:
    from queuescope.broker.fleet import Worker
    from queuescope.operations.control import Plan

_DESK = "queuescope_desk"
_SIZE_LIMIT = 1000
_LAST_SECONDS = 600.0
_NEEDS_KEY = "To act takes the operator’s key; the page Operations says where it is."
_STATES = {
    State.WORKING: ("No answer yet", Tone.BUSY),
    State.DONE: ("Done", Tone.GOOD),
    State.REFUSED: ("Refused", Tone.WARN),
    State.FAILED: ("Failed", Tone.BAD),
    State.UNKNOWN: ("Not known", Tone.UNKNOWN),
}


@dataclass(frozen=True, slots=True)
class Wording:
    """What is said of an operation before it is confirmed; docs/operations.md says the same."""

    title: str
    button: str
    does: str
    does_not: str


WORDINGS = {
    Operation.PAUSE: Wording(
        "Pause a queue, or all",
        "Pause",
        "No job of the queue starts in any instrumented worker. Waiting jobs stay in the broker; "
        "jobs that a worker had fetched but not started go back to the front, in their old order. "
        "A pause is durable: workers that start later, restarted workers, and workers whose "
        "broker was restarted stay paused.",
        "It does not end running jobs. It does not stop producers: the queue grows. It does not "
        "affect workers that do not call instrument, which the page cannot count.",
    ),
    Operation.RESUME: Wording(
        "Resume a queue, or all",
        "Resume",
        "Workers fetch again, within about two seconds.",
        "It does not speed anything up.",
    ),
    Operation.PURGE: Wording(
        "Purge a queue",
        "Purge",
        "Removes all waiting jobs, of every priority, from that queue alone. They are written to "
        "a file before they are deleted from the broker.",
        "It does not touch jobs that workers have fetched: it says how many are still reserved, "
        "and those may run. It does not touch jobs that wait for a countdown in a worker.",
    ),
    Operation.RESTORE: Wording(
        "Restore a purge",
        "Restore",
        "Puts every message back, byte for byte and in the old order, ahead of newer ones; once, "
        "however often it is requested.",
        "Above 2,000 messages it is not a single step: workers may start with the first messages "
        "that are back.",
    ),
    Operation.REVOKE: Wording(
        "Revoke a job",
        "Revoke",
        "No worker starts the job, now or later, for seven days. With terminate it is ended if it "
        "is running.",
        "Without terminate it does not end a running job. Thread and solo pools cannot end one.",
    ),
    Operation.SCALE: Wording(
        "Scale a worker",
        "Scale",
        "Sets the size of its process pool.",
        "It ends only idle processes and says how many are left. It does not survive a restart of "
        "the worker. Thread pools, solo pools and --autoscale refuse.",
    ),
    Operation.RETRY: Wording(
        "Retry failed jobs",
        "Retry",
        "Lets a worker send them again through the project's own code, once per operation.",
        "Nothing is sent without that code.",
    ),
}


@dataclass(frozen=True, slots=True)
class Rights:
    """What the visitor could ask for at this moment; see ``rights``."""

    who: Actor | Unidentified
    obstacle: str
    _access: Access

    @property
    def role(self) -> Role:
        return Role.NOBODY if isinstance(self.who, Unidentified) else self._access.role_of(self.who)

    def refusal(self, make: Callable[[], Request]) -> str:
        """Why the visitor should not even ask for what ``make`` makes, or nothing."""
        if isinstance(self.who, Unidentified):
            return self.who.problem
        if self.who.how is Origin.WITHOUT_KEY:
            # What keeps everybody from acting is no matter of a key.
            return self.obstacle or _NEEDS_KEY
        try:
            self._access.demand(self.who, make(), time.time())
        except RefusedError as exc:
            return str(exc)
        return self.obstacle


def rights() -> Rights:
    """Who looks, and what keeps everybody from acting, from memory alone.

    To be asked in each run, and for what is shown alone: an act is checked by itself.
    """
    return Rights(visitor(), obstacle(), access_of(services().settings))


def _no_broker() -> str:
    refused = services().refused_broker
    return (
        "No broker is configured." if refused is None else f"The broker cannot be used: {refused}."
    )


def obstacle() -> str:
    """Why nobody can act now, as a sentence, or nothing."""
    broker, acting = services().broker, services().operations
    if broker is None or acting is None:
        return _no_broker()
    audit, seen = acting.audit.known, broker.known
    if audit.error is not None:
        return f"Operations are refused, for the audit cannot be read: {audit.error}."
    if audit.value is not None and audit.value.refusal is not None:
        return f"Operations are refused, for the audit cannot be written: {audit.value.refusal}."
    for known in (seen, acting.writable.known):
        if known.error is not None:
            return f"Operations are off: {known.error}."
    if audit.value is None or seen.value is None:
        return "Broker and audit have not answered yet."
    return ""


def offer(request: Request) -> None:
    """Open the dialog for ``request``; ends the run in which it was asked for."""
    desk = _desk()
    desk.clear()
    desk.take(request)
    _shown_anew()


def offer_retry(job_ids: Sequence[str], *, group: str = "") -> None:
    """Offer to send failed jobs again; ``group`` names the failure group that they are."""
    _offer_made(lambda: Request.retry(job_ids, group=group), Operation.RETRY)


def offer_revoke(job_id: str) -> None:
    """Offer to let a job never start, or to end it where it runs."""

    def choose() -> Request | None:
        show(element("p", "Job ", _named(job_id)))
        refusal = _cannot_end(job_id)
        with st.form("queuescope_revoke", border=False):
            ends = st.checkbox("End it where it runs (terminate)", disabled=bool(refusal))
            if refusal:
                show(element("p", refusal, class_="qs-muted"))
            if not st.form_submit_button("Go on", type="primary"):
                return None
        return Request.revoke(job_id, terminate=ends)

    _offer_chosen(choose, Operation.REVOKE)


def offer_scale(worker: str) -> None:
    """Offer to give the pool of ``worker`` another size."""

    def choose() -> Request | None:
        found = _worker(worker)
        now = 1 if found is None else max(1, found.report.pool_size)
        show(element("p", "Worker ", _named(worker), f" has {counted(now, 'place')}."))
        with st.form("queuescope_scale", border=False):
            size = st.number_input("Places from now on", 1, _SIZE_LIMIT, min(now, _SIZE_LIMIT))
            if not st.form_submit_button("Go on", type="primary"):
                return None
        return Request.scale(worker, int(size))

    _offer_chosen(choose, Operation.SCALE)


def resume() -> None:
    """Show the dialog of what the visitor is about to do, if anything; for the script's start."""
    desk = st.session_state.get(_DESK)
    if isinstance(desk, Desk) and desk.is_open:
        st.dialog(desk.title, on_dismiss=desk.clear)(_draw)(desk)


def last_act() -> Markup:
    """What came of the visitor's last act, for a while; from memory."""
    desk, now = _desk(), time.time()
    if desk.last is None or desk.is_open:
        return Markup("")
    desk.last.look(patience_seconds=0)
    answer = desk.last.answer
    if answer is None or not desk.last.was_sent or now - answer.at > _LAST_SECONDS:
        return Markup("")
    word, tone = _STATES[answer.state]
    at = moment(answer.at, viewer_zone(), now)
    words = joined(element("b", word), f": {desk.last.request.words()}, ", at, f". {answer.words}")
    return notice(words, tone=tone)


@dataclass(slots=True)
class Desk:
    """What a visitor is about to do, and what they did last.

    ``choose`` asks for what is not known yet of the request, and gives it when it is told.
    """

    title: str = ""
    choose: Callable[[], Request | None] | None = None
    refusal: str = ""
    wish: Wish | None = None
    last: Wish | None = None

    @property
    def is_open(self) -> bool:
        return bool(self.wish or self.choose or self.refusal)

    def clear(self) -> None:
        self.wish, self.choose, self.refusal = None, None, ""

    def take(self, request: Request) -> None:
        """Begin with ``request``."""
        context = services().operations_context
        self.title = WORDINGS[request.operation].title
        if context is None:
            self.refusal = _no_broker()
        else:
            self.wish = Wish(context.operations, request)


def _desk() -> Desk:
    desk = st.session_state.get(_DESK)
    if not isinstance(desk, Desk):
        desk = st.session_state[_DESK] = Desk()
    return desk


def _offer_made(make: Callable[[], Request], operation: Operation) -> None:
    desk = _desk()
    desk.clear()
    try:
        desk.take(make())
    except RefusedError as exc:
        desk.title, desk.refusal = WORDINGS[operation].title, str(exc)
    _shown_anew()


def _offer_chosen(choose: Callable[[], Request | None], operation: Operation) -> None:
    desk = _desk()
    desk.clear()
    desk.title, desk.choose = WORDINGS[operation].title, choose
    _shown_anew()


def _shown_anew() -> NoReturn:
    """Draw the page again, with the dialog, by ``resume``.

    A dialog that a fragment opens is the fragment's: when that runs again by itself, which these
    do, what is drawn in the dialog at that moment may find no place in the browser any more.
    """
    st.rerun()


def _draw(desk: Desk) -> None:
    """All of the dialog, in whichever state the wish is. Its session is not touched here: a run
    may be cut off at every touch, and what was sent must have been noted before.

    Each step has a place of its own, and leaves it empty for the next: what one run has drawn in
    a container stays there until another run, also below what takes its place.
    """
    choosing, confirming, telling = st.empty(), st.empty(), st.empty()
    if desk.wish is None and desk.choose is not None and not desk.refusal:
        with choosing.container():
            try:
                request = desk.choose()
            except RefusedError as exc:
                request, desk.refusal = None, str(exc)
        if request is not None:
            desk.take(request)
        if request is not None or desk.refusal:
            choosing.empty()
    wish = desk.wish
    if wish is None:
        if desk.refusal:
            with telling.container():
                _show_answer(Answer(State.REFUSED, desk.refusal, time.time()))
                _buttons(desk, again=False)
        return
    if wish.plan is None and wish.answer is None:
        with telling.container(), st.spinner("Looking at what this touches …"):
            wish.prepare(visitor())
    if wish.answer is None:
        with confirming.container():
            typed = _confirmation(desk, wish)
        if typed is None:
            return
        desk.last = wish
        if wish.fits(typed):
            confirming.empty()
            with telling.container(), st.spinner("At work …"):
                wish.send(visitor(), typed)
        else:
            # It is refused at once, and the form stays there with what is to be put right in it.
            wish.send(visitor(), typed)
        _renew()
        if wish.answer is None:
            st.rerun()
        confirming.empty()
    elif wish.answer.state is State.WORKING:
        wish.look(patience_seconds=0)
    with telling.container():
        _show_answer(wish.answer)
        looks_again = _buttons(desk, again=wish.answer.state in (State.REFUSED, State.FAILED))
    if looks_again:
        telling.empty()
        with confirming.container(), st.spinner("At work …"):
            wish.look()
        _renew()
        st.rerun()


def _confirmation(desk: Desk, wish: Wish) -> str | None:
    """What the plan says, and a form; returns what was typed when it is sent."""
    plan = wish.plan
    if plan is None:
        return None
    wording = WORDINGS[plan.request.operation]
    until = moment(plan.expires_at, viewer_zone(), time.time())
    parts = [
        element("p", _touched(plan), class_="qs-lead"),
        element("h3", "What it does"),
        element("p", wording.does),
        element("h3", "What it does not"),
        element("p", wording.does_not),
    ]
    if plan.doubt:
        parts.append(notice(plan.doubt, tone=Tone.WARN))
    if plan.phrase:
        parts.append(element("p", "To confirm, type ", _named(plan.phrase)))
    show(*parts)
    # It has a place of its own, so that the form below stays the same one when there is a remark.
    remark = st.empty()
    if wish.remark:
        with remark:
            show(notice(wish.remark, tone=Tone.WARN))
    with st.form(f"queuescope_confirm_{wish.key}", border=False):
        typed = ""
        if plan.phrase:
            typed = st.text_input("Type it here", autocomplete="off")
        show(element("p", "This holds until ", until, ", and once.", class_="qs-muted"))
        with st.container(horizontal=True):
            is_sent = st.form_submit_button(wording.button, type="primary")
            is_left = st.form_submit_button("Cancel")
    if is_left:
        desk.clear()
        st.rerun()
    return typed if is_sent else None


def _buttons(desk: Desk, *, again: bool) -> bool:
    """The ways on from an answer; whether the visitor wants to wait for one once more."""
    with st.container(horizontal=True):
        if st.button("Close", type="primary"):
            desk.clear()
            st.rerun()
        if again and desk.wish is not None and st.button("Begin again"):
            if desk.choose is None:
                desk.take(desk.wish.request)
            else:
                desk.wish = None
            st.rerun()
        answer = None if desk.wish is None else desk.wish.answer
        is_open = answer is not None and answer.state is State.WORKING
        return is_open and st.button("Look again")


def _show_answer(answer: Answer) -> None:
    word, tone = _STATES[answer.state]
    show(
        element(
            "div",
            element("p", mark(word, tone), class_="qs-lead"),
            element("p", answer.words),
            class_="qs-answer",
            role="status",
            data_state=answer.state,
        )
    )


def _touched(plan: Plan) -> Markup:
    """What it touches now, in a sentence."""
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
            return joined("Job ", subject, " is to be ended where it runs.")
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
    """How many jobs of ``queue`` a purge leaves with the workers."""
    watch = services().broker
    state = None if watch is None else watch.known.fresh_value
    reading = None if state is None else state.queue(queue)
    if reading is None or reading.unacknowledged is None:
        return "How many more the workers hold is not known; those stay."
    if not reading.unacknowledged:
        return "The workers hold none besides."
    return f"The workers hold {reading.unacknowledged:,} more, which stay and may run."


def _cannot_end(job_id: str) -> str:
    """Why a job cannot be ended where it runs; nothing, too, where that is not known."""
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
    """Let the page show soon what came of an act."""
    acting, broker = services().operations, services().broker
    if acting is None or broker is None:
        return
    for watch in (broker, acting.audit, acting.purges, acting.chain):
        watch.refresh(patience_seconds=0)
