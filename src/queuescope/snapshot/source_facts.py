"""What must be known of a Prometheus before a query can be written for it.

Kept on disk, because the text of a query depends on it: after a restart during an outage the
same queries must be found in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.names import quote
from queuescope.names import selector as of_name
from queuescope.private_files import make_private_folder, write_private
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.promql import Matcher, render_matchers
from queuescope.snapshot.sample_extent import newest_sample
from queuescope.timeseries import Grid, Labels

DEFAULT_SCRAPE_INTERVAL_SECONDS = 15
_USUAL_INTERVALS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300)
_COUNTED_SECONDS = 900
_SEARCHED_DAYS = 7
_SPACINGS = 3
_PHASES = 8
_CHECKED_INTERVALS = 10
_METRIC = "queuescope_metric"
_RESOLUTION_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """``left_open``: see ``panels.Resolution``, where a metric's entry in ``phases`` is
    ``phase_seconds``. ``measured`` is False for a mere default.
    """

    version: str = ""
    left_open: bool = True
    scrape_interval_seconds: Annotated[int, msgspec.Meta(ge=1)] = DEFAULT_SCRAPE_INTERVAL_SECONDS
    phases: dict[str, float] = field(default_factory=dict)
    measured: bool = False


async def ask_facts(
    client: PrometheusClient,
    metrics: tuple[str, ...],
    matchers: str,
    now: float,
    known: SourceFacts | None = None,
    *,
    otherwise: tuple[str, ...] = (),
) -> SourceFacts:
    """Ask for the version and measure how ``metrics`` are scraped. Raises ``SourceError``.

    The interval is that of the first metric that is sampled now, or was in the last 7 days, and
    where none of them was, that of the first among ``otherwise``. What cannot be measured stays
    as it was ``known``, and so does what a single question finds unchanged.
    """
    known = known or SourceFacts()
    version = await _version(client)
    same_server = known.measured and known.version == version
    if same_server and await _still_hold(client, metrics, matchers, now, known):
        return known
    left_open = await client.ranges_are_left_open()
    newest = {
        metric: await newest_sample(client, of_name(metric, matchers), now, _SEARCHED_DAYS)
        for metric in metrics
    }
    sampled = {metric: at for metric, at in newest.items() if at is not None}
    spacing = 0.0
    for metric in (*sampled, *(otherwise if not sampled else ())):
        spacing = await _spacing(client, metric, matchers, now, sampled.get(metric))
        if spacing:
            break
    if not spacing:
        return replace(known, version=version, left_open=left_open)
    interval = min(_USUAL_INTERVALS, key=lambda usual: abs(math.log(usual / spacing)))
    phases = {}
    for metric, at in sampled.items():
        phase = await _phase(client, of_name(metric, matchers), interval, at)
        if phase is not None:
            before = known.phases.get(metric) if interval == known.scrape_interval_seconds else None
            phases[metric] = _steadied(phase, before, interval)
    return SourceFacts(version, left_open, interval, phases, measured=True)


async def _still_hold(
    client: PrometheusClient,
    metrics: tuple[str, ...],
    matchers: str,
    now: float,
    known: SourceFacts,
) -> bool:
    """Whether the metrics that are sampled now are so at the interval and phases that are known."""
    interval = known.scrape_interval_seconds
    parts = []
    for metric in metrics:
        selector = of_name(metric, matchers)
        count = f"max(count_over_time({selector}[{_CHECKED_INTERVALS * interval}s]))"
        parts += [
            f'label_replace({text}, "{_METRIC}", {quote(metric)}, "", "")'
            for text in (count, _phases_of(selector, interval))
        ]
    found: dict[str, list[Labels]] = {metric: [] for metric in metrics}
    counts = {}
    for sample in (await client.query(" or ".join(parts), at=now)).samples:
        labels = dict(sample.labels)
        if "phase" in labels:
            found[labels[_METRIC]].append(sample.labels)
        else:
            counts[labels[_METRIC]] = sample.value
    for metric, times in counts.items():
        phase, before = _common_phase(found[metric], interval), known.phases.get(metric)
        now_known = None if phase is None else _steadied(phase, before, interval)
        # One more or less falls into the window by chance, or was lost.
        if abs(times - _CHECKED_INTERVALS) > 1 or now_known != before:
            return False
    return bool(counts)


async def _version(client: PrometheusClient) -> str:
    try:
        return (await client.buildinfo()).version
    except SourceError as exc:
        if exc.kind in (SourceErrorKind.CANNOT_CONNECT, SourceErrorKind.TIMEOUT):
            raise
        # Not every server with this API tells its version, and nothing depends on it.
        return ""


def _steadied(phase: float, before: float | None, interval_seconds: int) -> float:
    """``before`` while the new measure is next to it: each change asks for all history anew."""
    if before is None:
        return phase
    apart = abs(phase - before)
    return before if min(apart, interval_seconds - apart) <= interval_seconds / _PHASES else phase


async def _phase(
    client: PrometheusClient, selector: str, interval_seconds: int, at: float
) -> float | None:
    """How far after a multiple of the interval samples are taken; None when targets differ.

    Counted in eighths of the interval, which steadies the answer against jitter. A sample exactly
    on a multiple belongs to the last eighth: it ends the interval before it.
    """
    found = await client.query(_phases_of(selector, interval_seconds), at=at)
    return _common_phase((sample.labels for sample in found.samples), interval_seconds)


def _phases_of(selector: str, interval_seconds: int) -> str:
    eighth = interval_seconds / _PHASES
    return (
        f'count_values("phase", floor((timestamp({selector}) - {_RESOLUTION_SECONDS / 2})'
        f" / {eighth}) % {_PHASES})"
    )


def _common_phase(found: Iterable[Labels], interval_seconds: int) -> float | None:
    eighth = interval_seconds / _PHASES
    seen = sorted(int(float(dict(labels)["phase"])) for labels in found)
    if len(seen) == 1:
        return (seen[0] + 0.5) * eighth
    if len(seen) == 2 and (seen[1] - seen[0]) % _PHASES in (1, _PHASES - 1):
        # Jitter over the border of two: the border itself.
        return interval_seconds if seen == [0, _PHASES - 1] else seen[1] * eighth
    return None


async def _spacing(
    client: PrometheusClient, metric: str, matchers: str, now: float, newest: float | None
) -> float:
    """Seconds between samples of ``metric``; 0 is unknown."""
    selector = of_name(metric, matchers)
    at = newest or await newest_sample(client, selector, now, _SEARCHED_DAYS)
    if at is None:
        return 0.0
    spacing = await _newest_spacing(client, metric, matchers, at)
    return spacing or await _usual_spacing(client, selector, at)


async def _newest_spacing(client: PrometheusClient, metric: str, matchers: str, at: float) -> float:
    """Seconds between the newest samples of the series that was sampled last; 0 is unknown.

    It needs few samples, so that it is right for a source that has only just been started.
    """
    newest = await client.query(f"topk(1, timestamp({of_name(metric, matchers)}))", at=at)
    if not newest.samples:
        return 0.0
    labels = render_matchers(Matcher(name, "=", value) for name, value in newest.samples[0].labels)
    times = [newest.samples[0].value]
    while len(times) <= _SPACINGS:
        before = await client.query(
            f"max(timestamp({of_name(metric, labels)}))", at=times[-1] - _RESOLUTION_SECONDS
        )
        if not before.samples:
            break
        times.append(before.samples[0].value)
    # The median, because a lost scrape doubles one of them.
    return float(np.median(-np.diff(times))) if len(times) > 1 else 0.0


async def _usual_spacing(client: PrometheusClient, selector: str, at: float) -> float:
    """The same from how many samples fell into a window of the 7 days before at most."""
    grid = Grid.ending_at(at, 7 * 86_400, 6 * 3_600)
    query = f"max(count_over_time({selector}[{_COUNTED_SECONDS}s]))"
    found = await client.query(query, at=at)
    most = max((sample.value for sample in found.samples), default=0.0)
    if most <= 1:
        values = (await client.query_range(query, grid)).frame.values
        most = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
    return _COUNTED_SECONDS / most if most > 1 else 0.0


class FactsFile:
    """The last known facts of each source in one directory; an unreadable file is no fact."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._saved: dict[str, SourceFacts] = {}

    def load(self, identity: str) -> SourceFacts | None:
        try:
            found = msgspec.json.decode(self._path(identity).read_bytes(), type=SourceFacts)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        self._saved[identity] = found
        return found

    def save(self, identity: str, facts: SourceFacts) -> None:
        """Keep ``facts``, unless they are kept already. Never raises; what failed is tried again
        with the next call.
        """
        if self._saved.get(identity) == facts:
            return
        path = self._path(identity)
        temporary = path.with_suffix(".tmp")
        try:
            make_private_folder(path.parent)
            write_private(temporary, msgspec.json.encode(facts))
            temporary.replace(path)
            self._saved[identity] = facts
        except OSError:
            # Without it only a restart during an outage shows less; reading must go on.
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _path(self, identity: str) -> Path:
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        return self._directory / f"source-{name}.json"
