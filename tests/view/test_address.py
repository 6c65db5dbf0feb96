"""What the address asks for, clamped: aligned grids, bounded in points, never in the future."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuescope.errors import ConfigurationError
from queuescope.view import RANGES, View, parse_view, read_address
from queuescope.view.selection import MAX_POINTS, MAX_SPAN_SECONDS, STEPS

NOW = 1_700_000_123.7
LATER = datetime(2026, 3, 31, 12, 34, 56, tzinfo=UTC).timestamp()
BREAKDOWNS = ("queue", "tenant")


def _parse(**params: str) -> View:
    given_params = {name.rstrip("_"): value for name, value in params.items()}
    return parse_view(given_params, BREAKDOWNS, "24h", LATER)


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
    assert parse_view({}, (), "7d", LATER) == View("7d")
    assert _parse(range="", by="", step="", from_="", to="") == View("24h")


def test_equal_addresses_share_a_view_however_they_are_written() -> None:
    view = _parse(from_="2026-01-31T14:00:00Z", to="2026-01-31T15:00:00+00:00")
    assert view == _parse(from_="2026-01-31T15:00+01:00", to="2026-01-31T15:00")
    assert view == _parse(from_="2026-01-31T14:00:00.4Z", to="2026-01-31 15:00")
    assert hash(view) == hash(_parse(from_="20260131T140000Z", to="2026-01-31T15:00:00.9Z"))
    assert view.span_seconds == 3600


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"range": "24h"}, "24h"),
        ({"range": "1d"}, "24h"),
        ({"range": "60m"}, "1h"),
        ({"range": "1w"}, "7d"),
        ({"range": "30d"}, "30d"),
        ({"range": "90m"}, "90m"),
        ({"range": "120m"}, "2h"),
        ({"from": "now-3h", "to": "now"}, "3h"),
        ({"from": "now-1d", "to": "now"}, "24h"),
        ({"from": "now-2d-12h", "to": "now"}, "60h"),
        ({"from": "now-6h", "to": "now-3h"}, (LATER // 1 - 21_600, LATER // 1 - 10_800)),
        ({"from": "now-1d/d", "to": "now-1d/d"}, ("2026-03-30T00:00Z", "2026-03-31T00:00Z")),
        ({"from": "now/d", "to": "now/d"}, ("2026-03-31T00:00Z", "2026-04-01T00:00Z")),
        ({"from": "now/d", "to": "now"}, ("2026-03-31T00:00Z", "2026-03-31T12:34:56Z")),
        ({"from": "now/w", "to": "now/w"}, ("2026-03-30T00:00Z", "2026-04-06T00:00Z")),
        ({"from": "now-1h/h", "to": "now/h"}, ("2026-03-31T11:00Z", "2026-03-31T13:00Z")),
        ({"from": "1774900000000", "to": "1774903600999"}, (1_774_900_000, 1_774_903_600)),
        ({"from": "1774900000", "to": "1774903600"}, (1_774_900_000, 1_774_903_600)),
        ({"from": "1774900000000", "to": "now"}, (1_774_900_000, LATER // 1)),
    ],
)
def test_the_forms_of_other_tools_name_the_same_views(
    params: dict[str, str], expected: str | tuple[str, str] | tuple[float, float]
) -> None:
    if not isinstance(expected, str):
        start, end = (
            datetime.fromisoformat(at).timestamp() if isinstance(at, str) else at for at in expected
        )
        assert parse_view(params, (), "24h", LATER) == View(None, int(start), int(end))
        return
    view = parse_view(params, (), "24h", LATER)
    assert view == View(expected)
    grid = view.grid(LATER, 15)
    assert view.span_seconds - grid.step_seconds < grid.end - grid.start <= view.span_seconds


def test_an_invalid_address_shows_a_default_and_remarks() -> None:
    def read(**params: str) -> tuple[View, tuple[str, ...]]:
        names = {name.rstrip("_"): value for name, value in params.items()}
        found = read_address(names, BREAKDOWNS, "6h", LATER)
        return found.view, found.remarks

    assert read() == (View("6h"), ())
    assert read(from_="now-3h", to="now", by="queue") == (View("3h", by="queue"), ())
    for params in (
        {"range": "zz"},
        {"from_": "2027-01-01", "to": "2027-01-02"},
        {"to": "2026-01-01"},
        {"from_": "2025-01-01", "to": "2026-01-02"},
    ):
        view, (remark,) = read(**params)
        assert view == View("6h")
        assert remark.endswith(". Shown instead: the last 6h.")
    view, remarks = read(range="1h", by="job", step="x")
    assert view == View("1h")
    assert [remark.rpartition(". ")[2] for remark in remarks] == [
        "Shown instead: all together.",
        "Shown instead: the usual step.",
    ]
    view, remarks = read(from_="2026-03-30 10:00", to="now-1d/d")
    assert view == _parse(from_="2026-03-30T10:00Z", to="2026-03-31T00:00Z")
    assert remarks == (
        "from='2026-03-30 10:00' names no time zone and is read as UTC.",
        "to='now-1d/d' is read with days of UTC.",
    )
    zoomed = read_address({"zoom": "2026-03-31T10:00Z,now-1h"}, (), "24h", LATER)
    assert zoomed.zoom == (int(LATER) // 3600 * 3600 - 7200, int(LATER) - 3600)
    assert zoomed.remarks == ()
    for text in ("2026-03-31", "now,now-1h", "x,now"):
        wrong = read_address({"zoom": text}, (), "24h", LATER)
        assert (wrong.view, wrong.zoom) == (View("24h"), None)
        assert wrong.remarks[0].endswith(". Shown instead: the whole range.")


def test_a_plus_that_a_browser_sent_as_a_space_is_read_as_a_plus() -> None:
    assert _parse(from_="2026-01-31T15:00 01:00", to="2026-02-01T15:00 01:00") == _parse(
        from_="2026-01-31T14:00Z", to="2026-02-01T14:00Z"
    )


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"range": "2x"}, "range='2x': choose one of 1h, 6h, 24h, 7d, or another number of m, h,"),
        ({"range": "h"}, "range='h': choose one of"),
        ({"range": "1y"}, "range='1y': choose one of"),
        ({"range": "\u0663h"}, "range='\u0663h': choose one of"),
        ({"range": "59s"}, "range='59s': a range is at least 1m and at most 92d long"),
        ({"range": "0h"}, "range='0h': a range is at least 1m"),
        ({"range": "93d"}, "range='93d': a range is at least 1m and at most 92d long"),
        ({"range": "999999999w"}, "range='999999999w': a range is"),
        ({"from": "now-93d", "to": "now"}, "from='now-93d': a range is at least 1m"),
        ({"from": "now-1M", "to": "now"}, "from='now-1M': give a time such as"),
        ({"from": "now-3h", "to": "now-4h"}, "from= must lie before to="),
        ({"from": "now+1h", "to": "now+2h"}, "from='now+1h' lies in the future: it is 2026-03"),
        ({"from": "2026-04-01", "to": "2026-04-02"}, "from='2026-04-01' lies in the future"),
        ({"from": "now-999999999w", "to": "now"}, "from='now-999999999w' lies outside the years"),
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
        ({"from": "17000000", "to": "17003600"}, "from='17000000': give a time"),
        ({"from": "9" * 15, "to": "9" * 15}, f"from='{'9' * 15}' lies outside the years"),
        ({"from": "0001-01-01T00+23:59", "to": "2026-01-31"}, "from='0001-01-01T00+23:59' lies"),
        ({"from": "2026-01-31", "to": "9999-12-31T23-23:59"}, "to='9999-12-31T23-23:59' lies"),
        ({"from": "2026-01-31", "to": "2026-01-31"}, "from= must lie before to="),
        ({"from": "2026-01-31", "to": "2026-01-30"}, "from= must lie before to="),
        ({"from": "2025-01-01", "to": "2026-01-31"}, "from= and to= are more than 92 days apart"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_reported_with_its_valid_values(
    params: dict[str, str], expected: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_view(params, BREAKDOWNS, "24h", LATER)
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
        view = parse_view(params, BREAKDOWNS, "24h", LATER)
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
    grid = View(None, int(NOW) + 3600, int(NOW) + 7200).grid(NOW, 15)
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
