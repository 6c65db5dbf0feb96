"""One cell of the table: a trouble affects a dashboard, is shown, ends, and leaves no trace."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import pytest
from tests.faults import oracles
from tests.faults.conftest import Dashboard, Lab
from tests.faults.troubles import HOSTILE, Scope
from tests.faults.world import PANELS, Page

_VIEWERS = 20
_PAUSE_SECONDS = 6
_LONG_WAIT_SECONDS = 4.0
_LONGEST_PAUSE_SECONDS = 400
"""Longer than the longest ``Retry-After`` that is respected."""

Act = Callable[[], Awaitable[None]]

WHEN_COLD, WHEN_WARM = (
    pytest.mark.parametrize(
        "warm",
        [
            pytest.param(warm, marks=() if warm is usual else pytest.mark.long)
            for warm in (False, True)
        ],
        ids=["cold", "warm"],
    )
    for usual in (False, True)
)
"""With and without earlier good data; without ``--long`` only one of them."""


def hit_by(scope: Scope) -> tuple[str, ...]:
    """The panels whose charts the trouble affects."""
    return {Scope.SOURCE: PANELS, Scope.PANEL: ("latency",), Scope.PRESENT: ()}[scope]


async def live_through(
    lab: Lab,
    log: pytest.LogCaptureFixture,
    *,
    begin: Act,
    end: Act,
    warm: bool,
    scope: Scope,
    kind: str,
    words: str,
    timeout_seconds: float,
    most_spoilt: int,
) -> None:
    """Viewers open the page before, during (twice twenty at once) and after a trouble."""
    async with lab.dashboard(timeout_seconds=timeout_seconds) as dashboard:
        good = await _good_reading(lab, dashboard) if warm else None
        lab.proxy.forget()
        await begin()
        pages = [await dashboard.read()]
        pages += await dashboard.crowd(_VIEWERS)
        if timeout_seconds > _LONG_WAIT_SECONDS:
            # If each try ends at the deadline, one try is enough.
            lab.forward(_PAUSE_SECONDS)
            pages += await dashboard.crowd(_VIEWERS)
        spoilt = lab.proxy.spoilt
        oracles.questions_are_few(
            spoilt, len(lab.proxy.seen), most_spoilt=most_spoilt, most=most_spoilt + 60
        )
        for page in {page.body: page for page in pages}.values():
            _seen(lab, page, good, scope, words)
            if scope is Scope.SOURCE:
                assert page.source["kind"] == kind
                assert "queuescope_source_up 0.0" in dashboard.metrics_text()
            _says_nothing_foreign(page, dashboard, log)

        dashboard.store.flush()
        await lab.proxy.refuse()
        await _restarted(lab, good, hit_by(scope))

        await lab.proxy.heal()
        await end()
        lab.forward(_LONGEST_PAUSE_SECONDS)
        await reads_the_truth(lab, dashboard)


async def reads_the_truth(lab: Lab, dashboard: Dashboard) -> Page:
    """The next reading is fresh, and all of it equals what Prometheus returns."""
    page = await dashboard.read()
    oracles.states_are(page, dict.fromkeys(PANELS, "fresh"))
    oracles.drawn_is_true(page, lab.truth)
    oracles.nothing_is_missing(page, lab.truth)
    oracles.old_values_carry_their_time(page, {}, {})
    assert page.source["reachable"]
    assert all(panel["now"]["state"] == "fresh" for panel in page.panels.values())
    return page


async def _good_reading(lab: Lab, dashboard: Dashboard) -> Page:
    good = await reads_the_truth(lab, dashboard)
    lab.forward(121)
    return good


def _seen(lab: Lab, page: Page, good: Page | None, scope: Scope, words: str) -> None:
    hit = hit_by(scope)
    lost = "unavailable" if good is None else "stale"
    oracles.states_are(page, {name: lost if name in hit else "fresh" for name in PANELS})
    oracles.unknown_is_not_zero(page)
    oracles.drawn_is_true(page, lab.truth)
    oracles.nothing_is_missing(page, lab.truth, [name for name in PANELS if name not in hit])
    oracles.old_values_carry_their_time(page, *_times(good))
    for name in hit:
        assert words in page.panels[name]["cause"], page.panels[name]["cause"]
        if good is not None:
            oracles.same_data(page, good, name)
    assert page.source["reachable"] == (scope is not Scope.SOURCE)
    if scope is not Scope.PANEL:
        for name, panel in page.panels.items():
            if good is None:
                assert panel["now"] is None
            else:
                before = good.panels[name]["now"]
                assert panel["now"] == before | {"state": "stale", "cause": panel["now"]["cause"]}
                assert words in panel["now"]["cause"]


async def _restarted(lab: Lab, good: Page | None, hit: Sequence[str]) -> None:
    """A dashboard that restarts while Prometheus is down shows the cache: only good data."""
    async with lab.dashboard() as dashboard:
        page = await dashboard.read()
    oracles.unknown_is_not_zero(page)
    oracles.drawn_is_true(page, lab.truth)
    for name, state in page.states.items():
        if good is not None:
            assert state == "stale"
        elif name in hit:
            assert state == "unavailable", f"{name}: a failed answer was kept"
    if good is not None:
        for name in hit:
            assert page.panels[name]["asOf"] == good.panels[name]["asOf"]
            oracles.same_data(page, good, name)


def _times(good: Page | None) -> tuple[dict[str, float], dict[str, float]]:
    if good is None:
        return {}, {}
    panels = good.panels.items()
    return (
        {name: panel["asOf"] for name, panel in panels},
        {name: panel["now"]["asOf"] for name, panel in panels if panel["now"]},
    )


def _says_nothing_foreign(page: Page, dashboard: Dashboard, log: pytest.LogCaptureFixture) -> None:
    lines = [record.getMessage() for record in log.records if record.levelno >= logging.INFO]
    metrics = dashboard.metrics_text()
    oracles.no_secret_is_shown([page.body.decode(), metrics, *lines])
    oracles.no_upstream_text_is_shown(page, metrics)
    oracles.log_lines_are_harmless(lines)
    assert HOSTILE not in "\n".join(lines)
