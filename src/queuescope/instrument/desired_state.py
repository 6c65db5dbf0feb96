"""A worker follows the desired state: what is paused, and which jobs are revoked.

Where the broker cannot be asked, the last known state stays in force; a worker that has never known
one begins nothing until it does.
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
_DAMAGED = "what is desired of the queues is damaged in the broker"
# These do not pass by themselves, and a project must not stand still for them.
_LASTING = frozenset({BrokerErrorKind.NO_PERMISSION, BrokerErrorKind.UNUSABLE})


class DesiredStateFollower:
    """Reads the desired state and hands it to ``apply``. One thread at a time."""

    def __init__(self, connection: WorkerConnection, apply: Callable[[DesiredState], None]) -> None:
        self._connection = connection
        self._apply = apply
        self._known = DesiredState()
        self.is_known = False
        self._is_damaged = False
        self._revocations: int | None = None
        self._revocations_at = 0.0

    def follow(self, *, anew: bool = False) -> None:
        """Read and apply it; ``anew`` reads the revoked jobs in any case.

        What is damaged changes nothing: what was known stays in force. Raises ``BrokerError``.
        """
        if anew:
            self._revocations = None
        stored = self._connection.desired()
        held = stored.state
        if held is not None and self.is_known and is_implausible(held, self._known):
            held = None
        self._log_damage(is_damaged=held is None or stored.revocations is None)
        if held is not None:
            is_behind = self.is_known and held.revision < self._known.revision
            # What no operators decided was learned from a stranger, and the others correct it.
            if is_behind and not (held.revision and is_implausible(self._known, held)):
                # The broker has lost its data; what was paused stays so, for other workers, too.
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

    def go_on_without(self, exc: BrokerError) -> None:
        """Where the desired state will never be readable, nothing counts as paused."""
        if exc.kind in _LASTING and not self.is_known:
            logger.error(
                "this worker will not obey a pause: %s; or leave operations out with "
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
            logger.warning("%s; what was known stays in force", _DAMAGED)
        self._is_damaged = is_damaged
