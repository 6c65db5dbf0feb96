"""Bodies become exact frames, or an error of kind decode; never half a response."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.prometheus import wire
from queuescope.timeseries import Grid, Labels, labels_of, sampled

GRID = Grid(1000, 1040, 10)
A: Labels = (("queue", "a"),)


def matrix(*series: tuple[dict[str, str], list[list[Any]]], **more: Any) -> bytes:
    result = [{"metric": metric, "values": values} for metric, values in series]
    data = {"resultType": "matrix", "result": result}
    return json.dumps({"status": "success", "data": data, **more}).encode()


def refused(body: bytes) -> str:
    """The detail of the error that the body must cause."""
    with pytest.raises(SourceError) as caught:
        wire.parse_matrix(body, GRID)
    assert SourceErrorKind.DECODE is caught.value.kind
    assert str(caught.value) == "Prometheus sent an answer that cannot be read"
    return caught.value.detail


def test_series_stand_in_label_order_and_missing_points_are_gaps() -> None:
    body = matrix(
        ({"queue": "b"}, [[1000, "1"], [1040, "-2.5e3"]]),
        ({"queue": "a"}, [[t, str(t)] for t in range(1000, 1041, 10)]),
    )
    frame = wire.parse_matrix(body, GRID).frame
    assert frame.series == (A, (("queue", "b"),))
    np.testing.assert_array_equal(
        [[1000, 1010, 1020, 1030, 1040], [1, np.nan, np.nan, np.nan, -2500]], frame.values
    )


@pytest.mark.parametrize("text", ["NaN", "+Inf", "-Inf"])
def test_what_is_not_a_finite_number_is_a_gap_where_a_sample_exists(text: str) -> None:
    values = wire.parse_matrix(matrix(({}, [[1000, "0"], [1010, text]])), GRID).frame.values
    np.testing.assert_array_equal([[0, np.nan, np.nan, np.nan, np.nan]], values)
    assert sampled(values).tolist() == [[True, True, False, False, False]]


def test_no_series_is_an_empty_frame() -> None:
    frame = wire.parse_matrix(matrix(), GRID).frame
    assert (frame.series, frame.values.shape) == ((), (0, 5))


def test_warnings_infos_and_a_partial_mark_come_with_the_answer() -> None:
    body = matrix(warnings=["store down"], infos=["no counter"], isPartial=True)
    answer = wire.parse_matrix(body, GRID)
    assert (
        answer.warnings,
        answer.infos,
    ) == (("store down", wire.PARTIAL_RESPONSE), ("no counter",))


def test_fields_that_other_servers_add_are_passed_over() -> None:
    body = matrix(({}, [[1000, "1"]]), stats={"seriesFetched": "1"}, trace=None)
    assert wire.parse_matrix(body, GRID).frame.values[0, :1].tolist() == [1.0]


def test_unsorted_points_are_sorted_and_equal_ones_collapse() -> None:
    points = [[1040, "4"], [1000, "0"], [1020, "NaN"], [1000, "0"], [1020, "NaN"]]
    frame = wire.parse_matrix(matrix(({}, points)), GRID).frame
    np.testing.assert_array_equal([[0, np.nan, np.nan, np.nan, 4]], frame.values)


def test_two_values_at_one_time_are_refused() -> None:
    assert "two values" in refused(matrix(({}, [[1000, "0"], [1010, "1"], [1000, "2"]])))
    assert "two values" in refused(matrix(({}, [[1000, "0"], [1000, "NaN"]])))


@pytest.mark.parametrize("at", [1005, 990, 1050, 1000.001, 1e300, -1e300])
def test_a_point_off_the_grid_is_refused(at: float) -> None:
    assert "requested steps" in refused(matrix(({}, [[at, "1"]])))


def test_two_series_of_the_same_labels_are_refused() -> None:
    same = ({"a": "1", "b": "2"}, [[1000, "1"]])
    assert "same labels" in refused(matrix(same, ({"b": "2", "a": "1"}, [[1010, "1"]])))


WHOLE = matrix(({"queue": "a"}, [[1000, "1"], [1010, "2"]]))


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_every_cut_of_a_body_is_refused(length: int) -> None:
    refused(WHOLE[:length])


@pytest.mark.parametrize(
    "point",
    [
        "[1000, NaN]",
        "[1000, 1]",
        "[1000, null]",
        "[NaN, '1']",
        '[1e999, "1"]',
        '["1000", "1"]',
        '[1000, "1", "2"]',
        "[1000]",
        "1000",
        '[1000, ""]',
        '[1000, "one"]',
        '[1000, "1_000"]',
        '[1000, " 1"]',
        '[1000, "١"]',
        '[1000, "0x1p-2"]',
        '[1000, "1,2"]',
        '[1000, "null"]',
        '[1000, "true"]',
        '[1000, "[1]"]',
    ],
)
def test_a_point_that_is_not_a_time_and_a_number_in_quotes_is_refused(point: str) -> None:
    body = WHOLE.decode().replace('[1000, "1"]', point).encode()
    assert body != WHOLE
    refused(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"success"',
        b'{"status":"success"}',
        b'{"status":"success","data":null}',
        b'{"status":"success","data":{}}',
        b'{"status":"success","data":{"resultType":"matrix"}}',
        b'{"status":"success","data":{"resultType":"vector","result":[]}}',
        b'{"status":"success","data":{"resultType":"matrix","result":null}}',
        b'{"status":"error","data":{"resultType":"matrix","result":[]}}',
        b'{"status":"maybe","data":{"resultType":"matrix","result":[]}}',
        b'{"status":"success","error":"x","data":{"resultType":"matrix","result":[]}}',
        b'{"status":"success","errorType":"x","data":{"resultType":"matrix","result":[]}}',
        b'{"data":{"resultType":"matrix","result":[]}}',
        WHOLE + b"{}",
        WHOLE.replace(b'"a"', b"7"),
        WHOLE.replace(b'"a"', b'"\xff"'),
        WHOLE.replace(b'"a"', b'"\\ud800"'),
        WHOLE.replace(b'{"queue": "a"}', b"[]"),
        WHOLE.replace(b'"values"', b'"val\xf5es"'),
        WHOLE.replace(b'"values"', b'"valyes"'),
        WHOLE.replace(b'"status"', b'"other": "\xff", "status"'),
        b"[" * 100_000,
        b'{"status":' + b"[" * 100_000,
        b'{"deep":' + b'{"a":' * 100_000,
        WHOLE.replace(b'"a"', b"[" * 100_000),
    ],
)
def test_a_body_that_contradicts_itself_or_the_api_is_refused(body: bytes) -> None:
    refused(body)


@pytest.mark.parametrize(
    ("part", "doubled"),
    [
        (b'"status": "success"', b'"status": "error", "status": "success"'),
        (b'"resultType": "matrix"', b'"resultType": "vector", "resultType": "matrix"'),
        (b'"result": [', b'"result": [], "result": ['),
        (b'"values": [', b'"values": [], "values": ['),
        (b'"values": [', b'"v\\u0061lues": [], "values": ['),
        (b'"metric": {', b'"metric": {}, "metric": {'),
        (b'"queue": "a"', b'"queue": "b", "queue": "a"'),
        (b'"status"', b'"warnings": ["half"], "warnings": [], "status"'),
        (b'"status"', b'"isPartial": true, "isPartial": false, "status"'),
        (b'"status"', b'"error": "half", "error": "", "status"'),
        (b'"values"', b'"histograms": [[1000, {}]], "histograms": null, "values"'),
    ],
)
def test_a_key_that_stands_twice_is_refused(part: bytes, doubled: bytes) -> None:
    body = WHOLE.replace(part, doubled, 1)
    assert body != WHOLE
    refused(body)


def test_a_key_that_stands_twice_is_refused_in_a_scalar_and_in_any_other_data() -> None:
    scalar = b'{"status":"success","data":{"resultType":"scalar","result":[1000,"1"]}}'
    listed = b'{"status":"success","data":["data"]}'
    assert wire.parse_vector(scalar).samples[0].value == 1
    assert wire.parse_data(listed, list[str]) == ["data"]
    for body, read in (
        (scalar, wire.parse_vector),
        (listed, lambda body: wire.parse_data(body, list[str])),
    ):
        with pytest.raises(SourceError, match="cannot be read"):
            read(body.replace(b'"data":', b'"data":null,"data":', 1))


def test_labels_that_are_called_like_keys_are_no_repetition() -> None:
    labels = {"values": "metric", "data": "result", "x": "<&>", "status": "values"}
    frame = wire.parse_matrix(matrix((labels, [[1000, "1"]])), GRID).frame
    assert (labels_of(labels),) == frame.series


def test_native_histograms_are_refused_rather_than_left_out() -> None:
    body = WHOLE.replace(b'"values"', b'"histograms": [[1000, {}]], "values"')
    assert "native histograms" in refused(body)


LABELS = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
NUMBERS = st.floats(width=64)


def go_text(value: float) -> str:
    return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}.get(repr(value), repr(value))


@given(
    st.lists(
        st.tuples(LABELS, st.dictionaries(st.integers(0, 4), NUMBERS, min_size=1)),
        unique_by=lambda series: labels_of(series[0]),
        max_size=5,
    ),
    st.booleans(),
)
def test_any_matrix_is_read_as_it_was_written(
    series: list[tuple[dict[str, str], dict[int, float]]], as_ascii: bool
) -> None:
    result = [
        {"metric": metric, "values": [[1000 + 10 * i, go_text(v)] for i, v in points.items()]}
        for metric, points in series
    ]
    body = json.dumps(
        {"status": "success", "data": {"resultType": "matrix", "result": result}},
        ensure_ascii=as_ascii,
    )
    frame = wire.parse_matrix(body.encode(), GRID).frame
    expected = {labels_of(metric): points for metric, points in series}
    assert tuple(sorted(expected)) == frame.series
    for labels, row in zip(frame.series, frame.values, strict=True):
        points = expected[labels]
        wanted = [points.get(i, np.nan) for i in range(5)]
        np.testing.assert_array_equal(np.where(np.isfinite(wanted), wanted, np.nan), row)
        assert [i in points for i in range(5)] == sampled(row).tolist()


ONE_SERIES = '{"metric":{},"value":[1,"1"]}'


def test_a_vector_and_a_scalar_are_read() -> None:
    vector = {
        "resultType": "vector",
        "result": [
            {"metric": {"q": "b"}, "value": [5.5, "NaN"]},
            {"metric": {"q": "a"}, "value": [5.5, "+Inf"]},
        ],
    }
    answer = wire.parse_vector(json.dumps({"status": "success", "data": vector}).encode())
    assert (
        answer.kind,
        [sample.labels for sample in answer.samples],
    ) == ("vector", [(("q", "a"),), (("q", "b"),)])
    assert np.inf == answer.samples[0].value
    assert np.isnan(answer.samples[1].value)

    scalar = b'{"status":"success","data":{"resultType":"scalar","result":[7,"8"]}}'
    answer = wire.parse_vector(scalar)
    assert (
        answer.kind,
        (answer.samples[0].labels, answer.samples[0].timestamp, answer.samples[0].value),
    ) == ("scalar", ((), 7.0, 8.0))


@pytest.mark.parametrize(
    "data",
    [
        '{"resultType":"string","result":[1,"x"]}',
        '{"resultType":"scalar","result":[1,2]}',
        '{"resultType":"scalar","result":[]}',
        '{"resultType":"vector","result":{}}',
        '{"resultType":"vector","result":[{"metric":{}}]}',
        '{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}',
        '{"resultType":"vector","result":[{"metric":{},"histogram":[1,{}]}]}',
        '{"resultType":"vector","result":[{"metric":{},"value":[1,"1"],"value":[1,"2"]}]}',
        f'{{"resultType":"vector","result":[{ONE_SERIES},{ONE_SERIES}]}}',
    ],
)
def test_an_instant_answer_of_another_shape_is_refused(data: str) -> None:
    with pytest.raises(SourceError) as caught:
        wire.parse_vector(f'{{"status":"success","data":{data}}}'.encode())
    assert SourceErrorKind.DECODE is caught.value.kind


def test_only_an_error_of_the_api_is_taken_for_one() -> None:
    error = b'{"status":"error","errorType":"bad_data","error":"no","data":null}'
    assert wire.parse_error(error) == ("bad_data", "no")
    for other in (b"", b"<html>", b"{}", b'{"status":"success"}', b'{"status":"error"}', b"\xff"):
        assert wire.parse_error(other) is None
