"""Long ranges are fetched in parts, and large responses rejected before they fill the memory."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Callable
from urllib.parse import parse_qs

import pytest
from tests.fault_server import FaultServer, Respond, http_response

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.prometheus import PrometheusClient
from queuescope.timeseries import Grid

pytestmark = pytest.mark.anyio

STEP = 15
TOO_MANY = (
    'error when executing query="x": too many points for the given step=15000, start=1 and end=2: '
    "40583; cannot exceed -search.maxPointsPerTimeseries=30000"
)


def _steps(request: bytes) -> range:
    form = parse_qs(request.partition(b"\r\n\r\n")[2].decode())
    start, end, step = (int(form[name][0]) for name in ("start", "end", "step"))
    return range(start, end + 1, step)


def _matrix(steps: range, series: int = 1, points: int | None = None, prefix: str = "") -> bytes:
    result = [
        {"metric": {"n": f"{prefix}{i}"}, "values": [[t, str(t)] for t in steps[:points]]}
        for i in range(series)
    ]
    data = {"resultType": "matrix", "result": result}
    return http_response(json.dumps({"status": "success", "data": data}).encode())


def _refusal(error: str, status: str = "422 Unprocessable Entity") -> bytes:
    body = {"status": "error", "errorType": "422", "error": error}
    return http_response(json.dumps(body).encode(), status=status)


def _limited(limit: int, error: str, asked: list[int]) -> Respond:
    async def respond(request: bytes, writer: asyncio.StreamWriter) -> None:
        steps = _steps(request)
        asked.append(len(steps))
        writer.write(_matrix(steps) if len(steps) <= limit else _refusal(error))

    return respond


@pytest.mark.parametrize("error", [TOO_MANY, "exceeded maximum resolution of 1 points"])
@pytest.mark.parametrize(("steps", "limit"), [(1, 1), (2, 1), (100, 99), (1000, 60), (997, 10)])
async def test_a_range_that_is_refused_for_its_points_is_asked_for_in_halves(
    steps: int, limit: int, error: str
) -> None:
    asked: list[int] = []
    grid = Grid(0, (steps - 1) * STEP, STEP)
    async with (
        FaultServer(_limited(limit, error, asked)) as server,
        PrometheusClient(server.url, timeout_seconds=60) as client,
    ):
        frame = (await client.query_range("x", grid)).frame
    assert frame.values.tolist() == [grid.timestamps().tolist()]
    assert sum(n for n in asked if n <= limit) == steps, "each step is answered once"


async def test_what_even_one_step_is_too_much_for_is_told() -> None:
    asked: list[int] = []
    async with (
        FaultServer(_limited(0, TOO_MANY, asked)) as server,
        PrometheusClient(server.url) as client,
    ):
        with pytest.raises(SourceError) as caught:
            await client.query_range("x", Grid(0, 7 * STEP, STEP))
    assert asked == [8, 4, 2, 1]
    assert caught.value.detail.endswith("cannot exceed -search.maxPointsPerTimeseries=30000")


async def test_another_refusal_is_not_asked_about_twice() -> None:
    asked: list[int] = []
    async with (
        FaultServer(_limited(0, "unknown function", asked)) as server,
        PrometheusClient(server.url) as client,
    ):
        with pytest.raises(SourceError):
            await client.query_range("x", Grid(0, 7 * STEP, STEP))
    assert asked == [8]


def _always(make: Callable[[range], bytes]) -> Respond:
    async def respond(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(make(_steps(request)))

    return respond


async def test_many_series_of_one_point_do_not_fill_the_memory() -> None:
    """50,000 series of one point are 3 MB on the wire, and would be 4.4 GB as a frame."""
    answer = _matrix(range(0, 1, STEP), series=50_000)
    async with (
        FaultServer(answer) as server,
        PrometheusClient(server.url, timeout_seconds=30) as client,
    ):
        tracemalloc.start()
        try:
            with pytest.raises(SourceError, match="more data than this page accepts") as caught:
                await client.query_range("x", Grid(0, 10_999 * STEP, STEP))
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert SourceErrorKind.TOO_LARGE is caught.value.kind
    assert "50000 series on 11000 steps" in caught.value.detail
    assert peak_bytes < 30_000_000


async def test_the_limit_counts_the_whole_range_and_all_series_of_its_parts() -> None:
    grid = Grid(0, 21_999 * STEP, STEP)

    def other_series_in_each_part(steps: range) -> bytes:
        return _matrix(steps, series=2, points=1, prefix=f"{steps[0]}-")

    async with FaultServer(_always(other_series_in_each_part)) as server:
        for max_points, fits in ((4 * 22_000, True), (4 * 22_000 - 1, False)):
            async with PrometheusClient(server.url, max_points=max_points) as client:
                if fits:
                    assert len((await client.query_range("x", grid)).frame.series) == 4
                    continue
                with pytest.raises(SourceError) as caught:
                    await client.query_range("x", grid)
                assert SourceErrorKind.TOO_LARGE is caught.value.kind
