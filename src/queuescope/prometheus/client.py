"""A typed client of the Prometheus HTTP API."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Self, TypeVar

import msgspec
from cachetools import LRUCache

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.prometheus import failures, promql, wire
from queuescope.prometheus.breaker import BreakerState, CircuitBreaker
from queuescope.prometheus.credentials import Credentials, tls_context
from queuescope.prometheus.promql import is_plain_label
from queuescope.prometheus.retry import Retry
from queuescope.prometheus.transport import Call, Form, Transport
from queuescope.prometheus.wire import InstantAnswer
from queuescope.telemetry import NoTelemetry, RequestKind, Telemetry
from queuescope.timeseries import Answer, Frame, Grid, Labels, labels_of

MAX_STEPS = 11_000
"""Prometheus refuses a range query with more steps."""

_FEW_STEPS = 16
"""A range with at most this many steps, such as the newest edge, has a small answer."""

_MOST_DEADLINES = 6
_MOST_REMEMBERED = 256
_SMALL = (RequestKind.RULES, RequestKind.ALERTS, RequestKind.BUILDINFO, RequestKind.RUNTIMEINFO)
_MEBIBYTE = 1024 * 1024
_SHORT_SECONDS = 1.0
_T = TypeVar("_T")


class BuildInfo(msgspec.Struct, frozen=True):
    """The version of the server; some servers with this API leave fields out."""

    version: str = ""
    revision: str = ""


class RuntimeInfo(msgspec.Struct, frozen=True, rename="camel"):
    """When the server was started, as its own RFC 3339 text."""

    start_time: str = ""


class Alert(msgspec.Struct, frozen=True, rename="camel"):
    """A pending or firing alert. ``active_at`` is the server's own RFC 3339 text."""

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    state: str = "unknown"
    active_at: str | None = None
    value: str = ""


class Rule(msgspec.Struct, frozen=True, rename="camel"):
    """A recording or alerting rule. ``type`` is ``recording`` or ``alerting``."""

    name: str
    query: str
    type: str
    health: str = "unknown"
    state: str = ""
    last_error: str | None = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    alerts: list[Alert] = []


class RuleGroup(msgspec.Struct, frozen=True):
    """Rules that are evaluated together."""

    name: str
    file: str = ""
    interval: float = 0
    rules: list[Rule] = []


class _Groups(msgspec.Struct):
    groups: list[RuleGroup] = []


class _Alerts(msgspec.Struct):
    alerts: list[Alert] = []


class PrometheusClient:
    """A client of Prometheus or of a server with its API. Every method may raise ``SourceError``.

    Each call takes at most ``timeout_seconds`` in total, whatever the server does (for a range that
    the server computes only in parts see ``query_range``), reads at most ``max_body_bytes`` of
    decompressed data per response, and returns at most ``max_points`` points (series times steps).
    Within that time a request that found no server, or a busy one, is retried (see ``Retry``);
    while the source is known to be unavailable, a call fails at once (see ``CircuitBreaker``;
    ``clock`` is its clock). Redirects are not followed, and proxies of the environment are not
    used.

    ``username`` and ``password``, ``token``, or ``token_file``, which is read for each request, are
    the credentials; ``parameters``, and those in ``url``, are added to the address of every request
    (such as ``namespace``, which a proxy may require); ``ca_file``, ``client_cert`` and
    ``client_key`` are PEM files, read once. Raises ``ConfigurationError`` for contradictory
    arguments. A client belongs to one event loop.

    If ``lookback_delta_seconds`` is set, it is the lookback of plain selectors, on servers where a
    query can set it.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        token_file: Path | None = None,
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
        ca_file: Path | None = None,
        client_cert: Path | None = None,
        client_key: Path | None = None,
        timeout_seconds: float = 5.0,
        max_body_bytes: int = 64 * _MEBIBYTE,
        max_points: int = 10_000_000,
        retry: Retry | None = None,
        clock: Callable[[], float] = time.monotonic,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._timeout = promql.duration(timeout_seconds)
        self._step_limits = LRUCache[str, int](_MOST_REMEMBERED)
        self._max_points = max_points
        self.lookback_delta_seconds: float | None = None
        self._telemetry = telemetry or NoTelemetry()
        self._breaker = CircuitBreaker(clock=clock)
        self._transport = Transport(
            url,
            credentials=Credentials(
                username=username,
                password=password,
                token=token,
                token_file=token_file,
                headers=headers,
                parameters=parameters,
            ),
            tls=tls_context(url, ca_file=ca_file, client_cert=client_cert, client_key=client_key),
            timeout_seconds=timeout_seconds,
            max_body_bytes=max_body_bytes,
            retry=retry or Retry(),
        )

    @property
    def identity(self) -> str:
        """The URL, and a fingerprint of user, extra headers and parameters if any; without
        secrets.
        """
        return self._transport.identity

    @property
    def connections(self) -> int:
        """How many connections were opened: a restarted server needs a new one."""
        return self._transport.connections

    @property
    def breaker_state(self) -> BreakerState:
        """Whether requests are sent to the source now."""
        return self._breaker.state

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def query(self, promql: str, at: float | None = None) -> InstantAnswer:
        """The value of an expression at ``at``, by default at the server's present time."""
        return await self._query(promql, at)

    async def _query(
        self,
        promql: str,
        at: float | None = None,
        *,
        decisive: bool = False,
        lookback_delta_seconds: float | None = None,
    ) -> InstantAnswer:
        # Without it VictoriaMetrics answers with the value of 30 s ago; other servers ignore it.
        form = [("query", promql), ("timeout", self._timeout), ("nocache", "1")]
        form += self._lookback(lookback_delta_seconds)
        if at is not None:
            form.append(("time", f"{at:.3f}"))
        async with self._call(RequestKind.QUERY, decisive=decisive) as call:
            return wire.parse_vector(await call.post_form("/api/v1/query", form, small=True))

    async def query_range(self, promql: str, grid: Grid) -> Answer:
        """The series of an expression on ``grid``.

        A grid that is too long for one request is split, as is one that the source refuses because
        of its number of points or samples. The size that it accepted is remembered, so that the
        next such range is split from the start. Each part may take ``timeout_seconds``, all of them
        ``_MOST_DEADLINES`` times that.
        """
        answers: list[Answer] = []
        series: set[Labels] = set()
        pieces = _pieces(grid, self._step_limits.get(promql, MAX_STEPS))
        until = time.monotonic() + _MOST_DEADLINES * self._timeout_seconds
        while pieces:
            if answers and time.monotonic() > until:
                raise failures.too_slow_in_parts(len(answers))
            async with self._call(RequestKind.QUERY_RANGE) as call:
                while pieces:
                    piece = pieces.pop(0)
                    try:
                        answer = await self._piece(call, promql, piece)
                    except SourceError as exc:
                        if len(piece) == 1 or not failures.is_over_limit(exc):
                            raise
                        pieces[:0] = _halves(piece)
                        self._limit_steps(promql, (len(piece) + 1) // 2)
                        continue
                    series.update(answer.frame.series)
                    self._refuse_too_many(len(series), grid)
                    answers.append(answer)
                    if promql in self._step_limits:
                        break
        if len(answers) == 1:
            return answers[0]
        return Answer(
            Frame.assembled(grid, (answer.frame for answer in answers)),
            tuple(dict.fromkeys(w for answer in answers for w in answer.warnings)),
            tuple(dict.fromkeys(i for answer in answers for i in answer.infos)),
        )

    def _limit_steps(self, promql: str, steps: int) -> None:
        self._step_limits[promql] = min(steps, self._step_limits.get(promql, steps))

    async def _piece(self, call: Call, promql: str, grid: Grid) -> Answer:
        form = [
            ("query", promql),
            ("start", str(grid.start)),
            ("end", str(grid.end)),
            ("step", str(grid.step_seconds)),
            ("timeout", self._timeout),
            *self._lookback(),
        ]
        small = len(grid) <= _FEW_STEPS
        body = await call.post_form("/api/v1/query_range", form, small=small)
        # A series of one point is short on the wire, but takes a whole row of the frame.
        self._refuse_too_many(body.count(b'"values"'), grid)
        return wire.parse_matrix(body, grid)

    def _lookback(self, seconds: float | None = None) -> list[tuple[str, str]]:
        chosen = self.lookback_delta_seconds if seconds is None else seconds
        return [] if chosen is None else [("lookback_delta", promql.duration(chosen))]

    def _refuse_too_many(self, series: int, grid: Grid) -> None:
        if series * len(grid) > self._max_points:
            raise failures.too_large(
                f"{series} series on {len(grid)} steps, limit {self._max_points} points"
            )

    async def now(self) -> float:
        """The server's clock, epoch seconds."""
        # The cheapest query: a source that cannot answer it cannot answer anything.
        answer = await self._query("time()", decisive=True)
        if len(answer.samples) != 1:
            raise SourceError(
                SourceErrorKind.DECODE,
                "Prometheus sent an answer that cannot be read",
                detail="time() gave no single sample",
            )
        # The time of the sample, not its value: VictoriaMetrics evaluates in the past and moves
        # the answer forward.
        return answer.samples[0].timestamp

    async def ranges_are_left_open(self) -> bool:
        """Whether a range selector excludes its left end, unlike in Prometheus 2.

        The behaviour is tested, since the version number says nothing about other servers with this
        API.
        """
        answer = await self.query("count_over_time(vector(1)[2m:1m])", at=600_000)
        return bool(answer.samples) and answer.samples[0].value < 3

    async def takes_lookback(self, selector: str, newest: float) -> bool:
        """Whether a query can set the lookback of plain selectors. ``newest`` is the time of the
        newest sample of ``selector``. The behaviour is tested, as above.
        """
        answer = await self._query(
            f"count({selector})", newest + 2 * _SHORT_SECONDS, lookback_delta_seconds=_SHORT_SECONDS
        )
        return not answer.samples

    async def takes_reach(self) -> bool:
        """Whether each selector can set its own lookback, as ``x[5m]`` does in MetricsQL. The
        behaviour is tested, as above.

        In MetricsQL a plain selector looks back little further than the interval of the samples.
        """
        if (await self.query("vector(0) / 0", at=600_000)).samples:
            # MetricsQL drops NaN. Other servers would refuse the next query, so it is not sent.
            return False
        try:
            answer = await self.query("default_rollup(vector(1)[2m:1m])", at=600_000)
        except SourceError as exc:
            if exc.kind not in (SourceErrorKind.BAD_DATA, SourceErrorKind.EXECUTION):
                raise
            return False
        return bool(answer.samples)

    async def series(self, matchers: Sequence[str], start: float, end: float) -> tuple[Labels, ...]:
        """The label sets that match any of the selectors, in label order."""
        form = _selection(matchers, start, end)
        found = await self._ask(
            RequestKind.SERIES, "/api/v1/series", list[dict[str, str]], form, post=True
        )
        return tuple(sorted(map(labels_of, found)))

    async def label_values(
        self, name: str, matchers: Sequence[str], start: float, end: float
    ) -> tuple[str, ...]:
        """The values of one label among the series that match, sorted."""
        label = _in_path(promql.Matcher(name, "=", "").name)
        form = _selection(matchers, start, end)
        return tuple(
            sorted(
                await self._ask(
                    RequestKind.LABELS, f"/api/v1/label/{label}/values", list[str], form
                )
            )
        )

    async def rules(self) -> tuple[RuleGroup, ...]:
        """The rule groups, alerting rules with their active alerts."""
        return tuple((await self._ask(RequestKind.RULES, "/api/v1/rules", _Groups)).groups)

    async def alerts(self) -> tuple[Alert, ...]:
        """The alerts that are pending or firing."""
        return tuple((await self._ask(RequestKind.ALERTS, "/api/v1/alerts", _Alerts)).alerts)

    async def buildinfo(self) -> BuildInfo:
        """The server's version."""
        return await self._ask(RequestKind.BUILDINFO, "/api/v1/status/buildinfo", BuildInfo)

    async def runtimeinfo(self) -> RuntimeInfo:
        """When the server was started; only Prometheus itself reports it."""
        return await self._ask(RequestKind.RUNTIMEINFO, "/api/v1/status/runtimeinfo", RuntimeInfo)

    async def _ask(
        self,
        request: RequestKind,
        path: str,
        kind: type[_T],
        form: Form = (),
        *,
        post: bool = False,
    ) -> _T:
        async with self._call(request) as call:
            send = call.post_form if post else call.get
            return wire.parse_data(await send(path, form, small=request in _SMALL), kind)

    @asynccontextmanager
    async def _call(self, kind: RequestKind, *, decisive: bool = False) -> AsyncIterator[Call]:
        async with self._breaker.guard(decisive=decisive) as trial:
            with self._timed(kind):
                async with self._transport.call(may_repeat=not trial) as call:
                    yield call

    @contextmanager
    def _timed(self, kind: RequestKind) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        except SourceError as exc:
            self._telemetry.request_done(kind, exc.kind, time.monotonic() - started)
            raise
        self._telemetry.request_done(kind, None, time.monotonic() - started)


def _in_path(label: str) -> str:
    """A label's name as a part of a path, with other characters escaped as Prometheus does it."""
    if is_plain_label(label):
        return label
    escaped = (
        "__" if c == "_" else c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in label
    )
    return "U__" + "".join(escaped)


def _selection(matchers: Sequence[str], start: float, end: float) -> list[tuple[str, str]]:
    times = [("start", f"{start:.3f}"), ("end", f"{end:.3f}")]
    return [("match[]", matcher) for matcher in matchers] + times


def _halves(grid: Grid) -> tuple[Grid, Grid]:
    step = grid.step_seconds
    middle = grid.start + len(grid) // 2 * step
    return Grid(grid.start, middle - step, step), Grid(middle, grid.end, step)


def _pieces(grid: Grid, steps: int) -> list[Grid]:
    span = (steps - 1) * grid.step_seconds
    starts = range(grid.start, grid.end + 1, steps * grid.step_seconds)
    return [Grid(s, min(s + span, grid.end), grid.step_seconds) for s in starts]
