"""Histories of a cache: what can happen to it, and the check after each read.

The property: whatever happened before, a reading that is not stale is exactly equal to the source's
own answer for the whole range, except for samples that came later than the horizon; and a stale
reading contains nothing that the source did not answer before.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tests.cache.actions import (
    HORIZON,
    KEYS,
    MAX_STEPS,
    MAX_STEPS_AGO,
    QUEUES,
    STEP,
    Action,
    Late,
    Pass,
    Read,
    ReadTogether,
    Restart,
    Switch,
    name_of,
)
from tests.cache.model_source import ModelSource
from tests.long_proof import table

from queuescope.cache import CachedReader, FrameStore
from queuescope.cache.extents import overlap
from queuescope.errors import SourceError, SourceErrorKind
from queuescope.timeseries import (
    Answer,
    Floats,
    Frame,
    Grid,
    Labels,
    LookupStatus,
    Reading,
    State,
    sampled,
)

PREFILLED_STEPS = 2 * (MAX_STEPS + MAX_STEPS_AGO) + 10
Sample = tuple[Labels, int, float]

FAILURE = "It does not answer"
RETRY_AFTER_SECONDS = 40.0
_FETCHED = (LookupStatus.PARTIAL_HIT, LookupStatus.RANGE_MISS, LookupStatus.KEY_MISS)
_LONGEST_WAIT_SECONDS = RETRY_AFTER_SECONDS * 1.1


class Server(Protocol):
    """A server that a history writes to and queries."""

    async def add(self, samples: Sequence[Sample]) -> None: ...

    async def remove(self, labels: Labels, timestamp: int) -> None: ...

    async def query_range(self, query: str, grid: Grid) -> Answer: ...


class ModelServer:
    """The naive model: samples in a dictionary, answers looked up one by one."""

    def __init__(self) -> None:
        self._source = ModelSource()

    async def add(self, samples: Sequence[Sample]) -> None:
        for labels, timestamp, value in samples:
            self._source.points.setdefault(labels, {})[timestamp] = value

    async def remove(self, labels: Labels, timestamp: int) -> None:
        self._source.points.get(labels, {}).pop(timestamp, None)

    async def query_range(self, query: str, grid: Grid) -> Answer:
        return Answer(self._source.frame(grid))


class ServersBehindOneAddress:
    """The source that the cache sees: servers in turn, with failures and partial answers.

    ``asked`` counts the queries since ``begin``, and ``failed`` is whether one failed.
    """

    identity = "servers"

    def __init__(self, servers: dict[str, Server]) -> None:
        self.servers = servers
        self.present = "first"
        self.begin()

    def begin(
        self, *, fails_from: int | None = None, is_busy: bool = False, warns: bool = False
    ) -> None:
        self.asked = 0
        self.failed = False
        self.fails_from = fails_from
        self.is_busy = is_busy
        self.warns = warns

    async def query_range(self, query: str, grid: Grid) -> Answer:
        number, self.asked = self.asked, self.asked + 1
        await asyncio.sleep(0)
        if self.fails_from is not None and number >= self.fails_from:
            self.failed = True
            if self.is_busy:
                raise SourceError(
                    SourceErrorKind.BUSY, FAILURE, retry_after_seconds=RETRY_AFTER_SECONDS
                )
            raise SourceError(SourceErrorKind.TIMEOUT, FAILURE)
        answer = await self.servers[self.present].query_range(query, grid)
        return Answer(half_of(answer.frame), ("half",)) if self.warns else answer


def half_of(frame: Frame) -> Frame:
    """A partial answer: every other step of the first series is missing, and its last third."""
    values = frame.values.copy()
    values[:1, ::2] = np.nan
    values[:1, 2 * len(frame.grid) // 3 :] = np.nan
    return Frame.assembled(frame.grid, (Frame(frame.grid, frame.series, values),))


@dataclass(slots=True)
class Tally:
    """What happened in many histories, to show that the property was tested."""

    histories: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        self.histories += other.histories
        self.actions.update(other.actions)
        self.answers.update(other.answers)
        self.changes.update(other.changes)

    def lines(self) -> list[str]:
        """The counts as tables."""
        total = sum(self.actions.values())
        said = (
            f"{self.histories:,} histories of {total / max(1, self.histories):.1f} actions on"
            f" average, {sum(self.answers.values()):,} answers: none is wrong."
        )
        return [
            said,
            "",
            *table("what happened", self.actions),
            *table("what the cache answered", self.answers),
            *table("answers among them", self.changes),
        ]


class History:
    """Plays actions on servers and on a cache in front of them, and compares at every read.

    ``start`` is the time (epoch seconds) at which the history begins, ``reach_seconds`` how long a
    sample is seen by the queries after its time, and ``knows_epoch`` whether the cache knows
    which server answers.
    """

    def __init__(
        self,
        servers: dict[str, Server],
        *,
        directory: Path | None = None,
        max_points: int = 100_000,
        write_seconds: float = 0.0,
        reader_class: type[CachedReader] = CachedReader,
        queries: tuple[str, str] = ("p", "q"),
        start: int = 10_000,
        reach_seconds: int = 0,
        knows_epoch: bool = True,
        tally: Tally | None = None,
    ) -> None:
        self.now = start
        self.start = start
        self.source = ServersBehindOneAddress(servers)
        self.tally = tally or Tally()
        self.lives = {"first": self.first_sample}
        self._directory = directory
        self._generation = 0
        self._max_points = max_points
        self._write_seconds = write_seconds
        self._reader_class = reader_class
        self._queries = queries
        self._reach_seconds = reach_seconds
        self._knows_epoch = knows_epoch
        self._busy_since = float("-inf")
        self._written: dict[tuple[Labels, int], float] = {}
        self._too_late: list[int] = []
        self._answered: dict[int, list[Frame]] = {key: [] for key in range(KEYS)}
        self._answered_at: set[float | None] = set()
        self.store = self._new_store()
        self.reader = self._new_reader()

    @property
    def first_sample(self) -> int:
        return self.start // STEP * STEP - PREFILLED_STEPS * STEP

    async def play(self, actions: Sequence[Action]) -> None:
        """Play a history. Raises ``AssertionError`` at the first wrong answer."""
        # Servers must differ at every point, or a change could not be noticed at a few points.
        await self._add([(QUEUES[0], t, 0.0) for t in range(self.first_sample, self.now + 1, STEP)])
        try:
            for action in actions:
                self.tally.actions[name_of(action)] += 1
                await self._play(action)
        finally:
            self.store.close()
        self.tally.histories += 1

    async def _play(self, action: Action) -> None:
        match action:
            case Pass(seconds, scraped):
                first = self.now // STEP * STEP + STEP
                self.now += seconds
                times = range(first, self.now + 1, STEP)
                await self._add([(labels, t, value) for t in times for labels, value in scraped])
            case Late(labels, age_steps, value):
                await self._late(labels, age_steps, value)
            case Read():
                await self._read_together((action,))
            case ReadTogether(reads):
                await self._read_together(reads)
            case Restart():
                self._restart(action)
            case Switch(to):
                await self._switch(to)

    async def _late(self, labels: Labels, age_steps: int, value: float | None) -> None:
        self.now += 1  # two reads at one moment are one query
        at = self.now // STEP * STEP - age_steps * STEP
        if at < self.first_sample:
            return
        if at <= self.now - HORIZON:
            self._too_late.append(at)
        if value is None:
            self._written.pop((labels, at), None)
            for server in self.source.servers.values():
                await server.remove(labels, at)
        else:
            await self._add([(labels, at, value)])

    async def _switch(self, to: str) -> None:
        self.now += 1
        if to not in self.source.servers:
            return
        if to not in self.lives:
            since = self.now if to == "wiped" else self.first_sample
            self.lives[to] = since
            kept = [(lab, t, v) for (lab, t), v in self._written.items() if t >= since]
            await self.source.servers[to].add(_as_in(to, kept, self.first_sample))
        self.source.present = to

    async def _add(self, samples: list[Sample]) -> None:
        self._written.update({(labels, t): value for labels, t, value in samples})
        for name, since in self.lives.items():
            here = [sample for sample in samples if sample[1] >= since]
            if here:
                await self.source.servers[name].add(_as_in(name, here, self.first_sample))

    def _restart(self, action: Restart) -> None:
        if self._directory is not None:
            before, self._generation = self._place(), self._generation + 1
            if action.disk == "killed":
                self.store._writer.submit(int).result()  # until the writer is idle
            else:
                self.store.close()
            if action.disk != "lost" and before.exists():
                shutil.copytree(before, self._place())
            if action.disk == "damaged":
                damage(sorted(self._place().glob("*")), action.damage)
        self.store.close()
        self.store = self._new_store()
        self.reader = self._new_reader()
        self._busy_since = float("-inf")

    async def _read_together(self, reads: Sequence[Read]) -> None:
        source, first = self.source, reads[0]
        source.begin(fails_from=first.fails_from, is_busy=first.is_busy, warns=first.warns)
        grids = [self._grid(read) for read in reads]
        readings = await asyncio.gather(
            *(self._reads(read, grid) for read, grid in zip(reads, grids, strict=True))
        )
        asked, failed, was_busy = source.asked, source.failed, source.failed and source.is_busy
        source.begin()
        before = [self._answered[read.key][-1:] for read in reads]
        for read, reading in zip(reads, readings, strict=True):
            if reading.lookup in _FETCHED and reading.state is not State.PARTIAL:
                assert reading.frame is not None
                self._answered[read.key].append(reading.frame)
                self._answered_at.add(reading.as_of)
        for read, grid, reading, earlier in zip(reads, grids, readings, before, strict=True):
            self.tally.answers[f"{reading.lookup}, {reading.state}"] += 1
            if len(reads) == 1:
                is_hit = reading.lookup is LookupStatus.HIT
                assert not (is_hit and asked and self._knows_epoch), "a hit that asked"
                assert asked or is_hit or reading.lookup is LookupStatus.SOURCE_ERROR, "no question"
            if reading.lookup is LookupStatus.SOURCE_ERROR:
                is_asleep = self.now <= self._busy_since + _LONGEST_WAIT_SECONDS
                assert failed or is_asleep, "an error without a failure"
                self._check_that_nothing_is_invented(read.key, reading)
            else:
                await self._check(read.key, grid, reading, warned=first.warns)
                await self._count_what_changed(read.key, reading, earlier)
        if was_busy:
            self._busy_since = self.now

    async def _check(self, key: int, grid: Grid, reading: Reading, *, warned: bool) -> None:
        frame = reading.frame
        assert frame is not None
        assert frame.grid == grid
        fetched = reading.lookup in _FETCHED
        assert self.now == reading.as_of if fetched else reading.as_of in self._answered_at, "as of"
        assert warned == (reading.state is State.PARTIAL) or not fetched, "a warning is lost"
        promised = self._promised(grid)
        truth = await self._truth(self.source.present, key, grid)
        if reading.state is State.PARTIAL:
            names = tuple(sorted({*truth.series, *frame.series}))
            whole, half = _on(names, truth), _on(names, frame)
            fits = (whole == half) | (np.isnan(half) & (sampled(half) <= sampled(whole)))
            assert fits.all(axis=0)[promised].all(), "half an answer holds more than the whole"
            return
        number = State.FRESH if frame.has_numbers else State.IDLE
        assert reading.state is (number if frame.series else State.EMPTY)
        if same_columns(truth, frame)[promised].all():
            return
        # What was final before another server came, and of which nothing is asked, is given as it
        # was; but never stitched to what the other says.
        may_be_former = not fetched and not self._knows_epoch
        for name in self.lives if may_be_former else ():
            former = await self._truth(name, key, grid)
            if same_columns(former, frame)[promised].all():
                self.tally.changes["hit, still of the previous server"] += 1
                return
        wrong = grid.timestamps()[promised & ~same_columns(truth, frame)]
        raise AssertionError(
            f"at {self.now}: the answer ({reading.lookup}) for {grid} is wrong at {wrong.tolist()}"
        )

    def _check_that_nothing_is_invented(self, key: int, reading: Reading) -> None:
        assert reading.cause == FAILURE
        if reading.frame is None:
            assert reading.state is State.UNAVAILABLE
            return
        assert reading.state is State.STALE
        assert reading.as_of in self._answered_at, "as of"
        frame = reading.frame
        known = np.asarray(~sampled(frame.values).any(axis=0))
        for former in reversed(self._answered[key]):
            if known.all():
                break
            common = overlap(former.grid, frame.grid)
            if common is not None:
                here = slice(frame.grid.index(common.start), frame.grid.index(common.end) + 1)
                was, now = (Frame.assembled(common, (one,)) for one in (former, frame))
                known[here] |= same_columns(was, now)
        assert known.all(), f"{frame.grid.timestamps()[~known].tolist()} were never answered"

    async def _count_what_changed(self, key: int, reading: Reading, earlier: list[Frame]) -> None:
        """Count the answers that a cache without re-reads would have got wrong."""
        for former in earlier:
            assert reading.frame is not None
            common = overlap(former.grid, reading.frame.grid)
            if common is not None:
                was, now = (Frame.assembled(common, (one,)) for one in (former, reading.frame))
                if not same_columns(was, now).all():
                    self.tally.changes["with points that changed since the last answer"] += 1

    async def _reads(self, read: Read, grid: Grid) -> Reading:
        epoch = self.source.present if self._knows_epoch else None
        query = self._query(read.key)
        return await self.reader.read(query, grid, source_now=self.now, epoch=epoch)

    async def _truth(self, server: str, key: int, grid: Grid) -> Frame:
        return (await self.source.servers[server].query_range(self._query(key), grid)).frame

    def _promised(self, grid: Grid) -> NDArray[np.bool_]:
        """The points that no sample changed after the horizon."""
        times = grid.timestamps()
        promised = np.ones(len(grid), dtype=bool)
        for at in self._too_late:
            promised &= (times < at) | (times > at + self._reach_seconds)
        return promised

    def _grid(self, read: Read) -> Grid:
        step = self._step(read.key)
        end = self.now // step * step - read.end_steps_ago * step
        return Grid(end - read.steps * step, end, step)

    def _query(self, key: int) -> str:
        return self._queries[key % 2]

    def _step(self, key: int) -> int:
        return STEP * (1 + key // 2)

    def _place(self) -> Path:
        assert self._directory is not None
        return self._directory / str(self._generation)

    def _new_store(self) -> FrameStore:
        place = None if self._directory is None else self._place()
        return FrameStore(place, self._max_points, write_seconds=self._write_seconds)

    def _new_reader(self) -> CachedReader:
        return self._reader_class(
            self.source, self.store, horizon_seconds=HORIZON, clock=lambda: float(self.now)
        )


def same_columns(a: Frame, b: Frame) -> NDArray[np.bool_]:
    """The steps at which two frames of one grid are equal; a gap is not an undefined value."""
    names = a.series if a.series == b.series else tuple(sorted({*a.series, *b.series}))
    x, y = _on(names, a), _on(names, b)
    same = ((x == y) | (np.isnan(x) & np.isnan(y))) & (sampled(x) == sampled(y))
    return np.asarray(same.all(axis=0))


def _on(names: tuple[Labels, ...], frame: Frame) -> Floats:
    if names == frame.series:
        return frame.values
    rows = dict(zip(frame.series, frame.values, strict=True))
    missing = np.full(len(frame.grid), np.nan)
    return np.array([rows.get(name, missing) for name in names]).reshape(len(names), -1)


def damage(files: Sequence[Path], seed: int) -> None:
    """Damage each file in one of five ways."""
    for number, file in enumerate(files):
        content = bytearray(file.read_bytes()) or bytearray(b" ")
        match (seed + number) % 7:
            case 0 | 5 | 6:
                content[seed * 7919 % len(content)] ^= 1 << seed % 8
            case 1:
                del content[seed * 7919 % len(content) :]
            case 2:
                content += b"\0"
            case 3:
                content = bytearray(files[number - 1].read_bytes())
            case _:
                content.clear()
        file.write_bytes(content)


def _as_in(server: str, samples: Sequence[Sample], first: int) -> list[Sample]:
    """The server's data if the first one has ``samples``: different numbers at every time."""
    factor, shift = {"first": (1, 0), "other": (3, 7), "wiped": (5, 11)}[server]
    return [
        (labels, t, value if np.isnan(value) else factor * (value + t - first) + shift)
        for labels, t, value in samples
    ]
