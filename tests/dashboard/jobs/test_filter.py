"""The filter as it is written in an address."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuescope.dashboard.jobs.filter import (
    NAMES,
    page_text,
    parse_filter,
    parse_page,
    query_of,
)
from queuescope.errors import ConfigurationError
from queuescope.jobs.job import JobStatus
from queuescope.jobs.search import JobFilter, Place

NOW = 1_790_000_007.0


def test_nothing_named_is_everything() -> None:
    assert parse_filter({}, NOW) == JobFilter()
    assert parse_filter(dict.fromkeys(NAMES, ""), NOW) == JobFilter()
    assert query_of({"tenant": ""}) == ""


def test_each_parameter_narrows_what_it_names() -> None:
    params = {
        "find": " too late ",
        "status": "failed",
        "tenant": "acme",
        "type": "enhance",
        "queue": "default",
        "worker": "w1",
        "from": "2026-11-24T07:00:00Z",
        "to": "2026-11-24T09:00:00+01:00",
        "group": "others are let be",
    }
    assert parse_filter(params, NOW) == JobFilter(
        status=JobStatus.FAILED,
        tenant="acme",
        name="enhance",
        queue="default",
        worker="w1",
        since=1_795_503_600.0,
        until=1_795_507_200.0,
        text="too late",
    )
    assert [name for name, _ in parse_qsl(query_of(params))] == [
        name for name in NAMES if name in params
    ]


def test_a_name_is_looked_for_to_the_letter() -> None:
    for text in ("acme\n", " acme", "\u2028acme\u200b"):
        assert parse_filter({"tenant": text, "worker": text}, NOW) == JobFilter(
            tenant=text, worker=text
        )
    assert parse_filter({"queue": " ", "type": "\n"}, NOW) == JobFilter()


def test_a_time_reaches_back_from_now_in_steps() -> None:
    assert parse_filter({"time": "1h"}, NOW) == JobFilter(since=1_790_000_000.0 - 3600)
    assert parse_filter({"time": "7d", "from": "nonsense"}, NOW).until is None


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"status": "done"}, "status='done': give one of started, retrying"),
        ({"time": "soon"}, "time='soon': give one of 1h, 24h, 7d, custom"),
        ({"from": "yesterday"}, "from='yesterday': give a moment such as"),
        ({"to": "2026-11-24T07:00:00"}, "to='2026-11-24T07:00:00': give a moment"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "give a moment"),
        ({"tenant": "x" * 256}, "tenant: give at most 255 characters"),
        ({"find": "x" * 201}, "find: give at most 200 characters"),
        ({"status": "<script>" * 99}, "status='<script>"),
    ],
)
def test_an_invalid_filter_is_reported_briefly(params: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match="give") as caught:
        parse_filter(params, NOW)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.text())
def test_no_text_in_an_address_breaks_a_page(text: str) -> None:
    older, newer = parse_page(text)
    assert older is None or newer is None


@given(
    st.sampled_from(["older", "newer"]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=255),
)
def test_a_page_is_read_as_it_was_written(way: str, moment: float, job_id: str) -> None:
    place = Place(moment, job_id)
    expected = (place, None) if way == "older" else (None, place)
    assert parse_page(page_text(way, place)) == expected


@given(st.dictionaries(st.sampled_from(NAMES), st.text(st.characters(codec="utf-8"))))
def test_a_present_query_names_its_panel_and_template(params: dict[str, str]) -> None:
    held = {name: value for name, value in params.items() if value}
    assert dict(parse_qsl(query_of(params), keep_blank_values=True)) == held
