"""One operation of one visitor, from what they choose to what became of it.

It is planned once and sent once: whatever a page repeats, replays or presses twice, it is told
what the one operation came to. The token of its plan stays in here, on the server.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from functools import partial

from queuescope.dashboard.auth.identity import Unidentified
from queuescope.dashboard.ui.background_call import BackgroundCall
from queuescope.errors import (
    AuditError,
    BrokerError,
    JobStoreError,
    PurgeError,
    RefusalReason,
    RefusedError,
)
from queuescope.operations.access import Actor
from queuescope.operations.audit import Outcome, Result
from queuescope.operations.control import Operations
from queuescope.operations.request import Plan, Request

OUTCOME_PATIENCE_SECONDS = 20.0
"""How long a page waits for an outcome before it says that there is none yet."""
_NOTHING = "Nothing was done"
_FAULT = "The server met an error of its own, which is in its log."
# These sentences tell of an operation that was first.
_ABOUT_THE_FIRST = frozenset({RefusalReason.OVERTAKEN, RefusalReason.CHALLENGE_USED})
_REASONS = (RefusedError, AuditError, BrokerError, JobStoreError, PurgeError)


class PendingOperation:
    """An operation on its way. Threads may share one.

    ``request`` is what is asked for; None until it is chosen by ``choose``, which the page asks.
    Of ``plan`` and ``outcome`` at most one is to be shown: as long as there is no outcome, the plan
    waits to be confirmed. ``remark`` tells what was wrong with the last attempt to. An outcome that
    is ``pending`` was sent for, and has not come yet.
    """

    def __init__(
        self,
        operations: Operations,
        request: Request | None = None,
        choose: Callable[[], Request | None] | None = None,
        *,
        patience_seconds: float = OUTCOME_PATIENCE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.key = secrets.token_hex(6)
        """Names its fields on the page; of no use to anyone else."""
        self.request = request
        self.choose = choose
        self.plan: Plan | None = None
        self.outcome: Outcome | None = None
        self.outcome_at = 0.0
        """When the outcome was told, in epoch seconds."""
        self.remark = ""
        self._operations = operations
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._call: BackgroundCall[Outcome] | None = None

    @property
    def was_sent(self) -> bool:
        return self._call is not None

    def again(self) -> PendingOperation:
        """The same from its beginning."""
        request = self.request if self.choose is None else None
        return PendingOperation(self._operations, request, self.choose)

    def prepare(self, actor: Actor | Unidentified) -> None:
        """Count what it touches and ask for the challenge, unless that was done."""
        with self._lock:
            if self.request is None or self.plan is not None or self.outcome is not None:
                return
            if isinstance(actor, Unidentified):
                self._set_outcome(Result.REFUSED, actor.problem)
                return
            try:
                call = BackgroundCall(partial(self._operations.plan, actor, self.request))
                self.plan = call.result(self._patience_seconds)
            except TimeoutError:
                self._set_outcome(Result.FAILED, f"There was no answer in time. {_NOTHING}.")
            except RuntimeError:
                self._set_outcome(Result.FAILED, f"{_FAULT} {_NOTHING}.")
            except _REASONS as exc:
                self._set_refusal(exc)

    def send(self, actor: Actor | Unidentified, typed: str = "") -> None:
        """Carry it out, unless it was sent before: then only its outcome is waited for."""
        with self._lock:
            plan = self.plan
            if self._call is None and self.outcome is None and plan is not None:
                if isinstance(actor, Unidentified):
                    self._set_outcome(Result.REFUSED, actor.problem)
                    return
                send = partial(self._operations.act, actor, plan.request, plan.token, typed)
                self.remark = ""
                try:
                    self._call = BackgroundCall(send)
                except RefusedError as exc:
                    self._set_refusal(exc)
            self._wait(self._patience_seconds)

    def look(self, *, patience_seconds: float = OUTCOME_PATIENCE_SECONDS) -> None:
        """Take in the outcome of an operation that has taken long."""
        # Whoever sends it holds the lock until there is one.
        if not self._lock.acquire(timeout=patience_seconds):
            return
        try:
            self._wait(patience_seconds)
        finally:
            self._lock.release()

    def _wait(self, patience_seconds: float) -> None:
        if self._call is None or (self.outcome and self.outcome.result is not Result.PENDING):
            return
        try:
            outcome = self._call.result(patience_seconds)
        except TimeoutError:
            self._set_outcome(Result.PENDING, "It was asked for, and there is no answer yet.")
        except RuntimeError:
            self._set_outcome(Result.UNKNOWN, f"{_FAULT} It is not known whether it happened.")
        except _REASONS as exc:
            is_mistyped = isinstance(exc, RefusedError) and (
                exc.reason is RefusalReason.WRONG_PHRASE
            )
            # Where nothing was to be typed when it was planned, it is planned anew.
            if is_mistyped and self.plan is not None and self.plan.phrase:
                # The challenge was not used: what was typed can be put right.
                self._call, self.outcome, self.remark = None, None, str(exc)
            else:
                self._set_refusal(exc)
        else:
            self.outcome_at, self.outcome = self._clock(), outcome

    def _set_refusal(self, error: Exception) -> None:
        """Of what was raised before anything was done."""
        if isinstance(error, RefusedError):
            first = error.reason in _ABOUT_THE_FIRST
            self._set_outcome(Result.REFUSED, str(error) if first else f"{error} {_NOTHING}.")
        elif isinstance(error, AuditError):
            self._set_outcome(Result.REFUSED, f"{_NOTHING}: no act without an audit, and {error}.")
        else:
            self._set_outcome(Result.FAILED, f"{_NOTHING}: {error}.")

    def _set_outcome(self, result: Result, words: str) -> None:
        self.outcome_at, self.outcome = self._clock(), Outcome(result, words)
