"""Searching and exporting the audit: each search runs once, with a limited wait."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from datetime import time as clock_time
from typing import TYPE_CHECKING

import streamlit as st

from queuescope.dashboard.operations.export import AUDIT_CSV, AUDIT_JSON, TEXT_LIMIT, query_of
from queuescope.dashboard.operations.tables import audit_table
from queuescope.dashboard.services import services
from queuescope.dashboard.ui.background_call import BackgroundCall
from queuescope.dashboard.ui.rights import visitor_rights
from queuescope.dashboard.ui.widgets import Tone, download_link, element, notice, show, viewer_zone
from queuescope.errors import QueuescopeError
from queuescope.operations.access import Role
from queuescope.operations.request import Operation

if TYPE_CHECKING:
    from queuescope.operations.audit import Audit, Search

_PAGE = 20
_PATIENCE_SECONDS = 8.0
_RESULTS = ("done", "refused", "failed", "unknown", "pending")
_PAGES = "queuescope_audit_place"


@dataclass(slots=True)
class AuditPages:
    """A reader's place in the results of a search: the ends of the earlier pages."""

    search: Search
    ends: tuple[int, ...] = ()

    def go_to(self, ends: tuple[int, ...]) -> None:
        """Not a step further or back: a press may arrive twice."""
        self.ends = ends


def search_audit() -> None:
    """The form, the matching entries, page by page, and the files."""
    context = services().operations_context
    if context is None:
        return
    if not visitor_rights().role.covers(Role.VIEWER):
        # The whole page is drawn again, and shows the login.
        st.rerun()
    # While closed, it reads nothing.
    box = st.expander("Search and export the audit", key="queuescope_audit", on_change="rerun")
    if not box.open:
        return
    with box:
        search = _form(viewer_zone())
        place = st.session_state.get(_PAGES)
        if not isinstance(place, AuditPages) or place.search != search:
            place = st.session_state[_PAGES] = AuditPages(search)
        _results(context.store.audit, place)
        _files(search)


def _form(zone: tzinfo) -> Search:
    from queuescope.operations.audit import Search  # noqa: PLC0415

    first, second = st.columns(2), st.columns(4)
    text = first[0].text_input("Words, in any column", max_chars=TEXT_LIMIT)
    target = first[1].text_input("Target, such as queue orders", max_chars=TEXT_LIMIT)
    actor = second[0].text_input("Who (the whole name)", max_chars=TEXT_LIMIT)
    operation = second[1].selectbox("Operation", ["", *Operation], format_func=_any)
    result = second[2].selectbox("Result", ["", *_RESULTS], format_func=_any)
    since, until = _bounds(second[3].date_input("Days, from and to", []), zone)
    return Search(
        text=text.strip(),
        target=target.strip(),
        operation=operation,
        actor=actor.strip(),
        result=result,
        since_ms=since,
        until_ms=until,
    )


def _any(value: str) -> str:
    return value or "any"


def _bounds(days: object, zone: tzinfo) -> tuple[int | None, int | None]:
    """The start of the first day and the end of the last, in epoch milliseconds; a single day is
    both.
    """
    chosen = (
        [day for day in days if isinstance(day, date)] if isinstance(days, tuple | list) else []
    )
    if not chosen:
        return None, None
    return _start_ms(chosen[0], zone), _start_ms(chosen[-1] + timedelta(days=1), zone)


def _start_ms(day: date, zone: tzinfo) -> int:
    return int(datetime.combine(day, clock_time(), zone).timestamp() * 1000)


def _results(audit: Audit, place: AuditPages) -> None:
    before = place.ends[-1] if place.ends else None
    try:
        call = BackgroundCall(lambda: audit.find(place.search, limit=_PAGE + 1, before=before))
        found = call.result(_PATIENCE_SECONDS)
    except TimeoutError:
        show(notice("The audit does not answer in time.", tone=Tone.BAD))
        return
    except QueuescopeError as exc:
        show(notice(f"Not known: {exc}.", tone=Tone.BAD))
        return
    page = found[:_PAGE]
    show(audit_table(page, frozenset(), viewer_zone(), time.time()))
    with st.container(horizontal=True):
        st.button("Newer", on_click=place.go_to, args=(place.ends[:-1],), disabled=not place.ends)
        older = (*place.ends, page[-1].seq) if page else place.ends
        st.button("Older", on_click=place.go_to, args=(older,), disabled=len(found) <= _PAGE)


def _files(search: Search) -> None:
    query = query_of(search)
    show(
        element(
            "div",
            element("p", "All matching entries, oldest first, as a file:", class_="qs-muted"),
            element(
                "span",
                download_link("CSV", AUDIT_CSV, query),
                download_link("JSON lines", AUDIT_JSON, query),
                class_="qs-actions",
            ),
            class_="qs-part-head",
        )
    )
