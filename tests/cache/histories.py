"""Random histories on the naive model: ``python -m tests.cache.histories --help``.

A history depends only on the seed and its number, so that one that fails can be repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.cache.actions import Action, random_actions
from tests.cache.history import History, ModelServer, Server, Tally
from tests.long_proof import Outcome

from queuescope.cache import CachedReader

SEED = 20261124
_AT_ONCE = 500


class WrongAnswerError(AssertionError):
    """A history in which the cache returned a wrong answer."""


def play(
    seed: int,
    numbers: Iterable[int],
    *,
    reader_class: type[CachedReader] = CachedReader,
    tally: Tally | None = None,
) -> Tally:
    """Play the histories of these numbers. Raises ``WrongAnswerError`` for the first that fails."""
    tally = tally or Tally()
    with asyncio.Runner() as runner, _scratch() as directory:
        for number in numbers:
            chance = random.Random(f"{seed} {number}")
            history, actions = _drawn(chance, Path(directory) / str(number), reader_class, tally)
            random.seed(number)  # the jitter of the reader
            try:
                runner.run(history.play(actions))
            except AssertionError as exc:
                raise WrongAnswerError(f"history {number} of seed {seed}: {exc}") from exc
            shutil.rmtree(Path(directory) / str(number), ignore_errors=True)
    return tally


def _drawn(
    chance: random.Random, directory: Path, reader_class: type[CachedReader], tally: Tally
) -> tuple[History, list[Action]]:
    others = chance.random() < 0.4
    servers: dict[str, Server] = {"first": ModelServer()}
    if others:
        servers |= {"other": ModelServer(), "wiped": ModelServer()}
    history = History(
        servers,
        directory=directory if chance.random() < 0.4 else None,
        max_points=chance.choice((600, 2_000, 100_000)),
        write_seconds=chance.choice((0.0, 1e9)),
        knows_epoch=chance.random() < 0.7,
        reader_class=reader_class,
        tally=tally,
    )
    return history, random_actions(chance, others=others)


def _scratch() -> tempfile.TemporaryDirectory[str]:
    """In a memory file system if there is one, because every file is synchronised to disk."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


def main() -> None:
    parser = argparse.ArgumentParser(description="The cache against a naive model, at length.")
    parser.add_argument("--count", type=int, default=100_000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the number of the first history")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--result", type=Path, help="keep the outcome as this section's file")
    options = parser.parse_args()
    end = options.first + options.count
    begun, tally = time.monotonic(), Tally()
    starts = range(options.first, end, _AT_ONCE)
    spans = [range(start, min(start + _AT_ONCE, end)) for start in starts]
    with ProcessPoolExecutor(options.processes) as pool:
        for done in pool.map(partial(play, options.seed), spans):
            tally.add(done)
    outcome = Outcome(
        title="Histories on a naive model",
        command=f"python -m tests.cache.histories --count {options.count} --seed {options.seed}",
        lines=tally.lines(),
        seconds=time.monotonic() - begun,
    )
    outcome.tell(options.result)


if __name__ == "__main__":
    main()
