"""The three charts, and that every number in them is the number of the samples."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from playwright.sync_api import expect
from tests.browser.conftest import DashboardFor, Known, OpenPage, Reader
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
from tests.browser.trends_page import FITS, PANELS, Trace, TrendsPage, iso, save, saved, wall

RANGES = {"1h": (HOUR, 60), "6h": (6 * HOUR, 300), "24h": (DAY, 900), "7d": (7 * DAY, HOUR)}


def assert_same_numbers(expected: Floats, drawn: Floats) -> None:
    """Equal to seven digits, with the gaps at the same places."""
    np.testing.assert_allclose(drawn, expected, rtol=2e-6, atol=0, equal_nan=True)


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a page showed of one range, and the as-of times of its figures."""

    checked: list[str]
    address: str | None
    traces: dict[str, dict[str, Trace]]
    moments: Floats


@pytest.fixture(scope="module")
def ranges(reader: Reader, dashboard_for: DashboardFor) -> dict[str, Drawn]:
    """Each range, chosen one after the other on a page that was opened without one."""
    found: dict[str, Drawn] = {}
    viewport = {"width": 1440, "height": 900}
    with reader({"viewport": viewport, "timezone_id": "UTC"}).new_page() as tab:
        page = TrendsPage(tab, dashboard_for("known").url).open()
        for name in ("24h", "7d", "6h", "1h"):
            if found:
                page.radio(name).click()
            page.wait_until_drawn(RANGES[name][1])
            moments = moments_shown(page)
            traces = {panel: page.traces(panel) for panel in PANELS}
            moments |= moments_shown(page)
            checked = page.page.get_by_role("radio", checked=True).all_inner_texts()
            found[name] = Drawn(checked, page.parameter("range"), traces, np.array(sorted(moments)))
        assert page.complaints == []
    return found


def test_there_are_three_charts_with_the_promised_traces_units_and_limits(
    open_page: OpenPage,
) -> None:
    page = open_page()
    assert [list(page.traces(name)) for name in PANELS] == [
        ["Queue depth"],
        ["Success rate"],
        ["P50", "P95", "P99"],
    ]
    for name, words in zip(
        PANELS, ("Queue depth (jobs)", "Success rate (%)", "Latency"), strict=True
    ):
        expect(page.plot(name).locator(".ytitle")).to_have_text(words)
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


@pytest.mark.parametrize("name", RANGES)
def test_each_range_draws_the_numbers_of_the_samples_and_is_written_to_the_address(
    name: str, ranges: dict[str, Drawn], known: Known
) -> None:
    span, step = RANGES[name]
    shown = ranges[name]
    assert shown.checked == [name]
    assert shown.address == name
    [depth] = shown.traces["queue_depth"].values()
    [success] = shown.traces["success_rate"].values()
    latency = shown.traces["latency"]

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
    moments = shown.moments
    assert depth.live[1] in [live_depth(known.platform, at, at) for at in moments]
    means = [live_mean_success(known.platform, at, at) for at in moments]
    assert np.isclose(success.live[1], means, rtol=2e-6, atol=0).any()
    for label, quantile in (("P50", 0.5), ("P95", 0.95), ("P99", 0.99)):
        expected = latency_ms(known.platform, moments, 300 - SCRAPE_SECONDS, quantile)
        live = latency[label].live
        drawn = np.nan if live is None else live[1]
        assert np.isclose(drawn, expected, rtol=2e-6, atol=0, equal_nan=True).any()


def moments_shown(page: TrendsPage) -> set[float]:
    """The as-of times of the figures on the page, those of charts and of cards."""
    shown_text = page.page.evaluate(
        "[...document.querySelectorAll('[data-live], [data-as-of]')]"
        ".map(({ dataset }) => dataset.live || dataset.asOf)"
    )
    return {datetime.fromisoformat(moment).timestamp() for moment in shown_text if moment}


def test_the_live_end_is_a_dot_with_the_cards_figure_and_ends_the_axis(
    open_page: OpenPage,
) -> None:
    page = open_page("?range=24h&tz=UTC&refresh=off")
    # The ends of the curves come from the cards: with them the page is final.
    expect(page.page.locator("[data-kpi=p95_latency]")).to_have_attribute("data-state", "fresh")
    page.page.evaluate("queuescope.page().drawn()")
    [depth] = page.traces("queue_depth").values()
    assert depth.live is not None
    assert measured_over(page, "latency") == ", the last 5 min"
    # There it is a gauge, which has the value of one instant.
    assert measured_over(page, "success_rate") == measured_over(page, "queue_depth") == ", now"
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
    page.open(f"?from={iso(depth.times[0])}&to={iso(depth.times[40])}&tz=UTC&refresh=off")
    panel = page.panel("queue_depth")
    expect(panel).not_to_have_attribute("data-live", re.compile(".*"))
    expect(page.panel("queue_depth").locator(".qs-ends circle")).to_have_count(0)


def measured_over(page: TrendsPage, panel: str) -> str:
    """The text on the time of the live end of a curve."""
    text = page.plot(panel).evaluate("plot => plot.data[0].text.at(-1)")
    return str(text).partition("<br>")[0]


def test_with_rare_scrapes_a_present_value_says_over_how_long_it_was_measured(
    tmp_path: Path, open_page: OpenPage, known: Known
) -> None:
    with DashboardProcess(
        tmp_path / "dashboard",
        known.prometheus.url,
        selector='scene="known"',
        scrape_interval_seconds="300",
    ) as slow:
        page = open_page("?range=1h&refresh=off", at=slow)
        p95 = page.page.locator("[data-kpi=p95_latency]")
        expect(p95.locator(".qs-note")).to_have_text("over 20 min")
        assert measured_over(page, "latency") == ", the last 20 min"
        assert measured_over(page, "queue_depth") == ", now"
        expect(page.panel("latency").locator(".qs-point")).to_contain_text("within 20 min")


def test_the_success_rate_is_weighted_by_jobs_where_they_are_counted(
    open_page: OpenPage, known: Known
) -> None:
    page = open_page("?range=1h&refresh=off", scene="many", drawn=False)
    for name in ("1h", "7d"):
        step = RANGES[name][1]
        page.radio(name).click()
        expect(page.panel("success_rate")).to_have_attribute("data-state", "fresh")
        page.wait_until_drawn(step)
        [success] = page.traces("success_rate").values()
        assert_same_numbers(lowest_job_success(known.jobs, success.times, step), success.values)


def test_a_single_scrape_of_500_is_seen_as_500_over_seven_days(
    ranges: dict[str, Drawn], known: Known
) -> None:
    [depth] = ranges["7d"].traces["queue_depth"].values()
    at = int(np.nanargmax(depth.values))
    assert depth.values[at] == 500
    assert depth.times[at - 1] <= known.marks.spike + 15
    assert known.marks.spike <= depth.times[at]


def test_a_dip_of_two_minutes_is_seen_as_a_dip_over_seven_days(
    ranges: dict[str, Drawn], known: Known
) -> None:
    [success] = ranges["7d"].traces["success_rate"].values()
    at = int(np.nanargmin(success.values))
    assert success.values[at] == 41.5
    assert success.times[at - 1] <= known.marks.dip + 15
    assert known.marks.dip <= success.times[at]


def test_a_scrape_gap_is_a_gap_that_no_line_crosses(ranges: dict[str, Drawn], known: Known) -> None:
    start, end = known.marks.gap
    for traces in ranges["24h"].traces.values():
        for trace in traces.values():
            inside = (trace.times > start + 1_100) & (trace.times < end)
            assert inside.any()
            assert np.isnan(trace.values[inside]).all()
            assert not trace.connects_gaps


def test_a_quiet_time_is_zero_jobs_waiting_and_no_rate_at_all(
    ranges: dict[str, Drawn], known: Known
) -> None:
    start, end = known.marks.quiet
    traces = ranges["24h"].traces
    [depth] = traces["queue_depth"].values()
    inside = (depth.times > start + 1_000) & (depth.times < end)
    assert inside.sum() >= 3
    assert list(depth.values[inside]) == [0] * inside.sum()
    for trace in (*traces["success_rate"].values(), *traces["latency"].values()):
        assert np.isnan(trace.values[inside]).all()


def test_a_tenant_without_a_rate_does_not_hide_the_others(
    ranges: dict[str, Drawn], known: Known
) -> None:
    [success] = ranges["1h"].traces["success_rate"].values()
    start, end = known.marks.rest
    inside = (success.times > start) & (success.times < end)
    assert inside.sum() >= 15
    assert (success.values[inside] > 90).all()


def test_a_platform_at_rest_is_idle_with_a_depth_of_zero(open_page: OpenPage) -> None:
    page = open_page("?range=1h&refresh=off", scene="idle")
    expect(page.panel("queue_depth")).to_have_attribute("data-state", "fresh")
    [depth] = page.traces("queue_depth").values()
    assert set(depth.values) == {0.0}
    for name in ("success_rate", "latency"):
        expect(page.panel(name)).to_have_attribute("data-state", "idle")
        expect(page.panel(name)).to_contain_text("Idle")
        for trace in page.traces(name).values():
            assert np.isnan(trace.values).all()


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


def test_picture_and_points_are_saved_as_they_are_drawn_and_as_they_were_read(
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
    with page.page.expect_download() as download:
        page.panel("latency").locator(".modebar-btn[data-title='Save as PNG']").click()
    picture_name = f"queuescope_latency_{start}_to_{end}_UTC+5-30.png"
    assert download.value.suggested_filename == picture_name
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
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
