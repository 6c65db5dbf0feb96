"""Where the numbers come from: the Prometheus that PROMETHEUS_URL names, over its HTTP API."""

from __future__ import annotations

import csv
import io
import re
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import expect
from tests.browser.conftest import OpenPage
from tests.browser.dashboard_process import DashboardProcess, get
from tests.browser.known_samples import DAY, HOUR, scrape_times
from tests.browser.trends_page import FITS, PANELS, iso
from tests.real_prometheus import RealPrometheus
from tests.remote_write import RemoteWriter

from queuescope.timeseries import labels_of


def range_queries(prometheus: RealPrometheus) -> int:
    """How many range queries it has answered, by its own count."""
    _, body = get(prometheus.port, "/metrics")
    found = re.search(
        r'prometheus_http_requests_total\{code="200",handler="/api/v1/query_range"\} (\d+)', body
    )
    return int(found.group(1)) if found else 0


def test_the_url_decides_and_range_queries_are_really_asked(tmp_path: Path) -> None:
    times = scrape_times(time.time() - DAY, time.time())
    series = {'ai_agents_queue_depth{queue="default"}': (times, np.full(len(times), 77.0))}
    with (
        RealPrometheus(tmp_path / "prometheus", series=series) as prometheus,
        RealPrometheus(tmp_path / "elsewhere") as elsewhere,
        DashboardProcess(tmp_path / "dashboard", prometheus.url) as dashboard,
    ):
        status, text = dashboard.get("/queuescope/chart.csv?panel=queue_depth&range=24h")
        assert status == 200
        closed = [row for row in csv.DictReader(io.StringIO(text)) if row["step"] == "closed"]
        assert {float(row["value"]) for row in closed[1:]} == {77.0}
        assert range_queries(prometheus) >= 1
        assert range_queries(elsewhere) == 0


def test_a_missing_metric_is_reported_with_the_nearest_name(
    tmp_path: Path, open_page: OpenPage
) -> None:
    times = scrape_times(time.time() - 3_000, time.time())
    ones = np.ones(len(times))
    series = {
        'agents_queue_depth{queue="default"}': (times, ones),
        'ai_agents_enhancement_success_rate{tenant="acme"}': (times[:60], ones[:60] * 99),
        'up{job="workers",instance="worker-7:9100"}': (times, ones * 0),
    }
    with (
        RealPrometheus(tmp_path / "prometheus", series=series) as prometheus,
        DashboardProcess(tmp_path / "dashboard", prometheus.url) as dashboard,
    ):
        page = open_page("?range=1h&refresh=off", at=dashboard, drawn=False)
        depth = page.panel("queue_depth")
        expect(depth).to_have_attribute("data-state", "empty")
        expect(depth).to_contain_text("Prometheus has no metric ai_agents_queue_depth.")
        expect(depth).to_contain_text("agents_queue_depth.")

        before = time.time() - 3 * DAY
        page.open(f"?from={iso(before)}&to={iso(before + 6 * HOUR)}&refresh=off", drawn=False)
        success = page.panel("success_rate")
        expect(success).to_have_attribute("data-state", "empty")
        expect(success).to_contain_text(re.compile(r"The data start at \d{4}-\d\d-\d\d \d\d:\d\d"))

        after = time.time() - 900
        page.open(f"?from={iso(after)}&to={iso(after + 600)}&refresh=off", drawn=False)
        expect(success).to_have_attribute("data-state", "empty")
        expect(success).to_contain_text("has no sample in this range")
        expect(success).to_contain_text("Prometheus cannot scrape worker-7:9100.")


def test_a_first_start_shows_one_notice_until_the_first_sample(
    tmp_path: Path, open_page: OpenPage
) -> None:
    with (
        RealPrometheus(tmp_path / "prometheus", takes_samples=True) as prometheus,
        DashboardProcess(tmp_path / "dashboard", prometheus.url) as dashboard,
    ):
        page = open_page("?range=1h&refresh=off", at=dashboard, drawn=False)
        notice = page.page.get_by_role("status", name="Nothing is measured yet")
        missing = "Prometheus has no metrics at all yet."
        expect(notice).to_contain_text(missing)
        expect(notice.locator("pre")).to_have_text(
            "from queuescope.instrument import instrument\ninstrument(app)"
        )
        expect(notice).to_contain_text("queuescope check")
        verdict = page.page.locator(".qs-verdict")
        expect(verdict).to_have_attribute("data-verdict", "unknown")
        expect(verdict).to_contain_text("nothing is measured here yet")
        for name in PANELS:
            expect(page.panel(name)).to_contain_text("Not measured yet")
        for card in page.page.locator("[data-kpi]").all():
            expect(card).to_have_attribute("data-state", "empty")
            expect(card).to_have_attribute("data-level", "none")
            expect(card.locator(".qs-figure strong")).to_have_text("–")
            expect(card.locator(".qs-changes")).to_have_text("")
        text = page.page.locator(".qs-page").inner_text()
        assert text.count(missing) == text.count("instrument(app)") == 1
        assert "measured here" not in text.replace("nothing is measured here yet", "")
        # The details say for each what is missing.
        page.panel("latency").get_by_role("button", name="Details").click()
        expect(page.panel("latency").locator(".qs-details")).to_contain_text(missing)
        code = notice.locator("pre")
        for width in (1440, 390):
            page.page.set_viewport_size({"width": width, "height": 900})
            assert page.page.evaluate(FITS)
            assert code.evaluate("code => code.scrollWidth <= code.clientWidth")

        writer = RemoteWriter(prometheus.port)
        labels = labels_of({"__name__": "ai_agents_queue_depth", "queue": "default"})
        writer.write([(labels, int(time.time()) - ago, 7.0) for ago in range(60, -300, -15)])
        writer.close()
        page.refresh_until(page.panel("queue_depth"), "fresh")
        expect(notice).to_be_hidden()
        # What is still missing is reported where it is missing.
        expect(page.panel("latency")).to_contain_text(
            "Prometheus has no metric ai_agents_enhancement_latency_seconds_bucket."
        )
        page.refresh_until(page.page.locator("[data-kpi=queue_depth]"), "fresh")
        expect(page.page.locator("[data-kpi=throughput]")).to_contain_text("Not measured here.")
