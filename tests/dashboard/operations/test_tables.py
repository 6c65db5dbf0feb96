"""The page of operations from known states: desired and observed, old and unknown."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC
from html import unescape

import pytest
from tests.worker_reports import NOW, report

from queuescope.broker.capabilities import Ability, Capabilities
from queuescope.broker.desired import DesiredState
from queuescope.broker.fleet import fleet_of
from queuescope.broker.protocol import QueueReading, WorkersReading
from queuescope.broker.reports import Pool, WorkerReport
from queuescope.dashboard.auth.identity import IdentityProblem, Unidentified
from queuescope.dashboard.operations.tables import (
    audit_part,
    chain_part,
    purges_part,
    queues_part,
    rights_notice,
    workers_part,
)
from queuescope.dashboard.ui.rights import Rights
from queuescope.errors import AuditError, BrokerError, BrokerErrorKind
from queuescope.known import Known
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.audit import Verification
from queuescope.operations.request import Operation
from queuescope.watch import AuditState, BrokerState, PurgesState

ACCESS = Access(operators=["olga"], admins=["ada"])
ADA = Rights(Actor("ada", Origin.OIDC), "", ACCESS)
DOWN = BrokerError(BrokerErrorKind.DOWN, "the broker did not answer")


def state(desired: DesiredState, *reports: WorkerReport, depth: int = 5) -> BrokerState:
    queues = (QueueReading("orders", depth, 12.0, 1), QueueReading("mail", 0, 0.0, None))
    fleet = fleet_of(WorkersReading(NOW, reports), desired, queues)
    return BrokerState(NOW, queues, fleet, desired)


def fresh(value: BrokerState) -> Known[BrokerState]:
    return Known(value, NOW)


def text(markup: str) -> str:
    """The text of the page, with a blank between its parts."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def cells(markup: str, row: str) -> list[str]:
    """The texts of a row, by the text of its first cell."""
    for found in re.findall(r"<tr>(.*?)</tr>", markup, re.DOTALL):
        texts = [text(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", found, re.DOTALL)]
        if texts and texts[0] == row:
            return texts
    raise AssertionError(f"no row {row} in {text(markup)}")


def shown(value: BrokerState, rights: Rights = ADA) -> list[str]:
    return cells(queues_part(fresh(value), rights, UTC, NOW), "orders")


def workers(*revisions: int, paused: tuple[str, ...] = ()) -> list[WorkerReport]:
    return [
        report(worker=f"w{number}", queues=("orders",), consuming=(), revision=r, paused=paused)
        for number, r in enumerate(revisions, start=1)
    ]


UNSERVED = (
    "paused: 0 of 0 workers confirmed No reporting worker serves it, "
    "which does not prove that its jobs wait."
)
PAUSED = DesiredState(revision=4, paused=("orders",))


@pytest.mark.parametrize(
    ("desired", "reports", "words"),
    [
        (PAUSED, workers(4, 4, 4, 3), "paused: 3 of 4 workers confirmed missing: w4"),
        (PAUSED, workers(4, 4), "paused: 2 of 2 workers confirmed"),
        (
            PAUSED,
            workers(3, 3, 3, 3, 3),
            "paused: 0 of 5 workers confirmed missing: w1, w2, w3 and 2 more",
        ),
        (
            PAUSED,
            [],
            UNSERVED,
        ),
        (DesiredState(revision=4), workers(4, 4), "open: 2 workers"),
        (DesiredState(revision=4), [], "open: no reporting worker serves it"),
        # Another queue was paused meanwhile, which these two have not received yet.
        (DesiredState(revision=4, paused=("mail",)), workers(3, 4), "open: 2 workers"),
        (
            DesiredState(revision=5),
            [*workers(5, 5), *workers(5, 5, 4, paused=("orders",))[2:]],
            "resumed: 2 of 3 workers confirmed missing: w3",
        ),
    ],
)
def test_the_desired_state_is_shown_with_the_workers_confirmations(
    desired: DesiredState, reports: list[WorkerReport], words: str
) -> None:
    assert shown(state(desired, *reports))[4] == words


def test_a_lost_worker_confirms_nothing_and_is_not_asked() -> None:
    silent = report(worker="w2", queues=("orders",), revision=1, at=NOW - 60)
    found = shown(state(PAUSED, *workers(4), silent))
    assert found[4] == "paused: 1 of 1 worker confirmed"


def test_unknown_is_a_dash_and_never_zero() -> None:
    markup = queues_part(fresh(state(PAUSED)), ADA, UTC, NOW)
    assert cells(markup, "orders")[1:4] == ["5", "12.0 s", "1"]
    assert cells(markup, "mail")[1:4] == ["0", "", "–"]


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (
            QueueReading("orders", 5, 12.0, 1, sender_ahead=3600.0),
            "12.0 s sender’s clock 1 h ahead",
        ),
        (
            QueueReading("orders", 5, None, 1, sender_ahead=3000.0),
            "– sender’s clock 50 min ahead or more",
        ),
        (
            QueueReading("orders", 5, 12.0, 1, is_age_doubtful=True),
            "12.0 s or sender’s clock is behind",
        ),
    ],
)
def test_an_age_from_a_wrong_clock_is_marked(reading: QueueReading, words: str) -> None:
    made = replace(state(PAUSED), queues=(reading,))
    assert shown(made)[2] == words


def test_unread_sources_have_no_table() -> None:
    asking = queues_part(Known(), ADA, UTC, NOW)
    failing = queues_part(Known(error=DOWN, failing_since=NOW), ADA, UTC, NOW)
    assert text(asking) == "Queues Asking …"
    assert text(failing) == "Queues Not known: the broker did not answer."
    for markup in (asking, failing):
        assert "<table" not in markup
        assert 'data-state="unavailable"' in markup


def test_old_data_says_since_when_and_why() -> None:
    old = Known(state(PAUSED), NOW, DOWN, NOW + 4)
    for markup in (queues_part(old, ADA, UTC, NOW + 9), workers_part(old, ADA, UTC, NOW + 9)):
        assert 'data-state="stale"' in markup
        assert "old, as of 13:46:40 ; since 13:46:44 the broker did not answer" in text(markup)


def buttons(markup: str) -> dict[str, str]:
    """By name, why a button is disabled, or empty."""
    found = {}
    for attributes in re.findall(r"<button ([^>]*)>", markup):
        values = dict(re.findall(r'([\w-]+)="([^"]*)"', attributes))
        found[unescape(values["aria-label"])] = unescape(values.get("title", ""))
        assert ("title" in values) == (" disabled" in attributes)
    return found


def test_each_button_says_why_it_cannot_be_pressed() -> None:
    olga = Rights(Actor("olga", Origin.OIDC), "", ACCESS)
    value = state(DesiredState(revision=4, paused=("mail",)))
    admins = buttons(queues_part(fresh(value), ADA, UTC, NOW))
    assert admins == {
        "Pause all queues": "",
        "Resume all queues": "",
        "Pause queue orders": "",
        "Purge queue orders": "",
        "Resume queue mail": "",
        "Purge queue mail": "No job waits in this queue.",
    }
    operators = buttons(queues_part(fresh(value), olga, UTC, NOW))
    assert operators["Pause queue orders"] == ""
    assert operators["Purge queue orders"] == (
        "To purge queue orders you need the role admin; yours is operator."
    )
    assert "role admin" in operators["Pause all queues"]
    held = buttons(queues_part(fresh(value), Rights(ADA.who, "Not now.", ACCESS), UTC, NOW))
    assert set(held.values()) == {"Not now."}
    why = "RabbitMQ cannot give a queue back."
    without = Rights(ADA.who, "", ACCESS, {Operation.PURGE: why})
    limited = buttons(queues_part(fresh(value), without, UTC, NOW))
    assert limited["Purge queue orders"] == why
    assert limited["Pause queue orders"] == ""


def test_missing_abilities_of_the_broker_are_shown_instead_of_rows() -> None:
    missing = {Ability.DEPTH: "It counts no jobs.", Ability.REPORTS: "It keeps no reports."}
    nothing = replace(state(DesiredState()), queues=(), capabilities=Capabilities(missing))
    assert "It counts no jobs." in text(queues_part(fresh(nothing), ADA, UTC, NOW))
    assert "It keeps no reports." in text(workers_part(fresh(nothing), ADA, UTC, NOW))


def test_only_a_pool_of_processes_that_reports_is_scaled() -> None:
    threads = report(worker="t", pool=Pool.THREADS)
    lost = report(worker="x", at=NOW - 60)
    itself = report(worker="a", scales_itself=True)
    twins = [report(worker="twin", boot_id=boot) for boot in "12"]
    value = state(DesiredState(), report(worker="p"), threads, lost, itself, *twins)
    found = buttons(workers_part(fresh(value), ADA, UTC, NOW))
    assert found["Scale worker p"] == ""
    assert found["Scale worker t"] == (
        "Only a pool of processes can be scaled; this one is threads."
    )
    assert found["Scale worker x"] == "This worker does not report."
    assert found["Scale worker a"] == "This worker scales itself (--autoscale)."
    assert found["Scale worker twin"].startswith("Several workers have this name")
    # The reason is also in the row, for readers who cannot hover over a button.
    markup = workers_part(fresh(value), ADA, UTC, NOW)
    for name in ("t", "a", "twin"):
        assert cells(markup, name)[3] == f"idle {found[f'Scale worker {name}']}"
    assert cells(markup, "x")[3] == "lost It has not reported for 60 s."
    assert cells(markup, "p")[3] == "idle"


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        (
            Rights(Actor("local", Origin.LOOPBACK), "", ACCESS),
            "anyone who holds the operator’s key",
        ),
        (
            Rights(Actor("public", Origin.WITHOUT_KEY), "", ACCESS),
            "To run them, open the link that queuescope serve printed",
        ),
        (ADA, "You are ada, admin."),
        (Rights(Actor("olga", Origin.OIDC), "", ACCESS), "scaling, and pausing all queues require"),
        (Rights(Actor("vic", Origin.OIDC), "", ACCESS), "yours is viewer"),
        (Rights(Actor("public", Origin.PUBLIC), "", ACCESS), "yours is viewer"),
        (Rights(Unidentified(IdentityProblem.EXPIRED), "", ACCESS), "yours is nobody"),
        (Rights(ADA.who, "Operations are refused.", ACCESS), "Operations are refused."),
    ],
)
def test_visitors_see_what_they_may_do(rights: Rights, words: str) -> None:
    assert words in text(rights_notice(rights))


def test_a_purge_that_is_under_way_or_unknown_is_noted() -> None:
    def notes_of(unfinished: tuple[str, ...] | None) -> str:
        seen = PurgesState((), ("a.jsonl",), {}, unfinished, {})
        return text(purges_part(Known(seen, NOW), ADA, UTC, NOW))

    assert "damaged a.jsonl" in notes_of(())
    assert "Under way, or being completed: p1." in notes_of(("p1",))
    assert "Whether a purge is under way is not known" in notes_of(None)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (Known(Verification(1234, "1234:ab", ""), NOW), "verified to entry 1,234 at 13:46:40"),
        (Known(Verification(7, "7:ab", "entry 8 was changed"), NOW), "was changed: entry 8"),
        (
            Known(Verification(9000, "9000:ab", "", is_complete=False), NOW),
            "verified to entry 9,000, not to the end",
        ),
        (Known(Verification(0, "0:00", ""), NOW), "empty: no operation was run yet"),
        (Known(), "being verified"),
        (
            Known(Verification(3, "3:ab", ""), NOW, AuditError("the audit is away"), NOW),
            "could not be verified: the audit is away",
        ),
    ],
)
def test_the_chain_is_called_whole_only_when_it_was_found_so(
    known: Known[Verification], words: str
) -> None:
    markup = chain_part(known, UTC, NOW)
    assert words in text(markup)
    assert ('data-tone="good"' in markup) == (words.startswith("verified to entry 1,234"))


def test_an_audit_without_entries_says_so() -> None:
    seen = AuditState((), (), None)
    assert "No entries." in text(audit_part(Known(seen, NOW), Known(), UTC, NOW))
