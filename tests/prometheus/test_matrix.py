"""The quick way gives what the general decoder gives, or nothing at all."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from queuescope.errors import SourceError
from queuescope.prometheus.matrix import read_matrix
from queuescope.prometheus.wire import parse_any_matrix
from queuescope.timeseries import Frame, Grid

GRID = Grid(1_700_000_000 // 60 * 60, 1_700_000_000 // 60 * 60 + 600, 60)
TIMES = [int(t) for t in GRID.timestamps()]

numbers = st.one_of(
    st.sampled_from(["0", "-0", "NaN", "+Inf", "-Inf", "1e-300", "42", "12345678901234567890"]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)
labels = st.dictionaries(st.sampled_from(["queue", "tenant", "instance"]), st.text(max_size=8))
series = st.lists(
    st.tuples(labels, st.lists(st.tuples(st.sampled_from(TIMES), numbers), min_size=1)),
    min_size=1,
    max_size=3,
    unique_by=lambda one: tuple(sorted(one[0].items())),
)


def written(found: list[tuple[dict[str, str], list[tuple[int, str]]]]) -> bytes:
    result: list[dict[str, Any]] = [
        {"metric": names, "values": sorted(dict(points).items())} for names, points in found
    ]
    body = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def assert_equal_to_the_general_decoder(frame: Frame, body: bytes) -> None:
    expected = parse_any_matrix(body, GRID).frame
    assert expected.series == frame.series
    # Bit by bit, because a gap and an undefined sample are both NaN; but "-0" is 0.
    wanted, found = ((values + 0.0).view(np.int64) for values in (expected.values, frame.values))
    assert np.array_equal(wanted, found)


@given(series)
def test_a_body_that_is_read_quickly_gives_the_same_frame(
    found: list[tuple[dict[str, str], list[tuple[int, str]]]],
) -> None:
    body = written(found)
    frame = read_matrix(body, GRID)
    if frame is not None:
        assert_equal_to_the_general_decoder(frame, body)


def test_what_prometheus_usually_writes_is_read_quickly() -> None:
    full = [(t, f"{t % 7}.5") for t in TIMES]
    with_gap = [(t, "NaN" if t % 120 else "3") for t in TIMES if t != TIMES[4]]
    body = written(
        [({"queue": "a"}, full), ({"queue": "b", "tenant": 'x","values":[["y'}, with_gap)]
    )
    frame = read_matrix(body, GRID)
    assert frame is not None
    assert_equal_to_the_general_decoder(frame, body)


@settings(max_examples=300)
@given(series, st.data())
def test_a_damaged_body_is_never_read_as_something_else(
    found: list[tuple[dict[str, str], list[tuple[int, str]]]], data: st.DataObject
) -> None:
    body = bytearray(written(found))
    at = data.draw(st.integers(0, len(body) - 1))
    length = data.draw(st.integers(0, 4))
    body[at : at + length] = data.draw(
        st.one_of(
            st.binary(max_size=3), st.sampled_from([b'"', b",", b"]", b"[", b"],[", b"1", b"N"])
        )
    )
    frame = read_matrix(bytes(body), GRID)
    if frame is not None:
        assert_equal_to_the_general_decoder(frame, bytes(body))


def test_every_proper_prefix_is_refused_by_both() -> None:
    body = written([({"queue": "a"}, [(t, "1.5") for t in TIMES])])
    assert read_matrix(body, GRID) is not None
    for length in range(len(body)):
        assert read_matrix(body[:length], GRID) is None
        with pytest.raises(SourceError):
            parse_any_matrix(body[:length], GRID)


POINT = f'[{TIMES[0]},"1"]'


@pytest.mark.parametrize(
    "values",
    [
        f'[[{TIMES[0]},"1"5]]',
        f'[[{TIMES[0]}"1,"]]',
        f'[[{TIMES[0]},"1"][{TIMES[1]},"2"]]',
        f'[[{TIMES[0]},"-1.7976931348623157e+308"],[{TIMES[1]},"NaN"]]',
        f'[[{TIMES[0]},"null"]]',
        f'[[{TIMES[0]},"1,2"]]',
        f'[[{TIMES[0]},""]]',
        f"[{POINT},{POINT}]",
        f'[[{TIMES[1]},"1"],{POINT}]',
        f'[[{TIMES[0] + 1},"1"]]',
        f'[[{TIMES[0] - 60},"1"]]',
        f'[[0{TIMES[0]},"1"]]',
        f'[[{TIMES[0]}.5,"1"]]',
    ],
)
def test_an_unusual_body_is_left_to_the_general_decoder(values: str) -> None:
    head = '{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":'
    assert read_matrix(f"{head}{values}}}]}}}}".encode(), GRID) is None


@example('{"a":"1","a":"2"}')
@example('{"a":1}')
@example('["a"]')
@given(st.sampled_from(['{"a":"\\ud800"}', "{", '{"a":"1",}']))
def test_labels_that_are_no_plain_text_are_left_to_the_general_decoder(metric: str) -> None:
    body = (
        '{"status":"success","data":{"resultType":"matrix","result":[{"metric":'
        f'{metric},"values":[{POINT}]}}]}}}}'
    )
    assert read_matrix(body.encode(), GRID) is None
