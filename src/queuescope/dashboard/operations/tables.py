"""The tables and sentences of the page of operations, made without reading anything.

If a source fails, what was last known is shown, greyed and with its age; what was never known is
neither a row nor a zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from queuescope.broker.capabilities import Ability
from queuescope.broker.desired import ALL_QUEUES
from queuescope.broker.worker import WorkerStatus
from queuescope.dashboard.auth.identity import Unidentified
from queuescope.dashboard.ui.rights import Rights
from queuescope.dashboard.ui.states import as_of, known_part, unknown_part
from queuescope.dashboard.ui.widgets import (
    Align,
    Column,
    Markup,
    Tone,
    action_button,
    code,
    details,
    element,
    figure,
    heading,
    joined,
    mark,
    moment,
    notice,
    span,
    table,
)
from queuescope.dashboard.ui.workers import STATUS_TONES, scheduled_words
from queuescope.dashboard.worker_words import ahead_words
from queuescope.operations.access import Origin, Role
from queuescope.operations.request import Request
from queuescope.words import counted, listed

if TYPE_CHECKING:
    from queuescope.broker.fleet import Confirmation
    from queuescope.broker.protocol import QueueReading
    from queuescope.broker.purge_file import Purge
    from queuescope.broker.worker import Worker
    from queuescope.known import Known
    from queuescope.operations.audit import Entry, Verification
    from queuescope.watch import AuditState, BrokerState, PurgesState

_PURGES_SHOWN = 20
_MISSING_SHOWN = 3
_QUEUE_COLUMNS = (
    Column("Queue"),
    Column("Waiting", Align.FIGURE),
    Column("Oldest", Align.FIGURE),
    Column("Held by workers", Align.FIGURE),
    Column("State", wide=True),
    Column(""),
)
_WORKER_COLUMNS = (
    Column("Worker"),
    Column("Pool"),
    Column("Runs", Align.FIGURE),
    Column("Status", wide=True),
    Column(""),
)
_PURGE_COLUMNS = (
    Column("Purged"),
    Column("Queue"),
    Column("Jobs", Align.FIGURE),
    Column("By"),
    Column("State"),
    Column("File", wide=True),
    Column(""),
)
_AUDIT_COLUMNS = (
    Column("#", Align.FIGURE),
    Column("When"),
    Column("Who"),
    Column("What"),
    Column("Count", Align.FIGURE),
    Column("Result"),
    Column("In words", wide=True),
)
_RESULT_TONES = {
    "done": Tone.GOOD,
    "refused": Tone.WARN,
    "failed": Tone.BAD,
    "unknown": Tone.UNKNOWN,
}


_DECIDED_ELSEWHERE = (
    "The pauses were set by another dashboard, which has an audit of its own. "
    "Give all dashboards of this broker one operations_store_url."
)


def rights_notice(rights: Rights) -> Markup:
    """Whether the visitor may run operations now, and by which role."""
    role = rights.role
    if rights.obstacle:
        return notice(rights.obstacle, tone=Tone.BAD)
    if not isinstance(rights.who, Unidentified) and rights.who.how is Origin.WITHOUT_KEY:
        return notice(
            "You may view this page but not run operations. To run them, open the link that "
            "queuescope serve printed on the dashboard’s own machine. It ends with ?key= and the "
            "content of the file operator-key in the data directory.",
            tone=Tone.WARN,
        )
    if not role.covers(Role.OPERATOR):
        return notice(
            "You may view this page but not run operations: pausing, resuming, retrying and "
            f"revoking require the role operator, the others admin; yours is {role}.",
            tone=Tone.WARN,
        )
    if not isinstance(rights.who, Unidentified) and rights.who.how is Origin.LOOPBACK:
        return notice(
            "You may run all operations. This dashboard does not identify its visitors: anyone who "
            "holds the operator’s key may run operations, and is “local” in the audit.",
        )
    name = "" if isinstance(rights.who, Unidentified) else rights.who.name
    if role is Role.OPERATOR:
        return notice(
            f"You are {name}, {role}. Purging, restoring, ending jobs, scaling, and pausing "
            "all queues require the role admin."
        )
    return notice(f"You are {name}, {role}.")


def queues_part(known: Known[BrokerState], rights: Rights, zone: tzinfo, now: float) -> Markup:
    state = known.value
    if state is None:
        return unknown_part("Queues", known)
    rows = [_queue_row(state, queue, rights, zone, now) for queue in state.queues]
    are_paused = ALL_QUEUES in state.desired.paused
    whole = element(
        "span",
        action_button(
            "Pause all",
            ALL_QUEUES,
            of="pause",
            label="Pause all queues",
            refusal=rights.refusal(lambda: Request.pause(ALL_QUEUES))
            or ("All queues are paused already." if are_paused else ""),
        ),
        action_button(
            "Resume all",
            ALL_QUEUES,
            of="resume",
            label="Resume all queues",
            refusal=rights.refusal(lambda: Request.resume(ALL_QUEUES))
            or ("" if state.desired.paused else "No queue is paused."),
        ),
        class_="qs-actions",
    )
    head = element("div", heading("Queues"), as_of(known, zone, now), whole, class_="qs-part-head")
    body = table(
        _QUEUE_COLUMNS,
        rows,
        caption="Queues",
        empty=state.capabilities.why_not(Ability.DEPTH)
        or "No worker reports, and the setting queues names none.",
        stacks=True,
    )
    elsewhere = (
        notice(_DECIDED_ELSEWHERE, tone=Tone.WARN) if state.is_decided_elsewhere else Markup("")
    )
    return known_part(known, head, joined(elsewhere, body))


def workers_part(known: Known[BrokerState], rights: Rights, zone: tzinfo, now: float) -> Markup:
    state = known.value
    if state is None:
        return unknown_part("Workers", known)
    rows = [
        _worker_row(worker, rights, state.fleet.cannot_scale(worker))
        for worker in state.fleet.workers
    ]
    head = element("div", heading("Workers"), as_of(known, zone, now), class_="qs-part-head")
    empty = state.capabilities.why_not(Ability.REPORTS) or "No worker reports."
    body = table(_WORKER_COLUMNS, rows, caption="Workers", empty=empty, stacks=True)
    return known_part(known, head, body)


def purges_part(known: Known[PurgesState], rights: Rights, zone: tzinfo, now: float) -> Markup:
    state = known.value
    if state is None:
        return unknown_part("Purges", known)
    rows: list[Sequence[Any]] = [
        [
            moment(purge.at, zone, now),
            purge.queue,
            figure(purge.count),
            state.actors.get(purge.id),
            _purge_state(purge, state.warnings.get(purge.id, "")),
            code(purge.path.name),
            _restore(purge, rights),
        ]
        for purge in state.purges[:_PURGES_SHOWN]
    ]
    rows += [
        [None, None, None, None, mark("damaged", Tone.BAD), code(name), ""]
        for name in state.damaged
    ]
    notes = []
    if state.purges:
        notes.append(f"The files are in {state.purges[0].path.parent} on the dashboard's machine.")
    if state.warnings:
        notes.append(
            "A purge that may be restored already could run twice; Restore says why this is not "
            "known, and asks to confirm."
        )
    if len(state.purges) > _PURGES_SHOWN:
        notes.append(f"{len(state.purges) - _PURGES_SHOWN:,} older ones are not shown.")
    if state.unfinished is None:
        notes.append("Whether a purge is under way is not known: the broker does not say.")
    elif state.unfinished:
        notes.append(f"Under way, or being completed: {', '.join(state.unfinished)}.")
    head = element("div", heading("Purges"), as_of(known, zone, now), class_="qs-part-head")
    body = table(
        _PURGE_COLUMNS, rows, caption="Purges", empty="Nothing was purged here.", stacks=True
    )
    if notes:
        body = joined(body, element("p", " ".join(notes), class_="qs-muted"))
    return known_part(known, head, body)


def audit_part(
    known: Known[AuditState], chain: Known[Verification], zone: tzinfo, now: float
) -> Markup:
    state = known.value
    if state is None:
        return unknown_part("Audit", known)
    head = element(
        "div",
        heading("Audit", f"the last {len(state.entries)}" if state.entries else ""),
        as_of(known, zone, now),
        class_="qs-part-head",
    )
    unfinished = frozenset(one.operation_id for one in state.unfinished)
    body = audit_table(state.entries, unfinished, zone, now)
    return known_part(known, head, chain_part(chain, zone, now), body)


def audit_table(
    entries: Iterable[Entry], unfinished: frozenset[str], zone: tzinfo, now: float
) -> Markup:
    """Entries in the order of the chain; the outcome of ``unfinished`` operations is
    still to come.
    """
    rows: list[Sequence[Any]] = []
    for entry in entries:
        event = entry.event
        if event.result == "pending":
            is_open = event.act in unfinished
            result = mark("under way", Tone.BUSY) if is_open else mark("intent", Tone.IDLE)
        else:
            result = mark(event.result, _RESULT_TONES.get(event.result, Tone.UNKNOWN))
        rows.append(
            [
                figure(entry.seq),
                moment(event.at_ms / 1000, zone, now),
                f"{event.actor} ({event.role})",
                f"{event.operation} {event.target}",
                figure(event.touched if event.touched >= 0 else None),
                result,
                event.detail,
            ]
        )
    return table(_AUDIT_COLUMNS, rows, caption="Audit", empty="No entries.", stacks=True)


def chain_part(known: Known[Verification], zone: tzinfo, now: float) -> Markup:
    """The result of verifying the chain, and what it proves."""
    found = known.value
    again = action_button("Verify now", "chain", of="verify", label="Verify the audit now")
    if known.error is not None:
        line = mark(f"The chain could not be verified: {known.error}", Tone.UNKNOWN)
    elif found is None:
        line = mark("The chain is being verified.", Tone.BUSY)
    else:
        at = moment(known.as_of, zone, now)
        if found.fault:
            line = mark(f"The audit was changed: {found.fault}", Tone.BAD)
        elif not found.is_complete:
            line = mark(f"verified to entry {found.entries:,}, not to the end", Tone.WARN)
        elif not found.entries:
            line = mark("empty: no operation was run yet, or this is another database", Tone.IDLE)
        else:
            line = mark(f"verified to entry {found.entries:,}", Tone.GOOD)
        line = joined(line, element("span", " at ", at, class_="qs-muted"))
    proof = details(
        "What this proves",
        element(
            "p",
            "Each entry's hash covers all its fields and the hash before it: edits, removals, "
            "insertions, a changed order and a cut tail are found. Anyone who may write to the "
            "database can create a whole new chain, and nothing in it shows that. Note the head "
            "elsewhere; later, queuescope audit verify --head proves that nothing before it was "
            "replaced.",
        ),
        element("p", "Head ", code(found.head)) if found and found.entries else "",
        key="proof",
    )
    return element("div", element("p", line, " ", again), proof, class_="qs-chain")


def _queue_row(
    state: BrokerState, reading: QueueReading, rights: Rights, zone: tzinfo, now: float
) -> list[Any]:
    queue = reading.queue
    if state.desired.pauses(queue):
        turn = action_button(
            "Resume",
            queue,
            of="resume",
            label=f"Resume queue {queue}",
            refusal=rights.refusal(lambda: Request.resume(queue))
            or (
                "All queues are paused; they can be resumed together."
                if ALL_QUEUES in state.desired.paused
                else ""
            ),
        )
    else:
        turn = action_button(
            "Pause",
            queue,
            of="pause",
            label=f"Pause queue {queue}",
            refusal=rights.refusal(lambda: Request.pause(queue)),
        )
    purge = action_button(
        "Purge",
        queue,
        of="purge",
        label=f"Purge queue {queue}",
        refusal=rights.refusal(lambda: Request.purge(queue))
        or ("" if reading.depth else "No job waits in this queue."),
    )
    return [
        queue,
        figure(reading.depth),
        _oldest(reading) if reading.depth else "",
        _held(state, reading, zone, now),
        _pause_state(state, queue),
        element("span", turn, purge, class_="qs-actions"),
    ]


def _oldest(reading: QueueReading) -> Markup:
    """The wait of the oldest job, with a note if a clock is off."""
    age = span(reading.oldest_age_seconds)
    if reading.sender_ahead:
        or_more = "" if reading.oldest_age_seconds is not None else " or more"
        return joined(age, _note(f"sender’s clock {ahead_words(reading.sender_ahead)}{or_more}"))
    if reading.is_age_doubtful:
        return joined(age, _note("or sender’s clock is behind"))
    return age


def _held(state: BrokerState, reading: QueueReading, zone: tzinfo, now: float) -> Markup:
    """The jobs of a queue that workers hold. With very many messages the broker is not asked, and
    the workers' own reports are added up.
    """
    queue, count = reading.queue, reading.unacknowledged
    scheduled = state.fleet.scheduled(queue)
    if count is None and scheduled is not None:
        count = sum(worker.report.reserved.get(queue, 0) for worker in state.fleet.alive)
    if scheduled is None:
        return figure(count)
    words = scheduled_words(scheduled.count, scheduled.next_at, zone, now)
    return joined(figure(count), _note(words))


def _pause_state(state: BrokerState, queue: str) -> Markup:
    """The desired state, and how many workers have confirmed it."""
    found = state.fleet.confirmation(queue, state.desired)
    is_paused = state.desired.pauses(queue)
    if not found.asked:
        if not is_paused:
            return mark("open: no reporting worker serves it", Tone.UNKNOWN)
        note = "No reporting worker serves it, which does not prove that its jobs wait."
        return joined(mark("paused: 0 of 0 workers confirmed", Tone.UNKNOWN), _note(note))
    if not is_paused:
        # A worker that has not received the last change may never have paused this queue.
        late = tuple(
            name
            for name in found.missing
            if (worker := state.fleet.get(name)) and queue in worker.report.paused
        )
        if not late:
            workers = _workers(found)
            return mark(f"open: {workers}", Tone.GOOD)
        words = f"resumed: {found.asked - len(late):,} of {_workers(found)} confirmed"
        return joined(mark(words, Tone.WARN), _note(_missing(late)))
    words = f"paused: {found.confirmed:,} of {_workers(found)} confirmed"
    if found.is_complete:
        return mark(words, Tone.IDLE)
    return joined(mark(words, Tone.WARN), _note(_missing(found.missing)))


def _workers(found: Confirmation) -> str:
    return counted(found.asked, "worker")


def _missing(names: Sequence[str]) -> str:
    return f"missing: {listed(names, _MISSING_SHOWN)}"


def _note(text: str | Markup) -> Markup:
    return element("div", text, class_="qs-muted")


def _worker_row(worker: Worker, rights: Rights, obstacle: str) -> list[Any]:
    """``obstacle`` is why no one can scale it, or empty."""
    report = worker.report
    refusal = rights.refusal(lambda: Request.scale(worker.name, 1))
    # The status already says that.
    is_in_status = worker.status in (WorkerStatus.LOST, WorkerStatus.SHUTTING_DOWN)
    places = counted(report.pool_size, "place")
    return [
        worker.name,
        f"{report.pool}, {places}",
        figure(report.active_count if worker.is_alive else None),
        joined(
            mark(worker.words, STATUS_TONES[worker.status]),
            _note(worker.reason) if worker.reason else "",
            _note(obstacle) if obstacle and not refusal and not is_in_status else "",
        ),
        element(
            "span",
            action_button(
                "Scale",
                worker.name,
                of="scale",
                label=f"Scale worker {worker.name}",
                refusal=refusal or obstacle,
            ),
            class_="qs-actions",
        ),
    ]


def _purge_state(purge: Purge, warning: str) -> Markup:
    if purge.is_restored:
        return mark("restored", Tone.IDLE)
    if warning:
        return element("span", mark("may be restored already", Tone.WARN), title=warning)
    # Written by an earlier version: it is not proven which queue it came from.
    return mark("kept", Tone.GOOD) if purge.is_proven else mark("kept, queue not proven", Tone.WARN)


def _restore(purge: Purge, rights: Rights) -> Markup:
    refusal = rights.refusal(lambda: Request.restore(purge.id))
    if purge.is_restored:
        refusal = refusal or "This purge was restored already."
    button = action_button(
        "Restore",
        purge.id,
        of="restore",
        label=f"Restore purge {purge.id} of queue {purge.queue}",
        refusal=refusal,
    )
    return element("span", button, class_="qs-actions")
