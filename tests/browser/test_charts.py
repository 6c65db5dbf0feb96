"""The three charts, and that every number in them is the number of the samples."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Known, OpenPage
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.known_samples import (
    DAY,
    HOUR,
    SCRAPE_SECONDS,
    Floats,
    latency_ms,
    live_depth,
    live_mean_success,
    lowest_job_success,
    lowest_mean_success,
    peak_depth,
)
from tests.browser.trends_page import FITS, PANELS, TrendsPage, iso, wall

RANGES = {"1h": (HOUR, 60), "6h": (6 * HOUR, 300), "24h": (DAY, 900), "7d": (7 * DAY, HOUR)}


def assert_same_numbers(expected: Floats, drawn: Floats) -> None:
    """Equal to seven digits, with the gaps at the same places."""
    np.testing.assert_allclose(drawn, expected, rtol=2e-6, atol=0, equal_nan=True)


def test_there_are_three_charts_with_the_promised_traces(open_page: OpenPage) -> None:
    page = open_page()
    assert [list(page.traces(name)) for name in PANELS] == [
        ["Queue depth"],
        ["Success rate"],
        ["P50", "P95", "P99"],
    ]


@pytest.mark.parametrize("name", RANGES)
def test_the_drawn_numbers_are_those_of_the_samples(
    name: str, open_page: OpenPage, known: Known
) -> None:
    span, step = RANGES[name]
    page = open_page(f"?range={name}")
    page.wait_until_drawn(step)
    figures_of = moments_told(page)
    [depth] = page.traces("queue_depth").values()
    [success] = page.traces("success_rate").values()
    latency = page.traces("latency")
    figures_of |= moments_told(page)

    grid = depth.times
    assert list(np.unique(np.diff(grid))) == [step]
    assert grid[-1] - grid[0] == span
    assert grid[-1] % step == 0
    for trace in (success, *latency.values()):
        assert list(trace.times) == list(grid)
    assert_same_numbers(peak_depth(known.platform, grid, step), depth.values)
    assert_same_numbers(lowest_mean_success(known.platform, grid, step), success.values)
    for label, quantile in (("P50", 0.5), ("P95", 0.95), ("P99", 0.99)):
        assert_same_numbers(latency_ms(known.platform, grid, step, quantile), latency[label].values)

    # Each curve ends with its figure of now. That is the card's where there is one already, which
    # is asked by itself: a little before or after the charts, and a sample may come between them.
    assert depth.live is not None
    assert success.live is not None
    assert grid[-1] < depth.live[0] < grid[-1] + step
    moments = np.array(sorted(figures_of))
    assert depth.live[1] in [live_depth(known.platform, at, at) for at in moments]
    means = [live_mean_success(known.platform, at, at) for at in moments]
    assert np.isclose(success.live[1], means, rtol=2e-6, atol=0).any()
    for label, quantile in (("P50", 0.5), ("P95", 0.95), ("P99", 0.99)):
        expected = latency_ms(known.platform, moments, 300 - SCRAPE_SECONDS, quantile)
        live = latency[label].live
        drawn = np.nan if live is None else live[1]
        assert np.isclose(drawn, expected, rtol=2e-6, atol=0, equal_nan=True).any()


def moments_told(page: TrendsPage) -> set[float]:
    """The as-of times of the figures on the page, those of charts and of cards."""
    shown_text = page.page.evaluate(
        "[...document.querySelectorAll('[data-live], [data-as-of]')]"
        ".map(({ dataset }) => dataset.live || dataset.asOf)"
    )
    return {datetime.fromisoformat(moment).timestamp() for moment in shown_text if moment}


def test_the_live_end_is_a_dot_with_the_cards_figure_and_ends_the_axis(
    open_page: OpenPage,
) -> None:
    page = open_page("?range=24h&tz=UTC")
    [depth] = page.traces("queue_depth").values()
    assert depth.live is not None
    assert page.shown_ranges()[0] == [wall(depth.times[0]), wall(depth.live[0])]
    assert page.panel("queue_depth").get_attribute("data-live") is not None
    expect(page.panel("queue_depth").locator(".qs-ends circle")).to_have_count(1)
    # Just after a step is over the two points are too near each other for a mouse.
    text, template = page.plot("queue_depth").evaluate(
        "plot => [plot.data[0].text.at(-1), plot.data[0].hovertemplate"
        ".replace('%{customdata}', plot.data[0].customdata.at(-1))]"
    )
    assert text.startswith(", now")
    now = page.panel("queue_depth").locator(".qs-now strong").inner_text()
    assert template == f"{now} jobs%{{text}}"
    expect(page.page.locator("[data-kpi=queue_depth] .qs-figure strong")).to_have_text(now)
    page.hover("queue_depth", 0.5)
    expect(page.plot("queue_depth").locator(".hoverlayer")).not_to_contain_text("now")

    # A quantile from buckets is a bar from one bound to the other, and not a number.
    bars = page.panel("latency").locator(".qs-ends .qs-between")
    expect(bars).to_have_count(3)
    p95 = page.panel("latency").locator(".qs-now strong").inner_text()
    expect(page.page.locator("[data-kpi=p95_latency] .qs-figure strong")).to_have_text(p95)
    assert p95 == page.plot("latency").evaluate("plot => plot.data[1].customdata.at(-1)")

    # A range in the past has no open step.
    page.open(f"?from={iso(depth.times[0])}&to={iso(depth.times[40])}&tz=UTC")
    panel = page.panel("queue_depth")
    expect(panel).not_to_have_attribute("data-live", re.compile(".*"))
    expect(page.panel("queue_depth").locator(".qs-ends circle")).to_have_count(0)


def test_a_present_value_says_over_how_long_it_was_measured(
    tmp_path: Path, open_page: OpenPage, known: Known
) -> None:
    def shown_text(page: TrendsPage, panel: str) -> str:
        text = page.plot(panel).evaluate("plot => plot.data[0].text.at(-1)")
        return str(text).partition("<br>")[0]

    page = open_page("?range=24h")
    assert shown_text(page, "latency") == ", the last 5 min"
    # There it is a gauge, which has the value of one instant.
    assert shown_text(page, "success_rate") == shown_text(page, "queue_depth") == ", now"
    with DashboardProcess(
        tmp_path / "dashboard",
        known.prometheus.url,
        selector='scene="known"',
        scrape_interval_seconds="300",
    ) as slow:
        page = open_page("?range=1h", at=slow)
        p95 = page.page.locator("[data-kpi=p95_latency]")
        expect(p95.locator(".qs-note")).to_have_text("over 20 min")
        assert shown_text(page, "latency") == ", the last 20 min"
        assert shown_text(page, "queue_depth") == ", now"
        expect(page.panel("latency").locator(".qs-point")).to_contain_text("within 20 min")


@pytest.mark.parametrize("name", RANGES)
def test_the_success_rate_is_weighted_by_jobs_where_they_are_counted(
    name: str, open_page: OpenPage, known: Known
) -> None:
    step = RANGES[name][1]
    page = open_page(f"?range={name}", scene="jobs", drawn=False)
    expect(page.panel("success_rate")).to_have_attribute("data-state", "fresh")
    page.wait_until_drawn(step)
    [success] = page.traces("success_rate").values()
    assert_same_numbers(lowest_job_success(known.jobs, success.times, step), success.values)


def test_a_single_scrape_of_500_is_seen_as_500_over_seven_days(
    open_page: OpenPage, known: Known
) -> None:
    [depth] = open_page("?range=7d").traces("queue_depth").values()
    at = int(np.nanargmax(depth.values))
    assert depth.values[at] == 500
    assert depth.times[at - 1] <= known.marks.spike + 15
    assert known.marks.spike <= depth.times[at]


def test_a_dip_of_two_minutes_is_seen_as_a_dip_over_seven_days(
    open_page: OpenPage, known: Known
) -> None:
    [success] = open_page("?range=7d").traces("success_rate").values()
    at = int(np.nanargmin(success.values))
    assert success.values[at] == 41.5
    assert success.times[at - 1] <= known.marks.dip + 15
    assert known.marks.dip <= success.times[at]


def test_a_scrape_gap_is_a_gap_that_no_line_crosses(open_page: OpenPage, known: Known) -> None:
    page = open_page("?range=24h")
    start, end = known.marks.gap
    for name in PANELS:
        for trace in page.traces(name).values():
            inside = (trace.times > start + 1_100) & (trace.times < end)
            assert inside.any()
            assert np.isnan(trace.values[inside]).all()
    joined = "panel => document.querySelector(`[data-panel=${panel}] .js-plotly-plot`)._fullData"
    for name in PANELS:
        assert page.page.evaluate(f"({joined}.map(t => t.connectgaps))", name) in (
            [False],
            [False] * 3,
        )


def test_a_quiet_time_is_zero_jobs_waiting_and_no_rate_at_all(
    open_page: OpenPage, known: Known
) -> None:
    page = open_page("?range=24h")
    start, end = known.marks.quiet
    [depth] = page.traces("queue_depth").values()
    inside = (depth.times > start + 1_000) & (depth.times < end)
    assert inside.sum() >= 3
    assert list(depth.values[inside]) == [0] * inside.sum()
    for trace in (*page.traces("success_rate").values(), *page.traces("latency").values()):
        assert np.isnan(trace.values[inside]).all()


def test_a_tenant_without_a_rate_does_not_hide_the_others(
    open_page: OpenPage, known: Known
) -> None:
    page = open_page("?range=1h")
    [success] = page.traces("success_rate").values()
    start, end = known.marks.rest
    inside = (success.times > start) & (success.times < end)
    assert inside.sum() >= 15
    assert (success.values[inside] > 90).all()


def test_a_platform_at_rest_is_idle_with_a_depth_of_zero(open_page: OpenPage) -> None:
    page = open_page("?range=1h", scene="idle")
    expect(page.panel("queue_depth")).to_have_attribute("data-state", "fresh")
    [depth] = page.traces("queue_depth").values()
    assert set(depth.values) == {0.0}
    for name in ("success_rate", "latency"):
        expect(page.panel(name)).to_have_attribute("data-state", "idle")
        expect(page.panel(name)).to_contain_text("Idle")
        for trace in page.traces(name).values():
            assert np.isnan(trace.values).all()


def test_limits_are_drawn_and_named(open_page: OpenPage) -> None:
    page = open_page()
    shapes = page.page.evaluate(
        "[...document.querySelectorAll('[data-panel] .js-plotly-plot')].map("
        "plot => plot._fullLayout.shapes.map(shape => [shape.y0, shape.label.text, shape.layer]))"
    )
    # Its line is below the curves, its label above them.
    assert shapes == [
        [[limit, "", "between"], [limit, label, "above"]]
        for limit, label in ((100, "limit 100"), (95, "limit 95 %"), (60_000, "limit 1 min"))
    ]
    expect(page.plot("success_rate").locator(".shapelayer path").first).to_be_attached()
    expect(page.plot("success_rate")).to_contain_text("limit 95 %")


def test_every_axis_names_its_unit(open_page: OpenPage) -> None:
    page = open_page()
    for name, words in zip(
        PANELS, ("Queue depth (jobs)", "Success rate (%)", "Latency"), strict=True
    ):
        expect(page.plot(name).locator(".ytitle")).to_have_text(words)


_SPAN = re.compile(r"0|[0-9.]+ ms|[0-9.]+ s|[0-9]+ (min|h|d)( [0-9]+ (s|min|h))?")


def test_durations_have_one_format_on_axis_limit_tooltip_and_heading(
    open_page: OpenPage,
) -> None:
    page = open_page("?range=24h&refresh=off&tz=UTC")
    ticks = page.plot("latency").locator(".ytick text")
    linear = ticks.all_text_contents()
    assert 3 <= len(linear) <= 8
    assert all(_SPAN.fullmatch(text) for text in linear), linear
    expect(page.panel("queue_depth").get_by_role("button", name="Logarithmic")).to_have_count(0)

    log = page.panel("latency").get_by_role("button", name="Logarithmic axis of Latency")
    log.click()
    expect(log).to_have_attribute("aria-pressed", "true")
    expect(ticks.first).not_to_have_text("0")
    shown = ticks.all_text_contents()
    assert 2 <= len(shown) <= 8
    assert all(_SPAN.fullmatch(text) for text in shown), shown
    assert page.plot("latency").evaluate("plot => plot._fullLayout.yaxis.type") == "log"
    expect(page.plot("latency")).to_contain_text("limit 1 min")
    assert page.parameter("scale") == "log"
    # A zoom, and hiding a curve, change the ticks with the axis.
    page.plot("latency").locator(".legendtoggle").nth(2).click()
    page.zoom("latency", 0.4, 0.5)
    page.page.wait_for_url("**zoom=*")
    assert all(_SPAN.fullmatch(text) for text in ticks.all_text_contents())

    page.page.get_by_role("button", name="Reset zoom").click()
    log.click()
    expect(ticks.first).to_have_text("0")
    assert page.parameter("scale") is None


def test_a_thousand_points_a_series_are_drawn_whole(open_page: OpenPage, known: Known) -> None:
    step = 600
    end = int(known.platform.times[-1] - HOUR) // step * step
    start = end - 999 * step
    page = open_page(f"?from={iso(start)}&to={iso(end)}&step={step}")
    page.wait_until_drawn(step)
    for name in PANELS:
        for trace in page.traces(name).values():
            assert len(trace.values) == 1_000
    [depth] = page.traces("queue_depth").values()
    assert_same_numbers(peak_depth(known.platform, depth.times, step), depth.values)
    latency = page.traces("latency")
    for label, quantile in (("P50", 0.5), ("P95", 0.95), ("P99", 0.99)):
        assert_same_numbers(
            latency_ms(known.platform, depth.times, step, quantile), latency[label].values
        )


def test_a_saved_picture_is_named_by_what_it_shows_and_when(open_page: OpenPage) -> None:
    page = open_page("?range=1h&refresh=off&tz=Asia/Kolkata")
    start, end = (text[:16].replace(" ", "-").replace(":", "-") for text in page.shown_ranges()[0])
    page.panel("latency").hover()
    with page.page.expect_download() as download:
        page.panel("latency").locator(".modebar-btn[data-title='Save as PNG']").click()
    name = f"queuescope_latency_{start}_to_{end}_UTC+5-30.png"
    assert download.value.suggested_filename == name
    assert download.value.path().read_bytes().startswith(b"\x89PNG")


def save(page: TrendsPage, panel: str, title: str) -> tuple[str, list[dict[str, str]]]:
    """The name and the rows of the CSV file behind a button of a chart."""
    page.panel(panel).hover()
    button = page.panel(panel).locator(f".modebar-btn[data-title='{title}']")
    return saved(page, button.click)


def saved(page: TrendsPage, press: Callable[[], None]) -> tuple[str, list[dict[str, str]]]:
    with page.page.expect_download() as download:
        press()
    with download.value.path().open(encoding="utf-8", newline="") as file:
        return download.value.suggested_filename, list(csv.DictReader(file))


def test_the_points_are_saved_as_they_are_drawn_and_as_they_were_read(
    open_page: OpenPage,
) -> None:
    page = open_page("?range=24h&refresh=off&tz=Asia/Kolkata")
    # The ends of the curves come from the cards: with them the page is final.
    expect(page.page.locator("[data-kpi=p95_latency]")).to_have_attribute("data-state", "fresh")
    page.page.evaluate("queuescope.page().drawn()")
    # The same range has been read again for other viewers since.
    asked = f"{page.base_url}/queuescope/view?range=24h&age=1"
    taken = page.page.evaluate("queuescope.page().store.answer.takenAt")
    while page.page.request.get(asked).json()["takenAt"] == taken:
        page.page.wait_for_timeout(100)
    drawn_name, drawn = save(page, "latency", "Save what is drawn as CSV")
    read_name, read = save(page, "latency", "Save all points that were read as CSV")
    start, end = (text[:16].replace(" ", "-").replace(":", "-") for text in page.shown_ranges()[0])
    assert drawn_name == f"queuescope_latency_drawn_{start}_to_{end}_Asia-Kolkata.csv"
    assert read_name == drawn_name.replace("drawn", "read")
    traces = page.traces("latency", utc_offset_seconds=19_800)
    for rows in (drawn, read):
        assert {row["panel"] for row in rows} == {"latency"}
        assert {(row["unit"], row["zone"], row["breakdown"]) for row in rows} == {
            ("ms", "Asia/Kolkata", "")
        }
        assert {row["quantile"] for row in rows} == {"P50", "P95", "P99"}
        assert all(row["time"].endswith("+05:30") for row in rows)
        for name, trace in traces.items():
            closed = [r for r in rows if r["series"] == name and r["step"] == "closed"]
            times = [datetime.fromisoformat(row["time"]).timestamp() for row in closed]
            assert times == list(trace.times)
            values = np.array([float(row["value"] or "nan") for row in closed])
            # The quiet hours have no latency, which is not zero.
            assert np.isnan(values).any()
            assert_same_numbers(trace.values, values)
            opened = [r for r in rows if r["series"] == name and r["step"] == "open"]
            assert [float(row["value"]) for row in opened] == (
                [] if trace.live is None else [pytest.approx(trace.live[1], rel=2e-6)]
            )
    first = {row["from"] for row in drawn}
    assert first == {row["from"] for row in read} == {f"{iso_in(traces['P95'].times[0])}"}


def test_a_chart_can_be_saved_by_touch_and_a_refusal_is_shown(open_page: OpenPage) -> None:
    page = open_page(
        "?range=1h&refresh=off&tz=UTC",
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
    )
    chart = page.panel("latency")
    details = chart.get_by_role("button", name="Details of Latency")
    page.wait_until_streamlit_has_taken_over()
    # It looks as small as with a mouse, but has a larger touch area.
    assert details.evaluate(
        "button => { button.scrollIntoView({ block: 'center' });"
        " const { left, top, width, height } = button.getBoundingClientRect();"
        " return width >= 44 && [-21, 0, 21].every(by => document.elementFromPoint("
        " left + width / 2, top + height / 2 + by) === button); }"
    )
    details.tap()
    for name in ("Picture", "Drawn points", "All points"):
        box = chart.get_by_role("button", name=name).bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    points = chart.get_by_role("button", name="All points")
    name, rows = saved(page, points.tap)
    assert name.startswith("queuescope_latency_read_")
    assert {row["panel"] for row in rows} == {"latency"}
    assert page.page.evaluate(FITS)

    # The points of an answer that are no longer kept.
    page.page.route(
        "**/chart.csv?*",
        lambda route: route.continue_(url=re.sub("taken=[0-9.]+", "taken=1", route.request.url)),
    )
    points.tap()
    expect(chart.get_by_role("alert")).to_have_text(
        "Not saved: The points of this chart are no longer kept; refresh the page, then"
        " save them again."
    )
    page.page.unroute("**/chart.csv?*")
    assert [text for text in page.complaints if "410" not in text] == []
    page.complaints.clear()
    page.page.get_by_role("button", name="Refresh now").click()
    expect(chart.get_by_role("alert")).to_have_count(0)


def iso_in(at: float) -> str:
    return datetime.fromtimestamp(at, ZoneInfo("Asia/Kolkata")).isoformat()


def test_of_many_long_curves_all_points_are_saved_that_were_read(open_page: OpenPage) -> None:
    page = open_page("?range=24h&step=60&by=queue&refresh=off&tz=UTC", scene="many", drawn=False)
    expect(page.plot("queue_depth").locator(".infolayer .legendtext")).to_have_count(8)
    drawn_name, drawn = save(page, "queue_depth", "Save what is drawn as CSV")
    read_name, read = save(page, "queue_depth", "Save all points that were read as CSV")
    assert drawn_name.startswith("queuescope_queue_depth_by_queue_drawn_")
    assert read_name.startswith("queuescope_queue_depth_by_queue_read_")
    queues = {row["series"] for row in read}
    assert queues == {row["series"] for row in drawn} == set(page.traces("queue_depth"))
    assert {row["breakdown"] for row in read} == {"queue"}
    of_read = {(row["series"], row["time"]): row["value"] for row in read}
    for queue in queues:
        closed = [row for row in read if row["series"] == queue and row["step"] == "closed"]
        assert len(closed) == 24 * 60 + 1
        # The drawn curve has their highs and lows, and ends with the open step.
        some = [row for row in drawn if row["series"] == queue and row["step"] == "closed"]
        assert 900 < len(some) <= 1_000
        assert all(
            of_read[queue, row["time"]] == row["value"]
            or (float(of_read[queue, row["time"]]) == float(row["value"]))
            for row in some
        )
    # Each series has its open step, however many there are.
    assert {row["series"] for row in drawn if row["step"] == "open"} == queues
