"""The whole dashboard below a path, as a proxy shows it beside other things."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.conftest import Known, OpenTab
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.trends_page import WAIT_MS, TrendsPage


@pytest.fixture(scope="module")
def below(known: Known, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardProcess]:
    folder = tmp_path_factory.mktemp("below")
    with DashboardProcess(
        folder,
        known.prometheus.url,
        selector='scene="known"',
        base_path="/queues",
        job_store_url=f"sqlite:///{folder / 'jobs.db'}",
    ) as running:
        yield running


def test_every_page_works_below_a_path(below: DashboardProcess, open_tab: OpenTab) -> None:
    page = TrendsPage(open_tab(), f"{below.url}/queues").open("?range=6h&refresh=off")
    page.wait_until_streamlit_has_taken_over()
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url))
    page.page.get_by_role("button", name="Refresh now").click()
    page.panel("latency").hover()
    with page.page.expect_download():
        page.panel("latency").locator(".modebar-btn[data-title^='Save all points']").click()
    page.page.get_by_role("link", name="Jobs", exact=True).click()
    download = page.page.get_by_role("link", name="Download CSV")
    expect(download).to_be_visible()
    assert page.page.url.startswith(f"{below.url}/queues/jobs")
    assert download.evaluate("(link) => link.href").startswith(
        f"{below.url}/queues/queuescope/jobs.csv"
    )
    assert page.complaints == []
    # Also when a browser comes to that page first (Streamlit tries its address for one of its own,
    # and gets a 404), and by the path without its slash.
    page.page.reload()
    expect(download).to_be_visible()
    page.page.goto(f"{below.url}/queues?range=1h")
    page.wait_until_drawn()
    assert re.match(rf"{below.url}/queues/\?", page.page.url)
    assert asked
    assert [
        url
        for url in asked
        if url.startswith("http") and not url.startswith(f"{below.url}/queues/")
    ] == [f"{below.url}/queues?range=1h"]
    # A proxy that removes the path, and a probe without a proxy.
    assert below.get("/queuescope/view?range=1h")[0] == 200


@pytest.mark.parametrize("page", ["", pytest.param("/", marks=pytest.mark.long), "/jobs"])
def test_the_operators_key_is_taken_below_the_path_and_kept_for_it_alone(
    below: DashboardProcess, browser: Browser, page: str
) -> None:
    # A profile of its own, since the cookies of other dashboards on this address apply to all
    # paths.
    profile = browser.new_context()
    tab = profile.new_page()
    tab.goto(f"{below.url}/queues{page}?range=6h&key={below.key}")
    expect(tab.locator(".qs-visitor summary")).to_have_text("This machine only", timeout=WAIT_MS)
    assert re.match(rf"{below.url}/queues{page or '/'}\?.*range=6h", tab.url)
    assert below.key not in tab.url
    # Other applications on that address do not get it.
    for path, is_sent in (("/queues", True), ("/queues/x", True), ("/queuesx", False)):
        sent = {one["name"] for one in profile.cookies(f"{below.url}{path}")}
        assert any(name.startswith("queuescope_") for name in sent) == is_sent
    profile.close()
