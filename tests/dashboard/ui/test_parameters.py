"""Parameters of an address."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from queuescope.dashboard.ui.parameters import moment_text, parse_moment


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_is_read_as_it_was_written(at: datetime) -> None:
    assert parse_moment(moment_text(at)) == at.replace(microsecond=0)


@given(st.text())
def test_no_text_breaks_a_moment(text: str) -> None:
    parse_moment(text)
