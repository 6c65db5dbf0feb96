"""Builds everything that operations need from plain arguments."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from queuescope.broker.capabilities import Ability
from queuescope.broker.connect import broker_for
from queuescope.broker.desired import DesiredState
from queuescope.broker.fleet import Fleet, fleet_of
from queuescope.broker.purges import Purges
from queuescope.broker.timings import DEFAULT_TIMINGS, WorkerTimings
from queuescope.errors import AuditError, BrokerError, OutcomeUnknownError, PurgeError
from queuescope.operations.access import Access
from queuescope.operations.audit import Entry
from queuescope.operations.control import Effect, Operations
from queuescope.operations.jobs import JobClaims, RetryJobs, RevokeJob, ScalePool
from queuescope.operations.pauses import PauseAndResume
from queuescope.operations.purges import PurgeQueue, RestorePurge
from queuescope.operations.request import Operation
from queuescope.operations.store import OperationsStore

_NEEDS = {
    Operation.PAUSE: Ability.PAUSE,
    Operation.RESUME: Ability.PAUSE,
    Operation.PURGE: Ability.PURGE,
    Operation.RESTORE: Ability.RESTORE,
    Operation.REVOKE: Ability.REVOKE,
    Operation.SCALE: Ability.SCALE,
    Operation.RETRY: Ability.REQUEUE,
}
"""The ability that a broker needs for each operation."""


class OperationsContext:
    """One broker and its operations: their store, rights and effects.

    Nothing is opened before the first use. Without ``claims`` (a job history) there are no retries.
    ``queues`` are known in addition to those that workers serve.
    """

    def __init__(
        self,
        *,
        broker_url: str,
        store_url: str,
        folder: Path,
        access: Access,
        claims: JobClaims | None = None,
        queues: Sequence[str] = (),
        key_prefix: str = "",
        transport_options: Mapping[str, Any] | None = None,
        clock: Callable[[], float] | None = None,
        timings: WorkerTimings = DEFAULT_TIMINGS,
    ) -> None:
        """Purges are exported to ``folder``. ``clock`` returns epoch seconds. By default the audit
        uses the broker's clock, so that the entries of several servers are in order, and rights
        expire by this machine's clock. Raises ``ConfigurationError``.
        """
        self.named_queues = tuple(queues)
        self.broker = broker_for(
            broker_url,
            key_prefix=key_prefix,
            transport_options=transport_options,
            timings=timings,
        )
        self.purges = Purges(self.broker, folder)
        self.store = OperationsStore(store_url, clock=clock or self.broker.clock.now)
        self._pauses = PauseAndResume(self.store.desired, self.broker, self.named_queues)
        restore = RestorePurge(self.purges, self.store.audit)
        effects: dict[Operation, Effect] = {
            Operation.PAUSE: self._pauses,
            Operation.RESUME: self._pauses,
            Operation.PURGE: PurgeQueue(self.broker, self.purges, self.named_queues),
            Operation.RESTORE: restore,
            Operation.REVOKE: RevokeJob(self.broker, self.fleet),
            Operation.SCALE: ScalePool(self.broker, self.fleet),
        }
        if claims is not None:
            effects[Operation.RETRY] = RetryJobs(claims, self.broker, self.fleet)
        self.operations = Operations(
            self.store,
            access,
            effects,
            clock=clock or time.time,
            warnings={Operation.RESTORE: restore.warning},
            missing=self.missing,
        )

    @property
    def missing(self) -> Mapping[Operation, str]:
        """The operations that the broker cannot do, each with the reason as a sentence."""
        capabilities = self.broker.capabilities
        return {
            operation: capabilities.why_not(ability)
            for operation, ability in _NEEDS.items()
            if not capabilities.has(ability)
        }

    def fleet(self) -> Fleet:
        """The workers from their reports, without queue depths. Raises ``BrokerError``."""
        return fleet_of(self.broker.workers(), DesiredState())

    def tidy(self) -> list[Entry]:
        """Finish what ended processes left: operations without an outcome, interrupted purges, a
        broker without its copy of the desired state. Returns the outcomes that were written. Old
        reports of workers are not dropped here, since the job history needs them first.

        Call it at the start and every few seconds. What fails is left for the next call; raises
        the last ``AuditError``, ``BrokerError``, ``PurgeError`` or ``OutcomeUnknownError``.
        """
        failure: AuditError | BrokerError | PurgeError | OutcomeUnknownError | None = None
        written: list[Entry] = []
        if not self.broker.clock.is_compared:
            # With a clock that is ahead, an operation of another server would seem abandoned.
            with suppress(BrokerError):
                self.broker.now()
        try:
            written = self.store.end_abandoned()
        except AuditError as exc:
            failure = exc
        for step in (self.purges.recover, self._pauses.reconcile):
            try:
                step()
            except (AuditError, BrokerError, PurgeError, OutcomeUnknownError) as exc:
                failure = exc
        if failure is not None:
            raise failure
        return written

    def close(self) -> None:
        """Close every connection."""
        self.broker.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
