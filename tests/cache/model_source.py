"""A range source with its samples in a dictionary: slow, but easy to trust."""

from __future__ import annotations

import asyncio

import numpy as np

from queuescope.errors import SourceError
from queuescope.timeseries import Answer, Frame, Grid, Labels

Points = dict[Labels, dict[int, float]]


def queue(name: str) -> Labels:
    return (("queue", name),)


class ModelSource:
    """``points`` are the samples; ``asked`` are the queries.

    ``error`` makes every query fail, ``warnings`` make answers partial, and with ``gate`` set
    answers wait until it opens.
    """

    def __init__(self, points: Points | None = None, identity: str = "model") -> None:
        self.identity = identity
        self.points: Points = points or {}
        self.error: SourceError | None = None
        self.warnings: tuple[str, ...] = ()
        self.infos: tuple[str, ...] = ()
        self.gate: asyncio.Event | None = None
        self.asked: list[Grid] = []

    def frame(self, grid: Grid) -> Frame:
        times = grid.timestamps().astype(int).tolist()
        found = {
            labels: [points.get(t, np.nan) for t in times]
            for labels, points in sorted(self.points.items())
            if any(t in points for t in times)
        }
        values = np.array([*found.values()]) if found else np.empty((0, len(grid)))
        return Frame(grid, tuple(found), values)

    async def query_range(self, query: str, grid: Grid) -> Answer:
        self.asked.append(grid)
        await (self.gate.wait() if self.gate else asyncio.sleep(0))
        if self.error is not None:
            raise self.error
        return Answer(self.frame(grid), self.warnings, self.infos)
