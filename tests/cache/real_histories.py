"""Random histories on real servers: ``python -m tests.cache.real_histories --help``.

Each history has its own metrics in two servers, Prometheus 2 and 3 alternately, to which samples
are written in time, late and never; the cache is compared with the servers' own range queries.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

from tests.cache.actions import random_actions
from tests.cache.histories import SEED, WrongAnswerError
from tests.cache.history import History, Sample, Server, Tally
from tests.engines import program
from tests.long_proof import Outcome
from tests.real_prometheus import RealPrometheus
from tests.remote_write import RemoteWriter

from queuescope.cache import CachedReader
from queuescope.prometheus import PrometheusClient
from queuescope.timeseries import Answer, Grid, Labels

_BEGAN_BEFORE_SECONDS = 4 * 3600
_QUERIES = {
    "last_over_time({metric}[10s])": 10,
    "{metric}": 300,
    "sum by (queue) (sum_over_time({metric}[40s]))": 40,
    "max(max_over_time({metric}[25s]))": 25,
    "rate({metric}[60s])": 60,
}
"""Each with the time in seconds for which it sees a sample."""


class RealServer:
    """One metric in a real server; ``{metric}`` in a query is replaced by its name."""

    def __init__(self, client: PrometheusClient, writer: RemoteWriter, metric: str) -> None:
        self._client = client
        self._writer = writer
        self._metric = metric
        self._written: set[tuple[Labels, int]] = set()

    async def add(self, samples: Sequence[Sample]) -> None:
        # Existing samples are not changed: Prometheus rejects that.
        new = {(labels, t): v for labels, t, v in samples if (labels, t) not in self._written}
        self._written.update(new)
        if new:
            name = ("__name__", self._metric)
            self._writer.write([((name, *labels), t, v) for (labels, t), v in new.items()])

    async def remove(self, labels: Labels, timestamp: int) -> None:
        raise NotImplementedError("Prometheus does not forget single samples")

    async def query_range(self, query: str, grid: Grid) -> Answer:
        return await self._client.query_range(query.format(metric=self._metric), grid)


@asynccontextmanager
async def two_servers(
    directory: Path,
) -> AsyncIterator[list[tuple[PrometheusClient, RemoteWriter]]]:
    """Prometheus 2 and 3, each with a client and a writer."""
    kinds = ("prometheus-2", "prometheus-3")
    running = [
        RealPrometheus(directory / kind, program=program(kind), takes_samples=True)
        for kind in kinds
    ]
    with running[0] as two, running[1] as three:
        async with PrometheusClient(two.url) as client, PrometheusClient(three.url) as other:
            with (
                closing(RemoteWriter(two.port)) as writer,
                closing(RemoteWriter(three.port)) as other_writer,
            ):
                yield [(client, writer), (other, other_writer)]


async def play(
    seed: int,
    numbers: Iterable[int],
    directory: Path,
    *,
    reader_class: type[CachedReader] = CachedReader,
) -> Tally:
    """Play the histories of these numbers. Raises ``WrongAnswerError`` for the first that fails."""
    tally, begin = Tally(), int(time.time()) - _BEGAN_BEFORE_SECONDS
    async with two_servers(directory) as servers:
        for number in numbers:
            chance = random.Random(f"{seed} {number}")
            (client, writer), (other, other_writer) = servers if number % 2 else servers[::-1]
            metrics: dict[str, Server] = {
                "first": RealServer(client, writer, f"first_{number}"),
                "other": RealServer(other, other_writer, f"other_{number}"),
                "wiped": RealServer(other, other_writer, f"wiped_{number}"),
            }
            first, second = chance.sample(list(_QUERIES), 2)
            history = History(
                metrics,
                directory=directory / f"{number}" if chance.random() < 0.4 else None,
                max_points=chance.choice((600, 2_000, 100_000)),
                write_seconds=chance.choice((0.0, 1e9)),
                knows_epoch=chance.random() < 0.7,
                reader_class=reader_class,
                queries=(first, second),
                start=begin + chance.randrange(10),
                reach_seconds=max(_QUERIES[first], _QUERIES[second]),
                tally=tally,
            )
            random.seed(number)  # the jitter of the reader
            others = chance.random() < 0.4
            try:
                await history.play(random_actions(chance, others=others, rewrites=False))
            except AssertionError as exc:
                raise WrongAnswerError(f"history {number} of seed {seed}: {exc}") from exc
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description="The cache against real servers, at length.")
    parser.add_argument("--count", type=int, default=1_000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the number of the first history")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--result", type=Path, help="keep the outcome as this section's file")
    options = parser.parse_args()
    begun = time.monotonic()
    numbers = range(options.first, options.first + options.count)
    with tempfile.TemporaryDirectory() as directory:
        tally = asyncio.run(play(options.seed, numbers, Path(directory)))
    Outcome(
        title="Histories on Prometheus 2 and 3",
        command=f"python -m tests.cache.real_histories --count {options.count}"
        f" --seed {options.seed}",
        lines=tally.lines(),
        seconds=time.monotonic() - begun,
    ).tell(options.result)


if __name__ == "__main__":
    main()
