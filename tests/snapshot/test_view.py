"""What the address asks for, clamped: aligned grids, bounded in points, never in the future."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuescope.errors import ConfigurationError
from queuescope.snapshot import RANGES, View, parse_view
from queuescope.snapshot.view import MAX_POINTS, MAX_SPAN_SECONDS, STEPS

NOW = 1_700_000_123.7
BREAKDOWNS = ("queue", "tenant")


def _parse(**params: str) -> View:
    given_params = {name.rstrip("_"): value for name, value in params.items()}
    return parse_view(given_params, BREAKDOWNS, "24h")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


@pytest.mark.parametrize(
    ("name", "points", "step"),
    [("1h", 61, 60), ("6h", 73, 300), ("24h", 97, 900), ("7d", 169, 3600)],
)
def test_each_range_has_its_step_and_ends_at_the_newest_whole_one(
    name: str, points: int, step: int
) -> None:
    grid = _parse(range=name).grid(NOW, 15)
    assert (len(grid), grid.step_seconds) == (points, step)
    assert NOW - step < grid.end <= NOW


def test_without_parameters_the_default_range_is_shown() -> None:
    assert _parse() == View("24h")
    assert parse_view({}, (), "7d") == View("7d")
    assert _parse(range="", by="", step="", from_="", to="") == View("24h")


def test_equal_addresses_share_a_view_however_they_are_written() -> None:
    view = _parse(from_="2026-01-31T14:00:00Z", to="2026-01-31T15:00:00+00:00")
    assert view == _parse(from_="2026-01-31T15:00+01:00", to="2026-01-31T15:00")
    assert view == _parse(from_="2026-01-31T14:00:00.4Z", to="2026-01-31 15:00")
    assert hash(view) == hash(_parse(from_="20260131T140000Z", to="2026-01-31T15:00:00.9Z"))
    assert view.span_seconds == 3600


def test_a_plus_that_a_browser_sent_as_a_space_is_read_as_a_plus() -> None:
    assert _parse(from_="2026-01-31T15:00 01:00", to="2026-02-01T15:00 01:00") == _parse(
        from_="2026-01-31T14:00Z", to="2026-02-01T14:00Z"
    )


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"range": "2h"}, "range='2h': choose one of 1h, 6h, 24h, 7d"),
        ({"by": "job"}, "by='job': choose one of none, queue, tenant"),
        ({"step": "0"}, "step='0': give whole seconds, 1 to 86400"),
        ({"step": "86401"}, "step='86401': give whole seconds, 1 to 86400"),
        ({"step": "-5"}, "step='-5': give whole seconds"),
        ({"step": "1e3"}, "step='1e3': give whole seconds"),
        ({"step": "6_0"}, "step='6_0': give whole seconds"),
        ({"step": "٦٠"}, "step='٦٠': give whole seconds"),
        ({"step": "²"}, "step='²': give whole seconds"),
        ({"step": "000000600123"}, "step='000000600123': give whole seconds"),
        ({"step": "9" * 100_000}, f"step='{'9' * 40}': give whole seconds"),
        ({"step": "NaN"}, "step='NaN': give whole seconds"),
        ({"from": "2026-01-31T14:00Z"}, "a custom range needs both from= and to="),
        ({"to": "2026-01-31T14:00Z"}, "a custom range needs both from= and to="),
        ({"from": "NaN", "to": "NaN"}, "from='NaN': give a time such as 2026-01-31T14:00:00Z"),
        ({"from": "x" * 100_000, "to": "2026-01-31"}, f"from='{'x' * 40}': give a time"),
        ({"from": "٢٠٢٦-01-31", "to": "2026-01-31"}, "from='٢٠٢٦-01-31': give a time"),
        ({"from": "2026-13-01", "to": "2026-01-31"}, "from='2026-13-01': give a time"),
        ({"from": "1700000000", "to": "1700003600"}, "from='1700000000': give a time"),
        ({"from": "0001-01-01T00+23:59", "to": "2026-01-31"}, "from='0001-01-01T00+23:59' lies"),
        ({"from": "2026-01-31", "to": "9999-12-31T23-23:59"}, "to='9999-12-31T23-23:59' lies"),
        ({"from": "2026-01-31", "to": "2026-01-31"}, "from= must lie before to="),
        ({"from": "2026-01-31", "to": "2026-01-30"}, "from= must lie before to="),
        ({"from": "2025-01-01", "to": "2026-01-31"}, "from= and to= are more than 92 days apart"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_told_with_what_it_may_hold(
    params: dict[str, str], expected: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_view(params, BREAKDOWNS, "24h")
    assert str(caught.value).startswith(expected)
    assert len(str(caught.value)) < 200


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["range", "from", "to", "step", "by"]),
        st.text(max_size=30)
        | st.sampled_from(["1h", "7d", "queue", "none", "60", "2026-01-31T14:00Z"])
        | st.datetimes().map(str)
        | st.integers().map(str),
    )
)
def test_any_parameters_give_a_view_or_a_plain_error(params: dict[str, str]) -> None:
    view = View()
    with contextlib.suppress(ConfigurationError):
        view = parse_view(params, BREAKDOWNS, "24h")
    assert len(view.grid(NOW, 15)) <= MAX_POINTS + 2


views = st.one_of(
    st.builds(
        View,
        st.sampled_from(sorted(RANGES)),
        st.none(),
        st.none(),
        st.none() | st.integers(1, STEPS[-1]),
        st.none(),
    ),
    st.tuples(
        st.integers(0, 2**33 - 1),
        st.integers(1, MAX_SPAN_SECONDS),
        st.none() | st.integers(1, STEPS[-1]),
    ).map(lambda found: View(None, found[0], found[0] + found[1], found[2], None)),
)


@settings(deadline=None)
@given(views, st.floats(1_000_000, 2**33), st.integers(1, 3600))
def test_every_grid_is_aligned_bounded_and_in_the_past(view: View, now: float, scrape: int) -> None:
    grid = view.grid(now, scrape)  # a grid that is not aligned cannot be built
    step = grid.step_seconds
    assert len(grid) <= MAX_POINTS + 2
    assert step >= scrape
    assert grid.end <= now
    if view.step_seconds is not None:
        assert step >= view.step_seconds
    if view.range is not None:
        assert grid.end > now - step
        assert view.span_seconds - step < grid.end - grid.start <= view.span_seconds
    elif view.start is not None and view.end is not None and view.start <= now:
        assert view.start - step < grid.start <= view.start
        assert grid.end < view.end + step
        assert grid.end > min(view.end, now) - step


def test_a_range_in_the_future_is_one_point_of_now() -> None:
    grid = _parse(from_=_iso(NOW + 3600), to=_iso(NOW + 7200)).grid(NOW, 15)
    assert len(grid) == 1
    assert NOW - grid.step_seconds < grid.end <= NOW


@pytest.mark.parametrize(
    ("span", "scrape", "step"),
    [
        (1800, 15, 15),
        (1800, 1, 5),
        (3600, 60, 60),
        (7200, 15, 15),
        (86_400, 15, 300),
        (92 * 86_400, 15, 21_600),
    ],
)
def test_a_zoom_is_as_fine_as_the_scrapes_and_the_number_of_points_allow(
    span: int, scrape: int, step: int
) -> None:
    end = int(NOW) - 86_400
    assert View(None, end - span, end).step(scrape) == step


def test_a_step_of_the_address_is_honoured_down_to_the_scrape_interval() -> None:
    assert _parse(range="1h", step="30").step(15) == 30
    assert _parse(range="1h", step="5").step(15) == 15
    assert _parse(range="7d", step="1").step(1) == 303
    assert _parse(range="1h").step(90) == 90


def test_parsing_does_not_depend_on_the_zone_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = _parse(from_="2026-03-29T02:30", to="2026-03-30T02:30Z")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert _parse(from_="2026-03-29T02:30", to="2026-03-30T02:30Z") == expected
    finally:
        monkeypatch.undo()
        time.tzset()
