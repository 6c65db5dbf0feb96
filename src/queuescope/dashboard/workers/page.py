"""The page of workers: which are alive, what each runs, and what it uses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import streamlit as st

from queuescope.broker.capabilities import Ability
from queuescope.dashboard.services import services
from queuescope.dashboard.ui.states import server_clock_remarks, unknown_part
from queuescope.dashboard.ui.visitor import role_of, visitor
from queuescope.dashboard.ui.widgets import (
    Markup,
    Tone,
    element,
    joined,
    moment,
    notice,
    sentence,
    show,
    show_live,
    viewer_zone,
)
from queuescope.dashboard.worker_words import clock_words, several_of
from queuescope.dashboard.workers.tables import (
    SHOWN,
    by_urgency,
    found,
    worker_list_part,
)
from queuescope.dashboard.workers.trends import Trends
from queuescope.errors import JobStoreError
from queuescope.operations.access import Role
from queuescope.watch.broker import refuses_reports
from queuescope.words import counted

if TYPE_CHECKING:
    from queuescope.known import Known
    from queuescope.watch import BrokerState, Watch
    from queuescope.watch.workers import WorkerList

_TICK_SECONDS = 3.0
_SEARCHED_FROM = 20
_KEY = "queuescope_workers"
_NAMED = 5


def show_workers() -> None:
    """The workers that report, and the lost ones."""
    show(element("h1", "Workers"))
    broker = services().broker
    if broker is None:
        show(notice(services().without_broker))
        return
    st.fragment(_workers, run_every=_TICK_SECONDS)(broker)


def _workers(broker: Watch[BrokerState]) -> None:
    """Reads memory only, since it runs every few seconds for each viewer."""
    from queuescope.watch.workers import list_workers  # noqa: PLC0415

    if not role_of(visitor()).covers(Role.VIEWER):
        st.rerun()
    zone, now, known = viewer_zone(), time.time(), broker.known
    if known.value is None:
        show_live(unknown_part("", known), key=_KEY)
        return
    watched, board = services().usual_runtimes, services().trends
    usual = None if watched is None else watched.known.value
    made = list_workers(known.value, usual or {})
    wanted = ""
    if len(made.alive) > _SEARCHED_FROM:
        wanted = st.text_input(
            "Find a worker",
            key="queuescope_find_worker",
            placeholder="Find a worker, queue or job",
            label_visibility="collapsed",
            width=360,
        )
    entries = found(made.alive, wanted)
    if len(entries) > SHOWN:
        entries = by_urgency(entries)[:SHOWN]
    names = [entry.worker.name for entry in (*entries, *made.lost)]
    trends = Trends({} if board is None else board.look(names), board is not None)
    show_live(
        worker_list_part(
            known,
            made,
            entries,
            trends,
            zone=zone,
            now=now,
            remarks=[
                *_report_remarks(known, known.value, made, now),
                *_namesake_remarks(known.value),
                *server_clock_remarks(services().clock_ahead),
                *_clock_remarks(known.value),
                *_unreadable_remarks(known.value),
                *_history_remarks(),
            ],
            can_report=not refuses_reports(services().writing_error),
        ),
        key=_KEY,
    )


def _no_reports_notice(state: BrokerState) -> Markup:
    return notice(
        state.capabilities.why_not(Ability.REPORTS)
        or "No worker reports to this broker. A worker reports once its project calls "
        "queuescope.instrument.instrument(app) and the worker was restarted; if the project has "
        "a global_keyprefix, also set broker_key_prefix."
    )


def _report_remarks(
    known: Known[BrokerState], state: BrokerState, made: WorkerList, now: float
) -> list[Markup]:
    """Why no worker reports, and why live workers may seem lost."""
    error = services().writing_error
    if refuses_reports(error):
        return [
            notice(
                f"Workers cannot report, so those that seem lost may be alive: {error}.",
                tone=Tone.WARN,
            )
        ]
    is_new = known.is_fresh and known.fresh_seconds(now) <= state.fleet.timings.lost_seconds
    if is_new and (made.lost or not made.alive):
        words = "The broker has only just answered: workers may not have reported yet."
        return [notice(words, tone=Tone.BUSY)]
    return [] if made.alive or made.lost else [_no_reports_notice(state)]


_CORRECTED = (
    "the times of its jobs are corrected by that. Celery itself still uses the wrong clock, so "
    "jobs with a countdown, an ETA or an expiry start or expire at the wrong time."
)
_NOT_CORRECTED = (
    "in the job history and the metrics, times, waits and latencies of its jobs are off by as "
    "much; a worker of this version would correct them."
)


def _clock_remarks(state: BrokerState) -> list[Markup]:
    return [
        notice(
            f"The clock of {worker.name} is {clock_words(worker)} compared to the broker’s: "
            f"{_CORRECTED if worker.corrects_times else _NOT_CORRECTED} "
            "Let NTP set the clock of its machine.",
            tone=Tone.WARN,
        )
        for worker in state.fleet.with_clocks_off()[:_NAMED]
    ]


def _namesake_remarks(state: BrokerState) -> list[Markup]:
    names = state.fleet.shared_names()
    if not names:
        return []
    return [
        notice(
            f"{several_of(name, len(state.fleet.named(name)))}: operations reach all of them. "
            "Start each with a name of its own (-n).",
            tone=Tone.WARN,
        )
        for name in names[:_NAMED]
    ]


def _unreadable_remarks(state: BrokerState) -> list[Markup]:
    """Entries that are no reports: a worker may be missing here for that reason."""
    count = len(state.unreadable) + state.unread
    if not count:
        return []
    entries = counted(count, "entry", "entries")
    names = ", ".join(state.unreadable[:_NAMED])
    return [
        notice(
            f"{entries} among the workers' reports cannot be read and may be workers: of another "
            "version of Queuescope, damaged, too large or too many.",
            tone=Tone.WARN,
            detail=f"In the broker's hash queuescope:workers: {names}." if names else "",
        )
    ]


def _history_remarks() -> list[Markup]:
    reconciler = services().job_reconciler
    if reconciler is None:
        return []
    known = reconciler.known
    if not isinstance(known.error, JobStoreError):
        return []
    since = moment(known.failing_since, viewer_zone(), time.time())
    return [
        notice(
            joined(
                "The job history has not been updated since ",
                since,
                ": jobs of lost workers may still be listed as started.",
            ),
            tone=Tone.WARN,
            detail=sentence(known.error),
        )
    ]
