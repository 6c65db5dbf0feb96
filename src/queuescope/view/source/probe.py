"""Asks the source whether it answers, what its time is, and whether it is still the same server;
once for all views.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.known import Known
from queuescope.prometheus import PrometheusClient
from queuescope.view.source.state import Contact, contact_of

_SHARED_SECONDS = 0.5
_PATIENCE_IN_OUTAGE_SECONDS = 1.0
_EPOCH_SECONDS = 300.0
_NO_EPOCH_KEPT_SECONDS = 600.0
_FAILED_KEPT_SECONDS = 30.0
_PASSING = (
    SourceErrorKind.CANNOT_CONNECT,
    SourceErrorKind.TIMEOUT,
    SourceErrorKind.BUSY,
    SourceErrorKind.SERVER_ERROR,
)


class Probe:
    """Keeps contact with one source, by asking for its time.

    The client's circuit breaker uses the answer: when this query fails, the panels' queries fail at
    once instead of each waiting for a timeout.
    """

    def __init__(self, client: PrometheusClient, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._contact: Known[Contact] = Known()
        self._asked_at = float("-inf")
        self._contact_at = float("-inf")
        self._contact_connections = 0
        self._epoch_asked_at = float("-inf")
        self._epoch_kept_seconds = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def contact(self) -> Known[Contact]:
        return self._contact

    async def renew(self) -> Known[Contact]:
        """Fetch its time now, unless that was just done.

        In an outage this waits for the answer for one second only, so that the screen is not
        delayed; the query continues in the background.
        """
        # The absolute value: a clock that was set back must not silence the probe until it catches
        # up.
        just_asked = abs(self._clock() - self._asked_at) < _SHARED_SECONDS
        if self._task is None and not just_asked:
            self._task = asyncio.create_task(self._renew_clock())
        elif self._task is None and self._is_epoch_due():
            self._task = asyncio.create_task(self._renew_epoch())
        if self._task is not None:
            patience = None if self._contact.error is None else _PATIENCE_IN_OUTAGE_SECONDS
            await asyncio.wait([self._task], timeout=patience)
        return self._contact

    def note_answer(self, source_now: float, asked_at: float, answered_at: float) -> None:
        """Note that another query was answered, and the source's time in that answer.

        It replaces a query of our own, except for the epoch: that is fetched from time to time, and
        after each new connection, such as after a restart of the server.
        """
        if not self._contact.is_fresh:
            return
        if self._client.connections != self._contact_connections:
            return
        offset = source_now - (asked_at + answered_at) / 2
        contact = replace(contact_of(self._contact), offset_seconds=offset)
        self._contact = self._contact.answered(contact, answered_at)
        self._asked_at = answered_at

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _is_epoch_due(self) -> bool:
        if self._contact.error is not None:
            return False
        return not 0 <= self._clock() - self._contact_at < _EPOCH_SECONDS

    async def _renew_clock(self) -> None:
        asked_at = self._clock()
        try:
            source_now = await self._client.now()
            answered_at = self._clock()
            epoch = await self._epoch()
        except SourceError as exc:
            self._contact = self._contact.failed(exc, asked_at)
        else:
            offset = source_now - (asked_at + answered_at) / 2
            self._contact = self._contact.answered(Contact(offset, epoch), answered_at)
            self._note_contact()
        finally:
            self._asked_at = self._clock()
            self._task = None

    async def _renew_epoch(self) -> None:
        """Fetch the epoch of a source that has just answered."""
        try:
            epoch = await self._epoch()
            self._contact = self._contact.map(lambda contact: replace(contact, epoch=epoch))
            self._note_contact()
        finally:
            self._task = None

    def _note_contact(self) -> None:
        self._contact_at = self._clock()
        self._contact_connections = self._client.connections

    async def _epoch(self) -> str | None:
        """Fetched with every contact, but rarely if the source has none."""
        if 0 <= self._clock() - self._epoch_asked_at < self._epoch_kept_seconds:
            return contact_of(self._contact).epoch
        try:
            started = (await self._client.runtimeinfo()).start_time or None
            self._epoch_kept_seconds = 0.0 if started else _NO_EPOCH_KEPT_SECONDS
        except SourceError as exc:
            # The source answers queries for data, so its known epoch is kept.
            passing = exc.kind in _PASSING
            started = contact_of(self._contact).epoch if passing else None
            self._epoch_kept_seconds = _FAILED_KEPT_SECONDS if passing else _NO_EPOCH_KEPT_SECONDS
        self._epoch_asked_at = self._clock()
        return started
