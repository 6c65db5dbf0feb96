"""One operation of one visitor, from the choice to the outcome.

It is planned once and sent once: if a page repeats, replays or presses twice, it gets the outcome
of that one operation. The token of the plan stays on the server.
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
# The sentences of these reasons are about an earlier operation.
_ABOUT_THE_FIRST = frozenset({RefusalReason.OVERTAKEN, RefusalReason.CHALLENGE_USED})
_REASONS = (RefusedError, AuditError, BrokerError, JobStoreError, PurgeError)


class PendingOperation:
    """An operation in progress. Thread-safe.

    ``request`` is None until the page gets it from ``choose``. While there is no ``outcome``, the
    ``plan`` waits for confirmation; ``remark`` says what was wrong with the last attempt to confirm
    it. An outcome ``pending`` means that the operation was sent and has not ended yet.
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
        """A name for its form on the page; not a secret."""
        self.request = request
        self.choose = choose
        self.plan: Plan | None = None
        self.outcome: Outcome | None = None
        self.outcome_at = 0.0
        """When the outcome was set, in epoch seconds."""
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
        """The same operation from its start."""
        request = self.request if self.choose is None else None
        return PendingOperation(self._operations, request, self.choose)

    def prepare(self, actor: Actor | Unidentified) -> None:
        """Make the plan with its count and challenge, unless there is one."""
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
        """Carry it out, unless it was sent before: then only wait for its outcome."""
        with self._lock:
            plan = self.plan
            if self._call is None and self.outcome is None and plan is not None:
                if isinstance(actor, Unidentified):
                    self._set_outcome(Result.REFUSED, actor.problem)
                    return
                send = partial(self._operations.carry_out, actor, plan.request, plan.token, typed)
                self.remark = ""
                try:
                    self._call = BackgroundCall(send)
                except RefusedError as exc:
                    self._set_refusal(exc)
            self._wait(self._patience_seconds)

    def look(self, *, patience_seconds: float = OUTCOME_PATIENCE_SECONDS) -> None:
        """Take the outcome of an operation that has taken long, if there is one."""
        # The thread that sends it holds the lock until there is an outcome.
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
            self._set_outcome(Result.PENDING, "It was sent, and there is no answer yet.")
        except RuntimeError:
            self._set_outcome(Result.UNKNOWN, f"{_FAULT} It is not known whether it happened.")
        except _REASONS as exc:
            is_mistyped = isinstance(exc, RefusedError) and (
                exc.reason is RefusalReason.WRONG_PHRASE
            )
            # If nothing had to be typed when it was planned, it is planned again.
            if is_mistyped and self.plan is not None and self.plan.phrase:
                # The challenge was not used, so the typed text can be corrected.
                self._call, self.outcome, self.remark = None, None, str(exc)
            else:
                self._set_refusal(exc)
        else:
            self.outcome_at, self.outcome = self._clock(), outcome

    def _set_refusal(self, error: Exception) -> None:
        """Set the outcome for an error that was raised before anything was done."""
        if isinstance(error, RefusedError):
            first = error.reason in _ABOUT_THE_FIRST
            self._set_outcome(Result.REFUSED, str(error) if first else f"{error} {_NOTHING}.")
        elif isinstance(error, AuditError):
            self._set_outcome(
                Result.REFUSED, f"{_NOTHING}: no operation runs without an audit, and {error}."
            )
        else:
            self._set_outcome(Result.FAILED, f"{_NOTHING}: {error}.")

    def _set_outcome(self, result: Result, words: str) -> None:
        self.outcome_at, self.outcome = self._clock(), Outcome(result, words)
