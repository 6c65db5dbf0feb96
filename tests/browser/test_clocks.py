"""Three clocks: the reader's, the dashboard's and that of Prometheus. Each may be wrong."""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Known, OpenPage, OpenTab
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.known_samples import HOUR
from tests.browser.operations_page import OperationsPage, World
from tests.browser.rewriting_proxy import RewritingProxy
from tests.browser.trends_page import PANELS, TrendsPage, epoch
from tests.instrument.conftest import until

from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore

_TODAY = re.compile(r"(\d\d):(\d\d):(\d\d)")


def told_seconds_ago(page: TrendsPage, text: str) -> float:
    """How long ago the time of day in ``text`` was, by the clock of this machine (UTC)."""
    found = _TODAY.search(text)
    assert found, text
    hours, minutes, seconds = map(int, found.groups())
    return (time.time() - (hours * HOUR + minutes * 60 + seconds)) % (24 * HOUR)


def test_a_wrong_clock_of_the_reader_changes_no_time_age_or_countdown(
    open_page: OpenPage,
) -> None:
    def shift(page: TrendsPage) -> None:
        page.page.clock.install(time=time.time() - 2 * 86_400 - 1_800)

    page = open_page("?range=1h&refresh=10", before=shift, newcomer=True)
    page.page.get_by_role("button", name="Refresh now").click()
    expect(page.banner).to_contain_text("The clock of this device is 2 d behind the server's")
    page.expect_states("fresh")
    expect(page.status).to_have_text(
        re.compile(r"^updated (.* )?\d\d:\d\d:\d\d, next in (\d|10) s$")
    )
    assert told_seconds_ago(page, page.status.inner_text()) < 60
    for shown in page.shown_ranges():
        assert 0 <= time.time() - epoch(shown[1]) < 120


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        pytest.param(-1_800, "30 min behind", marks=pytest.mark.long),
        (2_400, "40 min ahead of"),
    ],
)
def test_a_prometheus_with_another_clock_is_noted_and_its_time_sets_the_range(
    ahead: int, words: str, known: Known, tmp_path: Path, open_page: OpenPage
) -> None:
    def shift(path: str, form: dict[str, str], answer: dict[str, Any]) -> None:
        if path != "/api/v1/query" or "time" in form:
            return
        # It was asked for the present, whose time comes with each value.
        result = answer["data"]["result"]
        if form["query"] == "time()":
            result[1] = str(float(result[1]) + ahead)
        for read_overview in [result] if answer["data"]["resultType"] == "scalar" else result:
            at = read_overview if isinstance(read_overview, list) else read_overview["value"]
            at[0] += ahead

    with (
        RewritingProxy(known.prometheus.port, shift) as proxy,
        DashboardProcess(
            tmp_path, proxy.url, selector='scene="known"', prometheus_timeout_seconds="5"
        ) as dashboard,
    ):
        page = open_page("?range=1h&refresh=10", at=dashboard)
        expect(page.banner).to_contain_text(f"The clock of Prometheus is {words} this server's")
        page.expect_states("fresh")
        for shown in page.shown_ranges():
            assert 0 <= time.time() + ahead - epoch(shown[1]) < 120
        assert told_seconds_ago(page, page.status.inner_text()) < 60
        for name in PANELS:
            as_of = datetime.fromisoformat(page.panel(name).get_attribute("data-as-of") or "")
            assert abs(as_of.timestamp() - ahead - datetime.now(UTC).timestamp()) < 60
        known.prometheus.stop()
        try:
            page.page.get_by_role("button", name="Refresh now").click()
            page.expect_states("stale")
            expect(page.panel("latency").locator(".qs-badge")).to_have_text(
                re.compile(r"^stale, (1 min )?\d+ s old$")
            )
        finally:
            known.prometheus.cont()


def test_a_server_whose_clock_is_off_shows_times_of_jobs_and_operations_by_the_brokers(
    known: Known,
    tmp_path: Path,
    open_page: OpenPage,
    open_tab: OpenTab,
) -> None:
    """An hour ahead: nothing would have ended in “the last five minutes”, and operations would be
    listed in the audit, and marked on the charts, an hour too late.
    """
    history, now = f"sqlite:///{tmp_path / 'jobs.db'}", time.time()
    with closing(JobStore(history)) as store:
        store.record(
            [
                Job(
                    id=f"j{number}",
                    name="nap",
                    tenant="acme",
                    queue="orders",
                    worker="w@h",
                    status=JobStatus.FAILED if number == 0 else JobStatus.SUCCEEDED,
                    enqueued_at=now - 30 - number,
                    started_at=now - 20 - number,
                    finished_at=now - 10 - number,
                )
                for number in range(20)
            ]
        )
    world = World(
        tmp_path,
        prometheus_url=known.prometheus.url,
        queues="orders",
        job_store_url=history,
        prometheus_timeout_seconds="20",
    )
    dashboard = world.dashboard
    dashboard.clock_ahead = 3600.0
    with world:
        page = OperationsPage(open_tab(), dashboard.url, dashboard.key).open()
        words = "The clock of this server is 1 h ahead of the broker’s."
        expect(page.page.locator(".qs-live").first).to_contain_text(words)
        began = time.time()
        page.do("Pause queue orders", "Pause")
        entries = world.audited("pause")
        assert len(entries) == 2
        for entry in entries:
            assert began - 5 < entry.event.at_ms / 1000 < time.time() + 5
        trends = open_page("?range=1h&refresh=10", at=dashboard)
        expect(trends.banner).to_contain_text(
            "The clocks of Prometheus and of the broker are 1 h behind this server's. Ranges "
            "follow the clock of Prometheus."
        )
        # The reader's clock is right.
        expect(trends.banner).not_to_contain_text("this device")
        kpi = trends.page.locator('[data-kpi="success_rate"]')
        expect(kpi).to_have_attribute("data-state", "fresh")
        expect(kpi).to_contain_text("95")

        def read_overview() -> dict[str, Any]:
            return dict(json.loads(dashboard.get("/queuescope/overview")[1]))

        overview = until(read_overview, lambda made: bool(made["operations"]["list"]))
        (act,) = overview["operations"]["list"]
        assert began - 5 < act["at"] < time.time() + 5
        (failed,) = overview["failures"]["last"]
        assert now - 15 < failed["at"] < now
