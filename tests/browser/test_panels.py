"""Panel files with any number of charts: the page shows what the file contains."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Known, OpenPage
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.trends_page import FITS, TrendsPage, epoch
from tests.panels.fourth import with_fourth

FOURTH = "in-flight"
# A chart of a duration that is no histogram, with a card, and one with no role at all.
TWO = """
[[panel]]
id = "oldest"
role = "oldest"
title = "Oldest job"
kind = "latency"
unit = "ms"
scale = 1000
point = "longest within {step}"
metrics = ["ai_agents_queue_depth"]
breakdowns = ["queue"]
query = 'max$by(max_over_time(ai_agents_queue_depth{$matchers}[$step]))'
now = 'max$by(ai_agents_queue_depth{$matchers})'

[[panel]]
id = "quality"
title = "Quality"
kind = "percent"
unit = "%"
point = "lowest within {step}"
metrics = ["ai_agents_enhancement_success_rate"]
query = 'min$by(min_over_time(ai_agents_enhancement_success_rate{$matchers}[$step]))'
now = 'min$by(ai_agents_enhancement_success_rate{$matchers})'

[[row]]
panels = ["quality", "oldest"]

[[measure]]
id = "oldest_waiting"
title = "Oldest waiting"
panel = "oldest"
"""


@pytest.fixture(scope="module")
def dashboards(
    known: Known, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, DashboardProcess]]:
    with ExitStack() as running:
        found = {}
        for name, text in (("four", with_fourth()), ("two", TWO)):
            folder = tmp_path_factory.mktemp(name)
            file = folder / f"{name}.toml"
            file.write_text(text, "utf-8")
            found[name] = running.enter_context(
                DashboardProcess(
                    folder, known.prometheus.url, selector='scene="known"', preset=str(file)
                )
            )
        yield found


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _drawn_points(page: TrendsPage, panel: str) -> list[dict[str, str]]:
    """The file that the chart's own button saves; its details are open."""
    with page.page.expect_download() as saving:
        page.panel(panel).get_by_role("button", name="Drawn points").click()
    return _rows(Path(saving.value.path()).read_text("utf-8"))


def test_a_fourth_panel_is_a_chart_like_the_others(
    dashboards: dict[str, DashboardProcess], open_page: OpenPage, known: Known
) -> None:
    size = {"width": 1440, "height": 1800}
    page = open_page("?range=1h&refresh=off&tz=UTC", at=dashboards["four"], viewport=size)
    page.wait_until_streamlit_has_taken_over()
    chart = page.panel(FOURTH)
    expect(chart).to_have_attribute("data-state", "fresh")
    assert chart.get_attribute("data-as-of")
    expect(chart.locator(".qs-now")).to_have_text("now 4")
    # Below the others, as wide as they are together.
    boxes = [page.panel(name).bounding_box() for name in ("queue_depth", "latency", FOURTH)]
    first, last, fourth = (box for box in boxes if box is not None)
    assert fourth["y"] >= first["y"] + first["height"]
    assert fourth["x"] == first["x"]
    assert abs(fourth["width"] - (last["x"] + last["width"] - first["x"])) < 1
    [trace] = page.traces(FOURTH).values()
    assert (trace.name, set(trace.values.tolist())) == ("Jobs in flight", {4, 12})
    peaks = trace.times[trace.values == 12]
    assert abs((peaks - known.marks.rest[0] + 900) % 1800 - 900).max() <= 120

    page.zoom(FOURTH, 0.3, 0.7)
    page.page.wait_for_function(
        "() => new Set([...document.querySelectorAll('.js-plotly-plot')].map("
        "plot => String(plot._fullLayout.xaxis.range))).size === 1"
        " && new URLSearchParams(location.search).has('zoom')"
    )
    ranges = page.shown_ranges()
    assert len(ranges) == 4
    assert epoch(ranges[0][1]) - epoch(ranges[0][0]) < 1800

    page.page.get_by_role("button", name="Details of Jobs in flight").click()
    expect(chart.locator(".qs-details")).to_contain_text("ai_agents_enhancement_jobs_in_flight{")
    drawn = _drawn_points(page, FOURTH)
    assert {(row["panel"], row["series"], row["quantile"]) for row in drawn} == {
        (FOURTH, "Jobs in flight", "")
    }
    status, text = dashboards["four"].get(f"/queuescope/chart.csv?panel={FOURTH}&range=1h&by=queue")
    assert status == 200
    assert {row["series"] for row in _rows(text)} == {"default", "priority"}

    page.choose("Break down by", "queue")
    page.page.wait_for_function(
        "() => document.querySelector('[data-panel=in-flight] .js-plotly-plot').data.length === 2"
    )
    of_queues = page.traces(FOURTH)
    assert {name: max(one.values) for name, one in of_queues.items()} == {
        "default": 10,
        "priority": 2,
    }
    page.page.set_viewport_size({"width": 390, "height": 844})
    page.page.wait_for_function(FITS)
    assert page.complaints == []


def test_two_panels_without_a_queue_depth_make_a_whole_page(
    dashboards: dict[str, DashboardProcess], open_page: OpenPage
) -> None:
    page = open_page("?range=1h&refresh=off&tz=UTC", at=dashboards["two"])
    page.wait_until_streamlit_has_taken_over()
    names = page.page.locator("[data-panel]").evaluate_all("all => all.map(a => a.dataset.panel)")
    assert names == ["quality", "oldest"]
    left, right = (page.panel(name).bounding_box() for name in names)
    assert left is not None
    assert right is not None
    assert (left["y"], left["width"]) == (right["y"], right["width"])
    for name in names:
        expect(page.panel(name)).to_have_attribute("data-state", "fresh")
    # The card shows the figure of its chart, and a link to it.
    card = page.page.locator("[data-kpi=oldest_waiting]")
    expect(card).to_have_attribute("data-state", "fresh")
    present = page.panel("oldest").locator(".qs-now strong").text_content()
    expect(card.locator(".qs-figure strong")).to_have_text(present or "")
    card.locator("summary").click()
    card.get_by_role("button", name="Show its chart").click()
    expect(page.panel("oldest")).to_be_focused()
    # Without limits nothing is called healthy.
    verdict = page.page.locator("[data-qs=verdict]")
    expect(verdict).to_have_attribute("data-verdict", "unknown")
    # Nothing is said about a queue that is unknown here.
    expect(page.page.locator("[data-qs=outlook]")).to_have_text("")
    expect(page.page.locator(".qs-strip")).to_have_count(0)
    assert not [url for url in page.requests if "/queuescope/flow" in url]
    page.page.get_by_role("button", name="Details of Oldest job").click()
    assert {row["quantile"] for row in _drawn_points(page, "oldest")} == {""}
    assert page.complaints == []
