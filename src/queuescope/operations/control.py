"""The only way to an effect: right, challenge, audited intent, effect, audited outcome.

Nothing is done before the audit has its intent, and nothing is ever retried automatically.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from queuescope.errors import (
    AuditError,
    BrokerError,
    JobStoreError,
    OutcomeUnknownError,
    PurgeError,
    QueuescopeError,
    RefusalReason,
    RefusedError,
)
from queuescope.operations.access import Access, Actor, Role
from queuescope.operations.audit import Outcome, Result
from queuescope.operations.request import Operation, Plan, Request
from queuescope.operations.store import OperationsStore
from queuescope.shown_text import one_line

logger = logging.getLogger(__name__)

_REFUSALS_PER_MINUTE = 60
_NOT_DONE = "Nothing was done"


class Effect(Protocol):
    """Carries out one kind of operation. Both methods raise ``BrokerError``, ``JobStoreError``,
    ``PurgeError`` and ``RefusedError``; ``carry_out`` also ``OutcomeUnknownError``.
    """

    def count(self, request: Request) -> int:
        """How many things it would affect now; refuses a request with nothing to do."""

    def carry_out(self, request: Request, operation_id: str) -> Outcome:
        """Do it, once for each operation id ``operation_id``. The outcome need not contain the id.

        A ``RefusedError`` here means that nothing was done.
        """


class Operations:
    """Plans and carries out operations. Threads may share one; replicas share its database.

    ``effects`` are the possible operations; ``clock`` is in epoch seconds. ``warnings`` return
    what is risky about a request, may be empty; a warning has to be confirmed by typing. They raise
    what ``count`` of an effect raises, and ``AuditError``. ``missing`` are the operations that the
    broker cannot do, each with the reason as a sentence.
    """

    def __init__(
        self,
        store: OperationsStore,
        access: Access,
        effects: Mapping[Operation, Effect],
        *,
        clock: Callable[[], float] = time.time,
        warnings: Mapping[Operation, Callable[[Request], str]] | None = None,
        missing: Mapping[Operation, str] | None = None,
    ) -> None:
        self._store = store
        self._warnings = warnings or {}
        self._missing = missing or {}
        self._access = access
        self._effects = effects
        self._clock = clock
        self._refusals: deque[float] = deque(maxlen=_REFUSALS_PER_MINUTE)

    def plan(self, actor: Actor, request: Request) -> Plan:
        """What ``request`` would affect now, with the challenge to carry it out.

        Raises ``RefusedError`` (no right, nothing to do, another operation under way),
        ``BrokerError``, ``JobStoreError``, ``PurgeError`` and ``AuditError``.
        """
        self._access.require(actor, request, self._clock())
        count = self._effect(request).count(request)
        return self._store.plan(actor, request, count, warning=self._warning(request))

    def carry_out(self, actor: Actor, request: Request, token: str, typed: str = "") -> Outcome:
        """Carry out the plan with ``token``, which is valid once.

        Raises ``RefusedError``, ``AuditError``, ``BrokerError``, ``JobStoreError`` and
        ``PurgeError`` only before anything was done. After that the outcome says what happened.
        """
        role = self._access.role_of(actor)
        try:
            role = self._access.require(actor, request, self._clock())
            effect = self._effect(request)
            plan = self._store.planned(token, actor, request)
            plan.require_confirmed(typed)
            count = effect.count(request)
            plan.require_not_grown(count)
            # A warning that is new since the plan must be confirmed as well.
            plan = replace(plan, warning=self._warning(request))
            plan.require_confirmed(typed)
            # The right may have been lost while the broker was asked.
            role = self._access.require(actor, request, self._clock())
            operation_id = self._store.begin(plan, actor, role, count)
        except (RefusedError, BrokerError, JobStoreError, PurgeError) as exc:
            self._record_refusal(actor, role, request, exc)
            raise
        outcome = Outcome(Result.UNKNOWN, "The server had an internal error.", count, operation_id)
        try:
            outcome = replace(
                self._apply(effect, request, operation_id, count), operation_id=operation_id
            )
        finally:
            # Also for an unexpected error, or when the process ends.
            is_recorded = self._record(actor, role, request, outcome)
        if is_recorded:
            return outcome
        detail = f"{outcome.detail} The audit could not be written afterwards."
        return replace(outcome, detail=detail, is_recorded=False)

    def _warning(self, request: Request) -> str:
        warning = self._warnings.get(request.operation)
        return "" if warning is None else warning(request)

    def _effect(self, request: Request) -> Effect:
        if why := self._missing.get(request.operation):
            raise RefusedError(RefusalReason.NOT_POSSIBLE, why)
        effect = self._effects.get(request.operation)
        if effect is None:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE, f"This dashboard cannot {request.operation} anything."
            )
        return effect

    @staticmethod
    def _apply(effect: Effect, request: Request, operation_id: str, count: int) -> Outcome:
        try:
            return effect.carry_out(request, operation_id)
        except RefusedError as exc:
            return Outcome(Result.REFUSED, f"{exc} {_NOT_DONE}.")
        except OutcomeUnknownError as exc:
            return Outcome(Result.UNKNOWN, str(exc), count)
        except BrokerError as exc:
            if exc.may_have_acted:
                detail = f"Requested, but {exc}: it is unknown whether it happened."
                return Outcome(Result.UNKNOWN, detail, count)
            return Outcome(Result.FAILED, f"{_NOT_DONE}: {exc}.")
        except (AuditError, JobStoreError, PurgeError) as exc:
            return Outcome(Result.FAILED, f"{_NOT_DONE}: {exc}.")

    def _record(self, actor: Actor, role: Role, request: Request, outcome: Outcome) -> bool:
        try:
            self._store.end(outcome, actor, role, request)
        except AuditError as exc:
            logger.error(  # noqa: TRY400 - the cause may contain secrets
                "operation %s (%s): its outcome, %s, is not in the audit: %s",
                *(outcome.operation_id, one_line(request.words()), outcome.result, exc),
            )
            return False
        return True

    def _record_refusal(
        self, actor: Actor, role: Role, request: Request, error: QueuescopeError
    ) -> None:
        """Record a refusal if possible; past a limit only in the log, or they could fill the
        disk.
        """
        now = self._clock()
        if len(self._refusals) == self._refusals.maxlen and now - self._refusals[0] < 60:
            logger.warning("refused %s: %s", one_line(actor.name), one_line(str(error)))
            return
        self._refusals.append(now)
        try:
            self._store.refuse(actor, role, request, str(error))
        except AuditError as exc:
            logger.warning(
                "refused %s: %s; %s",
                one_line(actor.name),
                one_line(str(error)),
                exc,
            )
