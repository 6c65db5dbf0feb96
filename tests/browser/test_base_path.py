"""The whole dashboard below a path, as a proxy shows it beside other things."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect
from tests.browser.conftest import Known, OpenTab
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.trends_page import TrendsPage


def test_every_page_works_below_a_path(known: Known, tmp_path: Path, open_tab: OpenTab) -> None:
    with DashboardProcess(
        tmp_path,
        known.prometheus.url,
        selector='scene="known"',
        base_path="/queues",
        job_store_url=f"sqlite:///{tmp_path / 'jobs.db'}",
    ) as dashboard:
        page = TrendsPage(open_tab(), f"{dashboard.url}/queues").open("?range=6h&refresh=off")
        page.wait_until_streamlit_has_taken_over()
        asked: list[str] = []
        page.page.on("request", lambda request: asked.append(request.url))
        page.page.get_by_role("button", name="Refresh now").click()
        page.page.get_by_role("link", name="Jobs", exact=True).click()
        download = page.page.get_by_role("link", name="Download CSV")
        expect(download).to_be_visible()
        assert page.page.url.startswith(f"{dashboard.url}/queues/jobs")
        assert download.evaluate("(link) => link.href").startswith(
            f"{dashboard.url}/queues/queuescope/jobs.csv"
        )
        assert page.complaints == []
        # Also when a browser comes to that page first (Streamlit tries its address for one of its
        # own, and is told 404), and by the path without its slash.
        page.page.reload()
        expect(download).to_be_visible()
        page.page.goto(f"{dashboard.url}/queues?range=1h")
        page.wait_until_drawn()
        assert re.match(rf"{dashboard.url}/queues/\?", page.page.url)
        assert asked
        assert [
            url
            for url in asked
            if url.startswith("http") and not url.startswith(f"{dashboard.url}/queues/")
        ] == [f"{dashboard.url}/queues?range=1h"]
        # A proxy that takes the path away, and a probe that comes by none.
        assert dashboard.get("/queuescope/view?range=1h")[0] == 200
