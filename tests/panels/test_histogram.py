"""The quantiles computed here against those of a real Prometheus."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.real_prometheus import RealPrometheus, Samples

from queuescope.panels import bucket_quantiles
from queuescope.panels.histogram import layout_breaks
from queuescope.prometheus import PrometheusClient
from queuescope.timeseries import Floats, Frame, Grid

QUANTILES = (0.01, 0.5, 0.9, 0.95, 0.99, 0.999)
GRID = Grid(1_700_000_400, 1_700_000_400 + 39 * 600, 600)  # wider than Prometheus looks back
SEED = 20_240_229

LADDERS: dict[str, list[float]] = {
    "usual": [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600],
    "one finite bucket": [1.5],
    "zero first": [0, 1, 2, 4],
    "negative first": [-2, 0, 3],
    "only negative": [-3, -1],
    "fine": [0.001 * 1.7**n for n in range(20)],
}


def _counts(rng: np.random.Generator, buckets: int, kind: str) -> Floats:
    """Cumulative counts per step, shape ``(buckets, len(GRID))``."""
    per_bucket = rng.poisson(rng.uniform(0.1, 20), (buckets, len(GRID))).astype(float)
    if kind == "empty buckets":
        per_bucket[rng.random(per_bucket.shape) < 0.7] = 0
    elif kind == "mostly nothing":
        per_bucket[:, rng.random(len(GRID)) < 0.6] = 0
    elif kind == "all above the top":
        per_bucket[:-1] = 0
    elif kind == "rates":
        per_bucket *= rng.uniform(1e-5, 1e-2)
    counts = np.cumsum(per_bucket, axis=0)
    if kind == "falling":
        counts -= rng.integers(0, 4, counts.shape)
        np.maximum(counts, 0, out=counts)
    elif kind == "missing":
        counts[rng.random(counts.shape) < 0.25] = np.nan
    return counts


KINDS = (
    "plain", "empty buckets", "mostly nothing", "all above the top", "rates", "falling", "missing",
)  # fmt: skip
Histogram = tuple[Floats, Floats]


def _histograms() -> dict[str, Histogram]:
    rng = np.random.default_rng(SEED)
    return {
        f"{ladder}, {kind}": (
            np.array([*bounds, np.inf]),
            _counts(rng, len(bounds) + 1, kind),
        )
        for ladder, bounds in LADDERS.items()
        for kind in KINDS
    }


def _samples(histograms: dict[str, Histogram]) -> Samples:
    times = GRID.timestamps()
    samples = {}
    for name, (bounds, counts) in histograms.items():
        for bound, row in zip(bounds, counts, strict=True):
            there = np.isfinite(row)
            le = "+Inf" if np.isinf(bound) else repr(float(bound))
            samples[f'h_bucket{{case="{name}",le="{le}"}}'] = (times[there], row[there])
    return samples


@pytest.fixture(scope="module")
def histograms() -> dict[str, Histogram]:
    return _histograms()


@pytest.fixture(scope="module")
def answers(
    histograms: dict[str, Histogram], tmp_path_factory: pytest.TempPathFactory
) -> dict[float, dict[str, Floats]]:
    """Quantile and case to what ``histogram_quantile`` gives at each step."""
    directory: Path = tmp_path_factory.mktemp("prometheus")

    async def ask(url: str) -> list[Frame]:
        async with PrometheusClient(url) as client:
            return [
                (await client.query_range(f"histogram_quantile({q}, h_bucket)", GRID)).frame
                for q in QUANTILES
            ]

    with RealPrometheus(directory, series=_samples(histograms)) as prometheus:
        frames = asyncio.run(ask(prometheus.url))
    return {
        quantile: {
            dict(labels)["case"]: frame.values[row] for row, labels in enumerate(frame.series)
        }
        for quantile, frame in zip(QUANTILES, frames, strict=True)
    }


@pytest.mark.parametrize("case", [f"{ladder}, {kind}" for ladder in LADDERS for kind in KINDS])
def test_quantiles_equal_those_of_a_real_prometheus(
    case: str, histograms: dict[str, Histogram], answers: dict[float, dict[str, Floats]]
) -> None:
    bounds, counts = histograms[case]
    expected = np.stack([answers[quantile][case] for quantile in QUANTILES])
    assert np.isfinite(expected).any()
    np.testing.assert_allclose(
        bucket_quantiles(bounds, counts, QUANTILES).values,
        expected,
        rtol=1e-12,
        atol=0,
        equal_nan=True,
    )


def test_a_quantile_above_every_finite_bound_is_the_highest_of_them() -> None:
    found = bucket_quantiles(np.array([1, 2, np.inf]), np.array([[1.0], [1], [10]]), [0.05, 0.95])
    assert found.values.tolist() == [[0.5], [2.0]]
    assert (found.low.tolist(), found.high.tolist()) == ([[0], [2]], [[1], [np.inf]])


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [
        ([], np.empty((0, 2))),
        ([np.inf], np.ones((1, 2))),
        ([1.0, 2.0], np.ones((2, 2))),
        ([1.0, np.inf], np.zeros((2, 2))),
        ([1.0, np.inf], np.full((2, 2), np.nan)),
        ([1.0, np.inf], np.array([[3.0, 4.0], [np.nan, np.nan]])),
        ([1.0, np.inf], np.array([[np.nan, np.nan], [3.0, 4.0]])),
    ],
)
def test_without_observations_or_without_a_whole_histogram_there_is_no_quantile(
    bounds: list[float], counts: Floats
) -> None:
    assert np.isnan(bucket_quantiles(np.array(bounds), counts, [0.5, 0.95]).values).all()


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 10_000), min_size=2, max_size=12).filter(lambda found: found[-1] > 0),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
)
def test_quantiles_lie_within_the_buckets_and_never_fall(
    increments: list[int], a: float, b: float
) -> None:
    bounds = np.array([*range(1, len(increments)), np.inf])
    counts = np.cumsum(increments, dtype=float)[:, None]
    found = bucket_quantiles(bounds, counts, sorted([a, b]))
    low, high = found.values[:, 0]
    assert 0 <= low <= high <= len(increments) - 1
    # The only observation in that bucket is that of the quantile.
    assert ((found.low <= found.values) & (found.values <= found.high)).all()
    for row, quantile in enumerate(sorted([a, b])):
        bucket = int(np.searchsorted(counts[:, 0], quantile * counts[-1, 0]))
        assert found.high[row, 0] == bounds[bucket]
        assert found.low[row, 0] == (bounds[bucket - 1] if bucket else 0)


@pytest.mark.parametrize(
    ("layouts", "window", "expected"),
    [
        ("aaaaaaaa", 2, "........"),
        ("aaabbbbb", 1, "..XX...."),
        ("aaaUbbbb", 1, "...X...."),
        ("aaaUUbbb", 2, "...XX..."),
        ("aUUUUUbb", 2, ".XXXXX.."),
        ("aaafffff", 1, "...X...."),
        ("aaafffff", 2, "...XX..."),
        ("fffaaaaa", 1, "..X....."),
        ("fffaaaaa", 2, ".XX....."),
        ("aaa bbbb", 2, "........"),
        ("  aaa  a", 2, "........"),
    ],
)
def test_a_change_of_the_buckets_breaks_the_curve_where_two_layouts_mix(
    layouts: str, window: int, expected: str
) -> None:
    """a and b have different bounds, U has both, f is a with a finer one, a space is a gap."""
    held = {"a": (0, 2, 4), "b": (1, 3, 4), "U": (0, 1, 2, 3, 4), "f": (0, 1, 2, 4), " ": ()}
    counts = np.full((5, len(layouts)), np.nan)
    for step, layout in enumerate(layouts):
        counts[list(held[layout]), step] = 1.0
    found = layout_breaks(counts, window)
    assert "".join("X" if broken else "." for broken in found) == expected
