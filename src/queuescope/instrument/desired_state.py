"""Applies the desired state in a worker: which queues are paused, and which jobs are revoked.

While the broker cannot be read, the last known state stays in force; a worker that has not read one
yet starts no job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from celery.worker import state

from queuescope.broker.desired import DesiredState, is_implausible
from queuescope.broker.protocol import WorkerConnection
from queuescope.errors import BrokerError, BrokerErrorKind, DamagedError

logger = logging.getLogger(__name__)

_REVOKED_SECONDS = 600.0
_DAMAGED = "the desired state of the queues is damaged in the broker"
# These errors do not go away by themselves, and must not stop a project's work.
_LASTING = frozenset({BrokerErrorKind.NO_PERMISSION, BrokerErrorKind.UNUSABLE})


class DesiredStateFollower:
    """Reads the desired state and passes it to ``apply``. One thread at a time."""

    def __init__(self, connection: WorkerConnection, apply: Callable[[DesiredState], None]) -> None:
        self._connection = connection
        self._apply = apply
        self._known = DesiredState()
        self.is_known = False
        self._is_damaged = False
        self._revocations: int | None = None
        self._revocations_at = 0.0

    def follow(self, *, reread_revoked: bool = False) -> None:
        """Read and apply it; ``reread_revoked`` reads the revoked jobs even if none were added.

        A damaged state changes nothing: the known one stays in force. Raises ``BrokerError``.
        """
        if reread_revoked:
            self._revocations = None
        stored = self._connection.desired()
        held = stored.state
        if held is not None and self.is_known and is_implausible(held, self._known):
            held = None
        self._log_damage(is_damaged=held is None or stored.revocations is None)
        if held is not None:
            is_behind = self.is_known and held.revision < self._known.revision
            # An implausible known state was not decided by operators; the stored one replaces it.
            if is_behind and not (held.revision and is_implausible(self._known, held)):
                # The broker has lost its data; paused queues stay paused, also for other workers.
                held = self._connection.publish(self._known)
            self._set(held)
        elif not self.is_known:
            raise BrokerError(BrokerErrorKind.UNUSABLE, _DAMAGED)
        is_due = time.monotonic() - self._revocations_at > _REVOKED_SECONDS
        if stored.revocations != self._revocations or is_due:
            self._revocations = stored.revocations
            self._revocations_at = time.monotonic()
            try:
                state.revoked.update(self._connection.revoked())
            except DamagedError as exc:
                logger.warning("revoked jobs may start: %s", exc)

    def stop_waiting(self, exc: BrokerError) -> None:
        """Treat nothing as paused if ``exc`` means that the state will never be readable."""
        if exc.kind in _LASTING and not self.is_known:
            logger.error(
                "this worker ignores pauses: %s; or turn operations off with "
                "instrument(app, operations=False)",
                exc,
            )
            self._set(DesiredState())

    def _set(self, desired: DesiredState) -> None:
        self.is_known = True
        self._known = desired
        self._apply(desired)

    def _log_damage(self, *, is_damaged: bool) -> None:
        if is_damaged and not self._is_damaged:
            logger.warning("%s; the last known state stays in force", _DAMAGED)
        self._is_damaged = is_damaged
