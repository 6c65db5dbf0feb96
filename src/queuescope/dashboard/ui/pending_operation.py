"""One wish of one visitor, from the plan to what became of it.

It is planned once and sent once: whatever a page repeats, replays or presses twice, it is told
what the one act came to. The token of its plan stays in here, on the server.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from queuescope.dashboard.auth.identity import Unidentified
from queuescope.dashboard.ui.background_call import Errand
from queuescope.errors import (
    AuditError,
    BrokerError,
    JobStoreError,
    PurgeError,
    RefusalReason,
    RefusedError,
)
from queuescope.operations.access import Actor
from queuescope.operations.request import Request

if TYPE_CHECKING:
    from queuescope.operations.control import Operations, Outcome, Plan

PATIENCE_SECONDS = 20.0
"""How long a page waits for an answer before it says that there is none yet."""
_NOTHING = "Nothing was done"
_FAULT = "The server met an error of its own, which is in its log."
# These sentences tell of an act that was first.
_TOLD_OF_THE_FIRST = frozenset({RefusalReason.OVERTAKEN, RefusalReason.CHALLENGE_USED})
_REASONS = (RefusedError, AuditError, BrokerError, JobStoreError, PurgeError)


class State(StrEnum):
    """What became of a wish; ``working``: it was sent, and no answer has come yet."""

    WORKING = "working"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a wish, in sentences that may be shown to anyone; ``at`` is epoch seconds."""

    state: State
    words: str
    at: float


class Wish:
    """A request on its way. Threads may share one.

    Of ``plan`` and ``answer`` at most one is to be shown: as long as there is no answer, the plan
    waits to be confirmed. ``remark`` tells what was wrong with the last attempt to.
    """

    def __init__(
        self,
        operations: Operations,
        request: Request,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.key = secrets.token_hex(6)
        """Names its fields on the page; of no use to anyone else."""
        self.operations = operations
        self.request = request
        self.plan: Plan | None = None
        self.answer: Answer | None = None
        self.remark = ""
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._act: Errand[Outcome] | None = None

    @classmethod
    def refused(cls, operations: Operations, request: Request, words: str) -> Wish:
        """One that cannot be granted."""
        made = cls(operations, request)
        made._tell(State.REFUSED, words)
        return made

    @property
    def was_sent(self) -> bool:
        return self._act is not None

    def prepare(self, actor: Actor | Unidentified) -> None:
        """Count what it touches and ask for the challenge, unless that was done."""
        with self._lock:
            if self.plan is not None or self.answer is not None:
                return
            if isinstance(actor, Unidentified):
                self._tell(State.REFUSED, actor.problem)
                return
            try:
                planning = Errand(lambda: self.operations.plan(actor, self.request))
                self.plan = planning.result(self._patience_seconds)
            except TimeoutError:
                self._tell(State.FAILED, f"There was no answer in time. {_NOTHING}.")
            except RuntimeError:
                self._tell(State.FAILED, f"{_FAULT} {_NOTHING}.")
            except _REASONS as exc:
                self._tell_why_not(exc)

    def fits(self, typed: str) -> bool:
        """Whether it is what the plan asks to type; what counts is what the effect says of it."""
        plan = self.plan
        return plan is None or not plan.phrase or typed.strip() == plan.phrase

    def send(self, actor: Actor | Unidentified, typed: str = "") -> None:
        """Carry it out, unless it was sent before: then only its answer is waited for."""
        with self._lock:
            if self._act is None and self.answer is None and self.plan is not None:
                if isinstance(actor, Unidentified):
                    self._tell(State.REFUSED, actor.problem)
                    return
                request, token = self.request, self.plan.token
                self.remark = ""
                try:
                    self._act = Errand(lambda: self.operations.act(actor, request, token, typed))
                except RefusedError as exc:
                    self._tell_why_not(exc)
            self._wait(self._patience_seconds)

    def look(self, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Take in the answer of an act that has taken long."""
        # Whoever sends it holds the lock until there is one.
        if not self._lock.acquire(timeout=patience_seconds):
            return
        try:
            self._wait(patience_seconds)
        finally:
            self._lock.release()

    def _wait(self, patience_seconds: float) -> None:
        if self._act is None or (self.answer and self.answer.state is not State.WORKING):
            return
        try:
            outcome = self._act.result(patience_seconds)
        except TimeoutError:
            self._tell(State.WORKING, "It was asked for, and there is no answer yet.")
        except RuntimeError:
            self._tell(State.UNKNOWN, f"{_FAULT} It is not known whether it happened.")
        except _REASONS as exc:
            is_mistyped = isinstance(exc, RefusedError) and (
                exc.reason is RefusalReason.WRONG_PHRASE
            )
            # Where nothing was to be typed when it was planned, it is planned anew.
            if is_mistyped and self.plan is not None and self.plan.phrase:
                # The challenge was not used: what was typed can be put right.
                self._act, self.answer, self.remark = None, None, str(exc)
            else:
                self._tell_why_not(exc)
        else:
            self._tell(State(outcome.result.value), outcome.detail)

    def _tell_why_not(self, error: Exception) -> None:
        """Of what was raised before anything was done."""
        if isinstance(error, RefusedError):
            first = error.reason in _TOLD_OF_THE_FIRST
            self._tell(State.REFUSED, str(error) if first else f"{error} {_NOTHING}.")
        elif isinstance(error, AuditError):
            self._tell(State.REFUSED, f"{_NOTHING}: no act without an audit, and {error}.")
        else:
            self._tell(State.FAILED, f"{_NOTHING}: {error}.")

    def _tell(self, state: State, words: str) -> None:
        self.answer = Answer(state, words, self._clock())
