"""A part of the long proof of the decoder, and that the proof would notice a wrong decoder.

The full result is in ``benchmarks/results/decoder-fuzz.md``.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.prometheus import recorded_bodies
from tests.prometheus.decoder_fuzz import (
    READERS,
    SEED,
    DecoderError,
    Tally,
    check,
    fuzz,
    refuse_every_prefix,
)

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.prometheus import wire
from queuescope.timeseries import Frame

BODIES = recorded_bodies.ranges() | recorded_bodies.instants()


@pytest.mark.parametrize("name", BODIES)
def test_what_real_servers_said_is_read_as_a_plain_reader_reads_it(name: str) -> None:
    tally = Tally()
    check(BODIES[name], tally)
    is_read = any(became.startswith("range answer read") for became in tally.became)
    assert is_read == (name in recorded_bodies.ranges() and ".wrong." not in name)


def test_damaged_answers_are_read_as_a_plain_reader_reads_them_or_refused() -> None:
    tally = fuzz(SEED, range(3_000))
    for way in (*READERS, "the general way"):
        assert tally.became[f"range answer read by {way}"] > 100


def test_every_proper_prefix_of_a_real_answer_is_refused() -> None:
    assert refuse_every_prefix() > 20_000


@pytest.mark.parametrize(
    "labels",
    [
        b'{"a":null,"a":"2"}',
        b'{"a" :null,"a":"2"}',
        b'{"a":{"b":"c"},"a":"2"}',
        b'{"b":null,"b":"\\\\","a":"\\\\"}',
        b'{"a":"1","\\u0061":"2"}',
    ],
)
def test_a_label_that_stands_twice_is_refused_whatever_it_is(labels: bytes) -> None:
    body = BODIES["prometheus-2.one.json"]
    damaged = body.replace(b'"metric":{}', b'"metric":' + labels)
    assert damaged != body
    tally = Tally()
    check(damaged, tally)
    assert not any(became.startswith("range answer read") for became in tally.became)


@given(
    st.sampled_from(sorted(BODIES)),
    st.lists(
        st.tuples(st.integers(0, 2_000), st.integers(0, 4), st.binary(max_size=4)), max_size=3
    ),
)
def test_bodies_with_any_bytes_in_them_are_read_as_a_plain_reader_reads_them_or_refused(
    name: str, edits: list[tuple[int, int, bytes]]
) -> None:
    body = BODIES[name]
    for at, removed, new in edits:
        body = body[:at] + new + body[at + removed :]
    check(body, Tally())


def _first_row_shifted(right: Callable[..., Frame | None]) -> Any:
    def read(*arguments: Any, **more: Any) -> Frame | None:
        frame = right(*arguments, **more)
        if frame is not None:
            frame.values[0, :-1] = frame.values[0, 1:]
        return frame

    return read


def _last_series_lost(right: Callable[..., Frame | None]) -> Any:
    def read(*arguments: Any, **more: Any) -> Frame | None:
        frame = right(*arguments, **more)
        return frame and Frame(frame.grid, frame.series[:-1], frame.values[:-1])

    return read


def _garbage_as_another_kind(right: Any) -> Any:
    def undecodable(*arguments: str) -> SourceError:
        return SourceError(SourceErrorKind.SERVER_ERROR, "It failed")

    return undecodable


def _bare_library_errors(right: Any) -> Any:
    def decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
        return decoder.decode(body)

    return decode


@pytest.mark.parametrize(
    ("attribute", "fault"),
    [
        ("read_matrix", _first_row_shifted),
        ("read_matrix", _last_series_lost),
        ("_undecodable", _garbage_as_another_kind),
        ("_decode", _bare_library_errors),
        ("_refuse_repeated_keys", lambda _: lambda *_, **__: None),
    ],
)
def test_a_wrong_decoder_is_noticed(
    attribute: str, fault: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, attribute, fault(getattr(wire, attribute)))
    guards: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda s, **_: guards.append(s))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", guards.clear)
    with pytest.raises(DecoderError):
        fuzz(SEED, range(20_000))
    assert guards == [], "the guard against hanging would end the tests that follow"
