"""The fast decoder returns what the general one returns, or nothing."""

import json
import shutil
import struct
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from queuescope.errors import SourceError
from queuescope.prometheus.compiled_points import compiled_reader
from queuescope.prometheus.matrix import read_matrix
from queuescope.prometheus.points import PointsReader, read_points
from queuescope.prometheus.wire import parse_any_matrix
from queuescope.timeseries import Frame, Grid

GRID = Grid(1_700_000_000 // 60 * 60, 1_700_000_000 // 60 * 60 + 600, 60)
TIMES = [int(t) for t in GRID.timestamps()]

# The compiled code, if installed, and the general code; both must return the same.
_COMPILED = compiled_reader()
READERS: list[PointsReader] = [read_points, *([_COMPILED] if _COMPILED else [])]
each_reader = pytest.mark.parametrize(
    "points", READERS, ids=["libraries", "compiled"][: len(READERS)]
)


numbers = st.one_of(
    st.sampled_from(["0", "-0", "NaN", "+Inf", "-Inf", "1e-300", "42", "12345678901234567890"]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False, min_value=0, max_value=1).map(repr),
    st.integers(-(10**22), 10**22).map(str),
    st.decimals(0, 1000, places=18, allow_nan=False).map(lambda number: f"{number:f}"),
    st.from_regex(r"-?[0-9]{1,30}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
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
    # Bit by bit, because a gap and an undefined sample are both NaN, and for the sign of "-0".
    assert np.array_equal(expected.values.view(np.int64), frame.values.view(np.int64))


@each_reader
@settings(deadline=None)
@given(found=series)
def test_a_body_that_is_read_quickly_gives_the_same_frame(
    points: PointsReader, found: list[tuple[dict[str, str], list[tuple[int, str]]]]
) -> None:
    body = written(found)
    frame = read_matrix(body, GRID, points=points)
    if frame is not None:
        assert_equal_to_the_general_decoder(frame, body)


@each_reader
def test_what_prometheus_usually_writes_is_read_quickly(points: PointsReader) -> None:
    full = [(t, f"{t % 7}.5") for t in TIMES]
    with_gap = [(t, "NaN" if t % 120 else "3") for t in TIMES if t != TIMES[4]]
    at_the_end = [(t, ["+Inf", "-Inf", "-0", "1e-07", "NaN"][t // 60 % 5]) for t in TIMES[3:]]
    body = written(
        [
            ({"queue": "a"}, full),
            ({"queue": "b", "tenant": 'x","values":[["y'}, with_gap),
            ({"queue": 'c\\"],["}]}{', "é\n": "\x7f☃"}, at_the_end),
            ({"queue": "d"}, [(TIMES[-1], "-0")]),
            ({"queue": "e"}, [(TIMES[0], "NaN")]),
        ]
    )
    for whole in (body, body + b"\n"):
        frame = read_matrix(whole, GRID, points=points)
        assert frame is not None
        assert_equal_to_the_general_decoder(frame, whole)


@each_reader
def test_every_value_is_the_double_nearest_to_its_text(points: PointsReader) -> None:
    """Texts that fast methods get wrong: midpoints between two doubles, and next to them."""
    texts = [*_halves_and_neighbours(), *_TEXTS_AT_LIMITS]
    grid = Grid(TIMES[0], TIMES[0] + (len(texts) - 1) * 60, 60)
    body = written([({}, list(zip(map(int, grid.timestamps()), texts, strict=True)))])
    frame = read_matrix(body, grid, points=points)
    assert frame is not None
    expected = np.array([float(text) for text in texts])
    assert np.array_equal(expected.view(np.int64), frame.values[0].view(np.int64))


_TEXTS_AT_LIMITS = [
    *("9007199254740991", "9007199254740992", "9007199254740993", "9007199254740995", "1e22"),
    *("1e23", "9007199254740993e22", "9007199254740991e-22", "9007199254740993e-22", "5e-324"),
    *("2.2250738585072011e-308", "2.2250738585072014e-308", "1.7976931348623157e308", "0e400"),
    *("9999999999999999999", "18446744073709551615", "0.9999999999999999999", "-0.0", "-0"),
    *("0.000000000000000000000000000123456789", "1e-27", "9999999999999999999e-27", "1e-28"),
    *("0.1000000000000000055511151231257827", "0.3333333333333333", "0.0033333333333333335"),
    # Whole parts that are 0 in arithmetic of 64 bits.
    *("1" + "0" * 109 + ".06401731", "18446744073709551616.5", "36893488147419103232.0e-5"),
    *("123456789012345678e-27", "7205759403792794e-16", "7205759403792793.5e-16", "1E+05"),
]


def _halves_and_neighbours() -> list[str]:
    random = np.random.default_rng(5)
    texts = []
    for _ in range(2_000):
        exponent = int(random.integers(-12, 12))
        half = 2 * int(random.integers(2**52, 2**53)) + 1  # of 54 bits: between two doubles
        exact = half * 5**-exponent if exponent < 0 else half * 2**exponent
        for digits in (exact - 1, exact, exact + 1):
            text = str(digits)
            # With an exponent below zero, `exact` counts units of 10**exponent.
            texts.append(f"{text}.0" if exponent >= 0 else f"{text[:exponent]}.{text[exponent:]}")
    for bits in random.integers(0, 2**63, 2_000):
        value = struct.unpack("<d", int(bits).to_bytes(8, "little"))[0]
        if np.isfinite(value):
            texts += [repr(value), f"{value:.18e}"]
    for digits, places in random.integers((10**14, 0), (2**63 - 1, 28), (4_000, 2)).tolist():
        texts += [f"{digits}e-{places}", f"-{digits // 1000}e{places}"]
    return texts


@each_reader
@given(found=series, data=st.data())
def test_a_damaged_body_is_never_read_as_something_else(
    points: PointsReader,
    found: list[tuple[dict[str, str], list[tuple[int, str]]]],
    data: st.DataObject,
) -> None:
    body = bytearray(written(found))
    at = data.draw(st.integers(0, len(body) - 1))
    length = data.draw(st.integers(0, 4))
    body[at : at + length] = data.draw(
        st.one_of(
            st.binary(max_size=3),
            st.sampled_from([b'"', b",", b"]", b"[", b"],[", b"1", b"N", b"+Inf", b" ", b"\0"]),
        )
    )
    frame = read_matrix(bytes(body), GRID, points=points)
    if frame is not None:
        assert_equal_to_the_general_decoder(frame, bytes(body))


@each_reader
def test_every_proper_prefix_is_refused_by_both(points: PointsReader) -> None:
    body = written([({"queue": "a"}, [(t, "1.5") for t in TIMES])])
    assert read_matrix(body, GRID, points=points) is not None
    for length in range(len(body)):
        assert read_matrix(body[:length], GRID, points=points) is None
        with pytest.raises(SourceError):
            parse_any_matrix(body[:length], GRID)


POINT = f'[{TIMES[0]},"1"]'


@each_reader
@pytest.mark.parametrize(
    "values",
    [
        f'[[{TIMES[0]},"1"5]]',
        f'[[{TIMES[0]}"1,"]]',
        f'[[{TIMES[0]},"1"][{TIMES[1]},"2"]]',
        f'[[{TIMES[0]},"null"]]',
        f'[[{TIMES[0]},"nan"]]',
        f'[[{TIMES[0]},"NaN1"]]',
        f'[[{TIMES[0]},"1NaN"]]',
        f'[[{TIMES[0]},"Inf"]]',
        f'[[{TIMES[0]},"+Inf5"]]',
        f'[[{TIMES[0]},"-NaN"]]',
        f'[[{TIMES[0]},"+1"]]',
        f'[[{TIMES[0]},"1."]]',
        f'[[{TIMES[0]},".5"]]',
        f'[[{TIMES[0]},"1e"]]',
        f'[[{TIMES[0]},"-"]]',
        f'[[{TIMES[0]},"1 "]]',
        f'[[{TIMES[0]}," 1"]]',
        f'[[{TIMES[0]},"1\t"]]',
        f'[[{TIMES[0]},"1\0"]]',
        f'[[{TIMES[0]},"[1]"]]',
        f'[[{TIMES[0]},"1,2"]]',
        f'[[{TIMES[0]},"1,2"],[{TIMES[1]},""]]',
        f'[[{TIMES[0]},"0x1p-2"]]',
        f'[[{TIMES[0]},"1_0"]]',
        f'[[{TIMES[0]},"\\u0031"]]',
        f'[[{TIMES[0]},""]]',
        f"[{POINT},{POINT}]",
        f"[{POINT} ]",
        f"[ {POINT}]",
        f"[{POINT},]",
        f"[{POINT}]]",
        "[[]]",
        "[]",
        "[[",
        "[[1",
        f'[[{TIMES[0]},"',
        f'[[{TIMES[0]},"1"',
        f'[[{TIMES[1]},"1"],{POINT}]',
        f'[[{TIMES[0] + 1},"1"]]',
        f'[[{TIMES[0] - 60},"1"]]',
        f'[[{TIMES[-1] + 60},"1"]]',
        f'[{POINT},[{TIMES[-1] + 60},"1"]]',
        f'[[0{TIMES[0]},"1"]]',
        f'[[0{TIMES[0] % 10**9},"1"]]',
        f'[[-{TIMES[0] % 10**9},"1"]]',
        f'[[{TIMES[0]}.5,"1"]]',
        f"[[{TIMES[0]},1]]",
    ],
)
def test_an_unusual_body_is_left_to_the_general_decoder(points: PointsReader, values: str) -> None:
    head = '{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":'
    assert read_matrix(f"{head}{values}}}]}}}}".encode(), GRID, points=points) is None


@each_reader
@example(metric='{"a":"1","a":"2"}')
@example(metric='{"a":1}')
@example(metric='["a"]')
@given(metric=st.sampled_from(['{"a":"\\ud800"}', "{", '{"a":"1",}', "{} {}", '{"a":"\x01"}']))
def test_labels_that_are_no_plain_text_are_left_to_the_general_decoder(
    points: PointsReader, metric: str
) -> None:
    body = (
        '{"status":"success","data":{"resultType":"matrix","result":[{"metric":'
        f'{metric},"values":[{POINT}]}}]}}}}'
    )
    assert read_matrix(body.encode(), GRID, points=points) is None


@each_reader
def test_bytes_that_are_no_text_are_left_to_the_general_decoder(points: PointsReader) -> None:
    body = written([({"queue": "a"}, [(TIMES[0], "1")])])
    assert read_matrix(body, GRID, points=points) is not None
    for at in range(len(body)):
        damaged = body[:at] + b"\xff" + body[at + 1 :]
        assert read_matrix(damaged, GRID, points=points) is None


def test_the_compiled_reader_is_there_where_a_compiler_is() -> None:
    assert _COMPILED is not None or shutil.which("cc") is None


def test_a_library_that_is_missing_or_something_else_is_done_without(tmp_path: Path) -> None:
    assert compiled_reader(tmp_path / "libpoints.so") is None
    (tmp_path / "libpoints.so").write_bytes(b"no library")
    assert compiled_reader(tmp_path / "libpoints.so") is None
    another = import_module("orjson.orjson").__file__
    assert another is not None
    assert compiled_reader(Path(another)) is None
