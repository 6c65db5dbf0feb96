"""Known samples in a real Prometheus, and what Prometheus itself returns for them.

The samples reach beyond now, so that the correct values do not depend on when a test runs.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

import numpy as np
import orjson
from numpy.typing import NDArray
from tests.real_prometheus import Samples

from queuescope.view import Snapshot

SCRAPE = 30
STEP = 60
PANELS = ("queue_depth", "success_rate", "latency")
CURVES = {
    "queue_depth": ("Queue depth",),
    "success_rate": ("Success rate",),
    "latency": ("P50", "P95", "P99"),
}
_HISTORY_SECONDS = 4 * 3_600
_AHEAD_SECONDS = 2 * 3_600
_BOUNDS = ("0.5", "1", "2", "4", "+Inf")

Points = dict[int, float]


def panel_of(query: str) -> str:
    """Which of the three panels asks ``query``."""
    if "ai_agents_queue_depth" in query:
        return "queue_depth"
    return "latency" if "latency_seconds_bucket" in query else "success_rate"


def platform(
    env: str,
    now: int,
    *,
    first: int = -_HISTORY_SECONDS,
    last: int = _AHEAD_SECONDS,
    without: tuple[int, int] | None = None,
    restarted_at: int | None = None,
    works: bool = True,
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The series of one environment, sampled from ``first`` to ``last`` (seconds from ``now``).

    There are no samples inside ``without``; the counters are reset at ``restarted_at``; no job
    finishes while it does not work.
    """
    chance = np.random.default_rng(list(env.encode()))
    times = np.arange(now + first, now + last + 1, SCRAPE, dtype=float)
    kept = np.ones(len(times), dtype=bool)
    if without is not None:
        kept = (times < now + without[0]) | (times > now + without[1])

    def counted(most: int) -> NDArray[np.float64]:
        steps = chance.integers(1, most + 1, len(times)) * float(works)
        total = np.cumsum(steps)
        if restarted_at is not None:
            total[times >= now + restarted_at] -= total[times < now + restarted_at][-1]
        return total

    series = {}
    for queue in ("a", "b"):
        depth = chance.integers(20, 90, len(times)).astype(float)
        series[f'ai_agents_queue_depth{{queue="{queue}",env="{env}"}}'] = depth
    for tenant in ("acme", "globex"):
        name = "ai_agents_enhancement_jobs_total"
        for outcome, most in (("succeeded", 40), ("failed", 6)):
            labels = f'outcome="{outcome}",tenant="{tenant}",env="{env}"'
            series[f"{name}{{{labels}}}"] = counted(most)
        total = np.zeros(len(times))
        for bound in _BOUNDS:
            total = total + counted(9)
            labels = f'le="{bound}",tenant="{tenant}",env="{env}"'
            series[f"ai_agents_enhancement_latency_seconds_bucket{{{labels}}}"] = total
    return {text: (times[kept], values[kept]) for text, values in series.items()}


def world(now: int) -> Samples:
    """Every environment of the tests, by its label ``env``."""
    found: dict[str, Any] = {
        **platform("prod", now),
        **platform("gap", now, without=(-1_800, -1_200)),
        **platform("restarted", now, restarted_at=-1_500),
        **platform("idle", now, works=False),
        **platform("ended", now, last=-2 * 3_600),
        **platform("young", now, first=-1_200),
        **platform("undefined", now),
    }
    for text in tuple(found):
        if "queue_depth" in text and 'env="undefined"' in text:
            times, values = found[text]
            odd = values.copy()
            odd[(times > now - 1_800) & (times < now - 1_500)] = np.nan
            odd[(times > now - 1_200) & (times < now - 900)] = np.inf
            found[text] = times, odd
    return found


@dataclass(frozen=True)
class Truth:
    """What the Prometheus at ``port`` says to ``queries`` and, of an instant, to ``present`` (both
    by panel), read past all caches.
    """

    port: int
    queries: Mapping[str, str]
    present: Mapping[str, str]
    now: int
    env: str = "prod"
    _known: dict[tuple[str, str], Points] = field(default_factory=dict)

    def of(self, env: str) -> Truth:
        """The same queries for another environment."""
        return Truth(self.port, self.queries, self.present, self.now, env)

    def points(self, panel: str, curve: str) -> Points:
        """The finite values of a curve by their time, from three hours ago to an hour ahead."""
        key = (panel, curve)
        if key not in self._known:
            query = self._here(self.queries[panel])
            if panel == "latency":
                query = f"1000 * histogram_quantile({int(curve[1:]) / 100}, {query})"
            start = (self.now - 3 * 3_600) // STEP * STEP
            form = {"query": query, "start": start, "end": start + 4 * 3_600, "step": STEP}
            found = self._ask("query_range", form)
            assert len(found) <= 1
            values = found[0]["values"] if found else []
            self._known[key] = {
                int(at): float(text) for at, text in values if np.isfinite(float(text))
            }
        return self._known[key]

    def present_value(self, panel: str, at: float) -> float | None:
        """The figure beside the panel's title at an instant; None where it is undefined."""
        query = self._here(self.present[panel])
        if panel == "latency":
            query = f"1000 * histogram_quantile(0.95, ({query}))"
        found = self._ask("query", {"query": query, "time": f"{at:.3f}"})
        assert len(found) <= 1
        values = [float(one["value"][1]) for one in found]
        return values[0] if values and np.isfinite(values[0]) else None

    def present_bounds(self, at: float) -> tuple[float, float]:
        """The bounds of P95 beside the title of the latency at an instant, in milliseconds."""
        found = self._ask(
            "query", {"query": self._here(self.present["latency"]), "time": f"{at:.3f}"}
        )
        counts = sorted((float(one["metric"]["le"]), float(one["value"][1])) for one in found)
        above = next(n for n, (_, count) in enumerate(counts) if count >= 0.95 * counts[-1][1])
        return (1000 * counts[above - 1][0] if above else 0.0), 1000 * counts[above][0]

    def _here(self, query: str) -> str:
        return query.replace('env="prod"', f'env="{self.env}"')

    def _ask(self, endpoint: str, form: Mapping[str, object]) -> list[dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", f"/api/v1/{endpoint}", urlencode(form), headers)
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result


@dataclass(frozen=True)
class Page:
    """What a viewer gets: the JSON of ``/queuescope/view``."""

    body: bytes
    complete: bool

    @classmethod
    def of(cls, snapshot: Snapshot) -> Page:
        return cls(snapshot.body, snapshot.complete)

    @cached_property
    def content(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)
        return found

    @property
    def source(self) -> dict[str, Any]:
        found: dict[str, Any] = self.content["source"]
        return found

    @cached_property
    def panels(self) -> dict[str, dict[str, Any]]:
        return {panel["id"]: panel for panel in self.content["panels"]}

    @property
    def states(self) -> dict[str, str]:
        return {name: panel["state"] for name, panel in self.panels.items()}

    @property
    def grid(self) -> range:
        view = self.content["view"]
        return range(view["from"], view["to"] + 1, view["step"])

    def points(self, panel: str) -> dict[str, Points]:
        """The finite values that are drawn, by curve and time."""
        return {
            trace["name"]: {
                trace["x0"] // 1000 + n * trace["dx"] // 1000: value
                for n, value in enumerate(_decoded(trace["y"]))
                if np.isfinite(value)
            }
            for trace in self.panels[panel]["figure"]["data"]
        }


def _decoded(packed: Mapping[str, str]) -> list[float]:
    raw = base64.b64decode(packed["bdata"])
    found: list[float] = np.frombuffer(raw, f"<{packed['dtype']}").tolist()
    return found


def this_moment() -> int:
    return int(time.time()) // SCRAPE * SCRAPE
