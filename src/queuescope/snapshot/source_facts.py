"""What must be known of a Prometheus before a query can be written for it.

Kept on disk, because the text of a query depends on it: after a restart during an outage the
same queries must be found in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import Matcher, render_matchers
from queuescope.timeseries import Grid

DEFAULT_SCRAPE_INTERVAL_SECONDS = 15
_USUAL_INTERVALS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300)
_COUNTED_SECONDS = 900
_SPACINGS = 3
_RESOLUTION_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """``left_open``: see ``panels.Resolution``. ``measured`` is False for a mere default."""

    version: str = ""
    left_open: bool = True
    scrape_interval_seconds: Annotated[int, msgspec.Meta(ge=1)] = DEFAULT_SCRAPE_INTERVAL_SECONDS
    measured: bool = False


async def ask_facts(
    client: PrometheusClient, metrics: tuple[str, ...], matchers: str, now: float
) -> SourceFacts:
    """Ask for the version and measure the scrape interval of ``metrics``. Raises ``SourceError``.

    The interval is that of the first metric that is sampled now, or was in the last 7 days.
    """
    version = (await client.buildinfo()).version
    measured = 0.0
    for metric in metrics:
        measured = await _newest_spacing(client, metric, matchers, now)
        measured = measured or await _usual_spacing(client, metric, matchers, now)
        if measured:
            break
    left_open = await client.ranges_are_left_open()
    if not measured:
        return SourceFacts(version, left_open)
    interval = min(_USUAL_INTERVALS, key=lambda usual: abs(math.log(usual / measured)))
    return SourceFacts(version, left_open, interval, measured=True)


async def _newest_spacing(
    client: PrometheusClient, metric: str, matchers: str, now: float
) -> float:
    """Seconds between the newest samples of the series that was sampled last; 0 is unknown.

    It needs few samples, so that it is right for a source that has only just been started.
    """
    newest = await client.query(f"topk(1, timestamp({metric}{{{matchers}}}))", at=now)
    if not newest.samples:
        return 0.0
    labels = render_matchers(Matcher(name, "=", value) for name, value in newest.samples[0].labels)
    times = [newest.samples[0].value]
    while len(times) <= _SPACINGS:
        before = await client.query(
            f"max(timestamp({metric}{{{labels}}}))", at=times[-1] - _RESOLUTION_SECONDS
        )
        if not before.samples:
            break
        times.append(before.samples[0].value)
    # The median, because a lost scrape doubles one of them.
    return float(np.median(-np.diff(times))) if len(times) > 1 else 0.0


async def _usual_spacing(client: PrometheusClient, metric: str, matchers: str, now: float) -> float:
    """The same from how many samples fell into a window of the last 7 days at most."""
    grid = Grid.ending_at(now, 7 * 86_400, 6 * 3_600)
    query = f"max(count_over_time({metric}{{{matchers}}}[{_COUNTED_SECONDS}s]))"
    found = await client.query(query, at=now)
    most = max((sample.value for sample in found.samples), default=0.0)
    if most == 0:
        values = (await client.query_range(query, grid)).frame.values
        most = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
    return _COUNTED_SECONDS / most if most > 1 else 0.0


class FactsFile:
    """The last known facts of each source in one directory; an unreadable file is no fact."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, identity: str) -> SourceFacts | None:
        try:
            return msgspec.json.decode(self._path(identity).read_bytes(), type=SourceFacts)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def save(self, identity: str, facts: SourceFacts) -> None:
        path = self._path(identity)
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.encode(facts))
            temporary.replace(path)
        except OSError:
            # Without it only a restart during an outage shows less; reading must go on.
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _path(self, identity: str) -> Path:
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        return self._directory / f"source-{name}.json"
