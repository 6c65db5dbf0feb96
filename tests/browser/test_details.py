"""Each chart shows its state in plain words, and the particulars in its details."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Known, OpenPage
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.known_samples import HOUR, scrape_times
from tests.browser.rewriting_proxy import RewritingProxy
from tests.browser.trends_page import (
    PANELS,
    WAIT_MS,
    card,
    details_of,
    details_rows,
    epoch,
    verdict,
)
from tests.real_prometheus import RealPrometheus

_HOSTILE = "<img src=x onerror=window.hacked=1> <b>bold</b>"


def unchanged(path: str, form: dict[str, str], answer: dict[str, Any]) -> None:
    pass


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
    rows = details_rows(page, "queue_depth")
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


@pytest.fixture(scope="module")
def proxied(
    known: Known, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RewritingProxy, DashboardProcess]]:
    """A dashboard behind a proxy that changes answers. Each test uses another range."""
    with (
        RewritingProxy(known.prometheus.port, unchanged) as proxy,
        DashboardProcess(
            tmp_path_factory.mktemp("proxied"), proxy.url, selector='scene="known"'
        ) as dashboard,
    ):
        yield proxy, dashboard


@pytest.mark.parametrize("key", ["warnings", pytest.param("infos", marks=pytest.mark.long)])
def test_warnings_of_a_source_are_shown_as_text(
    key: str, proxied: tuple[RewritingProxy, DashboardProcess], open_page: OpenPage
) -> None:
    """A warning makes the answer partial, and nothing of it is kept; an info leaves it whole."""
    proxy, dashboard = proxied
    state, hours, step = {"warnings": ("partial", 6, 300), "infos": ("fresh", 1, 60)}[key]

    def hostile(path: str, form: dict[str, str], answer: dict[str, Any]) -> None:
        if path.startswith("/api/v1/query_range"):
            answer[key] = [_HOSTILE]

    proxy.rewrite = hostile
    page = open_page(f"?range={hours}h&refresh=10", at=dashboard)
    page.expect_states(state)
    for name in PANELS:
        expect(page.panel(name).locator(".qs-warning")).to_contain_text(_HOSTILE)
    page.page.get_by_role("button", name="Details of Latency").click()
    assert details_rows(page, "latency")["Remark"] == _HOSTILE
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
        if float(form["step"].removesuffix("s")) == step and "queuescope_flow" not in form["query"]
    ]
    spans: dict[str, float] = {}
    for form in charts:
        spans.setdefault(form["query"], float(form["end"]) - float(form["start"]))
    assert spans, "nothing was asked for"
    assert all((span >= hours * HOUR) == (key == "warnings") for span in spans.values())


def test_part_of_a_figure_reads_as_partial_on_card_and_chart(
    proxied: tuple[RewritingProxy, DashboardProcess], open_page: OpenPage
) -> None:
    def warn(_path: str, form: dict[str, str], answer: dict[str, Any]) -> None:
        if "queuescope_panel" in form.get("query", ""):
            answer["warnings"] = [_HOSTILE]

    proxy, dashboard = proxied
    proxy.rewrite = warn
    page = open_page("?range=24h&refresh=10", at=dashboard)
    depth = card(page, "queue_depth")
    expect(depth).to_have_attribute("data-state", "partial")
    expect(depth.locator(".qs-badge")).to_have_text("partial")
    expect(verdict(page)).not_to_have_attribute("data-verdict", "healthy")
    now = page.panel("queue_depth").locator(".qs-now")
    expect(now).to_contain_text(", partial")
    expect(now).to_have_attribute("title", re.compile(re.escape(_HOSTILE)))
    # Its curve is whole.
    expect(page.panel("queue_depth")).to_have_attribute("data-state", "fresh")
    assert page.page.evaluate("window.hacked") is None
    proxy.rewrite = unchanged
    expect(depth).to_have_attribute("data-state", "fresh")
    expect(now).not_to_contain_text("partial")


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
