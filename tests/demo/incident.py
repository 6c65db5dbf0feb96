"""An incident on the demo's platform, and the correct values from the rows of its job history."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

JOBS = 300
FAILING = 60
GROWTH_SECONDS = 36
_GROWING = 216
_RUNTIME_SECONDS = 1.2
_SEND = f"""
import threading, time
from queuescope.demo.producer import Producer
from queuescope.demo.workload import Fault, Plan, World

sender = Producer(World(), None, loses_workers=False)

def send(tenant, count, runtime, fault=Fault.NONE):
    for number in range(count):
        who = ("classify_ticket", tenant, "default", 6, 500_000 + number)
        sender.send(Plan(*who, runtime, 0, fault))

send("initech", {FAILING}, 0.05, Fault.BAD_PAYLOAD)
began = time.monotonic()
for sent in range({_GROWING}):
    send("acme", 1, {_RUNTIME_SECONDS})
    time.sleep(max(0, began + (sent + 1) * {GROWTH_SECONDS} / {_GROWING} - time.monotonic()))
send("acme", {JOBS - _GROWING}, {_RUNTIME_SECONDS})
"""
"""For a while more jobs arrive than one worker completes; then the rest arrives at once."""


def begin_sending(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Send the jobs of the incident like the demo's producer."""
    return subprocess.Popen([sys.executable, "-P", "-c", _SEND], env=environment)


@dataclass(frozen=True, slots=True)
class Between:
    """The correct value around a time that is not known to the second: the least and the most."""

    least: float
    most: float

    def holds(self, value: float, *, ratio: float = 0.0, within: float = 0.0) -> bool:
        low = self.least * (1 - ratio) - within
        return low <= value <= self.most * (1 + ratio) + within


class Truth:
    """The rows of the jobs that ended since ``since`` (epoch seconds) or had not ended."""

    def __init__(self, path: Path, since: float) -> None:
        rows = list(_rows(path, since))
        self.statuses = np.array([row[0] for row in rows])
        self.tenants = np.array([row[1] for row in rows])
        times = np.array([row[2:] for row in rows], dtype=float)
        self.due, self.begun, self.ended, self.attempts = times.T

    def waiting(self, at: float) -> int:
        """How many jobs were due and had not started. The row of a retried job has only its last
        attempt, so it is not known when it waited.
        """
        waits = (self.due <= at) & (self.begun > at) & (self.attempts == 1)
        return int(np.count_nonzero(waits))

    def p95_seconds(self, at: float) -> float:
        """Of the jobs that succeeded or failed in the last five minutes, including retried ones;
        NaN: there was none.
        """
        took = (self.ended - self.due)[self._ended(at, "succeeded", "failed")]
        return float(np.percentile(took, 95, method="inverted_cdf")) if len(took) else np.nan

    def success_percent(self, at: float) -> float:
        good = int(np.count_nonzero(self._ended(at, "succeeded")))
        bad = int(np.count_nonzero(self._ended(at, "failed", "lost")))
        return 100 * good / max(1, good + bad)

    def _ended(self, at: float, *statuses: str) -> Any:
        lately = (self.ended > at - 300) & (self.ended <= at)
        return lately & np.isin(self.statuses, statuses)

    def about(self, of: Callable[[float], float], at: float, before: float = 6.0) -> Between:
        """Its value at ``at``, or up to ``before`` earlier, because the page may be behind."""
        found = [of(moment) for moment in np.arange(at - before, at + 1.1, 0.5)]
        return Between(float(np.nanmin(found)), float(np.nanmax(found)))


def _rows(path: Path, since: float) -> Iterator[tuple[Any, ...]]:
    query = (
        "SELECT status, tenant, enqueued_at, started_at, finished_at, attempts FROM jobs"
        " WHERE coalesce(finished_at, started_at) >= ?"
    )
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        yield from connection.execute(query, [since])


def unfinished(path: Path, since: float) -> int:
    """How many of the jobs that were due since then have a row without an end, or no row."""
    query = "SELECT count(finished_at) FROM jobs WHERE enqueued_at >= ?"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        [(ended,)] = connection.execute(query, [since])
    return JOBS + FAILING - int(ended)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the page showed at ``at`` (epoch seconds)."""

    at: float
    overview: dict[str, Any]
    view: dict[str, Any]

    def card(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(c for c in self.overview["kpis"] if c["id"] == name)
        return found

    def now(self, card: str, curve: str) -> tuple[float, float] | None:
        """The figure of a card and its time; None: it is unknown, not current, or only from
        Prometheus, which has it later.
        """
        content = self.card(card)
        end = content["ends"].get(curve)
        if end is None or content["origin"] == "prometheus":
            return None
        return float(end["value"]), float(content["asOf"])

    def end(self, panel: str, curve: str) -> float | None:
        """The end of a curve; None: it has none."""
        [drawn] = [one for one in self.view["panels"] if one["id"] == panel]
        [trace] = [one for one in drawn["figure"]["data"] if one["name"] == curve]
        end: float | None = trace.get("live")
        return end

    @property
    def findings(self) -> dict[str, str]:
        return {
            one["rule"]: "".join(part for part in one["reason"] if isinstance(part, str))
            for one in self.overview["verdict"]["findings"]
        }


@dataclass(frozen=True, slots=True)
class Incident:
    """The times of the events, in epoch seconds: until ``burst_at`` more jobs arrive than are
    completed; one of the workers is frozen from ``frozen_at`` to ``thawed_at``.
    """

    frozen_at: float
    burst_at: float
    thawed_at: float

    @property
    def turns(self) -> tuple[float, float, float]:
        return self.frozen_at, self.burst_at, self.thawed_at


def figures_are_true(seen: Seen, truth: Truth) -> None:
    """Depth, success rate and P95, on the cards and at the ends of the charts."""
    depth = seen.now("queue_depth", "Queue depth")
    success = seen.now("success_rate", "Success rate")
    p95 = seen.now("p95_latency", "P95")
    if depth is not None:
        # Jobs in transit from the broker to a worker are in neither count.
        waiting = truth.about(truth.waiting, depth[1])
        assert waiting.holds(depth[0], within=8), (depth, waiting)
    if success is not None:
        rate = truth.about(truth.success_percent, success[1])
        assert rate.holds(success[0], within=1), (success, rate)
    if p95 is not None:
        true = truth.about(truth.p95_seconds, p95[1])
        assert true.holds(p95[0] / 1000, ratio=0.1), (p95, true)
    for panel, curve, of, unit, within in (
        ("queue_depth", "Queue depth", truth.waiting, 1, 6.0),
        ("success_rate", "Success rate", truth.success_percent, 1, 2.0),
        ("latency", "P95", truth.p95_seconds, 1000, 0.0),
    ):
        end = seen.end(panel, curve)
        if end is not None:
            # The chart was fetched within the same second; the history is read every ten.
            true = truth.about(of, seen.at, before=25.0)
            assert true.holds(end / unit, ratio=0.1, within=within), (panel, end, true)


def forecast_is_true(seen: Seen, truth: Truth, incident: Incident) -> None:
    """Never against the movement of the depth, and of the right order of magnitude."""
    drain = seen.overview["drain"]
    state, at = drain["state"], seen.at
    if seen.card("queue_depth")["origin"] != "broker":
        return
    assert state not in ("stalled", "waiting", "paused"), drain
    depth = truth.about(truth.waiting, at)
    if state == "empty":
        assert depth.least <= 2, depth
    since = at - max([turn for turn in incident.turns if turn <= at], default=0.0)
    if since < 12 or depth.least <= 10:
        # The direction is not known yet, or the queue is nearly empty.
        return
    seconds = min(since, 15.0)
    pace = (truth.waiting(at) - truth.waiting(at - seconds)) / seconds
    if pace * seconds > 10:
        assert state in ("growing", "unknown"), (drain, pace)
    if pace * seconds < -10:
        assert state in ("clearing", "unknown"), (drain, pace)
    if state == "clearing":
        truly = truth.waiting(at) / -pace
        latest = drain["latestSeconds"] or np.inf
        assert drain["soonestSeconds"] / 2 <= truly <= 2 * latest, (drain, truly)


def findings_are_true(seen: Seen, truth: Truth, incident: Incident) -> None:
    """Each finding is true of the rows, and none that is true for a while is missing."""
    found, at = seen.findings, seen.at
    truths: dict[str, tuple[bool, bool]] = {
        # Whether the finding is allowed, and whether it is required.
        "workers_lost": (
            incident.frozen_at + 10 < at < incident.thawed_at + 8,
            incident.frozen_at + 24 < at < incident.thawed_at,
        ),
    }
    for rule, of, limit, sign in (
        ("queue_depth", truth.waiting, 100.0, 1),
        ("success_rate", truth.success_percent, 95.0, -1),
        ("p95_latency", truth.p95_seconds, 60.0, 1),
    ):
        true = truth.about(of, at, before=25.0)
        beyond = [sign * value > sign * limit for value in (true.least, true.most)]
        close = 4.0 if rule == "queue_depth" else 1.0
        near = [abs(value - limit) <= close for value in (true.least, true.most)]
        truths[rule] = (any(beyond) or any(near), all(beyond) and not any(near))
    sources = {source["id"] for source in seen.overview["sources"] if source["state"] != "fresh"}
    for rule, words in found.items():
        if rule in sources or rule.startswith("alert"):
            continue
        assert rule in truths, f"{rule}: {words}"
        assert truths[rule][0], f"{rule}: {words}"
    if sources:
        return
    for rule, (_, must) in truths.items():
        assert rule in found or not must, f"{rule} is true and is not shown: {found}"
    if "workers_lost" in found:
        assert found["workers_lost"] == "1 of 2 workers is lost: worker-2@demo"
