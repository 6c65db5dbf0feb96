"""Each chart shows its state in plain words, and the particulars in its details."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, expect
from tests.browser.conftest import Known, OpenPage
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.known_samples import HOUR, scrape_times
from tests.browser.rewriting_proxy import RewritingProxy
from tests.browser.trends_page import PANELS, WAIT_MS, TrendsPage, epoch
from tests.real_prometheus import RealPrometheus

_HOSTILE = "<img src=x onerror=window.hacked=1> <b>bold</b>"


def unchanged(path: str, form: dict[str, str], answer: dict[str, Any]) -> None:
    pass


def details_of(page: TrendsPage, panel: str) -> Locator:
    return page.panel(panel).locator(".qs-details")


def rows_of(page: TrendsPage, panel: str) -> dict[str, str]:
    """The particulars of a chart, by their names."""
    rows: list[tuple[str, str]] = details_of(page, panel).evaluate(
        "box => [...box.querySelectorAll('dt')].map(dt => [dt.textContent,"
        " dt.nextElementSibling.textContent])"
    )
    return dict(rows)


def test_the_particulars_open_and_close_by_keyboard_and_move_nothing(open_page: OpenPage) -> None:
    page = open_page("?range=6h&refresh=60")
    page.wait_until_streamlit_has_taken_over()
    about = page.page.get_by_role("button", name="Details of Queue depth")
    before = [page.panel(name).bounding_box() for name in PANELS]
    about.focus()
    page.page.keyboard.press("Enter")
    expect(details_of(page, "queue_depth")).to_be_visible()
    expect(about).to_have_attribute("aria-expanded", "true")
    assert [page.panel(name).bounding_box() for name in PANELS] == before
    rows = rows_of(page, "queue_depth")
    assert rows["State"].startswith("fresh. ")
    assert re.fullmatch(r"(.* )?\d\d:\d\d:\d\d, .* ago", rows["Data as of"])
    assert rows["Step"] == "5 min"
    assert re.match(r"next in |asking now", rows["Next try"])
    assert rows["Source"].startswith("version ")
    assert "ai_agents_queue_depth{scene=" in rows["Query"]
    page.page.keyboard.press("Escape")
    expect(details_of(page, "queue_depth")).to_be_hidden()
    expect(about).to_be_focused()
    assert [page.panel(name).bounding_box() for name in PANELS] == before


def test_in_an_outage_the_particulars_name_the_kind_of_error_and_the_next_try(
    tmp_path: Path, open_page: OpenPage
) -> None:
    now = time.time()
    times = scrape_times(now - 2 * HOUR, now + HOUR)
    series = {'ai_agents_queue_depth{queue="a"}': (times, times * 0 + 4)}
    with (
        RealPrometheus(tmp_path / "p", series=series) as prometheus,
        DashboardProcess(tmp_path / "d", prometheus.url) as dashboard,
    ):
        page = open_page("?range=1h&refresh=10", at=dashboard, drawn=False)
        expect(page.panel("queue_depth")).to_have_attribute("data-state", "fresh")
        prometheus.kill()
        page.page.get_by_role("button", name="Refresh now").click()
        expect(page.panel("queue_depth")).to_have_attribute("data-state", "stale")
        # The cause is visible on the chart without opening anything.
        expect(page.panel("queue_depth").locator(".qs-foot")).to_contain_text(
            "Prometheus does not accept connections."
        )
        page.page.get_by_role("button", name="Details of Queue depth").click()
        rows = rows_of(page, "queue_depth")
        assert rows["Kind"] == "cannot_connect"
        assert rows["State"].startswith("stale. ")
        assert re.search(r"\d\d:\d\d:\d\d", rows["Last answer"])
        assert re.match(r"next in |asking now", rows["Next try"])


@pytest.fixture
def proxied(known: Known, tmp_path: Path) -> Iterator[tuple[RewritingProxy, DashboardProcess]]:
    with (
        RewritingProxy(known.prometheus.port, unchanged) as proxy,
        DashboardProcess(tmp_path, proxy.url, selector='scene="known"') as dashboard,
    ):
        yield proxy, dashboard


@pytest.mark.parametrize(("key", "state"), [("warnings", "partial"), ("infos", "fresh")])
def test_warnings_of_a_source_are_shown_as_text(
    key: str, state: str, proxied: tuple[RewritingProxy, DashboardProcess], open_page: OpenPage
) -> None:
    """A warning makes the answer partial, and nothing of it is kept; an info leaves it whole."""
    proxy, dashboard = proxied

    def hostile(path: str, form: dict[str, str], answer: dict[str, Any]) -> None:
        if path.startswith("/api/v1/query_range"):
            answer[key] = [_HOSTILE]

    proxy.rewrite = hostile
    page = open_page("?range=6h&refresh=10", at=dashboard)
    page.expect_states(state)
    for name in PANELS:
        expect(page.panel(name).locator(".qs-warning")).to_contain_text(_HOSTILE)
    page.page.get_by_role("button", name="Details of Latency").click()
    assert rows_of(page, "latency")["Remark"] == _HOSTILE
    assert page.page.evaluate("window.hacked") is None
    assert page.panel("latency").locator("img, b").count() == 0

    proxy.rewrite = unchanged
    proxy.ranges.clear()
    for name in PANELS:
        # A whole answer may stand for half a minute while no new point can have come.
        expect(page.panel(name).locator(".qs-warning")).to_be_hidden(timeout=30_000 + WAIT_MS)
    page.expect_states("fresh")
    # The cards have a day of their own at another step, and the strip on the depth chart is asked
    # for once the charts are drawn. The first query of each chart counts: after a complete answer,
    # only a part is fetched.
    charts = [
        form
        for form in proxy.ranges
        if float(form["step"].removesuffix("s")) == 300 and "queuescope_flow" not in form["query"]
    ]
    spans: dict[str, float] = {}
    for form in charts:
        spans.setdefault(form["query"], float(form["end"]) - float(form["start"]))
    assert spans, "nothing was asked for"
    assert all((span >= 6 * HOUR) == (key == "warnings") for span in spans.values())


@dataclass(frozen=True)
class Young:
    """A dashboard whose data begin at an instant, epoch seconds."""

    since: float
    dashboard: DashboardProcess


@pytest.fixture(scope="module")
def young(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Young]:
    """Data of three hours, in which every job takes longer than the top bucket."""
    folder = tmp_path_factory.mktemp("young")
    now = time.time()
    since = now // HOUR * HOUR - 3 * HOUR
    times = scrape_times(since, now + HOUR)
    name = "ai_agents_enhancement_latency_seconds_bucket"
    series = {
        'ai_agents_queue_depth{queue="a"}': (times, times * 0 + 4),
        f'{name}{{le="60"}}': (times, times * 0 + 1),
        f'{name}{{le="120"}}': (times, times * 0 + 1),
        f'{name}{{le="+Inf"}}': (times, np.arange(len(times)) + 1.0),
    }
    with (
        RealPrometheus(folder / "p", series=series) as prometheus,
        DashboardProcess(folder / "d", prometheus.url) as dashboard,
    ):
        yield Young(since, dashboard)


def test_the_start_of_the_data_and_a_top_bucket_are_noted_below_the_chart(
    young: Young, open_page: OpenPage
) -> None:
    since = young.since
    page = open_page("?range=24h", at=young.dashboard)
    panel = page.panel("queue_depth")
    expect(panel).to_have_attribute("data-state", "fresh")
    expect(panel.locator(".qs-notes")).to_have_text(
        re.compile(r"^The data start at (.* )?\d\d:0[0-5]; nothing is known before\.$")
    )
    [depth] = page.traces("queue_depth").values()
    assert np.isnan(depth.values[depth.times < since]).all()
    [marked] = page.plot("queue_depth").evaluate(
        "plot => plot.layout.shapes.filter(shape => shape.type === 'rect').map(s => [s.x0, s.x1])"
    )
    assert 0 <= epoch(marked[1]) - since <= 300

    page.radio("1h").click()
    page.wait_until_drawn(60)
    expect(panel.locator(".qs-notes")).to_have_text("")
    # Every job takes longer than the top bucket.
    expect(page.panel("latency").locator(".qs-notes")).to_have_text(
        "Reaches the top bucket: the true value may be above 2 min."
    )
