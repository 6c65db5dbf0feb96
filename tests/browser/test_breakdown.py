"""Breaking a chart down by a label, and hostile names."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import Locator, expect
from tests.browser.conftest import Known, OpenPage
from tests.browser.known_samples import (
    DAY,
    INSTANCES,
    QUEUES,
    TENANTS,
    held,
    latency_ms,
    peak_depth,
)
from tests.browser.scenes import CROWD, HOSTILE
from tests.browser.trends_page import TrendsPage, save

from queuescope.shown_text import shown


def legend(page: TrendsPage, panel: str) -> Locator:
    return page.plot(panel).locator(".infolayer .legendtext")


def test_queues_tenants_and_instances_are_drawn_apart_where_a_panel_has_the_label(
    open_page: OpenPage, known: Known
) -> None:
    page = open_page("?range=6h&by=queue&refresh=off", drawn=False)
    expect(legend(page, "queue_depth").first).to_have_text(QUEUES[0])
    depth = page.traces("queue_depth")
    assert list(depth) == list(QUEUES)
    for queue, trace in depth.items():
        keys = [(queue, instance) for instance in INSTANCES]
        expected = peak_depth(known.platform, trace.times, 300, keys)
        np.testing.assert_allclose(trace.values, expected, rtol=2e-6)
    expect(page.panel("latency")).to_have_attribute("data-state", "empty")
    expect(page.panel("latency")).to_contain_text("No series here has the label queue.")

    page.choose("Break down by", "tenant")
    expect(legend(page, "latency").first).to_have_text(TENANTS[0])
    assert page.parameter("by") == "tenant"
    latency = page.traces("latency")
    assert list(latency) == list(TENANTS)
    for tenant, trace in latency.items():
        expected = latency_ms(known.platform, trace.times, 300, 0.95, [tenant])
        np.testing.assert_allclose(trace.values, expected, rtol=2e-6)
    for tenant, trace in page.traces("success_rate").items():
        moments = trace.times[:, None] + np.arange(-285, 1, 15)[None, :]
        rates = held(known.platform.times, known.platform.success[tenant], moments.ravel())
        with np.errstate(invalid="ignore"):
            lowest = np.fmin.reduce(rates.reshape(moments.shape), axis=1)
        np.testing.assert_allclose(trace.values, lowest, rtol=2e-6)
    expect(page.panel("queue_depth")).to_contain_text("not reported by tenant")
    assert list(page.traces("queue_depth")) == ["Queue depth"]

    page.choose("Break down by", "instance")
    expect(legend(page, "queue_depth").first).to_have_text(INSTANCES[0])
    for instance, trace in page.traces("queue_depth").items():
        keys = [(queue, instance) for queue in QUEUES]
        expected = peak_depth(known.platform, trace.times, 300, keys)
        np.testing.assert_allclose(trace.values, expected, rtol=2e-6)


def test_many_long_curves_are_drawn_by_their_highs_and_lows_and_saved_as_they_were_read(
    open_page: OpenPage, known: Known
) -> None:
    query = "?range=24h&step=60&by=queue&refresh=off&tz=Asia/Kolkata"
    page = open_page(query, scene="many", drawn=False)
    expect(legend(page, "queue_depth")).to_have_count(8)
    expect(page.panel("queue_depth")).to_contain_text("peak within 1 min, highs and lows only")
    for queue, trace in page.traces("queue_depth", utc_offset_seconds=19_800).items():
        assert 900 < len(trace.times) <= 1_000
        assert trace.times[-1] - trace.times[0] == DAY
        moments = trace.times[:, None] + np.arange(-45, 1, 15)[None, :]
        peaks = held(*known.queues[queue], moments.ravel()).reshape(moments.shape)
        np.testing.assert_array_equal(trace.values, np.fmax.reduce(peaks, axis=1))
        assert np.nanmin(trace.values) == 1
        assert np.nanmax(trace.values) == 900 + int(queue[-1])
        assert np.isnan(trace.values).any()
    page.hover("queue_depth", 0.8)
    tooltip = page.plot("queue_depth").locator(".hoverlayer")
    for queue in known.queues:
        expect(tooltip).to_contain_text(queue)

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


def test_the_worst_eight_are_shown_and_hostile_names_are_text_that_never_runs(
    open_page: OpenPage,
) -> None:
    page = open_page("?range=1h&by=tenant&refresh=off", scene="crowd")
    expect(page.panel("success_rate").locator(".qs-more")).to_have_text("4 more")
    traces = page.traces("success_rate")
    assert len(traces) == 8
    assert sorted(trace.values[-1] for trace in traces.values()) == [50 + n for n in range(8)]
    page.wait_until_streamlit_has_taken_over()
    # Characters that cannot be seen, or would reverse the text, are shown by number.
    names = set(map(shown, HOSTILE))
    assert len(names - set(HOSTILE)) == 1
    expect(legend(page, "success_rate")).to_have_count(8)
    assert names <= set(legend(page, "success_rate").all_text_contents())
    page.page.get_by_role("button", name="Details of Success rate").click()
    note = page.panel("success_rate").locator("dt", has_text="Names").locator("+ dd")
    (numbered,) = names - set(HOSTILE)
    expect(note).to_have_text(
        f"{numbered}: \\u and a number stand for a character that cannot be seen, "
        "or would turn the text around it."
    )
    page.page.keyboard.press("Escape")
    page.hover("success_rate", 0.5)
    tooltip = page.plot("success_rate").locator(".hoverlayer")
    for name in names:
        # Long names are cut in the tooltip; it is their beginning that looks like a tag.
        expect(tooltip).to_contain_text(name[:20])

    # A file has them, too, except for what a spreadsheet would take for a formula.
    for title in ("Save what is drawn as CSV", "Save all points that were read as CSV"):
        series = {row["series"] for row in save(page, "success_rate", title)[1]}
        written = {f"'{name}" if name.startswith("=") else name for name in names}
        assert written <= series
        assert len(series) == 8

    page.choose("Break down by", "queue")
    expect(legend(page, "queue_depth")).to_have_count(8)
    assert names <= set(legend(page, "queue_depth").all_text_contents())
    assert page.page.evaluate("window.hacked") is None
    assert page.page.locator("img[src=x]").count() == 0
    assert page.page.locator("[data-panel] a[*|href^='javascript']").count() == 0
    assert len(CROWD) == 12
