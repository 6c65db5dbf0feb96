"""The one way to an effect: right, challenge, audited intent, effect, audited outcome.

Nothing is done that the audit does not hold first, and nothing is ever tried again by itself.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from queuescope.operations.audit import Entry, Result
from queuescope.operations.request import Operation, Request
from queuescope.operations.store import OperationsStore
from queuescope.shown_text import one_line

logger = logging.getLogger(__name__)

_REFUSALS_PER_MINUTE = 60
_NOT_DONE = "Nothing was done"


@dataclass(frozen=True, slots=True)
class Done:
    """What an effect did: to how many, and in a sentence that may be shown to anyone."""

    count: int
    detail: str


class Effect(Protocol):
    """How one operation is carried out. Both methods raise ``BrokerError``, ``JobStoreError``,
    ``PurgeError`` and ``RefusedError``; ``carry_out`` also ``OutcomeUnknownError``.
    """

    def count(self, request: Request) -> int:
        """How many it would touch now; refuses what there is nothing to do for."""

    def carry_out(self, request: Request, act: str) -> Done:
        """Do it, once. ``act`` is its id; with the same one nothing is done twice.

        A ``RefusedError`` here means that nothing was done.
        """


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for and how many it touches, to be confirmed with ``token``.

    ``phrase`` must be typed then, unless it is empty. ``expires_at`` is in epoch seconds.
    ``doubt`` is what speaks against it, in sentences, or empty.
    """

    request: Request
    count: int
    phrase: str
    token: str
    expires_at: float
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an act, in ``detail`` as a sentence. ``is_recorded`` is false when the audit
    could not be written any more: it will say ``unknown`` there.
    """

    act: str
    result: Result
    count: int
    detail: str
    is_recorded: bool = True


class Operations:
    """What operators ask for. Threads may share one; replicas share its database.

    ``effects`` are the ways to carry out what is possible here; ``clock`` is in epoch seconds.
    ``doubts`` say of a request what speaks against it, or nothing, and raise what ``count`` of an
    effect raises, and ``AuditError``; what they say has to be confirmed by typing.
    """

    def __init__(
        self,
        store: OperationsStore,
        access: Access,
        effects: Mapping[Operation, Effect],
        *,
        clock: Callable[[], float] = time.time,
        doubts: Mapping[Operation, Callable[[Request], str]] | None = None,
    ) -> None:
        self._store = store
        self._doubts = doubts or {}
        self._access = access
        self._effects = effects
        self._clock = clock
        self._refusals: deque[float] = deque(maxlen=_REFUSALS_PER_MINUTE)

    def start(self) -> list[Entry]:
        """Say ``unknown`` of acts that an ended server left open; returns these outcomes.

        Called at every start, and now and then: a replica may have ended. Raises ``AuditError``.
        """
        return self._store.abandon()

    def role_of(self, actor: Actor) -> Role:
        return self._access.role_of(actor)

    def plan(self, actor: Actor, request: Request) -> Plan:
        """What ``request`` would touch now, with the challenge to carry it out.

        Raises ``RefusedError`` (no right, nothing to do, another act underway), ``BrokerError``,
        ``JobStoreError``, ``PurgeError`` and ``AuditError``.
        """
        self._access.demand(actor, request, self._clock())
        count = self._effect(request).count(request)
        doubt = self._doubt(request)
        token, challenge = self._store.plan(actor, request, count)
        return Plan(
            request,
            count,
            request.phrase(count) if request.is_destructive or doubt else "",
            token,
            challenge.expires_at_ms / 1000,
            doubt,
        )

    def act(self, actor: Actor, request: Request, token: str, typed: str = "") -> Outcome:
        """Carry out what was planned under ``token``, which holds once.

        Raises ``RefusedError``, and before anything was done ``AuditError``, ``BrokerError``,
        ``JobStoreError`` and ``PurgeError``. From the effect on, the outcome tells what happened.
        """
        role = self._access.role_of(actor)
        try:
            role = self._access.demand(actor, request, self._clock())
            effect = self._effect(request)
            planned = self._store.look_up(token, actor, request)
            planned.confirm(typed)
            count = effect.count(request)
            planned.compare(count)
            doubt = self._doubt(request)
            _demand_typed(doubt, typed, request.phrase(planned.count))
            # Asking took its time, in which a right may have gone.
            role = self._access.demand(actor, request, self._clock())
            act = self._store.begin(token, actor, role, request, count, doubt=doubt)
        except (RefusedError, BrokerError, JobStoreError, PurgeError) as exc:
            self._record_refusal(actor, role, request, exc)
            raise
        outcome = Outcome(act, Result.UNKNOWN, count, "The server met an error of its own.")
        try:
            outcome = self._carry_out(effect, request, act, count)
        finally:
            # Also when a fault of ours, or the end of the process, passes through here.
            is_recorded = self._record(actor, role, request, outcome)
        if is_recorded:
            return outcome
        detail = f"{outcome.detail} The audit could not be written afterwards."
        return Outcome(act, outcome.result, outcome.count, detail, is_recorded=False)

    def _doubt(self, request: Request) -> str:
        doubt = self._doubts.get(request.operation)
        return "" if doubt is None else doubt(request)

    def _effect(self, request: Request) -> Effect:
        effect = self._effects.get(request.operation)
        if effect is None:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE, f"This dashboard cannot {request.operation} anything."
            )
        return effect

    @staticmethod
    def _carry_out(effect: Effect, request: Request, act: str, count: int) -> Outcome:
        try:
            done = effect.carry_out(request, act)
        except RefusedError as exc:
            return Outcome(act, Result.REFUSED, 0, f"{exc} {_NOT_DONE}.")
        except OutcomeUnknownError as exc:
            return Outcome(act, Result.UNKNOWN, count, str(exc))
        except BrokerError as exc:
            if exc.may_have_acted:
                detail = f"Asked for, but {exc}: it is not known whether it happened."
                return Outcome(act, Result.UNKNOWN, count, detail)
            return Outcome(act, Result.FAILED, 0, f"{_NOT_DONE}: {exc}.")
        except (AuditError, JobStoreError, PurgeError) as exc:
            return Outcome(act, Result.FAILED, 0, f"{_NOT_DONE}: {exc}.")
        return Outcome(act, Result.DONE, done.count, done.detail)

    def _record(self, actor: Actor, role: Role, request: Request, outcome: Outcome) -> bool:
        try:
            self._store.end(
                outcome.act,
                actor,
                role,
                request,
                count=outcome.count,
                result=outcome.result,
                detail=outcome.detail,
            )
        except AuditError as exc:
            logger.error(  # noqa: TRY400 - the cause may hold what no log should
                "act %s (%s): its outcome, %s, is not in the audit: %s",
                *(outcome.act, one_line(request.words()), outcome.result, exc),
            )
            return False
        return True

    def _record_refusal(
        self, actor: Actor, role: Role, request: Request, error: QueuescopeError
    ) -> None:
        """Refused is refused, recorded or not; and nobody may fill the disk by being refused."""
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


def _demand_typed(doubt: str, typed: str, phrase: str) -> None:
    """What is doubtful is confirmed by typing, also where the doubt came after the plan."""
    if doubt and typed.strip() != phrase:
        raise RefusedError(RefusalReason.WRONG_PHRASE, f"{doubt} To confirm, type “{phrase}”.")
